"""The files of a listing as models to be: which weights, which side files, whose names."""

import posixpath
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rkllama_flask.catalog.model import Modelfile
from rkllama_flask.catalog.reading import names
from rkllama_flask.catalog.reading.listing import Listing, Stamp, is_weights
from rkllama_flask.catalog.reading.modelfile import FILE_NAME, Written
from rkllama_flask.catalog.reading.names import FileName, Name, take_apart
from rkllama_flask.catalog.reading.side_files import SIDE_FILES, places_of


@dataclass(frozen=True)
class Entry:
    """A model to be. Paths are relative to the models folder, with `/`.

    `weights` is the first of `parts`, the files of weights that are split. `given` is the name that was chosen by hand,
    None where one is to be found. `folder` is that of its Modelfile, None without one. `side` maps the names of side
    files to their paths. `stamps` holds the state of every file but the weights. `size` in bytes.
    """

    weights: str
    stamp: Stamp
    size: int
    parts: tuple[str, ...] = ()
    given: Name | None = None
    folder: str | None = None
    names: tuple[FileName, ...] = ()
    side: Mapping[str, str] = field(default_factory=dict)
    stamps: tuple[tuple[str, Stamp], ...] = ()
    modelfile: Modelfile = field(default_factory=Modelfile)

    @property
    def identity(self) -> str:
        """Another text whenever the weights, or the adapters that are loaded with them, can have changed."""
        adapters = {path.name for path, _ in self.modelfile.adapters}
        stamps = (stamp.text for path, stamp in self.stamps if posixpath.basename(path) in adapters)
        return "+".join((self.stamp.text, *stamps))

    @property
    def is_alias(self) -> bool:
        """Whether the weights lie elsewhere than the Modelfile."""
        return self.folder is not None and posixpath.dirname(self.weights) != self.folder


class Files:
    """The files of a listing, found by path."""

    def __init__(self, listing: Listing, models_dir: Path) -> None:
        self.models_dir = models_dir
        self.folders = {folder.name: folder for folder in listing}
        self.weights = {
            join(folder.name, name): stamp
            for folder in listing
            for name, stamp in folder.files.items()
            if is_weights(name)
        }

    def find(self, path: str, folder: str = "") -> str | None:
        """The weights file that a Modelfile in `folder` means: beside it, else by its path in the models folder.

        Whichever file of a split model is named, it is the first by which the model is loaded.
        """
        places = (self._inside(folder, path), self._inside("", path))
        found = next((place for place in places if place in self.weights), None)
        first = found and _first(found)
        return first if first in self.weights else found

    def called(self, path: str) -> set[str]:
        """What a weights file may be asked for by, in small letters: its own names, and its folder's.

        A folder with a Modelfile is another model's, and one of several models is nobody's.
        """
        folder, file = posixpath.split(path)
        stem = posixpath.splitext(file)[0]
        keys = {file.lower(), stem.lower(), take_apart(stem).friendly}
        alone = folder and FILE_NAME not in self.folders[folder].files and set(self.models_in(folder)) <= {path}
        if alone:
            keys |= {given_name(folder).key, take_apart(folder).friendly}
        return keys

    def entry(self, path: str) -> Entry:
        """A weights file as it lies there. In a folder of its own with side files it is named for the folder."""
        folder, file = posixpath.split(path)
        side = self.side(folder)
        found, outer = take_apart(posixpath.splitext(file)[0]), take_apart(folder)
        if side and self.only_weights(folder):
            found, outer = FileName(outer.friendly, outer.packaging.completed(found.packaging)), found
        parts = self._parts(path)
        return Entry(
            weights=path,
            stamp=self.weights[path],
            size=sum(self.weights[part].size for part in parts),
            parts=parts,
            names=(found, outer) if folder else (found,),
            side=side,
            stamps=self.stamps(side.values()),
        )

    def adapters(self, written: Written, folder: str = "") -> tuple[tuple[Path, float], ...]:
        """The adapters of a Modelfile with their full paths. Raises ValueError for one that isn't there."""
        found = []
        for path, scale in written.modelfile.adapters:
            place = self.find(path.as_posix(), folder)
            if place is None:
                raise ValueError(f"ADAPTER {path}: there is no such file in the models folder")
            found.append((self.models_dir / place, scale))
        return tuple(found)

    def side(self, folder: str) -> dict[str, str]:
        """Paths of a folder's side files by name. Beside loose weights they could belong to any: there are none."""
        if not folder:
            return {}
        files = self.folders[folder].files
        found = ((name, next((place for place in places_of(name) if place in files), None)) for name in SIDE_FILES)
        return {name: join(folder, place) for name, place in found if place is not None}

    def stamps(self, paths: Iterable[str]) -> tuple[tuple[str, Stamp], ...]:
        places = ((path, *path.partition("/")) if "/" in path else (path, "", "/", path) for path in paths)
        return tuple((path, self.folders[folder].files[name]) for path, folder, _, name in places)

    def models_in(self, folder: str) -> list[str]:
        """Paths of the weights in a folder that are models of their own."""
        paths = (join(folder, name) for name in self.folders[folder].files)
        return [path for path in paths if path in self.weights and stands_for_itself(path)]

    def strays(self) -> list[str]:
        """Later files of split models whose first file, by which they are loaded, is not there."""
        return [path for path in self.weights if _first(path) not in self.weights]

    def only_weights(self, folder: str) -> str | None:
        found = self.models_in(folder)
        return found[0] if len(found) == 1 else None

    def _parts(self, path: str) -> tuple[str, ...]:
        """The files of this model that are there."""
        return tuple(part for part in names.parts_of(path) if part in self.weights)

    def _inside(self, folder: str, text: str) -> str | None:
        """A path relative to the models folder; None for one that leads out of it."""
        if posixpath.isabs(text):
            folder, text = "", posixpath.relpath(text, self.models_dir.as_posix())
        path = posixpath.normpath(posixpath.join(folder, text))
        return None if path == ".." or path.startswith("../") else path


def given_name(folder: str) -> Name:
    """The name that a folder with a Modelfile gives its model."""
    return names.name_of_folder(folder) or Name(take_apart(folder).friendly)


def stands_for_itself(path: str) -> bool:
    """Whether a weights file is a model: not a later part of one, nor the picture encoder that comes with some."""
    return _part(path) in (None, 1) and not names.is_encoder(path)


def join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def _first(path: str) -> str:
    """The first file of the model that a weights file belongs to."""
    return names.parts_of(path)[0]


def _part(path: str) -> int | None:
    return names.split_part(posixpath.splitext(posixpath.basename(path))[0])
