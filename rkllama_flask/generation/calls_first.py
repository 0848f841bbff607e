"""Answers to requests that offer tools and ask for a format: a call, else JSON.

What writes JSON together with the model leaves it no room to call. So the model answers freely first, told of both. If
it calls, that is the answer; if it begins a JSON value, or ends without a call, it is asked again for the format alone.
The prompt stays the same, so that all of it is reused.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace

from rkllama_flask.generation.events import Content, Event, Finished, Reasoning, Text, ToolCallStarted, Waiting
from rkllama_flask.generation.generation import Generation
from rkllama_flask.generation.request import GenerationRequest

_JSON_BEGINS = ("{", "[", '"', "```")


class CallsFirst:
    """The events of such an answer, as Generation has them."""

    def __init__(self, generate: Callable[[GenerationRequest], Generation], request: GenerationRequest) -> None:
        self._generate = generate
        self._request = request
        self._current = generate(replace(request, calls_first=True))
        self._free = True
        self._thought = False
        self._said: list[Event] = []
        self._said_text = ""

    @property
    def prompt_tokens(self) -> int | None:
        return self._current.prompt_tokens

    @property
    def unapplied(self) -> tuple[str, ...]:
        return self._current.unapplied

    def __iter__(self) -> Iterator[Content | Waiting]:
        return self

    def __next__(self) -> Content | Waiting:
        while True:
            if not self._free and self._said:
                return self._said.pop(0)
            event = next(self._current)
            if not self._free or isinstance(event, Waiting):
                return event
            match event:
                case Reasoning():
                    self._thought = True
                    return event
                case ToolCallStarted():
                    self._free = False
                    self._said.append(event)
                case Text(text):
                    self._said.append(event)
                    self._said_text += text
                    if self._said_text.lstrip().startswith(_JSON_BEGINS):
                        self._ask_for_the_format()
                    return Waiting(0)  # nothing new for the reader, who may want to look for the client
                case Finished():
                    self._ask_for_the_format()

    def close(self) -> None:
        """The result is no longer wanted; does nothing after the end."""
        self._current.close()

    def _ask_for_the_format(self) -> None:
        self._current.close()
        self._said.clear()
        self._free = False
        thinking = False if self._thought else self._request.thinking  # it has thought already
        self._current = self._generate(replace(self._request, thinking=thinking))
