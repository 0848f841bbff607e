"""What the engine thread does: holds the loaded models and carries out jobs on them. Nobody else touches a Context."""

import contextlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from rkllama_flask.engine.answer import Answer
from rkllama_flask.engine.caches import Prepared, PromptCaches
from rkllama_flask.engine.jobs import (
    Embed,
    EmbedRunResult,
    Forgive,
    Generate,
    Job,
    Load,
    ModelSpec,
    RunResult,
    SaveCache,
    Started,
    Unload,
)
from rkllama_flask.engine.journal import Journal
from rkllama_flask.engine.npu_lock import NpuLock
from rkllama_flask.engine.residency import Loaded, available_memory, choose_evictions
from rkllama_flask.errors import (
    ContextLengthExceeded,
    Draining,
    LibraryUnusable,
    ModelUnusable,
    ProcessSpent,
    RkllamaError,
    TimedOut,
)
from rkllama_flask.promptcache.entry import CacheEntry
from rkllama_flask.runtime.context import Context, ContextParameters, EmbedResult, RunStatistics
from rkllama_flask.runtime.library import Library

ContextHolder = Callable[[Context | None], None]

RESERVED_TOKENS = 4
"""Positions of a context that the runtime keeps for itself: a 1024 context takes 1020 tokens."""


class Executor:
    """`running(context)` is called right before and after each run, so that others may abort it in between; `changed`
    whenever a model comes or goes.

    `spent` says that this process has to be replaced before all is well again, `loading` that a model is being loaded.
    """

    def __init__(
        self,
        *,
        libraries: Mapping[str, Path | None],
        lock: NpuLock,
        journal: Journal,
        caches: PromptCaches,
        keep_alive: float,
        max_loaded: int,
        running: ContextHolder,
        changed: Callable[[Sequence[Loaded]], None],
    ) -> None:
        self._paths = libraries
        self._libraries: dict[str, Library] = {}
        self._lock = lock
        self._journal = journal
        self._caches = caches
        self._keep_alive = keep_alive
        self._max_loaded = max_loaded
        self._running = running
        self._changed = changed
        self.models: list[Loaded] = []
        self.spent = False
        self.loading = False

    # Residency

    def restore(self) -> None:
        """Load again what a process that crashed had loaded."""
        left = self._journal.recover()
        if left:
            spec, keep_alive = left
            self._load(spec, keep_alive)

    def next_due(self) -> float | None:
        """When there is something to do without a job, in monotonic seconds: a keep-alive's end, a cache to save."""
        soonest = min((model.expires for model in self.models), default=math.inf)
        due = self._caches.due(self.models)
        if due is not None:
            soonest = min(soonest, due)
        return None if math.isinf(soonest) else soonest

    def tend(self) -> None:
        """Do what is due for the prompt caches; takes as long as one save at most."""
        self._caches.tend(self.models)

    def expire(self) -> None:
        now = time.monotonic()
        for model in [m for m in self.models if m.expires <= now]:
            self._drop(model)

    def close(self) -> None:
        """Release every model, then the NPU."""
        for model in list(self.models):
            self._drop(model)
        self._lock.release()

    def _resident(self, spec: ModelSpec, context_length: int | None, keep_alive: float | None) -> Loaded:
        """The loaded model for `spec`, loaded now if it is not; `keep_alive` None leaves its clock's length."""
        model = next((m for m in self.models if m.serves(spec, context_length)), None)
        if model is None:
            if context_length is not None:
                spec = replace(spec, context_length=context_length)
            if keep_alive is None:  # another context length is no reason to forget that a model was to stay
                kept = [m.keep_alive for m in self.models if m.spec.same_weights(spec)]
                keep_alive = kept[0] if kept else self._keep_alive
            model = self._load(spec, keep_alive)
        elif keep_alive is not None:
            model.keep_alive = keep_alive
        model.last_used = time.monotonic()
        return model

    def _load(self, spec: ModelSpec, keep_alive: float) -> Loaded:
        key = f"load:{spec.identity}"
        if self._journal.refuses(key):
            raise ModelUnusable(
                f"Loading '{spec.name}' has crashed the runtime {self._journal.crashes[key]} times. Replace the file, "
                "or clear the record with DELETE /health/crashes."
            )
        library = self._library(spec)
        if self._lock.take():
            self._caches.clean()
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
            model = self._open(library, spec, keep_alive, key)
        except RkllamaError:
            self._bring_back(made_room)
            raise
        return model

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
        self.loading = True
        try:
            context = Context.open(library, parameters)
        except ProcessSpent:
            self.spent = True
            raise
        finally:
            self.loading = False
            self._journal.end()
        model = Loaded(spec, context, keep_alive)
        self.models.append(model)
        self._changed(self.models)
        self._journal.keep(spec, keep_alive)
        return model

    def _drop(self, model: Loaded) -> None:
        self.models.remove(model)
        self._changed(self.models)
        model.context.close()
        last = max(self.models, key=lambda m: m.last_used, default=None)
        self._journal.keep(last.spec if last else None, last.keep_alive if last else 0)

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

    # Jobs

    def perform(self, job: Job) -> object:
        """Carry out one job; what it returns is the job's result. Raises RkllamaError."""
        try:
            return self._perform(job)
        finally:
            self._caches.rest()

    def _perform(self, job: Job) -> object:
        if isinstance(job, Generate):
            return self._generate(job)
        if isinstance(job, Load):
            started = time.monotonic_ns()
            self._resident(job.spec, job.context_length, job.keep_alive)
            return time.monotonic_ns() - started
        if isinstance(job, Unload):
            return self._unload(job)
        if isinstance(job, Forgive):
            return self._journal.forgive()
        if isinstance(job, Embed):
            return self._embed(job)
        if isinstance(job, SaveCache):
            return self._save_cache(job)
        raise AssertionError(job)

    def _unload(self, job: Unload) -> list[Path]:
        chosen = [m for m in self.models if job.path in (None, m.spec.path)]
        for model in chosen:
            self._drop(model)
        return [m.spec.path for m in chosen]

    def _save_cache(self, job: SaveCache) -> CacheEntry:
        model = self._resident(job.spec, None, job.keep_alive)
        try:
            return self._caches.create(model, job, models=self.models)
        finally:
            self._rest(model)

    def _embed(self, job: Embed) -> EmbedRunResult:
        key = self._accepted(job)
        begun = time.monotonic_ns()
        model = self._resident(job.spec, job.context_length, job.keep_alive)
        loaded_at = time.monotonic_ns()
        vectors, tokens = [], 0
        model.held = None
        self._journal.begin(key)
        self._running(model.context)
        try:
            for prompt in job.prompts:
                if job.cancelled:
                    raise Draining("The client left before all was embedded.")
                if job.timeout is not None and time.monotonic_ns() - loaded_at > job.timeout * 1e9:
                    raise TimedOut(f"Not all was embedded after {job.timeout:g} seconds.")
                states = _hidden_states(model.context, prompt, truncate=job.truncate)
                vectors.append(job.pool(states.rows))
                tokens += states.prompt_tokens
        finally:
            self._running(None)
            self._journal.end()
            self._rest(model)
        ended = time.monotonic_ns()
        return EmbedRunResult(tuple(vectors), tokens, ended - loaded_at, begun - job.submitted_at, loaded_at - begun)

    def _accepted(self, job: Generate | Embed) -> str:
        """The journal's key for a job. Raises ModelUnusable for one that has crashed the runtime before."""
        key = f"run:{job.content_hash}"
        if self._journal.refuses(key):
            raise ModelUnusable(
                "This request has crashed the runtime before and is refused. Change it, or clear the record with "
                "DELETE /health/crashes."
            )
        return key

    def _generate(self, job: Generate) -> RunResult:
        key = self._accepted(job)
        begun = time.monotonic_ns()
        model = self._resident(job.spec, job.context_length, job.keep_alive)
        context, library = model.context, model.context.library
        loaded_at = time.monotonic_ns()
        job.mailbox.put(Started(self._unapplied(job, context), begun - job.submitted_at, loaded_at - begun))
        answer = Answer(job, abort=context.abort, limit_here=not library.per_run_sampling)
        prepared = self._caches.prepare(model, job)
        model.held = None
        self._journal.begin(key)
        self._running(context)
        try:
            if job.cancelled:
                raise Draining("The client left before its turn came.")
            statistics = context.run(
                job.prompt,
                answer.on_token,
                sampling=job.sampling.over(context.sampling) if library.per_run_sampling else None,
                max_new_tokens=job.max_tokens if library.per_run_sampling else None,
            )
        finally:
            self._running(None)
            self._journal.end()
            self._rest(model)
        cache = None
        if answer.first_token_at is not None or not (job.cancelled or job.finished_early):
            cache = self._caches.conclude(model, job, prepared, statistics)
        result = self._result(job, answer, statistics, model, begun, loaded_at, prepared)
        return result._replace(cache=cache)

    @staticmethod
    def _unapplied(job: Generate, context: Context) -> tuple[str, ...]:
        """What the client asked of a handle whose sampling was fixed at load, and that differs from it."""
        if context.library.per_run_sampling:
            return ()
        fixed = context.sampling.said()
        return tuple(
            name for name, value in job.requested.said().items() if not math.isclose(value, fixed[name], rel_tol=1e-5)
        )

    def _rest(self, model: Loaded) -> None:
        """The model's keep-alive starts to count; zero unloads it at once."""
        model.last_used = time.monotonic()
        if model.keep_alive <= 0:
            self._drop(model)

    @staticmethod
    def _result(
        job: Generate,
        answer: Answer,
        statistics: RunStatistics,
        model: Loaded,
        begun: int,
        loaded_at: int,
        prepared: Prepared,
    ) -> RunResult:
        ended = time.monotonic_ns()
        if answer.end == "timeout":
            raise TimedOut(f"The answer was not complete after {job.timeout:g} seconds.")
        generated = statistics.generate_tokens
        if generated is None or not answer.tokens <= generated <= answer.tokens + 2:
            generated = answer.tokens
        room = model.context.context_length - RESERVED_TOKENS
        full = statistics.prompt_tokens is not None and statistics.prompt_tokens + generated >= room
        reached = answer.end is None and (full or (job.max_tokens is not None and answer.tokens >= job.max_tokens))
        length = answer.end == "length" or reached
        answer.flush(cut=length)
        first = answer.first_token_at or ended
        prefill_ns = first - loaded_at
        if statistics.prefill_ms is not None:
            prefill_ns = int(statistics.prefill_ms * 1e6) + prepared.took
        decode_ns = int(statistics.generate_ms * 1e6) if statistics.generate_ms is not None else ended - first
        return RunResult(
            reason="length" if length and answer.stop_string is None else "stop",
            stop_string=answer.stop_string,
            prompt_tokens=statistics.prompt_tokens,
            prefill_tokens=statistics.prefill_tokens,
            generated_tokens=generated,
            prefill_ns=prefill_ns,
            decode_ns=decode_ns,
            queued_ns=begun - job.submitted_at,
            load_ns=loaded_at - begun,
        )


def _hidden_states(context: Context, prompt: str | Sequence[int], *, truncate: bool) -> EmbedResult:
    """The prompt's, or with `truncate` those of as much of its beginning as the context takes."""
    try:
        return context.embed(prompt)
    except ContextLengthExceeded as error:
        if not truncate:
            raise
        # Tokens may lie unevenly in a text; a little more than their share makes this end soon all the same.
        keep = len(prompt) * error.limit // error.prompt_tokens * 15 // 16
    return _hidden_states(context, prompt[:keep], truncate=True)
