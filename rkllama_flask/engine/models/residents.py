"""The models in memory: loaded for a job, evicted for another, brought back after a failure, gone with their time.

All of it runs on the engine thread; nobody else touches a Context.
"""

import contextlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from rkllama_flask.engine.jobs import ModelSpec
from rkllama_flask.engine.models.journal import Journal
from rkllama_flask.engine.models.npu_lock import NpuLock
from rkllama_flask.engine.models.residency import Loaded, available_memory, choose_evictions
from rkllama_flask.engine.models.speeds import Speeds
from rkllama_flask.engine.watchdog import Watchdog, load_allowance
from rkllama_flask.errors import ContextTooLarge, LibraryUnusable, ModelUnusable, ProcessSpent, RkllamaError
from rkllama_flask.runtime.context import Context, ContextParameters
from rkllama_flask.runtime.library import Library


class Loads(NamedTuple):
    """How many loads were done and how many failed, and the time in ns of those that were done."""

    done: int = 0
    failed: int = 0
    ns: int = 0


class Residents:
    """`changed` is called whenever a model comes or goes, `npu_taken` when this process gets the NPU.

    `loads` counts those since the start. `spent` says that this process has to be replaced before all is well again,
    `loading` that a model is being loaded.
    """

    def __init__(
        self,
        *,
        libraries: Mapping[str, Path | None],
        lock: NpuLock,
        journal: Journal,
        keep_alive: float,
        max_loaded: int,
        changed: Callable[[Sequence[Loaded]], None],
        npu_taken: Callable[[], None],
        watchdog: Watchdog,
        speeds: Speeds,
    ) -> None:
        self._paths = libraries
        self._libraries: dict[str, Library] = {}
        self._lock = lock
        self._journal = journal
        self._keep_alive = keep_alive
        self._max_loaded = max_loaded
        self._changed = changed
        self._npu_taken = npu_taken
        self._watchdog = watchdog
        self._speeds = speeds
        self.models: list[Loaded] = []
        self.spent = False
        self.loading: ModelSpec | None = None
        self.loads = Loads()

    def restore(self) -> None:
        """Load again what the process before had loaded that crashed, or made room for this one."""
        if self._journal.found:
            left = self._take_npu()
            if left:
                self._load(*left)

    def use(self, spec: ModelSpec, *, least_context: int = 0, keep_alive: float | None) -> Loaded:
        """The loaded model for `spec`, loaded now if it is not, or not with `least_context` tokens, as far as the model
        was made for so many; `keep_alive` None leaves its clock's length.

        Raises what the load raises; the models that made room are back then, as far as this process can.
        """
        least_context = self.within_limit(spec, least_context)
        model = next((m for m in self.models if m.serves(spec, least_context)), None)
        if model is None:
            length = self.within_limit(spec, max(spec.context_length, least_context))
            spec = replace(spec, context_length=length)
            if keep_alive is None:  # another context length is no reason to forget that a model was to stay
                kept = [m.keep_alive for m in self.models if m.spec.same_weights(spec)]
                keep_alive = kept[0] if kept else self._keep_alive
            model = self._load(spec, keep_alive)
        elif keep_alive is not None:
            self._let_stay(model, keep_alive)
        model.last_used = time.monotonic()
        return model

    def within_limit(self, spec: ModelSpec, tokens: int) -> int:
        """The context that a model can have of so many tokens."""
        return min(tokens, self._journal.context_limits.get(spec.identity, tokens))

    def rest(self, model: Loaded) -> None:
        """The model's keep-alive starts to count; zero unloads it at once."""
        model.last_used = time.monotonic()
        if model.keep_alive <= 0:
            self._drop(model)

    def unload(self, path: Path | None) -> list[Path]:
        """Unload the model at `path`, or all; the paths of those that were loaded."""
        chosen = [m for m in self.models if path in (None, m.spec.path)]
        for model in chosen:
            self._drop(model)
        return [m.spec.path for m in chosen]

    def next_expiry(self) -> float:
        """When the next keep-alive ends, in monotonic seconds; infinite where none does."""
        return min((model.expires for model in self.models), default=math.inf)

    def expire(self) -> None:
        """Unload the models whose keep-alive is over."""
        now = time.monotonic()
        for model in [m for m in self.models if m.expires <= now]:
            self._drop(model)

    def close(self) -> None:
        """Release every model, then the NPU; the journal belongs to whoever holds that."""
        if not self._lock.held:
            return
        resident = self._journal.resident
        try:
            for model in list(self.models):
                self._drop(model)
        finally:
            self._journal.close(resident)
            self._lock.release()

    def _let_stay(self, model: Loaded, keep_alive: float) -> None:
        """Also the next process is to know, if it would restore this model."""
        if keep_alive != model.keep_alive and self._journal.resident == (model.spec, model.keep_alive):
            self._journal.keep(model.spec, keep_alive)
        model.keep_alive = keep_alive

    def _take_npu(self) -> tuple[ModelSpec, float] | None:
        """Take the NPU where it is not ours yet; what the process before has left to be loaded."""
        if not self._lock.take():
            return None
        self._npu_taken()
        return self._journal.recover()

    def _load(self, spec: ModelSpec, keep_alive: float) -> Loaded:
        library = self._library(spec)
        self._take_npu()
        key = f"load:{spec.identity}"
        if self._journal.refuses(key):
            raise ModelUnusable(
                f"Loading '{spec.name}' has crashed or hung the runtime {self._journal.crashes[key]} times. Replace "
                "the file, or clear the record with DELETE /health/crashes."
            )
        stale = [m for m in self.models if m.spec.path == spec.path]
        for model in stale:
            self._drop(model)
        evicted = choose_evictions(self.models, needed=spec.size, available=available_memory(), limit=self._max_loaded)
        for model in evicted:
            self._drop(model)
        made_room = [old for old in stale if old.spec.identity == spec.identity] + evicted
        if made_room and not self.models:  # should this load kill the process, its successor restores what answered
            self._journal.keep(made_room[-1].spec, made_room[-1].keep_alive)
        try:
            return self._open(library, spec, keep_alive, key)
        except ContextTooLarge as error:
            self._journal.limit(spec.identity, error.limit)
            spec = replace(spec, context_length=error.limit)
            if library.spent:
                self._journal.leave(spec, keep_alive)
                self.spent = True
                raise ProcessSpent(
                    f"'{spec.name}' takes {error.limit} tokens of context at most; it is being loaded with these. Try "
                    "again in a moment.",
                    retry_after=2,
                ) from error
        except RkllamaError:
            self._bring_back(made_room)
            raise
        try:
            return self._open(library, spec, keep_alive, key)
        except RkllamaError:
            self._bring_back(made_room)
            raise

    def _bring_back(self, models: Sequence[Loaded]) -> None:
        """Load again what made room for a model that failed; where this process can't, its successor does."""
        for old in models:
            with contextlib.suppress(RkllamaError):  # its next request meets the error again
                self._open(self._library(old.spec), old.spec, old.keep_alive, f"load:{old.spec.identity}")
            if self.spent:
                self._journal.leave(old.spec, old.keep_alive)
                return

    def _open(self, library: Library, spec: ModelSpec, keep_alive: float, key: str) -> Loaded:
        parameters = ContextParameters(
            model_path=spec.path,
            context_length=spec.context_length,
            # Where sampling can change per run, the handle keeps the runtime's own values to fall back to.
            sampling=ContextParameters.sampling if library.per_run_sampling else spec.sampling,
            cpus=spec.cpus,
            adapters=spec.adapters,
        )
        self._journal.begin(key)
        self.loading = spec
        begun = time.monotonic_ns()
        try:
            with self._watchdog.watching(load_allowance(spec.size)):
                context = Context.open(library, parameters)
        except RkllamaError as error:
            self.loads = self.loads._replace(failed=self.loads.failed + 1)
            self.spent |= isinstance(error, ProcessSpent)
            raise
        finally:
            self.loading = None
            self._journal.end()
        taken = time.monotonic_ns() - begun
        self.loads = Loads(self.loads.done + 1, self.loads.failed, self.loads.ns + taken)
        model = Loaded(spec, context, keep_alive, speed=self._speeds.of(spec))
        model.speed.load_ns = taken
        self.models.append(model)
        self._changed(self.models)
        self._journal.keep(spec, keep_alive)
        return model

    def _drop(self, model: Loaded) -> None:
        self.models.remove(model)
        self._changed(self.models)
        last = max(self.models, key=lambda m: m.last_used, default=None)
        # Before the call: should it kill the process, its successor has no reason to load the model again.
        self._journal.keep(last.spec if last else None, last.keep_alive if last else 0)
        with self._watchdog.watching(0):
            model.context.close()

    def _library(self, spec: ModelSpec) -> Library:
        if spec.format not in self._libraries:
            path = self._paths.get(spec.format)
            if path is None:
                raise LibraryUnusable(
                    "There is no librkllmrt.so for .rkllm models: install Rockchip's or set RKLLM_LIB_PATH."
                    if spec.format == "rkllm"
                    else "The CPU runtime for .gguf models is not built. Run scripts/serve, or native/build.py cpu."
                )
            self._libraries[spec.format] = Library.open(path)
        return self._libraries[spec.format]
