"""The writing hand: the only code that changes the models folder, and only files that belong to a model.

Every change appears whole or not at all, survives a power cut once it is reported, and stays inside the folder: what
lies behind a link is never written and never removed, only the link itself. Raises OSError.
"""

import errno
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from rkllama_flask.catalog.reading.modelfile import FILE_NAME

SCRATCH = ".new-"
"""How the names of folders begin that become a model's when all is in them."""

RESERVE = 64 << 20
"""Bytes that whatever comes from outside leaves free on the disk."""

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class BehindLink(Exception):
    """What was to be changed lies behind a link, which whoever made it has to change."""


class Store:
    """Changes files in one models folder. All paths are relative to it, with `/`."""

    def __init__(self, models_dir: Path) -> None:
        self._root = models_dir

    def write_modelfile(self, folder: str, text: str) -> None:
        """Put a Modelfile into a folder, which is made if need be. Raises BehindLink."""
        place = self._root / folder
        if not os.path.lexists(place):
            self.make_folder(folder, text, {})
            return
        self._require_real(folder)
        scratch = place / f".{FILE_NAME}-{secrets.token_hex(8)}"
        try:
            _write(scratch, text)
            scratch.replace(place / FILE_NAME)
        except BaseException:
            scratch.unlink(missing_ok=True)
            raise
        sync(place)

    def make_folder(
        self, folder: str, text: str, files: Mapping[str, Path], *, make_way: Callable[[], None] | None = None
    ) -> None:
        """Make a folder of a Modelfile and of `files`, by the names they get, which are moved in from where they lie.

        If that fails they lie there again. `make_way` is called when all is ready to appear.
        """
        self._root.mkdir(parents=True, exist_ok=True)
        scratch = self._root / f"{SCRATCH}{secrets.token_hex(8)}"
        scratch.mkdir()
        try:
            self.move_in(scratch.name, files)
            _write(scratch / FILE_NAME, text)
            sync(scratch)
            if make_way is not None:
                make_way()
            scratch.rename(self._root / folder)
        except BaseException:
            for name, path in files.items():
                if (scratch / name).exists():
                    (scratch / name).replace(path)
            shutil.rmtree(scratch)
            raise
        sync(self._root)

    def move_in(self, folder: str, files: Mapping[str, Path]) -> None:
        """Move files into a folder, in place of what has their names there. Raises BehindLink."""
        self._require_real(folder)
        for name, path in files.items():
            path.replace(self._root / folder / name)
        sync(self._root / folder)

    def share(self, file: str, folder: str) -> None:
        """Give a file a second place, without copying its content. Raises BehindLink."""
        self._require_real(folder)
        source, target = self._root / file, self._root / folder / Path(file).name
        if source.is_symlink():
            target.symlink_to(source.resolve())
        else:
            os.link(source, target)
        sync(target.parent)

    def remove(self, files: Iterable[str], *, folder: str | None = None) -> None:
        """Remove files, and then their folder if nothing is left in it. Raises BehindLink."""
        if folder is not None:
            self._require_real(folder)
        for file in files:
            (self._root / file).unlink(missing_ok=True)
        place = self._root if folder is None else self._root / folder
        if folder is not None and not any(place.iterdir()):
            place.rmdir()
            place = self._root
        sync(place)

    def is_link(self, folder: str) -> bool:
        return (self._root / folder).is_symlink()

    def unlink(self, folder: str) -> None:
        """Remove the link that leads to a folder; the folder stays."""
        (self._root / folder).unlink()
        sync(self._root)

    def _require_real(self, folder: str) -> None:
        if not stat.S_ISDIR(os.lstat(self._root / folder).st_mode):
            raise BehindLink(f"{folder} in the models folder is a link or a file; change it by hand")


def _write(path: Path, text: str) -> None:
    with path.open("x", encoding="utf-8", newline="") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def sync(directory: Path) -> None:
    """Make what was done to a directory's entries survive a power cut. Raises OSError."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError:
        pass  # some file systems can't sync a directory
    finally:
        os.close(descriptor)
