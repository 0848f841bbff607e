"""Prompt caches on the engine thread: which file is worth loading before a run, and what the run reused of it.

What a handle's KV cache holds is known from its last run or load; after a failed one nothing is known. Whether a prefix
was really reused only the runtime's own figures say, so nothing else is reported.
"""

import contextlib
import time
from collections.abc import Sequence
from typing import NamedTuple

from rkllama_flask.engine.jobs import CacheOutcome, Generate, SaveCache
from rkllama_flask.engine.models.journal import Journal
from rkllama_flask.engine.models.residency import Loaded, Running
from rkllama_flask.engine.running.cache_writer import CacheWriter, binding, hash_of
from rkllama_flask.engine.watchdog import Watchdog, load_allowance
from rkllama_flask.errors import CacheNotFound, RkllamaError
from rkllama_flask.promptcache.entry import AUTOMATIC_PREFIX, CacheEntry, Draft
from rkllama_flask.promptcache.prefix import Content, common_prefix, content, residue
from rkllama_flask.promptcache.sightings import Opening, Sightings
from rkllama_flask.promptcache.store import CacheStore
from rkllama_flask.runtime.context import RunStatistics

IDLE = 2.0
"""Seconds without a job after which an opening that conversations share is saved."""


class Prepared(NamedTuple):
    """What was found before a run.

    `named` is the cache that was asked for, if the prompt begins with it, and `reason` why it can't be used.
    `automatic` is one that the prompt begins with. `took` is the time in ns.
    """

    named: CacheEntry | None = None
    reason: str | None = None
    automatic: CacheEntry | None = None
    took: int = 0


class PromptCaches:
    """Openings from `automatic_from` tokens on are saved and used by themselves, 0: none are."""

    def __init__(
        self,
        store: CacheStore,
        *,
        automatic_from: int,
        journal: Journal,
        running: Running,
        watchdog: Watchdog,
    ) -> None:
        self._store = store
        self._automatic_from = automatic_from if store.max_bytes else 0
        self._journal = journal
        self._watchdog = watchdog
        self._writer = CacheWriter(store, journal=journal, running=running, watchdog=watchdog)
        self._sightings = Sightings()
        self._load_ns: dict[str, int] = {}
        self._useless: set[str] = set()
        self._quiet_since = time.monotonic()

    def clean(self) -> None:
        """Remove what a process that died in a save has left; only while this one holds the NPU."""
        self._store.clean()

    # Around a run

    def prepare(self, model: Loaded, job: Generate) -> Prepared:
        """Load the file that spares the run something, if one does. A cache that can't be used is no error."""
        begun = time.monotonic_ns()
        prompt = content(job.prompt)
        named, reason = self._named(model, job, prompt)
        if named is not None and self._missing(model, named, prompt) > residue(named.tokens):
            reason = self._load(model, named)
        automatic = None
        if self._automatic_from and (named is None or reason is not None):
            automatic = self._automatic(model, job, prompt)
        return Prepared(named, reason, automatic, time.monotonic_ns() - begun)

    def conclude(
        self, model: Loaded, job: Generate, prepared: Prepared, statistics: RunStatistics
    ) -> CacheOutcome | None:
        """After a run whose prompt was computed to its end: what it reused of the cache that was asked for."""
        model.held = prompt = content(job.prompt)
        computed = statistics.prefill_tokens
        length = len(prompt) if isinstance(prompt, tuple) else statistics.prompt_tokens
        reused = length - computed if length is not None and computed is not None else None
        if prepared.automatic is not None:
            self._judge(prepared.automatic, reused)
        outcome = self._outcome(job, prepared, reused)
        if outcome is None or outcome.reason is not None:
            self._see(job, prompt, length, prepared.automatic)
        return outcome

    def _named(self, model: Loaded, job: Generate, prompt: Content) -> tuple[CacheEntry | None, str | None]:
        """The cache that was asked for, if the prompt begins with it and it is of now; else why not."""
        wish = job.cache
        if wish.name is None or wish.refusal is not None:
            return None, wish.refusal
        try:
            entry = self._store.find(job.spec.name, wish.name)
        except CacheNotFound:
            return None, "The cache was deleted while the request waited."
        stale = entry.binding.difference(binding(model, wish.template))
        if stale is not None:
            return None, f"{stale} Create it again."
        if entry.tokens - _tokens(entry, common_prefix(entry.content, prompt)) > residue(entry.tokens):
            return None, "The prompt begins differently: tools, a format or template arguments change the opening."
        return entry, None

    def _automatic(self, model: Loaded, job: Generate, prompt: Content) -> CacheEntry | None:
        """The longest automatic cache that the prompt begins with, loaded if that is quicker than computing it."""
        found = [
            entry
            for entry in self._store.entries(job.spec.name)
            if entry.source == "automatic"
            and entry.file not in self._useless
            and common_prefix(entry.content, prompt) == len(entry.content)
        ]
        if not found:
            return None
        now = binding(model, job.cache.template)
        fitting = [entry for entry in found if entry.binding.difference(now) is None]
        best = max(fitting, key=lambda entry: entry.tokens, default=None)
        if best is None:
            return None
        missing, prefill_ns = self._missing(model, best, prompt), model.speed.prefill_ns
        cost = self._load_ns.get(best.file, (best.load_ms or 0) * 1e6)
        if missing > residue(best.tokens) and (prefill_ns is None or cost < missing * prefill_ns):
            failed = self._load(model, best)
            if failed is not None and not self._store.whole(best):
                self._forget(best)
        return best

    def _forget(self, entry: CacheEntry) -> None:
        with contextlib.suppress(CacheNotFound):
            self._store.delete(entry.model_name, entry.name)

    @staticmethod
    def _missing(model: Loaded, entry: CacheEntry, prompt: Content) -> int:
        """How many tokens of a cache the handle does not hold already."""
        return entry.tokens - _tokens(entry, min(common_prefix(model.held, prompt), len(entry.content)))

    def _load(self, model: Loaded, entry: CacheEntry) -> str | None:
        """Load a cache's file; why that can't be done, if it can't."""
        if not model.context.can_load_prompt_cache:
            return (
                "The answer before was cut short, after which this runtime can load no cache until one has ended by "
                "itself."
            )
        key = f"cache:{entry.file}"
        if self._journal.refuses(key):
            return "Loading this cache has crashed or hung the runtime before. Create it again."
        if not self._store.sound(entry):
            return "The cache's file is missing or damaged. Create it again."
        begun = time.monotonic_ns()
        model.held = None
        self._journal.begin(key)
        try:
            with self._watchdog.watching(load_allowance(entry.size)):
                model.context.load_prompt_cache(entry.path)
        except RkllamaError as error:
            return f"The cache's file can't be loaded: {error}"
        finally:
            self._journal.end()
        model.held, model.cache_file = entry.content, entry.path
        self._load_ns[entry.file] = time.monotonic_ns() - begun
        return None

    def _outcome(self, job: Generate, prepared: Prepared, reused: int | None) -> CacheOutcome | None:
        if job.cache.name is None:
            return None
        entry, reason = prepared.named, prepared.reason
        if entry is not None and reason is None:
            if reused is None:
                reason = "The runtime did not say how much of the prompt it computed."
            elif entry.tokens - reused > residue(entry.tokens):
                reason = f"The runtime computed {entry.tokens - reused} of its {entry.tokens} tokens again."
            else:
                self._store.touch(entry)
        return CacheOutcome(job.cache.name, reason)

    def _judge(self, entry: CacheEntry, reused: int | None) -> None:
        """An automatic cache that was loaded and spared nothing is not loaded again."""
        if reused is None or entry.tokens - reused <= residue(entry.tokens):
            self._store.touch(entry)
        elif entry.file in self._load_ns:
            self._useless.add(entry.file)

    # Saving

    def create(self, model: Loaded, job: SaveCache, *, models: Sequence[Loaded]) -> CacheEntry:
        """Make the cache that a client asked for. Raises what keeps it from being made."""
        return self._writer.save(model, job.draft, models=models)

    def rest(self) -> None:
        """A job is over: the time without one begins."""
        self._quiet_since = time.monotonic()

    def due(self, models: Sequence[Loaded]) -> float | None:
        """When the next opening is to be saved, in monotonic seconds; None when none is."""
        return None if self._next(models) is None else self._quiet_since + IDLE

    def tend(self, models: Sequence[Loaded]) -> None:
        """Save one opening that conversations share, if its time has come."""
        found = self._next(models)
        if found is None or time.monotonic() < self._quiet_since + IDLE:
            return
        opening, model = found
        draft = Draft(
            model_name=opening.model,
            name="",
            source="automatic",
            content=opening.content,
            template=opening.template,
            prompt_length=opening.prompt_length,
        )
        draft = draft._replace(name=AUTOMATIC_PREFIX + hash_of(draft))
        try:
            self._writer.save(model, draft, models=models)
        except Exception:  # whatever it was: nobody asked for it, and the thread goes on
            self._sightings.give_up(opening)
        else:
            self._sightings.saved(opening)

    def _next(self, models: Sequence[Loaded]) -> tuple[Opening, Loaded] | None:
        for opening in self._sightings.wanted:
            for model in models:
                if model.spec.identity == opening.identity:
                    return opening, model
        return None

    def _see(self, job: Generate, prompt: Content, length: int | None, used: CacheEntry | None) -> None:
        opening = job.cache.opening
        if opening is None or not self._automatic_from:
            return
        tokens = len(opening) if isinstance(opening, tuple) else len(opening) * (length or 0) // len(prompt)
        covered = used is not None and common_prefix(used.content, opening) == len(opening)
        if tokens >= self._automatic_from and not covered:
            found = Opening(job.spec.name, job.spec.identity, job.cache.template, opening, job.cache.opening_length)
            self._sightings.saw(found, job.cache.conversation)


def _tokens(entry: CacheEntry, length: int) -> int:
    """How many tokens the first `length` tokens or characters of a cache are."""
    return length * entry.tokens // len(entry.content)
