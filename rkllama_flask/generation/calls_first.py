"""Answers to requests that offer tools and ask for a format: a call, else JSON.

What writes JSON together with the model leaves it no room to call. So the model answers freely first, told of both. If
it calls, that is the answer; if it begins a JSON value, or ends without a call, it is asked again for the format alone.
The prompt stays the same, so that all of it is reused.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace

from rkllama_flask.generation.events import Content, Event, Finished, Reasoning, Text, Timings, ToolCallStarted, Waiting
from rkllama_flask.generation.generation import Generation
from rkllama_flask.generation.request import GenerationRequest

_JSON_BEGINS = ("{", "[", '"', "```")
_NOTHING_NEW = Waiting(0)
"""For the reader, who may want to look for the client."""


class CallsFirst:
    """The events of such an answer, as Generation has them; what it has cost is that of both runs."""

    def __init__(self, generate: Callable[[GenerationRequest], Generation], request: GenerationRequest) -> None:
        self._generate = generate
        self._request = request
        self._current = generate(replace(request, calls_first=True))
        self._decided = False
        self._ending = False
        self._thought = False
        self._held: list[Event] = []
        self._text = ""
        self._spent: Finished | None = None

    @property
    def prompt_tokens(self) -> int | None:
        return self._current.prompt_tokens

    @property
    def unapplied(self) -> tuple[str, ...]:
        return self._current.unapplied

    def __iter__(self) -> Iterator[Content | Waiting]:
        return self

    def __next__(self) -> Content | Waiting:
        if self._decided and self._held:
            return self._held.pop(0)
        event = next(self._current)
        if isinstance(event, Waiting):
            return event
        if self._decided:
            return _together(self._spent, event) if isinstance(event, Finished) and self._spent else event
        return self._hear(event)

    def close(self) -> None:
        """The result is no longer wanted; does nothing after the end."""
        self._current.close()

    def _hear(self, event: Content) -> Content | Waiting:
        """What is said freely."""
        match event:
            case Reasoning():
                self._thought = True
                return event
            case Text(text) if not self._ending:
                self._held.append(event)
                self._text += text
                if self._text.lstrip().startswith(_JSON_BEGINS):
                    self._ending = True
                    self._current.finish()
            case ToolCallStarted() if not self._ending:
                self._decided = True
                self._held.append(event)
            case Finished(reason) if reason != "length" or self._ending:
                self._ask_for_the_format(event)
            case Finished():  # nothing is left for the format
                self._decided = True
                self._held.append(event)
        return _NOTHING_NEW

    def _ask_for_the_format(self, spent: Finished) -> None:
        self._decided = True
        self._held = []
        self._spent = spent
        request = self._request
        if self._thought:  # it has, already
            request = replace(request, thinking=False)
        if request.max_tokens is not None and request.max_tokens > 0:
            request = replace(request, max_tokens=max(1, request.max_tokens - spent.usage.completion_tokens))
        self._current.close()  # whoever counts hears of this run too
        self._current = self._generate(request)


def _together(first: Finished, second: Finished) -> Finished:
    """The end of the second run, with the counts and times of both."""
    one, other = first.usage, second.usage
    computed = other.prompt_tokens - other.cached_tokens
    usage = other._replace(
        cached_tokens=max(0, one.cached_tokens - computed),
        completion_tokens=one.completion_tokens + other.completion_tokens,
        reasoning_tokens=one.reasoning_tokens + other.reasoning_tokens,
        cache_hit=one.cache_hit,
        cache_miss_reason=one.cache_miss_reason,
        cached_prompts=one.cached_prompts,
    )
    timings = Timings(*map(sum, zip(first.timings, second.timings, strict=True)))
    return second._replace(usage=usage, timings=timings)
