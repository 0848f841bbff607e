"""Named prompt caches as clients see them: made, listed, deleted, and put in front of a conversation."""

import contextlib
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Any

from rkllama_flask.catalog.catalog import Catalog
from rkllama_flask.catalog.model import Model
from rkllama_flask.catalog.reading import facts
from rkllama_flask.engine.engine import Engine
from rkllama_flask.engine.jobs import Job, ModelSpec, SaveCache
from rkllama_flask.errors import (
    CacheNotFound,
    ContextLengthExceeded,
    InvalidRequest,
    ModelNotFound,
    UnsupportedRequest,
)
from rkllama_flask.generation.contexts import ContextPlan
from rkllama_flask.generation.prompt.templates import ChatTemplate
from rkllama_flask.generation.prompts import Prompts
from rkllama_flask.generation.request import GenerationRequest, Message, ToolCall
from rkllama_flask.promptcache.entry import Binding, CacheEntry, Draft, check_name
from rkllama_flask.promptcache.store import CacheStore

_RESERVED_TOKENS = 5
"""Of a context: four that the runtime keeps for itself, and one that is generated while the cache is made."""


@dataclass(frozen=True)
class CacheFacts:
    """A cache as it stands: `stale` says why it can't be used any more, None where it can. Unix seconds."""

    entry: CacheEntry
    stale: str | None
    last_used: float


class Caches:
    """`perform` carries out a job and waits for it. `spec` is what a model is loaded by, or raises why it can't be;
    `context_length` is that of its handle, or of one that a load would make; `plan` what a prompt of so many tokens
    gets.
    """

    def __init__(
        self,
        store: CacheStore,
        engine: Engine,
        catalog: Catalog,
        prompts: Prompts,
        *,
        perform: Callable[[Job], object],
        spec: Callable[[Model], ModelSpec],
        context_length: Callable[[Model], int],
        plan: Callable[[Model, int], ContextPlan],
    ) -> None:
        self._store = store
        self._engine = engine
        self._catalog = catalog
        self._prompts = prompts
        self._perform = perform
        self._spec = spec
        self._context_length = context_length
        self._plan = plan

    @property
    def max_bytes(self) -> int:
        """The room for all caches together."""
        return self._store.max_bytes

    @property
    def used_bytes(self) -> int:
        """What all caches take together."""
        return self._store.total()

    def create(self, model: Model, name: str, messages: Sequence[Message]) -> CacheEntry:
        """Save the state after these messages, in place of a cache of this name; waits for it.

        Raises InvalidRequest, ContextLengthExceeded, StorageFull, or UnsupportedRequest where the model or its runtime
        can't save.
        """
        check_name(name)
        if "completion" not in facts.capabilities(model):
            raise UnsupportedRequest(
                f"{model.name} only makes embeddings, so it has no openings to save.", param="model"
            )
        content = self._prompts.opening(model, messages)
        if not content:
            raise InvalidRequest("The chat template writes nothing of this before a user's turn.", param="prompt")
        counted = len(content) if isinstance(content, tuple) else 0
        context = self._plan(model, counted + _RESERVED_TOKENS)
        if counted > context.length - _RESERVED_TOKENS:
            raise ContextLengthExceeded(counted, context.length - _RESERVED_TOKENS, param="prompt")
        draft = Draft(
            model_name=model.name,
            name=name,
            source="named",
            content=content,
            template=template_digest(model),
            prompt_length=sum(len(message.content) for message in messages),
            messages=tuple(asdict(message) for message in messages),
        )
        entry = self._perform(SaveCache(spec=self._spec(model), draft=draft, least_context=context.least))
        assert isinstance(entry, CacheEntry)
        return entry

    def list(self, model_name: str | None = None) -> list[CacheFacts]:
        """The caches of a model, or all."""
        now: dict[str, Binding | None] = {}
        found = []
        for entry in self._store.entries(model_name):
            if entry.model_name not in now:
                now[entry.model_name] = self._binding(entry.model_name)
            found.append(self._facts(entry, now[entry.model_name]))
        return found

    def find(self, model_name: str, name: str) -> CacheFacts:
        """Raises CacheNotFound."""
        return self._facts(self._store.find(model_name, name), self._binding(model_name))

    def delete(self, model_name: str, name: str) -> CacheEntry:
        """Remove a cache, also one that is in use. Raises CacheNotFound."""
        return self._store.delete(model_name, name)

    def delete_all(self, model_name: str) -> None:
        """Remove every cache of a model."""
        for entry in self._store.entries(model_name):
            with contextlib.suppress(CacheNotFound):  # another has just removed it
                self._store.delete(model_name, entry.name)

    def put_in_front(self, request: GenerationRequest) -> tuple[GenerationRequest, str | None]:
        """The request with the messages of the cache it names, and why they are not its own, if so.

        Raises CacheNotFound.
        """
        if request.use_cache is None:
            return request, None
        entry = self._store.find(request.model.name, request.use_cache, param="use_cache")
        if entry.source != "named":
            raise CacheNotFound(f"'{entry.name}' is used by itself and can't be asked for", param="use_cache")
        opening = tuple(map(_message, entry.messages))
        if request.messages is None or request.messages[: len(opening)] == opening:
            return request, None
        if request.context:
            return request, "The request goes on from a context, so nothing can stand in front of it."
        if any(message.role == "system" for message in request.messages):
            return request, "The request has a system message of its own that is not the cached one."
        return replace(request, messages=(*opening, *request.messages)), None

    def _facts(self, entry: CacheEntry, now: Binding | None) -> CacheFacts:
        stale = entry.binding.difference(now) if now else "The model is not on disk any more."
        if stale is None and not self._store.whole(entry):
            stale = "The cache's file is missing or damaged."
        return CacheFacts(entry, stale, self._store.last_used(entry))

    def _binding(self, model_name: str) -> Binding | None:
        """What a cache of this model is bound to now; None for a model that is gone."""
        try:
            model = self._catalog.find(model_name)
        except ModelNotFound:
            return None
        version, family = self._engine.runtime_version(model.format)
        return Binding(
            model=model.identity,
            runtime=version,
            family=family,
            template=template_digest(model),
            context_length=self._context_length(model),
            adapters=tuple((path.name, scale) for path, scale in model.modelfile.adapters),
        )


def template_digest(model: Model) -> str:
    """Changes with the chat template that the model's files put in force."""
    return _digest(ChatTemplate.for_model(model).source + (model.tool_template or ""))


@lru_cache(maxsize=32)
def _digest(source: str) -> str:
    return hashlib.sha256(source.encode()).hexdigest()[:16]


def _message(stored: Mapping[str, Any]) -> Message:
    calls = tuple(ToolCall(**call) for call in stored["tool_calls"])
    return Message(**{**stored, "tool_calls": calls})
