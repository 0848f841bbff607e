"""From a listing to the models it holds: which weights, which side files, which Modelfile, before any name is given."""

import posixpath
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from rkllama_flask.catalog import names
from rkllama_flask.catalog.listing import Listing, Stamp, is_weights
from rkllama_flask.catalog.model import Modelfile
from rkllama_flask.catalog.modelfile import FILE_NAME, Written, inherit
from rkllama_flask.catalog.names import FileName, Name, take_apart
from rkllama_flask.catalog.side_files import SIDE_FILES
from rkllama_flask.errors import InvalidRequest


@dataclass(frozen=True)
class Entry:
    """A model to be. Paths are relative to the models folder, with `/`.

    `given` is the name that was chosen by hand, None where one is to be found. `folder` is that of its Modelfile, None
    without one. `side` maps the names of side files to their paths, `stamps` holds the state of every file it is made
    of but the weights. `size` in bytes.
    """

    weights: str
    stamp: Stamp
    size: int
    given: Name | None = None
    folder: str | None = None
    names: tuple[FileName, ...] = ()
    side: Mapping[str, str] = field(default_factory=dict)
    stamps: tuple[tuple[str, Stamp], ...] = ()
    modelfile: Modelfile = field(default_factory=Modelfile)

    @property
    def is_alias(self) -> bool:
        """Whether the weights lie elsewhere than the Modelfile."""
        return self.folder is not None and posixpath.dirname(self.weights) != self.folder


@dataclass(frozen=True)
class Resolved:
    """`broken` says of a name given by hand why its model can't be used."""

    entries: tuple[Entry, ...]
    broken: Mapping[str, str]


class _Broken(Exception):
    """Why a folder's Modelfile makes no model."""


def resolve(listing: Listing, models_dir: Path, read: Callable[[str, Stamp], Written]) -> Resolved:
    """Find the models in a listing. `read` parses the Modelfile at a path; it raises InvalidRequest, OSError."""
    return _Resolver(listing, models_dir, read).run()


class _Resolver:
    def __init__(self, listing: Listing, models_dir: Path, read: Callable[[str, Stamp], Written]) -> None:
        self._models_dir = models_dir
        self._folders = {folder.name: folder for folder in listing}
        self._files = {
            _join(folder.name, name): stamp
            for folder in listing
            for name, stamp in folder.files.items()
            if is_weights(name)
        }
        self._written: dict[str, Written] = {}
        self._broken: dict[str, str] = {}
        for folder in listing:
            if folder.name and FILE_NAME in folder.files:
                path = _join(folder.name, FILE_NAME)
                try:
                    self._written[folder.name] = read(path, folder.files[FILE_NAME])
                except (InvalidRequest, OSError) as error:
                    self._broken[folder.name] = f"{path}: {error}"

    def run(self) -> Resolved:
        made: dict[str, Entry] = {}
        for folder in self._written:
            try:
                made[folder] = self._made(folder, ())
            except _Broken as error:  # noqa: PERF203 - one broken folder must not hide the others
                self._broken[folder] = f"{folder}/{FILE_NAME}: {error}"
        own = {entry.weights for entry in made.values() if not entry.is_alias}
        own |= {self._relative(path) for entry in made.values() for path, _ in entry.modelfile.adapters}
        loose = [self._loose(path) for path in self._files if path not in own and _stands_for_itself(path)]
        hidden = {folder for folder in self._broken if self._only_weights(folder)}
        entries = (*made.values(), *(e for e in loose if posixpath.dirname(e.weights) not in hidden))
        broken = {_given(folder).key: reason for folder, reason in self._broken.items()}
        return Resolved(entries, broken)

    def _made(self, folder: str, asked_by: tuple[str, ...]) -> Entry:
        """The model that a folder's Modelfile makes. Raises _Broken."""
        written = self._written.get(folder)
        if written is None or folder in asked_by:
            raise _Broken(f"FROM leads to {folder}, " + ("and so in a circle" if written else "which can't be used"))
        base = self._base(folder, written.source, (*asked_by, folder))
        modelfile = inherit(base.modelfile, replace(written.modelfile, adapters=self._adapters(folder, written)))
        stamp = self._folders[folder].files[FILE_NAME]
        side = {**base.side, **self._side(folder)}
        return replace(
            base,
            given=_given(folder),
            folder=folder,
            names=(*base.names, take_apart(folder)),
            side=side,
            stamps=(*base.stamps, (_join(folder, FILE_NAME), stamp), *self._stamps(side)),
            modelfile=modelfile,
        )

    def _base(self, folder: str, source: str | None, asked_by: tuple[str, ...]) -> Entry:
        """The weights, and what another Modelfile already says of them. Raises _Broken."""
        if source is None:
            only = self._only_weights(folder)
            if only is None:
                raise _Broken("it says no FROM, and there isn't exactly one weights file beside it")
            return self._loose(only)
        for path in (self._inside(folder, source), self._inside("", source)):
            if path in self._files:
                return self._loose(path)
        return self._named(folder, source, asked_by)

    def _named(self, folder: str, source: str, asked_by: tuple[str, ...]) -> Entry:
        """What FROM means as a name: a file's, or another folder's."""
        try:
            wanted = names.parse(source)
        except InvalidRequest:
            raise _Broken(f"FROM {source}: there is no such file in the models folder") from None
        for other in self._written:
            if other != folder and _given(other).key == wanted.key:
                return self._made(other, asked_by)
        for path in sorted(self._files):
            stem, _ = posixpath.splitext(posixpath.basename(path))
            if wanted.key in (stem.lower(), posixpath.basename(path).lower(), take_apart(stem).friendly):
                return self._loose(path)
        raise _Broken(f"FROM {source}: there is no such file or model in the models folder")

    def _loose(self, path: str) -> Entry:
        """A weights file as it lies there. In a folder of its own with side files it is named for the folder."""
        folder, file = posixpath.split(path)
        stem = posixpath.splitext(file)[0]
        side = self._side(folder)
        found = take_apart(stem)
        if side and self._only_weights(folder):
            outer = take_apart(folder)
            found, other = FileName(outer.friendly, outer.packaging.completed(found.packaging)), found
        else:
            other = take_apart(folder)
        return Entry(
            weights=path,
            stamp=self._files[path],
            size=sum(self._files[part].size for part in self._parts(path)),
            names=(found, other) if folder else (found,),
            side=side,
            stamps=self._stamps(side),
        )

    def _side(self, folder: str) -> dict[str, str]:
        # Files beside loose weights could belong to any of them: only a folder's own count.
        if not folder:
            return {}
        return {name: _join(folder, name) for name in SIDE_FILES if name in self._folders[folder].files}

    def _stamps(self, side: Mapping[str, str]) -> tuple[tuple[str, Stamp], ...]:
        return tuple(
            (path, self._folders[posixpath.dirname(path)].files[posixpath.basename(path)]) for path in side.values()
        )

    def _only_weights(self, folder: str) -> str | None:
        files = [
            path
            for name in self._folders[folder].files
            if (path := _join(folder, name)) in self._files and _stands_for_itself(path)
        ]
        return files[0] if len(files) == 1 else None

    def _parts(self, path: str) -> list[str]:
        """All files of a model that is split over several; else the one."""
        if names.split_part(posixpath.splitext(posixpath.basename(path))[0]) is None:
            return [path]
        start = path.rpartition("-00001-of-")[0]
        return [other for other in self._files if start and other.startswith(f"{start}-")] or [path]

    def _adapters(self, folder: str, written: Written) -> tuple[tuple[Path, float], ...]:
        found = []
        for path, scale in written.modelfile.adapters:
            places = (self._inside(folder, str(path)), self._inside("", str(path)))
            place = next((place for place in places if place in self._files), None)
            if place is None:
                raise _Broken(f"ADAPTER {path}: there is no such file in the models folder")
            found.append((self._models_dir / place, scale))
        return tuple(found)

    def _inside(self, folder: str, text: str) -> str | None:
        """A path relative to the models folder; None for one that leads out of it."""
        if posixpath.isabs(text):
            text = posixpath.relpath(text, self._models_dir.as_posix())
            folder = ""
        path = posixpath.normpath(posixpath.join(folder, text))
        return None if path.startswith("..") else path

    def _relative(self, path: Path) -> str:
        return path.relative_to(self._models_dir).as_posix()


def _given(folder: str) -> Name:
    return names.name_of_folder(folder) or Name(take_apart(folder).friendly)


def _stands_for_itself(path: str) -> bool:
    """Whether a file is a model: not a later part of one, nor the picture encoder that comes with some."""
    stem = posixpath.splitext(posixpath.basename(path))[0]
    return names.split_part(stem) in (None, 1) and not stem.lower().startswith("mmproj")


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name
