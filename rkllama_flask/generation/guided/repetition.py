"""Text and items in which a model only repeats itself, which small ones don't leave by themselves.

What is looked at is bounded, so that each character and item costs the same however long the answer has become.
"""

import math
import re
from collections.abc import Sequence
from itertools import pairwise

LONGEST_PIECE = 500
LEAST_TIMES = 4
LEAST_CHARACTERS = 600
"""A text that ends with one piece of up to LONGEST_PIECE characters LEAST_TIMES in a row, or as often as makes
LEAST_CHARACTERS, says nothing more. Refrains, rules of tables and "ha ha ha" are shorter."""

LONGEST_CYCLE = 8
CYCLES = 3
REPEATED_ITEMS = 12
REPEATED_CHARACTERS = 200
"""Items that repeat the same one to LONGEST_CYCLE of them CYCLES in a row, and are REPEATED_ITEMS in all or so many
characters: fewer may be labels of which several are the same."""

COUNTED_ITEMS = 20
LARGEST_STEP = 10
"""Items in a row that have the same words, and numbers that go up in steps of so much at most."""

_PROBE = 64
_KEPT = LONGEST_PIECE * LEAST_TIMES
_TRIED = 8
"""Places where the last _PROBE characters stood before. Within a long rule there are more, but not behind it."""

_DIGITS = re.compile(r"(\d{1,18})")
_NAME = re.compile(r'(?<![^\s\[])"(?=[^"\\]*[^\W\d_])[^"\\]*"(?!:)')


class RepeatingText:
    """Reads a text as it comes, and tells where it has come to repeat one piece again and again."""

    def __init__(self) -> None:
        self._text = ""

    def add(self, character: str) -> bool:
        """One more character; whether the text repeats itself, with the last piece whole."""
        self._text += character
        if len(self._text) > 2 * _KEPT:
            self._text = self._text[-_KEPT:]
        return len(self._text) >= LEAST_CHARACTERS and self._repeats()

    def _repeats(self) -> bool:
        text = self._text
        probe, end = text[-_PROBE:], len(text) - 1
        first = max(0, len(text) - _PROBE - LONGEST_PIECE)
        for _ in range(_TRIED):
            place = text.rfind(probe, first, end)
            if place < 0:
                break
            period = len(text) - _PROBE - place
            tail = text[-period * max(LEAST_TIMES, math.ceil(LEAST_CHARACTERS / period)) :]
            if len(tail) >= LEAST_TIMES * period and len(tail) >= LEAST_CHARACTERS and tail[period:] == tail[:-period]:
                return True
            end = place + _PROBE - 1
        return False


def only_repeats(items: Sequence[str]) -> bool:
    """Whether the last items, JSON texts, are the same again and again, or one name that is counted on.

    Only texts and objects: numbers may well repeat themselves.
    """
    return bool(items) and items[-1][:1] in ('"', "{") and (_cycles(items) or _counts_on(items))


def _cycles(items: Sequence[str]) -> bool:
    for length in range(1, LONGEST_CYCLE + 1):
        size = sum(map(len, items[-length:]))
        enough = min(math.ceil(REPEATED_ITEMS / length), math.ceil(REPEATED_CHARACTERS / size))
        tail = items[-length * max(CYCLES, enough) :]
        if len(tail) == length * max(CYCLES, enough) and tail[length:] == tail[:-length]:
            return True
    return False


def _counts_on(items: Sequence[str]) -> bool:
    last = items[: -COUNTED_ITEMS - 1 : -1]
    return (
        len(last) == COUNTED_ITEMS
        and _NAME.search(last[0]) is not None
        and all(_follows(item, before) for item, before in pairwise(last))
    )


def _follows(item: str, before: str) -> bool:
    """Whether it is the same but for its numbers, which are the same or a little greater."""
    parts, others = _DIGITS.split(item), _DIGITS.split(before)
    return parts[::2] == others[::2] and all(
        0 <= int(one) - int(other) <= LARGEST_STEP for one, other in zip(parts[1::2], others[1::2], strict=True)
    )
