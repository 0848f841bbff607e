"""Write one upload, taken from the input: `python -m rkllama_flask.catalog.changing.blob_writer FOLDER SHA256`.

A process of its own, because a slow disk makes whoever writes to it wait, and the server has others to answer. The file
appears under its name only when the input has ended with the right sum; whatever else happens, nothing is left. The one
line of output is an object: `size`, or `error` with the HTTP `code` for it.
"""

import errno
import fcntl
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from rkllama_flask.catalog.changing.store import DISK_FULL, RESERVE, sync

PART = ".part-"
_BLOCK = 1 << 20
_LOOK_EVERY = 64 << 20
"""Bytes after which it is seen whether the disk has still room for others."""


class Mismatch(Exception):
    """The bytes that came have another sum; the message is Ollama's."""


def write(folder: Path, name: str, sha256: str, read: Callable[[int], bytes]) -> int:
    """Keep what `read` gives as a file of this name; its size in bytes. Raises Mismatch, OSError."""
    part = folder / f"{PART}{os.getpid()}"
    digest, size = hashlib.sha256(), 0
    with part.open("xb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX)  # says that somebody is still at it
            while block := read(_BLOCK):
                if size % _LOOK_EVERY < len(block):
                    _require_room(folder)
                file.write(block)
                digest.update(block)
                size += len(block)
            _require_same(digest.hexdigest(), sha256)
            file.flush()
            os.fsync(file.fileno())
            part.rename(folder / name)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
    sync(folder)
    return size


def _require_room(folder: Path) -> None:
    if shutil.disk_usage(folder).free < RESERVE:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _require_same(got: str, expected: str) -> None:
    if got != expected:
        raise Mismatch(f'digest mismatch, expected "sha256:{expected}", got "sha256:{got}"')


def main() -> int:
    folder, sha256 = Path(sys.argv[1]), sys.argv[2]
    try:
        said: dict[str, object] = {"size": write(folder, f"sha256-{sha256}", sha256, sys.stdin.buffer.read)}
    except Mismatch as error:
        said = {"error": str(error), "code": 400}
    except OSError as error:
        full = error.errno in DISK_FULL
        text = "The disk of the models folder is full: delete models, or set MODELS_DIR to a larger disk."
        said = {
            "error": text if full else f"The models folder can't be written: {error.strerror or error}.",
            "code": 507 if full else 500,
        }
    sys.stdout.write(json.dumps(said))
    return 0


if __name__ == "__main__":
    os.nice(5)
    sys.exit(main())
