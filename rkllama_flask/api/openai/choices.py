"""The choices of one response, generated one after another: the prompt's prefix is reused, and the queue stays fair."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from rkllama_flask.api.web.streaming import Events
from rkllama_flask.generation.events import (
    Content,
    Finished,
    Reasoning,
    Text,
    ToolArguments,
    ToolCallCut,
    ToolCallStarted,
    Usage,
    Waiting,
)
from rkllama_flask.generation.request import GenerationRequest


class ChoiceEvent(NamedTuple):
    """What happened in a choice, which is told by its index in the response."""

    choice: int
    event: Content


class Choices:
    """The events of several generations as one stream; the first is queued at once, so that it fails early."""

    def __init__(
        self, generate: Callable[[GenerationRequest], Events[Content]], requests: Sequence[GenerationRequest]
    ) -> None:
        self._generate = generate
        self._requests = requests
        self._index = 0
        self._current = generate(requests[0])

    @property
    def unapplied(self) -> tuple[str, ...]:
        """Of the choice that is being generated; all of them ask for the same."""
        return self._current.unapplied

    def __iter__(self) -> Iterator[ChoiceEvent | Waiting]:
        return self

    def __next__(self) -> ChoiceEvent | Waiting:
        event = next(self._current, None)
        if event is None:
            self._begin_next()
            return next(self)
        return event if isinstance(event, Waiting) else ChoiceEvent(self._index, event)

    def close(self) -> None:
        """Cancel what is being generated; nothing more will be."""
        self._index = len(self._requests)
        self._current.close()

    def _begin_next(self) -> None:
        self._current.close()
        self._index += 1
        if self._index >= len(self._requests):
            raise StopIteration
        self._current = self._generate(self._requests[self._index])


@dataclass
class Call:
    """A tool call of an answer; `arguments` is JSON text."""

    id: str
    name: str
    arguments: str = ""


class Choice:
    """One choice once it is whole; it reads its events."""

    def __init__(self) -> None:
        self.text = ""
        self.reasoning = ""
        self.calls: list[Call] = []
        self.finished: Finished | None = None

    def read(self, event: Content) -> None:
        match event:
            case Text(text):
                self.text += text
            case Reasoning(text):
                self.reasoning += text
            case ToolCallStarted(_, call_id, name):
                self.calls.append(Call(call_id, name))
            case ToolArguments(index, text):
                self.calls[index].arguments += text
            case ToolCallCut(index, text):
                del self.calls[index]
                self.text += text
            case Finished():
                self.finished = event


def assemble(events: Sequence[ChoiceEvent], count: int) -> list[Choice]:
    """The `count` choices that these events build, in the order of their indexes."""
    choices = [Choice() for _ in range(count)]
    for index, event in events:
        choices[index].read(event)
    return choices


def total_usage(finished: Sequence[Finished], per_prompt: int) -> Usage:
    """The counts of one response: each prompt once, though `per_prompt` choices in a row share it."""
    usages = [one.usage for one in finished]
    prompts = usages[::per_prompt]
    return usages[0]._replace(
        prompt_tokens=sum(usage.prompt_tokens for usage in prompts),
        cached_tokens=sum(usage.cached_tokens for usage in prompts),
        completion_tokens=sum(usage.completion_tokens for usage in usages),
        reasoning_tokens=sum(usage.reasoning_tokens for usage in usages),
        estimated=any(usage.estimated for usage in usages),
    )
