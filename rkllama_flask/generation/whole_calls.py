"""Calls handed on whole, for answers in one piece and for clients that would complete half a call by themselves."""

from collections.abc import Iterator
from typing import Protocol

from rkllama_flask.generation.events import (
    Content,
    Text,
    ToolArguments,
    ToolCallCut,
    ToolCallFinished,
    ToolCallStarted,
    Waiting,
    WholeContent,
)

_HELD = Waiting(0)
"""For the reader, who may want to look for the client."""


class Answer(Protocol):
    """An answer's events, as Generation has them."""

    @property
    def unapplied(self) -> tuple[str, ...]: ...
    def __next__(self) -> Content | Waiting: ...
    def close(self) -> None: ...


class WholeCalls:
    """The events of an answer in which each call comes once it is finished, its arguments in one piece.

    A call that was cut is the text that the model wrote of it.
    """

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._call: ToolCallStarted | None = None
        self._arguments = ""
        self._ready: list[WholeContent] = []

    @property
    def unapplied(self) -> tuple[str, ...]:
        return self._answer.unapplied

    def __iter__(self) -> Iterator[WholeContent | Waiting]:
        return self

    def __next__(self) -> WholeContent | Waiting:
        if self._ready:
            return self._ready.pop(0)
        event = next(self._answer)
        match event:
            case ToolCallStarted():
                self._call, self._arguments = event, ""
                return _HELD
            case ToolArguments(_, text):
                self._arguments += text
                return _HELD
            case ToolCallFinished(index):
                assert self._call is not None
                self._ready = [ToolArguments(index, self._arguments), event]
                return self._call
            case ToolCallCut(_, text):
                return Text(text)
            case _:
                return event

    def close(self) -> None:
        """The answer is no longer wanted; does nothing after the end."""
        self._answer.close()
