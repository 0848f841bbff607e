"""A JSON value that the model writes alone."""

import json
import re
from collections.abc import Callable

from rkllama_flask.generation.guided.repetition import RepeatingText
from rkllama_flask.generation.guided.slots import Slot
from rkllama_flask.generation.output.arriving import ArrivingText, Reading
from rkllama_flask.generation.output.lenient_json import LenientJson

_FIRST = {"object": "{", "array": "[", "string": '"'}
_SCALARS = {
    "number": r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?(?!\w|\.\d)",
    "boolean": r"\b(?:true|false)\b",
    "null": r"\bnull\b",
}


class FreeSlot(Slot):
    """One JSON value of the model's own making, mended to strict JSON; `write` gets it piece by piece.

    The value is of these `kinds` (JSON types). `begun` is what the prompt has of it already; where the model begins
    all over again, that does no harm. `complete` says that it ended by itself: where it only repeats itself it is
    ended.
    """

    complete = False

    def __init__(self, write: Callable[[str], None], kinds: frozenset[str], *, begun: str = "") -> None:
        self._write = write
        self._kinds = kinds
        self._begun = begun
        self._begins = _beginnings(kinds)
        self._text = ArrivingText()
        self._repeating = RepeatingText()
        self._reader = self._read()
        self.found = False

    def feed(self, text: str) -> None:
        for count, character in enumerate(text, 1):
            if self._repeating.add(character):
                text, self.done = text[:count], True
                break
        if self._begun and text.strip():
            begun, self._begun = self._begun, ""
            afresh = {"{": "{`", "[": "[`"}.get(begun[0], "")
            text = text if text.lstrip()[0] in afresh else begun + text
        self._text.add(text)
        next(self._reader, None)

    def cut_by(self, _: str, /) -> bool:
        return True

    def end(self) -> None:
        self._text.add(self._begun)
        self._text.ended = True
        next(self._reader, None)
        self.done = True

    def _read(self) -> Reading[None]:
        text, seen = self._text, 0
        while not (match := self._begins.search(text.text, seen)):
            if text.ended:
                if scalar := _scalar_in(text.text, self._kinds):
                    self.found = self.complete = True
                    self._write(scalar)
                return
            seen = len(text.text)
            yield
        text.position, self.found = match.start(), True
        self.complete = yield from LenientJson(text, self._write).value()
        self.ahead = text.text[text.position :]
        self.done = True


def _beginnings(kinds: frozenset[str]) -> re.Pattern[str]:
    """Where a value of these kinds begins that has brackets or quotes."""
    first = sorted({_FIRST[kind] for kind in kinds if kind in _FIRST})
    return re.compile(f"[{re.escape(''.join(first))}]" if first else "(?!)")


def only_beginning(kinds: frozenset[str]) -> str:
    """The character that every value of these kinds begins with, empty if they differ."""
    [kind] = kinds if len(kinds) == 1 else [""]
    return _FIRST.get(kind, "")


def _scalar_in(text: str, kinds: frozenset[str]) -> str:
    """A number, boolean or null that stands somewhere in the text; where a string is wanted, all of it."""
    kinds = kinds | ({"number"} if "integer" in kinds else set())
    patterns = [pattern for kind, pattern in _SCALARS.items() if kind in kinds]
    match = re.search("|".join(patterns), text) if patterns else None
    if match:
        return match.group()
    return json.dumps(text.strip(), ensure_ascii=False) if kinds == {"string"} and text.strip() else ""
