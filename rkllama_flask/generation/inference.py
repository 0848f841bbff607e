"""What the dialects ask: models, answers, embeddings, token counts. From neutral requests to jobs of the engine."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from rkllama_flask.catalog.catalog import Catalog
from rkllama_flask.catalog.model import Model
from rkllama_flask.catalog.reading import facts
from rkllama_flask.engine.engine import Engine
from rkllama_flask.engine.jobs import CacheWish, Embed, Generate
from rkllama_flask.engine.running.runs import RESERVED_TOKENS
from rkllama_flask.errors import ContextLengthExceeded, InvalidRequest, UnsupportedRequest
from rkllama_flask.generation.caches import Caches, template_digest
from rkllama_flask.generation.calls_first import CallsFirst
from rkllama_flask.generation.contexts import LARGEST, ContextPlan
from rkllama_flask.generation.embeddings import Embedding, pooler, pooling_of, prompt_of
from rkllama_flask.generation.following import OnEnd, nobody
from rkllama_flask.generation.generation import Generation
from rkllama_flask.generation.models import Models
from rkllama_flask.generation.prompt.segments import Prompt, Segment
from rkllama_flask.generation.prompt.tokens import LONG, Tokenizer
from rkllama_flask.generation.prompts import Prompts
from rkllama_flask.generation.request import GenerationRequest
from rkllama_flask.inference_config import LiveConfig
from rkllama_flask.native_threads import call_natively
from rkllama_flask.promptcache.store import NO_ROOM, CacheStore

MAX_STOPS = 64
MAX_STOP_CHARACTERS = 10_000


class Inference(Models):
    """Models that answer: what the dialects ask. `queue_timeout` and `request_timeout` are in seconds.

    Openings of prompts from `automatic_caches_from` tokens on are told to the engine, 0: none are. `observe` is called
    as an answer or an embedding is asked for, and returns who is to hear how that ends.
    """

    def __init__(
        self,
        engine: Engine,
        catalog: Catalog,
        config: LiveConfig,
        *,
        default_model: str | None = None,
        fallback_model: str | None = None,
        model_aliases: Mapping[str, str] = MappingProxyType({}),
        max_context_length: int = 16384,
        platform: str | None = None,
        on_warning: Callable[[str], None] = lambda _: None,
        cache_store: CacheStore = NO_ROOM,
        automatic_caches_from: int = 0,
        queue_timeout: float = 600,
        request_timeout: float = 1800,
        observe: Callable[[], OnEnd] = lambda: nobody,
    ) -> None:
        super().__init__(
            engine,
            catalog,
            config,
            default_model=default_model,
            fallback_model=fallback_model,
            model_aliases=model_aliases,
            max_context_length=max_context_length,
            platform=platform,
            on_warning=on_warning,
        )
        self._prompts = Prompts(openings_from=automatic_caches_from)
        self.reading, self.known_reading = self._prompts.reading, self._prompts.known_reading
        self.caches = Caches(
            cache_store,
            engine,
            catalog,
            self._prompts,
            perform=self._wait,
            spec=self._loadable,
            context_length=self._context_length,
            plan=self._plan,
        )
        self._queue_timeout = queue_timeout
        self._request_timeout = request_timeout
        self._observe = observe

    def generate(self, request: GenerationRequest) -> Generation | CallsFirst:
        """Queue one answer. Raises what is wrong with the request before anything runs."""
        mode = request.tool_choice.mode if request.tools else "none"
        if request.format is None or mode == "none":
            return self._generate(request)
        if mode == "auto":
            return CallsFirst(self._generate, request)
        return self._generate(replace(request, format=None))  # the answer is a call and nothing else

    def _generate(self, request: GenerationRequest) -> Generation:
        model, modelfile = request.model, request.model.modelfile
        if "completion" not in facts.capabilities(model):
            raise UnsupportedRequest(f'"{model.name}" does not support chat: it only makes embeddings.', param="model")
        stops = _stops(request.stop or modelfile.stop)
        request, refusal = self.caches.put_in_front(request)
        prompt = self._prompts.build(request)
        context = self._context_for(request, prompt.tokens)
        job = Generate(
            client=request.client,
            spec=self._spec(model, context),
            prompt=prompt.content,
            sampling=request.sampling.over(self._sampling(model)),
            requested=request.sampling,
            max_tokens=self._limit(request, prompt.tokens, context.length),
            stop=stops,
            least_context=context.least,
            keep_alive=request.keep_alive,
            timeout=request.timeout or self._request_timeout,
            content_hash=_hash(prompt.content),
            cache=CacheWish(
                template=template_digest(model),
                name=request.use_cache,
                refusal=refusal,
                opening=prompt.opening,
                opening_length=prompt.opening_length,
                conversation=prompt.conversation,
            ),
            steps=prompt.steps,
        )
        self._look_at(model)
        self._engine.submit(job)
        return Generation(
            self._engine,
            job,
            splitter=prompt.splitter,
            parser=prompt.parser,
            prompt_tokens=prompt.tokens,
            cutting_stops=request.cutting_stops,
            left_out=prompt.left_out,
            queue_timeout=self._queue_timeout,
            on_end=self._observe(),
        )

    def examine(self, requests: Sequence[GenerationRequest]) -> None:
        """Raise what is wrong with the prompts of requests that will be generated later. Queues nothing."""
        asked = [self.caches.put_in_front(request)[0] for request in requests]

        def count() -> list[int | None]:
            return [self._prompts.build(one).tokens for one in asked]

        counts = call_natively(count) if sum(len(one.prompt or ()) for one in requests) >= LONG else count()
        for request, tokens in zip(requests, counts, strict=True):
            self._limit(request, tokens, self._context_for(request, tokens).length)

    def embed(
        self,
        model: Model,
        inputs: Sequence[str | Sequence[int]],
        *,
        dimensions: int | None = None,
        normalize: bool = True,
        truncate: bool = False,
        context_length: int | None = None,
        keep_alive: float | None = None,
        client: str = "",
    ) -> Embedding:
        """Queue texts or token ids to be made vectors. Raises what is wrong with them before anything runs.

        The vectors have at most `dimensions` numbers. `truncate` cuts inputs that the context has no room for. The
        rest is as in GenerationRequest.
        """
        tokenizer = self._prompts.tokenizer(model)
        room = self._plan(model, LARGEST, asked=context_length).length - RESERVED_TOKENS

        def cut() -> list[str | list[int]]:
            return [prompt_of(one, model, tokenizer, room=room, truncate=truncate) for one in inputs]

        prompts = call_natively(cut) if sum(map(len, inputs)) >= LONG else cut()
        longest = max((len(one) for one in prompts if not isinstance(one, str)), default=0)
        context = self._plan(model, longest + RESERVED_TOKENS, asked=context_length)
        job = Embed(
            client=client,
            spec=self._spec(model, context),
            prompts=prompts,
            pool=pooler(pooling_of(model), dimensions=dimensions, normalize=normalize),
            truncate=truncate,
            least_context=context.least,
            keep_alive=keep_alive,
            timeout=self._request_timeout,
            content_hash=_hash(prompts),
        )
        self._look_at(model)
        self._engine.submit(job)
        return Embedding(self._engine, job, queue_timeout=self._queue_timeout, on_end=self._observe())

    def count_tokens(self, request: GenerationRequest) -> int:
        """Tokens of the rendered prompt. Raises UnsupportedRequest for a model without a tokenizer."""
        self._tokenizer(request.model, "its tokens can't be counted")
        found = self._prompts.build(self.caches.put_in_front(request)[0]).tokens
        assert found is not None
        return found

    def render(self, request: GenerationRequest) -> str:
        """The prompt that the model would be given, as one text."""
        content = self._prompts.build(self.caches.put_in_front(request)[0]).content
        return content if isinstance(content, str) else self.detokenize(request.model, content)

    def context_after(self, request: GenerationRequest, answer: str) -> list[int] | None:
        """What a later request can send as `context` to go on after this answer; None without a tokenizer."""
        return self._prompts.after_answer(self.caches.put_in_front(request)[0], answer)

    def tokenize(self, model: Model, text: str, *, special: bool, beginning: bool) -> list[int]:
        """The text's token ids; `special` strings in it are the tokens of that name, `beginning` adds what the model
        wants before a text. Raises UnsupportedRequest for a model without a tokenizer.
        """
        tokenizer = self._tokenizer(model, "a text can't be cut into tokens")
        return tokenizer.encode(Prompt((Segment(text, trusted=special),)), add_bos=beginning)

    def detokenize(self, model: Model, ids: Sequence[int], *, param: str = "tokens") -> str:
        """The text of token ids. Raises InvalidRequest for ids that the model doesn't have, UnsupportedRequest for a
        model without a tokenizer.
        """
        tokenizer = self._tokenizer(model, "token ids can't be turned into text")
        tokenizer.check(ids, param=param)
        return tokenizer.decode(ids)

    def _tokenizer(self, model: Model, without: str) -> Tokenizer:
        tokenizer = self._prompts.tokenizer(model)
        if tokenizer is None:
            raise UnsupportedRequest(f"The model '{model.name}' has no tokenizer, so {without}.", param="model")
        return tokenizer

    def _context_for(self, request: GenerationRequest, prompt_tokens: int | None) -> ContextPlan:
        """Room for the prompt and for as long an answer as the request wants, a third as much where it doesn't say."""
        if prompt_tokens is None:
            return self._plan(request.model, 0, asked=request.context_length)
        said, limit = max(request.max_tokens or 0, 0), self._answer_limit(request)
        answer = said or min(prompt_tokens // 3, limit if limit > 0 else prompt_tokens) or 1
        return self._plan(request.model, prompt_tokens + answer + RESERVED_TOKENS, asked=request.context_length)

    def _answer_limit(self, request: GenerationRequest) -> int:
        """In tokens, the first that is said; below 1 there is none but the context's."""
        wanted = (request.max_tokens, request.model.modelfile.max_tokens, self._config.current().max_new_tokens)
        return next(one for one in wanted if one is not None)

    def _limit(self, request: GenerationRequest, prompt_tokens: int | None, context_length: int) -> int:
        """How many tokens the answer may have, within what the context has room for.

        Raises ContextLengthExceeded for a prompt that leaves no room for an answer.
        """
        limit = self._answer_limit(request)
        room = context_length - RESERVED_TOKENS - (prompt_tokens or 0)
        if room <= 0 and prompt_tokens is not None:
            raise self._too_long(prompt_tokens, context_length, request.model)
        return min(limit, room) if limit > 0 else room

    @staticmethod
    def _too_long(prompt_tokens: int, context_length: int, model: Model) -> ContextLengthExceeded:
        largest = model.context_length if model.context_length > context_length else None
        return ContextLengthExceeded(prompt_tokens, context_length - RESERVED_TOKENS, largest=largest)


def _stops(stops: tuple[str, ...]) -> tuple[str, ...]:
    """Each is looked for at each token, on the thread that everybody's answers come from."""
    if len(stops) > MAX_STOPS or sum(map(len, stops)) > MAX_STOP_CHARACTERS:
        raise InvalidRequest(
            f"There may be {MAX_STOPS} stop strings at most, of {MAX_STOP_CHARACTERS} characters together.",
            param="stop",
        )
    return stops


def _hash(content: object) -> str:
    return hashlib.sha256(repr(content).encode()).hexdigest()[:32]
