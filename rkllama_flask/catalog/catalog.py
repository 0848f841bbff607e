"""The models on disk, as they are now, without looking at the disk for every question."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

from rkllama_flask.catalog import names
from rkllama_flask.catalog.assembly import Memory, Shelf, assemble
from rkllama_flask.catalog.listing import look
from rkllama_flask.catalog.model import Model
from rkllama_flask.errors import ModelNotFound, ModelUnusable

LOOK_AGAIN = 1.0
"""Seconds for which an answer may be old."""


class Catalog:
    """Models by name. May be used from several threads, or several greenlets, at once.

    At most once a second the folder is looked at; files are opened only where size or time has changed. `on_warning` is
    told, once each, what an operator should know about the files.
    """

    def __init__(self, models_dir: Path, *, on_warning: Callable[[str], None] | None = None) -> None:
        self.models_dir = Path(models_dir).absolute()
        self._on_warning = on_warning
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
        folder's Modelfile makes no model.
        """
        shelf = self._current()
        wanted = names.parse(name, param=param)
        found = shelf.index.get(wanted.key)
        if found is not None:
            return shelf.models[found]
        reason = shelf.broken.get(wanted.key)
        if reason is not None:
            raise ModelUnusable(reason, param=param)
        raise ModelNotFound(name, param=param)

    def refresh(self) -> None:
        """Look at the disk now."""
        with self._lock:
            self._look()

    def _current(self) -> Shelf:
        """What is known, at most a second old. While one looks, the others go on with what was known before."""
        looked = self._looked
        if looked is not None and time.monotonic() - looked < LOOK_AGAIN:
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
        listing = look(self.models_dir)
        if self._looked is None or listing != self._shelf.listing:
            told = self._shelf.warnings
            self._shelf = assemble(listing, self.models_dir, self._memory, {})
            for warning in self._shelf.warnings:
                if self._on_warning and warning not in told:
                    self._on_warning(warning)
        self._looked = time.monotonic()
