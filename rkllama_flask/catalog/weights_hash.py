"""sha256 of weights: computed once, by a child process, and kept in small files under `.rkllama/sha256`.

Hashing gigabytes takes minutes on a board, so no request ever waits for it. As a program,
`python -m rkllama_flask.catalog.weights_hash FILE` prints the hash of one file.
"""

import hashlib
import os
import re
import secrets
import subprocess
import sys
from pathlib import Path

from rkllama_flask.catalog.listing import Stamp

FOLDER = Path(".rkllama", "sha256")

_SHA256 = re.compile(r"[0-9a-f]{64}")


def hash_key(name: str, stamp: Stamp) -> str:
    """Under which a hash is kept: another one when name, size or time of change of the file differ."""
    return hashlib.sha256(f"{name}\0{stamp.size}\0{stamp.modified}".encode()).hexdigest()[:40]


def known_hashes(models_dir: Path) -> dict[str, str]:
    """All hashes that were computed, by key. What is damaged counts as absent."""
    try:
        files = [*(models_dir / FOLDER).iterdir()]
        texts = {file.name: file.read_text(encoding="ascii", errors="replace").strip() for file in files}
    except OSError:
        return {}
    return {key: text for key, text in texts.items() if _SHA256.fullmatch(text)}


def remember_hash(models_dir: Path, key: str, sha256: str) -> None:
    """Keep a hash. Raises ValueError for a text that is none, OSError."""
    if not _SHA256.fullmatch(sha256):
        raise ValueError("not a sha256 in hex digits")
    folder = models_dir / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    scratch = folder / f".{key}-{secrets.token_hex(8)}"
    try:
        scratch.write_text(f"{sha256}\n", encoding="ascii")
        scratch.replace(folder / key)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise


def hash_in_child(path: Path) -> str:
    """The hash of a file, from a process of its own, at low priority. Raises OSError where it can't be read."""
    command = [sys.executable, "-m", "rkllama_flask.catalog.weights_hash", str(path)]
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=root)
    if done.returncode:
        raise OSError(f"{path.name} can't be hashed: {done.stderr.strip().splitlines()[-1:]}")
    return done.stdout.strip()


def main() -> None:
    os.nice(10)
    digest = hashlib.sha256()
    with Path(sys.argv[1]).open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    sys.stdout.write(f"{digest.hexdigest()}\n")


if __name__ == "__main__":
    main()
