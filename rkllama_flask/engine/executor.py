"""What the engine thread does with each job."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

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
    Settle,
    Started,
    Unload,
)
from rkllama_flask.engine.models.journal import Journal
from rkllama_flask.engine.models.residency import Loaded, Running
from rkllama_flask.engine.models.residents import Loads, Residents
from rkllama_flask.engine.running.caches import PromptCaches
from rkllama_flask.engine.running.runs import conclude, unapplied
from rkllama_flask.engine.running.steps import open_answer
from rkllama_flask.engine.running.vectors import make_vectors
from rkllama_flask.errors import ContextLengthExceeded, ModelUnusable
from rkllama_flask.promptcache.entry import CacheEntry

T = TypeVar("T")


class Executor:
    """Finds the model of each job and lets it rest afterwards."""

    def __init__(self, residents: Residents, *, journal: Journal, caches: PromptCaches, running: Running) -> None:
        self._residents = residents
        self._journal = journal
        self._caches = caches
        self._running = running
        self._ways: Mapping[type[Job], Callable[[Any], object]] = {
            Generate: self._generate,
            Embed: self._embed,
            SaveCache: self._save_cache,
            Load: self._load,
            Unload: lambda job: residents.unload(job.path),
            Forgive: lambda _: journal.forgive(),
            Settle: lambda _: None,
        }

    @property
    def models(self) -> Sequence[Loaded]:
        return self._residents.models

    @property
    def loading(self) -> ModelSpec | None:
        """The model that is being loaded now."""
        return self._residents.loading

    @property
    def loads(self) -> Loads:
        """The loads since the start."""
        return self._residents.loads

    @property
    def spent(self) -> bool:
        """Whether this process has to be replaced before all is well again."""
        return self._residents.spent

    # Between jobs

    def restore(self) -> None:
        """Load again what the process before had loaded."""
        self._residents.restore()

    def next_due(self) -> float | None:
        """When there is something to do without a job, in monotonic seconds: a keep-alive's end, a cache to save."""
        soonest = self._residents.next_expiry()
        due = self._caches.due(self.models)
        if due is not None:
            soonest = min(soonest, due)
        return None if math.isinf(soonest) else soonest

    def tend(self) -> None:
        """Do what is due for the prompt caches; takes as long as one save at most."""
        self._caches.tend(self.models)

    def expire(self) -> None:
        """Unload the models whose keep-alive is over."""
        self._residents.expire()

    def close(self) -> None:
        """Release every model, then the NPU."""
        self._residents.close()

    # Jobs

    def perform(self, job: Job) -> object:
        """Carry out one job; what it returns is the job's result. Raises RkllamaError."""
        try:
            return self._ways[type(job)](job)
        finally:
            self._caches.rest()

    def _load(self, job: Load) -> int:
        started = time.monotonic_ns()
        if job.only_first and self.models:
            return 0
        self._residents.use(job.spec, least_context=job.least_context, keep_alive=job.keep_alive)
        return time.monotonic_ns() - started

    def _on_model(self, job: Generate | Embed | SaveCache, carry_out: Callable[[Loaded], T]) -> T:
        """What comes of a job on its model. One that somebody has loaded with a smaller context than the job's spec has
        is loaded again when the runtime finds, as it alone can of a text, that the job needs more.
        """
        model = self._residents.use(job.spec, least_context=job.least_context, keep_alive=job.keep_alive)
        try:
            return carry_out(model)
        except ContextLengthExceeded:
            if model.serves(job.spec, self._residents.within_limit(job.spec, job.spec.context_length)):
                raise
        return carry_out(
            self._residents.use(job.spec, least_context=job.spec.context_length, keep_alive=job.keep_alive)
        )

    def _save_cache(self, job: SaveCache) -> CacheEntry:
        def carry_out(model: Loaded) -> CacheEntry:
            try:
                return self._caches.create(model, job, models=self.models)
            finally:
                self._residents.rest(model)

        return self._on_model(job, carry_out)

    def _embed(self, job: Embed) -> EmbedRunResult:
        key, begun = self._accepted(job), time.monotonic_ns()
        return self._on_model(job, lambda model: self._make_vectors(job, model, key, begun=begun))

    def _make_vectors(self, job: Embed, model: Loaded, key: str, *, begun: int) -> EmbedRunResult:
        loaded_at = time.monotonic_ns()
        model.held = None
        self._journal.begin(key)
        try:
            vectors, tokens = make_vectors(model, job, running=self._running)
        finally:
            self._journal.end()
            self._residents.rest(model)
        ended = time.monotonic_ns()
        model.speed.saw_prefill(tokens, ended - loaded_at)
        return EmbedRunResult(vectors, tokens, ended - loaded_at, begun - job.submitted_at, loaded_at - begun)

    def _generate(self, job: Generate) -> RunResult:
        key, begun = self._accepted(job), time.monotonic_ns()
        return self._on_model(job, lambda model: self._answer(job, model, key, begun=begun))

    def _answer(self, job: Generate, model: Loaded, key: str, *, begun: int) -> RunResult:
        loaded_at = time.monotonic_ns()
        started = Started(unapplied(job, model.context), begun - job.submitted_at, loaded_at - begun)
        answer = open_answer(model, job)
        prepared = self._caches.prepare(model, job)
        model.held = None
        self._journal.begin(key)
        try:
            statistics = answer.run(model, self._running, started)
        finally:
            self._journal.end()
            self._residents.rest(model)
        cache = None
        if answer.first_token_at is not None or not (job.cancelled or job.finished_early):
            cache = self._caches.conclude(model, job, prepared, statistics)
        result = conclude(job, answer, statistics, model, begun=begun, loaded_at=loaded_at, prepared=prepared)
        return result._replace(cache=cache)

    def _accepted(self, job: Generate | Embed) -> str:
        """The journal's key for a job. Raises ModelUnusable for one that has crashed or hung the runtime before."""
        key = f"run:{job.content_hash}"
        if self._journal.refuses(key):
            raise ModelUnusable(
                "This request has crashed or hung the runtime before and is refused. Change it, or clear the record "
                "with DELETE /health/crashes."
            )
        return key
