"""Text that is still arriving, read from front to back.

Its readers are generators: they yield where they need more text, and are resumed when there is more or when it is over.
So a parser can be written as if the whole text were there, and can't depend on where the tokens were cut.
"""

import re
from collections.abc import Generator
from typing import TypeVar

T = TypeVar("T")
Reading = Generator[None, None, T]
"""A reader that yields for more text and returns a T."""


class CutOff(Exception):
    """The text was cut off here, and nobody knows how it would have gone on."""


class ArrivingText:
    """`text` is what has arrived, `position` where reading goes on.

    `ended` says that whoever wrote it ended it here, `cut` that more would have come: then a reader that needs more
    raises CutOff.
    """

    def __init__(self, text: str = "", *, ended: bool = False) -> None:
        self.text = text
        self.position = 0
        self.ended = ended
        self.cut = False

    def add(self, text: str) -> None:
        """More text has arrived."""
        self.text += text

    def forget(self) -> None:
        """Drop what has been read."""
        self.text = self.text[self.position :]
        self.position = 0

    def more(self) -> Reading[None]:
        """Wait for more text."""
        if self.cut:
            raise CutOff
        yield

    def peek(self) -> Reading[str]:
        """The next character, which stays; empty at the end."""
        while self.position >= len(self.text):
            if self.ended:
                return ""
            yield from self.more()
        return self.text[self.position]

    def run(self, pattern: re.Pattern[str]) -> str:
        """Take what matches here of the text that is there; waits for nothing."""
        match = pattern.match(self.text, self.position)
        if match is None:
            return ""
        self.position = match.end()
        return match.group()

    def skip(self, characters: str) -> Reading[str]:
        """Take all of these characters that stand here."""
        start = self.position
        while (character := (yield from self.peek())) and character in characters:
            self.position += 1
        return self.text[start : self.position]

    def literal(self, *literals: str) -> Reading[str]:
        """Take the longest of these that stands here; empty if none does."""
        longest = max(map(len, literals), default=0)
        while True:
            here = self.text[self.position : self.position + longest]
            if self.ended or not any(len(one) > len(here) and one.startswith(here) for one in literals):
                break
            yield from self.more()
        found = max((one for one in literals if here.startswith(one)), key=len, default="")
        self.position += len(found)
        return found

    def at(self, *literals: str) -> Reading[bool]:
        """Whether one of these stands here; takes nothing."""
        start = self.position
        found = yield from self.literal(*literals)
        self.position = start
        return bool(found)

    def until(self, *terminators: str) -> Reading[tuple[str, str]]:
        """Take what comes before the first of these, and that one; all of the rest and an empty one if none comes."""
        start = searched = self.position
        longest = max(map(len, terminators))
        while True:
            found = [(at, one) for one in terminators if (at := self.text.find(one, searched)) >= 0]
            if found:
                end, terminator = min(found, key=lambda match: (match[0], -len(match[1])))
                self.position = end + len(terminator)
                return self.text[start:end], terminator
            if self.ended:
                self.position = len(self.text)
                return self.text[start:], ""
            searched = max(start, len(self.text) - longest + 1)
            yield from self.more()
