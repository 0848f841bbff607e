"""The models on disk, as they are now, without looking at the disk for every question."""

import posixpath
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from rkllama_flask.catalog.changing.changes import Changes, modelfile_text
from rkllama_flask.catalog.changing.uploaded import NOTHING, Uploaded
from rkllama_flask.catalog.model import Model
from rkllama_flask.catalog.reading import names
from rkllama_flask.catalog.reading.assembly import Memory, Shelf, assemble
from rkllama_flask.catalog.reading.entries import Entry, Files
from rkllama_flask.catalog.reading.listing import Listing, Stamp, look
from rkllama_flask.catalog.reading.modelfile import Written, inherit, parse
from rkllama_flask.catalog.reading.pulled import pulled_names
from rkllama_flask.catalog.reading.weights_hash import hash_key, known_hashes
from rkllama_flask.errors import InvalidRequest, ModelNotFound, ModelUnusable, RkllamaError

LOOK_AGAIN = 1.0
"""Seconds for which an answer may be old."""


class Catalog:
    """Models by name. May be used from several threads, or several greenlets, at once.

    At most once a second the folder is looked at; files are opened only where size or time has changed. `on_warning` is
    told, once each, what an operator should know about the files. `natively` calls what reads files or waits for the
    disk, where nobody else has to wait for it.
    """

    def __init__(
        self,
        models_dir: Path,
        *,
        on_warning: Callable[[str], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
        natively: Callable[[Callable[[], Any]], Any] = lambda call: call(),
    ) -> None:
        self.models_dir = Path(models_dir).absolute()
        self._on_warning = on_warning
        self._clock = clock
        self._natively = natively
        self._lock = threading.RLock()
        self._memory = Memory()
        self._shelf = Shelf()
        self._looked: float | None = None

    def list(self) -> list[Model]:
        """All models, sorted by name."""
        return [*self._current().models.values()]

    def find(self, name: str, *, param: str = "model") -> Model:
        """The model that a client means: its name, with or without `:latest`, or its file's, in any case.

        Raises InvalidRequest for what can't be a name, ModelNotFound, and ModelUnusable with the reason where a
        folder's Modelfile makes no model, or the first file of a split model is missing.
        """
        shelf = self._current()
        wanted = names.parse(name, param=param)
        found = shelf.index.get(wanted.key)
        if found is not None:
            return shelf.models[found]
        reason = shelf.broken.get(wanted.key) or shelf.incomplete.get(wanted.key)
        if reason is not None:
            raise ModelUnusable(reason, param=param)
        raise ModelNotFound(name, param=param)

    def copy(self, source: str, destination: str) -> Model:
        """Give the model another name, with the same Modelfile; the weights are shared, not copied.

        Raises ModelNotFound, InvalidRequest, and RkllamaError where the disk refuses.
        """
        with self._changing() as changes:
            entry, model = self._entry(source, param="source"), self.find(source)
            if names.parse(destination, param="destination").key != model.name.lower():
                self._natively(lambda: changes.save(destination, entry, param="destination"))
        return self.find(destination, param="destination")

    def create(self, name: str, modelfile: Written | str, *, uploaded: Uploaded = NOTHING) -> Model:
        """Make a model of uploaded weights, or of some that are here: FROM is a model, or a file in the models folder.

        What the base's own Modelfile says goes on where this one says nothing. An existing model is replaced if it has
        no weights of its own, or if others were uploaded for it. Raises ModelNotFound, InvalidRequest, and RkllamaError
        where the disk refuses.
        """
        written = parse(modelfile) if isinstance(modelfile, str) else modelfile
        with self._changing() as changes:
            entry = self._made(written, uploaded)
            self._natively(lambda: changes.save(name, entry, param="model", uploaded=uploaded))
        return self.find(name)

    def alone(self) -> AbstractContextManager[bool]:
        """Nobody else changes the models meanwhile."""
        return self._lock

    def find_weights(self, sha256: str) -> Path | None:
        """The weights in the models folder that are known to have this sum; None where there are none."""
        known = known_hashes(self.models_dir)
        for path, stamp in Files(self._current().listing, self.models_dir).weights.items():
            if known.get(hash_key(posixpath.basename(path), stamp)) == sha256:
                return self.models_dir / path
        return None

    def delete(self, name: str) -> str:
        """Take a model away, and return what it was called. Weights stay as long as another model uses them.

        Raises ModelNotFound, InvalidRequest for what has to be removed by hand, RkllamaError where the disk refuses.
        """
        with self._changing() as changes:
            wanted = names.parse(name)
            if wanted.key in self._shelf.broken and wanted.key not in self._shelf.index:
                self._natively(lambda: changes.delete_broken(wanted.key))
                return wanted.text
            found = self.find(name).name
            self._natively(lambda: changes.delete(found))
            return found

    def modelfile_text(self, model: Model) -> str:
        """The Modelfile that `create` would make the same model of; it names no place outside the models folder."""
        return modelfile_text(self._entry(model.name), self.models_dir)

    def refresh(self) -> None:
        """Look at the disk now, and at what is remembered of its files."""
        with self._lock:
            self._look()
            self._assemble(self._shelf.listing)

    @contextmanager
    def _changing(self) -> Iterator[Changes]:
        """Alone with what is on disk right now; afterwards it is looked at again, also after a failure."""
        with self._lock:
            self._look()
            try:
                yield Changes(self._shelf, self.models_dir)
            except OSError as error:
                raise RkllamaError(f"The models folder can't be changed: {error.strerror or error}.") from error
            finally:
                self._look()

    def _entry(self, name: str, *, param: str = "model") -> Entry:
        with self._lock:
            model = self.find(name, param=param)  # may look at the disk, and so comes first
            return self._shelf.entries[model.name]

    def _made(self, written: Written, uploaded: Uploaded) -> Entry:
        files = Files(self._shelf.listing, self.models_dir)
        try:
            base = self._base(written, uploaded, files)
            changes = replace(written.modelfile, adapters=files.adapters(written))
        except ValueError as error:
            raise InvalidRequest(str(error), param="adapters") from None
        return replace(base, modelfile=inherit(base.modelfile, changes))

    def _base(self, written: Written, uploaded: Uploaded, files: Files) -> Entry:
        """The weights that are meant, with what their Modelfile says of them."""
        if uploaded.weights:
            first = uploaded.weights[0]
            path = first.path.relative_to(self.models_dir).as_posix()
            if path in files.weights:
                return files.entry(path)
            stamp = Stamp.of(first.path.stat())
            return Entry(weights=first.name, stamp=stamp, size=stamp.size)
        if written.source is None:
            raise InvalidRequest("FROM is missing: name a model, or a file in the models folder", param="from")
        found = files.find(written.source)
        if found is None and written.source.startswith("./"):  # no name begins so
            raise InvalidRequest(
                f"there is no file {written.source!r} in the models folder, and none was uploaded for it", param="from"
            )
        return files.entry(found) if found else self._entry(written.source, param="from")

    def _current(self) -> Shelf:
        """What is known, at most a second old. While one looks, the others go on with what was known before."""
        looked = self._looked
        if looked is not None and self._clock() - looked < LOOK_AGAIN:
            return self._shelf
        if not self._lock.acquire(blocking=looked is None):
            return self._shelf
        try:
            if self._looked == looked:
                self._look()
        finally:
            self._lock.release()
        return self._shelf

    def _look(self) -> None:
        now = self._clock()
        listing = look(self.models_dir)
        if self._looked is None or listing != self._shelf.listing:
            self._assemble(listing)
        self._looked = now

    def _assemble(self, listing: Listing) -> None:
        told = self._shelf.warnings

        def read() -> Shelf:
            hashes, pulled = known_hashes(self.models_dir), pulled_names(self.models_dir)
            return assemble(listing, self.models_dir, self._memory, hashes, pulled)

        self._shelf = self._natively(read)
        for warning in self._shelf.warnings:
            if self._on_warning and warning not in told:
                self._on_warning(warning)
