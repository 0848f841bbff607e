"""Vectors for texts: how a text is handed to the model, and how its hidden states become one vector."""

import math
import time
from array import array
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from rkllama_flask.catalog.model import Model
from rkllama_flask.catalog.reading import facts
from rkllama_flask.engine.engine import Engine
from rkllama_flask.engine.jobs import Done, Embed, EmbedRunResult
from rkllama_flask.errors import ContextLengthExceeded, InvalidRequest, UnsupportedRequest
from rkllama_flask.generation.events import Ended, Timings
from rkllama_flask.generation.following import Following, OnEnd, nobody
from rkllama_flask.generation.prompt.segments import Prompt, Segment
from rkllama_flask.generation.prompt.special_text import neutralise
from rkllama_flask.generation.prompt.tokens import Tokenizer

Pooling = Literal["mean", "cls", "last"]
Rows = Sequence["array[float]"]
"""Hidden states of a text, one row for each of its tokens."""

_ENDINGS = {"qwen2": "<|endoftext|>", "qwen3": "<|endoftext|>", "mistral": "</s>"}
"""What embedding models of these families were trained to gather a text in; their model cards append it."""


class Embeddings(NamedTuple):
    """One vector for each input, in order. `timings.prefill` is the time of all runs."""

    vectors: "tuple[array[float], ...]"
    prompt_tokens: int
    timings: Timings


class Embedding(Following[Embeddings]):
    """An iterator of one Embeddings, after Waiting in times of silence."""

    unapplied: tuple[str, ...] = ()

    def __init__(self, engine: Engine, job: Embed, *, queue_timeout: float, on_end: OnEnd = nobody) -> None:
        super().__init__(engine, job, queue_timeout=queue_timeout, on_end=on_end)
        self._model = job.spec.name
        self._made: Embeddings | None = None
        self._begun = time.monotonic_ns()

    def _take(self, event: object) -> None:
        if not isinstance(event, Done) or not isinstance(event.result, EmbedRunResult):
            return
        result = event.result
        total = time.monotonic_ns() - self._begun
        timings = Timings(total, queue=result.queued_ns, load=result.load_ns, prefill=result.run_ns, decode=0)
        self._made = Embeddings(result.vectors, result.prompt_tokens, timings)
        self._ready.append(self._made)
        self._over = True

    def _ended(self) -> Ended:
        if self._made is None:
            return Ended("embedding", self._model, "failed" if self._failed else "cancelled")
        _, tokens, timings = self._made
        return Ended(
            "embedding",
            self._model,
            "done",
            prompt_tokens=tokens,
            queue=timings.queue,
            load=timings.load,
            prefill=timings.prefill,
        )


def pooling_of(model: Model) -> Pooling:
    """What the model's files say, else what is usual: the last token for encoders made of decoders, else the mean."""
    said = facts.pooling(model)
    if said is not None:
        return said
    return "last" if _is_encoder(model) and model.family in _ENDINGS else "mean"


def pooler(kind: Pooling, *, dimensions: int | None = None, normalize: bool = True) -> Callable[[Rows], "array[float]"]:
    """What makes one vector of a text's hidden states: pooled, cut to the first `dimensions`, of length 1.

    It raises UnsupportedRequest where the model gave something that isn't a number.
    """

    def pool(rows: Rows) -> "array[float]":
        match kind:
            case "mean":
                vector = [math.fsum(column) / len(rows) for column in zip(*rows, strict=True)]
            case "cls":
                vector = list(rows[0])
            case "last":
                vector = list(rows[-1])
        vector = vector[:dimensions]
        if not all(map(math.isfinite, vector)):
            raise UnsupportedRequest("The model's numbers for an input are not finite, so there is no embedding of it.")
        length = math.hypot(*vector) if normalize else 0.0
        return array("f", [value / length for value in vector] if length else vector)

    return pool


def prompt_of(
    text: str | Sequence[int], model: Model, tokenizer: Tokenizer | None, *, room: int, truncate: bool
) -> str | list[int]:
    """What the runtime gets for one input: text with what the model wants around it, token ids as they are.

    `room` is in tokens; what is longer is cut, its ending kept. Raises InvalidRequest, or ContextLengthExceeded unless
    it may be cut. Without a tokenizer the length is known only to the runtime.
    """
    ending: tuple[int, ...] = ()
    if not isinstance(text, str):
        ids = list(text)
        if tokenizer is not None:
            tokenizer.check(ids, param="input")
    elif tokenizer is None or model.modelfile.input == "text":
        return _text(text, model, tokenizer)
    else:
        ending = _ending(model, tokenizer)
        ids = [*tokenizer.encode(text), *ending]
    if not ids:
        raise InvalidRequest("An input is empty.", param="input")
    if len(ids) <= room:
        return ids
    if not truncate:
        raise ContextLengthExceeded(len(ids), room, param="input")
    return [*ids[: room - len(ending)], *ending]


def _text(text: str, model: Model, tokenizer: Tokenizer | None) -> str:
    if not text:
        raise InvalidRequest("An input is empty.", param="input")
    prompt = Prompt((Segment(text, trusted=False),))
    if tokenizer is None:
        ending = _ENDINGS.get(model.family or "", "") if _gathers_at_end(model) else ""
        return neutralise(prompt) + ending
    return tokenizer.as_text(prompt) + tokenizer.decode(_ending(model, tokenizer))


def _ending(model: Model, tokenizer: Tokenizer) -> tuple[int, ...]:
    """What the tokenizer itself puts after a text, else what the family's embedding models want there."""
    if tokenizer.ending or not _gathers_at_end(model):
        return tokenizer.ending
    wanted = tokenizer.special_id(_ENDINGS.get(model.family or "", ""))
    return () if wanted is None else (wanted,)


def _gathers_at_end(model: Model) -> bool:
    return _is_encoder(model) and pooling_of(model) == "last"


def _is_encoder(model: Model) -> bool:
    return "completion" not in facts.capabilities(model)
