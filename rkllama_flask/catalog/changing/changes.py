"""What giving a model a name and taking one away mean, as steps of the store.

A further name is a folder with a Modelfile whose FROM leads to the weights, which are shared. Weights go when the last
name that uses them goes: if the name they came with is deleted first, they move to one of the others.
"""

import os
import posixpath
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from rkllama_flask.catalog.changing.store import BehindLink, Store
from rkllama_flask.catalog.changing.uploaded import NOTHING, Uploaded, UploadedFile
from rkllama_flask.catalog.reading import names
from rkllama_flask.catalog.reading.assembly import Shelf
from rkllama_flask.catalog.reading.entries import Entry, Files, given_name, join
from rkllama_flask.catalog.reading.listing import Stamp
from rkllama_flask.catalog.reading.modelfile import FILE_NAME, parse, render
from rkllama_flask.catalog.reading.weights_hash import hash_key, remember_hash
from rkllama_flask.errors import InvalidRequest


def modelfile_text(entry: Entry, models_dir: Path, *, folder: str = "") -> str:
    """A Modelfile that makes this model again; its paths are relative to `folder` in the models folder."""

    def relative(path: str) -> str:
        path = posixpath.relpath(path, folder or ".")
        return path if path.startswith("../") else f"./{path}"

    adapters = tuple(
        (Path(relative(path.relative_to(models_dir).as_posix())), scale) for path, scale in entry.modelfile.adapters
    )
    return render(relative(entry.weights), replace(entry.modelfile, adapters=adapters))


class Changes:
    """The changes that can be made to what stands on a shelf. Raises OSError where the disk refuses."""

    def __init__(self, shelf: Shelf, models_dir: Path) -> None:
        self._shelf = shelf
        self._models_dir = models_dir
        self._files = Files(shelf.listing, models_dir)
        self._store = Store(models_dir)

    def save(self, name: str, entry: Entry, *, param: str, uploaded: Uploaded = NOTHING) -> None:
        """Give the weights of `entry`, used as its Modelfile says, a name. Raises InvalidRequest for a taken one, and
        for more than a Modelfile can hold.

        What was `uploaded` moves into the model's folder. Only uploaded weights, which `entry` calls by their bare
        name, take the place of others that have this name.
        """
        wanted = names.parse_new(name, param=param)
        folder = self._folder_of(wanted.key) or names.folder_for(wanted)
        new = [file for file in uploaded.weights if self._shelved(file) is None]
        if new:
            entry = replace(entry, weights=join(folder, entry.weights))
        holders = (n for n, e in self._shelf.entries.items() if n.lower() == wanted.key)
        holder = next((n for n in holders if new or not self._shelf.entries[n].is_alias), None)
        other = holder is not None and self._shelf.entries[holder].weights != entry.weights
        if other and not uploaded.weights:
            raise InvalidRequest(f"'{wanted.text}' is the name of other weights: delete them first", param=param)
        if not other and any(path != entry.weights for path in self._models_in(folder)):
            raise InvalidRequest(f"the folder '{folder}' holds other weights", param=param)
        if uploaded.adapters:
            places = ((self._shelved(file) or join(folder, file.name), file.scale) for file in uploaded.adapters)
            adapters = tuple((self._models_dir / place, scale) for place, scale in places)
            entry = replace(entry, modelfile=replace(entry.modelfile, adapters=adapters))
        parse(self._text(folder, entry))  # raises for what is too much to be read again
        moving = [*new, *uploaded.side, *(file for file in uploaded.adapters if self._shelved(file) is None)]
        for file in moving:
            remember_hash(self._models_dir, hash_key(file.name, Stamp.of(file.path.stat())), file.sha256)
        files = {file.name: file.path for file in moving}
        try:
            if new or other:
                self._replace(folder, holder, entry, files)
            elif folder in self._files.folders:
                self._store.move_in(folder, files)
                self._write(folder, entry)
            else:
                self._store.make_folder(folder, self._text(folder, entry), files)
        except BehindLink as error:
            raise InvalidRequest(str(error), param=param) from None

    def _replace(self, folder: str, holder: str | None, entry: Entry, files: Mapping[str, Path]) -> None:
        """Make a model's folder anew. What had its name goes in the moment in which the new one is whole."""
        place = self._models_dir / folder
        if os.path.lexists(place):
            going = [] if holder is None else [*self._belongings(folder), *self._shelf.entries[holder].parts]
            if self._store.is_link(folder) or {join(folder, path.name) for path in place.iterdir()} - {*going}:
                raise InvalidRequest(f"the folder '{folder}' holds other things: move them away first", param="model")
        text = self._text(folder, entry)
        self._store.make_folder(folder, text, files, make_way=None if holder is None else lambda: self.delete(holder))

    def _shelved(self, file: UploadedFile) -> str | None:
        """The path in the models folder of weights that were there before."""
        path = file.path.relative_to(self._models_dir).as_posix()
        return path if path in self._files.weights else None

    def delete(self, name: str) -> None:
        """Take the model of this exact name away. Raises InvalidRequest for what has to be removed by hand."""
        entry = self._shelf.entries[name]
        place = entry.folder or posixpath.dirname(entry.weights)
        sharing = {n: e for n, e in self._shelf.entries.items() if n != name and e.weights == entry.weights}
        try:
            if sharing and not entry.is_alias:
                self._hand_over(entry, sharing)
            elif place and self._store.is_link(place) and len(self._models_in(place)) <= 1:
                self._store.unlink(place)
            elif entry.is_alias:
                self._store.remove(self._belongings(place), folder=place)
            else:
                self._remove_weights(entry)
        except BehindLink as error:
            raise InvalidRequest(str(error), param="model") from None

    def delete_broken(self, key: str) -> None:
        """Take away the Modelfile that makes no model, and nothing else. Raises InvalidRequest."""
        folder = self._folder_of(key)
        assert folder is not None
        try:
            if self._store.is_link(folder):
                self._store.unlink(folder)
            else:
                self._store.remove([join(folder, FILE_NAME)], folder=folder)
        except BehindLink as error:
            raise InvalidRequest(str(error), param="model") from None

    def _write(self, folder: str, entry: Entry) -> None:
        self._store.write_modelfile(folder, self._text(folder, entry))

    def _text(self, folder: str, entry: Entry) -> str:
        return modelfile_text(entry, self._models_dir, folder=folder)

    def _folder_of(self, key: str) -> str | None:
        named = (folder for folder in self._files.folders if folder and given_name(folder).key == key)
        return next(named, None)

    def _models_in(self, folder: str) -> set[str]:
        """Paths of the weights in a folder; what is only an adapter of a model is none."""
        return {e.weights for e in self._shelf.entries.values() if posixpath.dirname(e.weights) == folder}

    def _belongings(self, folder: str) -> list[str]:
        """The files of a model's folder that go when the model goes; an adapter stays while another model uses it."""
        files = [*self._files.side(folder).values()]
        if FILE_NAME in self._files.folders[folder].files:
            files.insert(0, join(folder, FILE_NAME))
        users: dict[str, set[str | None]] = {}
        for entry in self._shelf.entries.values():
            for path, _ in entry.modelfile.adapters:
                users.setdefault(path.relative_to(self._models_dir).as_posix(), set()).add(entry.folder)
        own = (path for path, folders in users.items() if folders == {folder} and posixpath.dirname(path) == folder)
        return [*files, *own]

    def _remove_weights(self, entry: Entry) -> None:
        folder = posixpath.dirname(entry.weights)
        files = [*entry.parts]
        if folder and self._models_in(folder) == {entry.weights}:
            files += self._belongings(folder)
        elif entry.folder:
            files.append(join(folder, FILE_NAME))
        self._store.remove(files, folder=folder or None)

    def _hand_over(self, entry: Entry, sharing: dict[str, Entry]) -> None:
        """Move the weights and what lies beside them to the first of the names that still use them.

        At every step each of these names has its weights: they get their new place before they lose the old one.
        """
        folders = [other.folder for other in sharing.values() if other.folder]
        place = posixpath.dirname(entry.weights)
        refusal = f"its weights are used by {', '.join(sharing)}: delete these first"
        if any(self._store.is_link(folder) for folder in (*folders, place) if folder):
            raise InvalidRequest(refusal, param="model")
        heir = folders[0]
        present = self._files.folders[heir].files
        moving = [file for file in entry.parts if not self._is_in(heir, file)]
        if any(posixpath.basename(file) in present for file in moving):
            raise InvalidRequest(refusal, param="model")
        side = self._files.side(place).values()
        moving += [file for file in side if posixpath.basename(file) not in present]
        shared: list[str] = []
        try:
            for file in moving:
                self._store.share(file, heir)
                shared.append(join(heir, posixpath.basename(file)))
        except OSError:
            self._store.remove(shared, folder=heir)
            raise InvalidRequest(refusal, param="model") from None
        weights = join(heir, posixpath.basename(entry.weights))
        # The heir comes last: until then it is the heir again if this is cut short and asked for once more.
        for other in reversed(sharing.values()):
            assert other.folder is not None
            self._write(other.folder, replace(other, weights=weights))
        self._remove_weights(entry)

    def _is_in(self, folder: str, file: str) -> bool:
        """Whether a folder has this very file already, from a move that was cut short."""
        there = self._files.folders[folder].files.get(posixpath.basename(file))
        return there is not None and there.inode == self._files.weights[file].inode
