"""Saving a KV state: a run of exactly the opening, a file, and a look whether it can be loaded again."""

import hashlib
import time
from collections.abc import Sequence
from pathlib import Path

from rkllama_flask.engine.models.journal import Journal
from rkllama_flask.engine.models.residency import Loaded, Running
from rkllama_flask.engine.watchdog import Watchdog, load_allowance, prefill_allowance
from rkllama_flask.errors import ModelUnusable, RkllamaError, RuntimeFailed
from rkllama_flask.promptcache.entry import Binding, CacheEntry, Draft
from rkllama_flask.promptcache.store import CacheStore

_MOST_PER_TOKEN = 150_000
"""Bytes of a cache's file; seen with a 4B model."""


def binding(model: Loaded, template: str) -> Binding:
    """What a KV state of this handle is bound to."""
    library = model.context.library
    return Binding(
        model=model.spec.identity,
        runtime=library.version,
        family=library.family,
        template=template,
        context_length=model.context.context_length,
        adapters=tuple((path.name, scale) for path, scale in model.spec.adapters),
    )


class CacheWriter:
    """Makes caches on the engine thread."""

    def __init__(self, store: CacheStore, *, journal: Journal, running: Running, watchdog: Watchdog) -> None:
        self._store = store
        self._journal = journal
        self._running = running
        self._watchdog = watchdog

    def save(self, model: Loaded, draft: Draft, *, models: Sequence[Loaded]) -> CacheEntry:
        """Compute and keep a cache; files that any of `models` has loaded stay.

        Raises what the run raises, StorageFull, and RuntimeFailed for a file that can't be used; nothing is left then.
        """
        key = f"save:{hash_of(draft)}"
        if self._journal.refuses(key):
            raise ModelUnusable(
                "Saving this prompt has crashed or hung the runtime before and is refused. Change it, or clear the "
                "record with DELETE /health/crashes."
            )
        target = self._store.target(draft.model_name, draft.name)
        begun = time.time()
        self._journal.begin(key)
        try:
            tokens, ttft_ns = self._run(model, draft, target)
            load_ms = self._load_back(model, target)
            entry = CacheEntry(
                name=draft.name,
                model_name=draft.model_name,
                source=draft.source,
                binding=binding(model, draft.template),
                content=draft.content,
                tokens=tokens,
                prompt_length=draft.prompt_length,
                ttft_ms=ttft_ns / 1e6,
                created_at=begun,
                modified_at=begun,
                messages=draft.messages,
                load_ms=load_ms,
            )
            in_use = {one.cache_file for one in models if one.cache_file is not None}
            entry = self._store.keep(entry, target, in_use=in_use)
        finally:
            self._store.discard(target)
            self._journal.end()
        if load_ms is not None:
            model.cache_file = entry.path
        return entry

    def _run(self, model: Loaded, draft: Draft, target: Path) -> tuple[int, int]:
        """Compute the opening and write it; its tokens, and the ns to the first token behind it."""
        context = model.context
        first: list[int] = []

        def on_token(_text: bytes, _token_id: int) -> None:
            first.append(time.monotonic_ns())
            if not context.library.per_run_sampling:
                context.abort()  # there is no limit for one run; what is saved is the opening all the same

        model.held = None
        allowed = prefill_allowance(len(draft.content), model.speed.prefill_ns)
        allowed += load_allowance(len(draft.content) * _MOST_PER_TOKEN)
        limit = 1 if context.library.per_run_sampling else None
        begun = time.monotonic_ns()
        with self._running(context, allowed):
            statistics = context.run(draft.content, on_token, max_new_tokens=limit, save_cache=target)
        ended = time.monotonic_ns()
        held = context.kv_size()
        tokens = held if statistics.prompt_tokens is None else statistics.prompt_tokens
        if not tokens or held < tokens:
            raise RuntimeFailed("The prompt was not computed to its end, so there is nothing to save. Try again.")
        model.held = draft.content
        return tokens, (first[0] if first else ended) - begun

    def _load_back(self, model: Loaded, target: Path) -> float | None:
        """The ms that loading the new file takes; None where loading is not safe now."""
        if not model.context.can_load_prompt_cache:
            return None
        held, model.held = model.held, None
        begun = time.monotonic_ns()
        try:
            with self._watchdog.watching(load_allowance(target.stat().st_size)):
                model.context.load_prompt_cache(target)
        except RkllamaError as error:
            raise RuntimeFailed(f"The prompt cache was written, but can't be loaded again: {error}") from error
        model.held = held
        return (time.monotonic_ns() - begun) / 1e6


def hash_of(draft: Draft) -> str:
    """Stands for what is saved wherever it must be remembered."""
    return hashlib.sha256(repr(draft.content).encode()).hexdigest()[:16]
