"""An answer that the server and the model write together, as the engine runs it: step by step."""

from collections.abc import Callable, Sequence

from rkllama_flask.engine.jobs import Step
from rkllama_flask.generation.guided.json_values import Script
from rkllama_flask.generation.guided.slots import PeekSlot, Slot
from rkllama_flask.generation.guided.written import Written
from rkllama_flask.generation.prompt.segments import Segment

Encode = Callable[[Sequence[Segment]], tuple[str | Sequence[int], int | None]]
"""What the runtime gets for the prompt with these segments behind it, and how many tokens that is, if it is known."""


MOST_TEXT = 2048
"""Tokens of one text in JSON where nobody has limited it: about three pages of prose."""


class Filling:
    """Steps made of a script that fills `written`. The whole is cut into tokens anew for each step, so that the model
    reads text as it would have written it, wherever its words and the server's meet.

    A text without a length of its own that is longer than `text_limit` tokens ends the answer as too long. One of
    `cutting_stops` in a value cuts the answer there.
    """

    def __init__(
        self,
        script: Script,
        written: Written,
        encode: Encode,
        *,
        text_limit: int | None = None,
        cutting_stops: frozenset[str] = frozenset(),
    ) -> None:
        self._text_limit = text_limit
        self._cutting_stops = cutting_stops
        self._script = script
        self._written = written
        self._encode = encode
        self._slot: Slot | None = None
        self._before = encode(())[1]
        self._advance()
        if self._slot is None:  # nothing is left to the model; a run tells what the prompt costs
            self._slot = PeekSlot()

    @property
    def step(self) -> Step | None:
        if self._slot is None:
            return None
        if self._slot.open_ended and self._text_limit:
            return Step(self._content, self._text_limit, self._slot.again, too_long=True)
        return Step(self._content, self._slot.max_tokens, self._slot.again)

    @property
    def tokens(self) -> int | None:
        return None if self._length is None or self._before is None else self._length - self._before

    def feed(self, text: str) -> bool:
        assert self._slot is not None
        self._slot.feed(text)
        return self._slot.done

    def cut_by(self, stop: str) -> bool:
        assert self._slot is not None
        return stop in self._cutting_stops and self._slot.cut_by(stop)

    def end(self) -> None:
        assert self._slot is not None
        self._slot.end()
        self._advance()

    def take(self) -> str:
        return self._written.take()

    def _advance(self) -> None:
        self._slot = next(self._script, None)
        self._content, self._length = self._encode(self._written.segments)
