"""sha256 of weights, known from the hub or from an upload, and kept in small files under `.rkllama/sha256`.

Nothing is ever hashed for its own sake: that takes minutes on a board.
"""

import hashlib
import re
import secrets
from pathlib import Path

from rkllama_flask.catalog.reading.listing import Stamp

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
