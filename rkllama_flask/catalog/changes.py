"""What giving a model a name and taking one away mean, as steps of the store.

A further name is a folder with a Modelfile whose FROM leads to the weights, which are shared. Weights go when the last
name that uses them goes: if the name they came with is deleted first, they move to one of the others.
"""

import posixpath
from dataclasses import replace
from pathlib import Path

from rkllama_flask.catalog import names
from rkllama_flask.catalog.assembly import Shelf
from rkllama_flask.catalog.entries import Entry, Files, given_name, join
from rkllama_flask.catalog.modelfile import FILE_NAME, render
from rkllama_flask.catalog.store import BehindLink, Store
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

    def save(self, name: str, entry: Entry, *, param: str) -> None:
        """Give the weights of `entry`, used as its Modelfile says, a name. Raises InvalidRequest for a taken one."""
        wanted = names.parse_new(name, param=param)
        holders = (e for n, e in self._shelf.entries.items() if n.lower() == wanted.key and not e.is_alias)
        for holder in holders:
            if holder.weights != entry.weights:
                raise InvalidRequest(f"'{wanted.text}' is the name of other weights: delete them first", param=param)
        folder = self._folder_of(wanted.key) or names.folder_for(wanted)
        if any(path != entry.weights for path in self._models_in(folder)):
            raise InvalidRequest(f"the folder '{folder}' holds other weights", param=param)
        try:
            self._write(folder, entry)
        except BehindLink as error:
            raise InvalidRequest(str(error), param=param) from None

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
        self._store.write_modelfile(folder, modelfile_text(entry, self._models_dir, folder=folder))

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
