"""What lies in the models folder, seen by name, size and time alone: nothing is opened.

Two listings that are equal mean that nothing can have changed. Files are known by inode and time of change as well as
by size, because a directory's own time does not move when a file in it grows or is written over.
"""

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rkllama_flask.catalog.reading.modelfile import FILE_NAME
from rkllama_flask.catalog.reading.names import WEIGHT_ENDINGS
from rkllama_flask.catalog.reading.side_files import MORE_TEMPLATES, SIDE_FILES

_INTERESTING = frozenset((FILE_NAME, *SIDE_FILES))


@dataclass(frozen=True)
class Stamp:
    """One state of a file. `size` in bytes, times in ns. Not the device: its number may change with a reboot."""

    inode: int
    size: int
    modified: int
    changed: int

    @classmethod
    def of(cls, result: os.stat_result) -> "Stamp":
        return cls(result.st_ino, result.st_size, result.st_mtime_ns, result.st_ctime_ns)

    @property
    def text(self) -> str:
        return f"{self.inode:x}-{self.size:x}-{self.modified:x}-{self.changed:x}"


@dataclass(frozen=True)
class Folder:
    """The models folder itself (`name` empty) or one directly inside it, with the files that matter."""

    name: str
    files: Mapping[str, Stamp]


Listing = tuple[Folder, ...]


def look(models_dir: Path) -> Listing:
    """The models folder and those directly in it, sorted; what can't be read is as if it weren't there."""
    files, names = _entries(models_dir)
    folders = [Folder("", files)]
    for name in names:
        inner, within = _entries(models_dir / name)
        if inner and MORE_TEMPLATES in within:
            more, _ = _entries(models_dir / name / MORE_TEMPLATES)
            inner |= {f"{MORE_TEMPLATES}/{file}": stamp for file, stamp in more.items() if not is_weights(file)}
        if inner:
            folders.append(Folder(name, inner))
    return tuple(folders)


def is_weights(name: str) -> bool:
    return name.lower().endswith(WEIGHT_ENDINGS)


def _entries(directory: Path) -> tuple[dict[str, Stamp], list[str]]:
    """The interesting files of a directory and its visible folders. Links are followed: their owner made them."""
    files: dict[str, Stamp] = {}
    folders: list[str] = []
    try:
        with os.scandir(directory) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError:
        return {}, []
    for entry in entries:
        if entry.name.startswith(".") or not _is_text(entry.name):
            continue
        try:
            result = entry.stat()
        except OSError:
            continue
        if stat.S_ISDIR(result.st_mode):
            folders.append(entry.name)
        elif stat.S_ISREG(result.st_mode) and (entry.name in _INTERESTING or is_weights(entry.name)):
            files[entry.name] = Stamp.of(result)
    return files, folders


def _is_text(name: str) -> bool:
    """Whether a file's name is UTF-8: one that isn't can't be written into a Modelfile or sent to a client."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
