"""Uploaded files, known by their sha256, from when they are whole until a model is made of them.

They lie in `.rkllama/uploads` of the models folder. `create` moves them into the model's folder, so that each is there
once; one that nothing was made of is removed `KEPT` seconds after somebody last asked for it.
"""

import contextlib
import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rkllama_flask.catalog.changing.blob_writer import PART
from rkllama_flask.catalog.changing.store import RESERVE, SCRATCH
from rkllama_flask.errors import InvalidRequest, QueueFull, RkllamaError, StorageFull

FOLDER = Path(".rkllama", "uploads")
KEPT = 86_400.0
MOST = 4
"""Uploads at once; each is a process, and a disk takes no more in the same time."""

_YOUNG = 60.0
_ROOT = Path(__file__).resolve().parents[3]
_DIGEST = re.compile(r"sha256[:-]([0-9a-fA-F]{64})", re.ASCII)


def parse_digest(text: str) -> str:
    """The 64 hex digits of `sha256:…`. Raises InvalidRequest in Ollama's words."""
    match = _DIGEST.fullmatch(text)
    if match is None:
        raise InvalidRequest("invalid digest format", param="digest")
    return match[1].lower()


class Blobs:
    """The uploads of one models folder. May be used from several threads, or several greenlets, at once."""

    def __init__(self, models_dir: Path) -> None:
        self._models_dir = models_dir
        self._folder = models_dir / FOLDER
        self._lock = threading.Lock()
        self._writing = 0

    def find(self, sha256: str) -> Path | None:
        """The file of this sum, kept for another day from now; None where there is none."""
        path = self._folder / f"sha256-{sha256}"
        try:
            os.utime(path)
        except OSError:
            return None
        return path

    def receive(self, sha256: str, *, expected: int | None) -> "Upload":
        """Take in a file of `expected` bytes, if that is known. Raises StorageFull, QueueFull, RkllamaError."""
        self.tidy()
        with self._lock:
            if self._writing >= MOST:
                raise QueueFull(f"{MOST} files are being uploaded already: try again when one of them is here.")
            self._writing += 1
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._require_room(expected or 0)
            return Upload(self._folder, sha256, self._ended)
        except BaseException as error:
            self._ended()
            if isinstance(error, OSError):
                raise RkllamaError(f"The models folder can't be written: {error.strerror or error}.") from error
            raise

    def tidy(self) -> None:
        """Remove what no model was made of, and what a process that was killed has left."""
        for path in self._folder.glob("sha256-*"):
            if _age(path) > KEPT:
                path.unlink(missing_ok=True)
        for path in self._folder.glob(f"{PART}*"):
            if _age(path) > _YOUNG and _is_abandoned(path):
                path.unlink(missing_ok=True)
        for path in self._models_dir.glob(f"{SCRATCH}*"):
            if _age(path) > KEPT:
                shutil.rmtree(path, ignore_errors=True)

    def _require_room(self, size: int) -> None:
        free = shutil.disk_usage(self._folder).free
        if size + RESERVE > free:
            raise StorageFull(
                f"The file has {size / 2**30:.1f} GiB, and the disk of the models folder has {free / 2**30:.1f} GiB "
                "free: delete models, or set MODELS_DIR to a larger disk."
            )

    def _ended(self) -> None:
        with self._lock:
            self._writing -= 1


class Upload:
    """One file on its way in. Nothing of it stays unless `finish` has returned."""

    def __init__(self, folder: Path, sha256: str, ended: Callable[[], None]) -> None:
        self._ended = ended
        self._open = True
        self._process = subprocess.Popen(
            [sys.executable, "-m", "rkllama_flask.catalog.changing.blob_writer", str(folder), sha256],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=_ROOT,
        )

    def write(self, block: bytes) -> None:
        """The next bytes. Raises as `finish`."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(block)
        except OSError:
            self.finish()  # the writer has ended, and says why
            raise RkllamaError("The file could not be written; the log has more.") from None

    def finish(self) -> None:
        """That was all. Raises InvalidRequest for a wrong sum, StorageFull, RkllamaError."""
        said = self._end()
        if "error" not in said:
            return
        kinds = {400: InvalidRequest, 507: StorageFull}
        raise kinds.get(said["code"], RkllamaError)(said["error"])

    def close(self) -> None:
        """Leave; a file that isn't whole goes away."""
        if self._open:
            self._end()

    def _end(self) -> dict[str, Any]:
        """What the writer says at its end; it takes the end of its input for the file's, and the sum tells."""
        self._open = False
        try:
            with self._process as process:
                assert process.stdin is not None
                assert process.stdout is not None
                with contextlib.suppress(OSError):
                    process.stdin.close()
                said = process.stdout.read()
        finally:
            self._ended()
        try:
            value: dict[str, Any] = json.loads(said)
        except ValueError:
            return {"error": "The file could not be written; the log has more.", "code": 500}
        return value


def _age(path: Path) -> float:
    """Seconds since a file was written or asked for; 0 for one that has just gone."""
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return 0.0


def _is_abandoned(path: Path) -> bool:
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True
