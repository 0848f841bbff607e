"""A text by a pattern, made of what the model says and of what only the pattern can mean.

Each character has to leave a beginning of a text that the pattern matches. Those of the model's that do are taken,
and where it says no more, the nearest that do are written. Matching is by `regex` with the time that a validation may
take; nothing is made of the pattern itself.
"""

import string

from rkllama_flask.generation.guided.bounded_validation import PATTERN_SECONDS, Budget

_LONGEST = 128
"""Characters that are written by a pattern; no code or number is longer."""

_USUAL = string.digits + string.ascii_lowercase + string.ascii_uppercase + "-_./:@#+ ,"
_RARE = "".join(one for one in string.printable if one.isprintable() and one not in _USUAL)


class PatternText:
    """The text so far. What can't be found in time raises TooMuchWork, or what `regex` raises."""

    def __init__(self, pattern: str, *, shortest: float = 0, longest: int | None = None) -> None:
        self._pattern = pattern
        self._shortest = shortest
        self._longest = _LONGEST if longest is None else min(longest, _LONGEST)
        self._budget = Budget(seconds=PATTERN_SECONDS)
        own = "".join(dict.fromkeys(one for one in pattern if not one.isascii()))
        self._alphabet = _USUAL + _RARE + own
        self.text = ""

    @property
    def whole(self) -> bool:
        """Whether it matches as it is."""
        return len(self.text) >= self._shortest and self._budget.matches(self._pattern, self.text)

    def add(self, said: str) -> None:
        """Take what fits of a text, and what can only stand between."""
        for character in said[: self._longest * 4]:
            if len(self.text) >= self._longest:
                return
            if self._begins(character):
                self.text += character
            elif (fixed := self._only()) and self._begins(fixed + character):
                self.text += fixed + character

    def complete(self) -> None:
        """Add the nearest characters that can come next until it is whole, or there is none."""
        while not self.whole and len(self.text) < self._longest and (more := self._next()):
            self.text += more

    def _begins(self, more: str) -> bool:
        """Whether a text that matches can begin with this one and more."""
        return self._budget.begins(self._pattern, self.text + more)

    def _next(self) -> str:
        return next((one for one in self._alphabet if self._begins(one)), "")

    def _only(self) -> str:
        """The only character that can come next, empty if there are others or none."""
        possible = (one for one in self._alphabet if self._begins(one))
        first = next(possible, "")
        return "" if next(possible, "") else first
