"""One answer on its way out: the engine's pieces become text, thoughts and tool calls."""

import time
from collections.abc import Sequence
from typing import Protocol

from rkllama_flask.engine.engine import Engine
from rkllama_flask.engine.jobs import Done, Generate, Piece, RunResult, Started
from rkllama_flask.errors import AnswerUnfit
from rkllama_flask.generation.events import (
    Content,
    Ended,
    Event,
    Finished,
    Reasoning,
    Text,
    Timings,
    ToolCallFinished,
    Usage,
    Waiting,
)
from rkllama_flask.generation.following import Following, OnEnd, nobody
from rkllama_flask.generation.output.content_marks import Splitter


class Parser(Protocol):
    """A stage of the way out. `done` says that the answer is complete whatever the model would add.

    After `finish`, `problem` says why the answer is not what was promised, None if it is. `cut` tells `finish` that the
    model would have said more. `unapplied` names what of the request the answer then does not keep to.
    """

    @property
    def done(self) -> bool: ...

    @property
    def problem(self) -> str | None: ...

    @property
    def unapplied(self) -> tuple[str, ...]: ...

    def feed(self, text: str) -> list[Event]: ...

    def finish(self, *, cut: bool = False) -> list[Event]: ...


class Generation(Following[Content]):
    """An iterator of events that ends with Finished. Raises RkllamaError out of `next()`; `close()` cancels.

    `unapplied` names request fields that this runtime could not honour, and messages that are `left_out` of the prompt;
    valid after the first event that isn't Waiting. `prompt_tokens` is the prompt's exact count, None without a
    tokenizer: then only Finished has one. `cutting_stops` are the stop strings that cut an answer; any other is how the
    model ends its turn.
    """

    def __init__(
        self,
        engine: Engine,
        job: Generate,
        *,
        splitter: Splitter | None,
        parser: Parser | None,
        prompt_tokens: int | None,
        cutting_stops: frozenset[str] = frozenset(),
        queue_timeout: float,
        on_end: OnEnd = nobody,
        left_out: tuple[str, ...] = (),
    ) -> None:
        super().__init__(engine, job, queue_timeout=queue_timeout, on_end=on_end)
        self._model = job.spec.name
        self._fed = job.prompt
        self._splitter = splitter
        self._parser = parser
        self.prompt_tokens = prompt_tokens
        self._cutting_stops = cutting_stops
        self._begun = time.monotonic_ns()
        self._started: Started | None = None
        self._first_token: int | None = None
        self._tokens = 0
        self._reasoning_tokens = 0
        self._finished: Finished | None = None
        self._called_tools = False
        self._unfit: AnswerUnfit | None = None
        self.unapplied = left_out

    def finish(self) -> None:
        """The answer may end here: Finished comes soon, with what it has cost."""
        self._engine.finish(self._job)

    def _advance(self) -> None:
        if self._unfit is not None:  # what there is of the answer has been read
            self._over = True
            raise self._unfit
        super()._advance()

    def _take(self, event: object) -> None:
        if isinstance(event, Piece):
            self._read(event)
        elif isinstance(event, Started):
            self._started = event
            self.unapplied += event.unapplied
            self._ready.append(Waiting(0.0))  # the runtime reads the prompt: there is time to make things ready
        elif isinstance(event, Done) and isinstance(event.result, RunResult):
            self._end(event.result)

    def _ended(self) -> Ended:
        if self._finished is None:
            first = self._first_token
            ended = Ended(
                "answer",
                self._model,
                "failed" if self._failed else "cancelled",
                prompt_tokens=(self.prompt_tokens or 0) if self._started else 0,
                completion_tokens=self._tokens,
                decode=None if first is None else time.monotonic_ns() - self._begun - first,
            )
        else:
            usage, timings = self._finished.usage, self._finished.timings
            ended = Ended(
                "answer",
                self._model,
                self._finished.reason,
                prompt_tokens=usage.prompt_tokens,
                cached_tokens=usage.cached_tokens,
                completion_tokens=usage.completion_tokens,
                cache_hit=usage.cache_hit,
                prefill=timings.prefill,
                decode=timings.decode,
            )
        started = self._started
        queue, load = (started.queued_ns, started.load_ns) if started else (None, None)
        return ended._replace(queue=queue, load=load, first_token=self._first_token)

    def _read(self, piece: Piece) -> None:
        self._tokens += piece.tokens
        if self._first_token is None and piece.tokens:
            self._first_token = time.monotonic_ns() - self._begun
        if self._parser is not None and self._parser.done:
            return
        events: list[Event] = list(self._splitter.feed(piece.text)) if self._splitter else [Text(piece.text)]
        if events and all(isinstance(event, Reasoning) for event in events):
            self._reasoning_tokens += piece.tokens
        self._pass_on(events)
        if self._parser is not None and self._parser.done:
            self.finish()

    def _pass_on(self, events: list[Event]) -> None:
        for event in events:
            parsed = self._parser.feed(event.text) if self._parser and isinstance(event, Text) else [event]
            self._put(parsed)

    def _put(self, events: Sequence[Event]) -> None:
        self._called_tools |= any(isinstance(event, ToolCallFinished) for event in events)
        self._ready.extend(events)

    def _end(self, result: RunResult) -> None:
        cut = result.reason == "length" or result.stop_string in self._cutting_stops
        if self._splitter:
            self._pass_on(list(self._splitter.finish(cut=cut)))
        if self._parser:
            self._put(self._parser.finish(cut=cut or self._job.finished_early))
        if self._parser and self._parser.problem:
            self._unfit = AnswerUnfit(f"The model's answer is not what the schema asks for: {self._parser.problem}")
            return
        self.unapplied += self._parser.unapplied if self._parser else ()
        counted = result.prompt_tokens if self.prompt_tokens is None else self.prompt_tokens
        prompt_tokens = (result.prefill_tokens or 0) if counted is None else counted
        hit = result.cache is not None and result.cache.reason is None
        usage = Usage(
            prompt_tokens=prompt_tokens,
            completion_tokens=result.generated_tokens,
            cached_tokens=self._cached(prompt_tokens, result.prefill_tokens),
            reasoning_tokens=min(self._reasoning_tokens, result.generated_tokens),
            estimated=counted is None,
            cache_hit=None if result.cache is None else hit,
            cache_miss_reason=result.cache.reason if result.cache else None,
            cached_prompts=(result.cache.name,) if result.cache and hit else (),
        )
        timings = Timings(
            total=time.monotonic_ns() - self._begun,
            queue=result.queued_ns,
            load=result.load_ns,
            prefill=result.prefill_ns,
            decode=result.decode_ns,
        )
        reason = "tool_calls" if self._called_tools and not cut else result.reason  # a cut's own: there may be more
        self._finished = Finished(reason, usage, timings, result.stop_string)
        self._ready.append(self._finished)
        self._over = True

    def _cached(self, prompt_tokens: int, prefill_tokens: int | None) -> int:
        """Tokens of the prompt that were not computed; what the server wrote behind it has been."""
        fed = prompt_tokens if isinstance(self._fed, str) else len(self._fed)
        return 0 if prefill_tokens is None else min(max(0, fed - prefill_tokens), prompt_tokens)
