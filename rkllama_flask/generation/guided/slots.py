"""What the model fills in: each slot is one run of it, cut where its value ends.

A slot reads what the model says as it comes. `done` says that it has enough; `end` that there is no more. What the
model said beyond is `ahead`.
"""

import json
import math
import re
from collections.abc import Callable, Sequence

from rkllama_flask.generation.guided.repetition import RepeatingText
from rkllama_flask.generation.output.lenient_json import BLANK

_PLAIN = re.compile(r'[^"\\\x00-\x1f]+')
_ESCAPE = re.compile(r'\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})')
_BEGUN_ESCAPE = re.compile(r"\\(?:u[0-9a-fA-F]{0,3})?\Z")
_BEGUN_PAIR = re.compile(r"\\u[dD][89abAB][0-9a-fA-F]{2}(?:\\(?:u(?:[dD](?:[c-fC-F][0-9a-fA-F]?)?)?)?)?\Z")
_PAIR = re.compile(r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}")
_HALF = re.compile(r"\\u[dD][89a-fA-F]")
_NUMBER = re.compile(r"-?\d+(?:\.\d*)?(?:[eE][+-]?\d*)?")
_WHOLE_NUMBER = re.compile(r"(-?)0*(\d+)(\.\d+)?([eE][+-]?\d+)?")
_YES_AND_NO = {"yes": "true", "1": "true", "on": "true", "no": "false", "0": "false", "off": "false", "none": "null"}


class Slot:
    """One run. `max_tokens` bounds it, `again` says that its last answer at this place would not do.

    `open_ended`: nothing but its own end says how long it is.
    """

    max_tokens: int | None = None
    open_ended = False
    again = False
    done = False
    ahead = ""

    def feed(self, text: str) -> None:
        """More of what the model says."""
        raise NotImplementedError

    def cut_by(self, _: str, /) -> bool:
        """Whether a stop string that the model says next falls into the value, so that this would be half of one."""
        return False

    def end(self) -> None:
        """The model says no more here."""


class StringSlot(Slot):
    """The inside of a JSON string, up to its closing quote; `write` gets it piece by piece, correctly escaped.

    It is cut at `max_length` characters, and where it only repeats itself once it has `min_length`. A line break ends
    it where JSON goes on behind, and is text otherwise.
    """

    def __init__(self, write: Callable[[str], None], *, max_length: int | None = None, min_length: float = 0) -> None:
        self._write = write
        self._room = max_length
        self._missing = min_length
        self._text = ""
        self._repeating = RepeatingText()
        self.open_ended = max_length is None

    def feed(self, text: str) -> None:
        self._text += text
        self._read(ended=False)

    def cut_by(self, _: str, /) -> bool:
        return True

    def end(self) -> None:
        if not self.done:
            self._text = self._text.rstrip("\r\n") if not self._text.strip() else self._text
            self._read(ended=True)
        self.done = True

    def _read(self, *, ended: bool) -> None:
        while self._text and not self.done:
            if self._room is not None and self._room <= 0:
                self._close(self._text.removeprefix('"'))
            elif plain := _PLAIN.match(self._text):
                self._put(plain.group(), len(plain.group()))
            elif self._text[0] == '"':
                self._close(self._text[1:])
            elif self._text[0] == "\\":
                if not self._escape(ended=ended):
                    return
            elif self._text[0] == "\n":
                behind = self._text.lstrip()
                if not behind and not ended:
                    return
                if not behind or behind[0] in '"}]':
                    self._close(behind.removeprefix('"'))
                else:
                    self._put("\n", 1, "\\n")
            else:
                self._put(self._text[0], 1, json.dumps(self._text[0])[1:-1])

    def _escape(self, *, ended: bool) -> bool:
        """Take what a backslash begins; False if more text is needed to know it."""
        if not ended and (_BEGUN_ESCAPE.match(self._text) or _BEGUN_PAIR.match(self._text)):
            return False
        if pair := _PAIR.match(self._text):
            self._put(pair.group(), 1)
        elif not (escape := _ESCAPE.match(self._text)):
            self._put("\\", 1, "\\\\")
        elif _HALF.match(escape.group()):  # half a character: no UTF-8 can hold it
            self._put(escape.group(), 1, "\\ufffd")
        else:
            self._put(escape.group(), 1)
        return True

    def _put(self, source: str, characters: int, written: str | None = None) -> None:
        if self._room is not None:
            if characters > self._room:
                source, characters = source[: self._room], self._room
            self._room -= characters
        plain = source[0] != "\\"
        for count, character in enumerate(source if plain else json.loads(f'"{written or source}"'), 1):
            self._missing -= 1
            if self._repeating.add(character) and self._missing <= 0:
                source = source[:count] if plain else source
                self._close("")
                break
        self._text = self._text[len(source) :]
        self._write(source if written is None else written)

    def _close(self, ahead: str) -> None:
        self.done, self.ahead = True, ahead


class NumberSlot(Slot):
    """The first number that the model says, up to where it stops being one; None if it says none. `begun` is what
    stands of it already.
    """

    max_tokens = 32
    value: int | float | None = None

    def __init__(self, *, begun: str = "") -> None:
        self._text = begun

    def feed(self, text: str) -> None:
        self._text += text
        said = self._text.lstrip(BLANK)
        match = _NUMBER.search(said)
        if match is None:
            self.done = len(said) > 40 or "\n" in said or any(character in said for character in ",]}")
        elif match.end() < len(said) or match.end() - match.start() > 20:
            self._take(match.group())
            self.ahead = said[match.end() :].lstrip('"')
            self.done = True

    def cut_by(self, stop: str, /) -> bool:
        match = _NUMBER.search(self._text + stop)
        return match is not None and match.end() > len(self._text)

    def end(self) -> None:
        if not self.done and (match := _NUMBER.search(self._text)):
            self._take(match.group())
        self.done = True

    def _take(self, text: str) -> None:
        match = _WHOLE_NUMBER.match(text)
        assert match is not None
        sign, whole, fraction, exponent = match.groups()
        value = float(f"{sign}{whole}{fraction or ''}{exponent or ''}")
        if not (exponent or fraction):
            self.value = int(sign + whole)
        elif abs(value) < math.inf:
            self.value = value


class DigitsSlot(Slot):
    """The first number of so many digits that the model says, brought within its bounds; None if it says none.

    One digit will do for two, but two are no year.
    """

    max_tokens = 16
    digits: str | None = None

    def __init__(self, count: int, lowest: int, highest: int) -> None:
        self._wanted = re.compile(rf"\d{{{count}}}")
        self._count, self._lowest, self._highest = count, lowest, highest
        self._text = ""

    def feed(self, text: str) -> None:
        self._text += text
        if match := self._wanted.search(self._text):
            self._take(match.group())
        elif '"' in self._text:
            self.end()

    def cut_by(self, stop: str, /) -> bool:
        return stop[0].isdigit()

    def end(self) -> None:
        self.done = True
        if self.digits is None and self._count == 2 and (match := re.search(r"\d", self._text)):
            self._take(match.group())

    def _take(self, digits: str) -> None:
        value = min(max(int(digits), self._lowest), self._highest)
        self.digits, self.done = f"{value:0{self._count}}", True


class ChoiceSlot(Slot):
    """Which of several texts the model says, decided as soon as no other is possible; compared without case and blanks.

    Where it says none of them it is the nearest: one that it says later, else the one with the longest common
    beginning, else `otherwise`. `quoted` are the insides of strings, which a quote follows.
    """

    max_tokens = 24

    def __init__(self, options: Sequence[str], *, quoted: bool = False, otherwise: int = 0) -> None:
        self._options = [_bare(option) for option in options]
        self._quoted = quoted
        self._otherwise = otherwise
        self._text = ""
        self.index: int | None = None
        self.clear = False
        """Whether the model said it beyond doubt."""

    @property
    def chosen(self) -> int:
        """The index of the option."""
        return self._otherwise if self.index is None else self.index

    def feed(self, text: str) -> None:
        self._text += text
        said = _bare(self._text)
        if not said:
            return
        begun = [index for index, option in enumerate(self._options) if option.startswith(said)]
        complete = [index for index, option in enumerate(self._options) if said.startswith(option)]
        if len(begun) == 1:
            self._decide(begun[0])
        elif not begun and complete:
            longest = max(complete, key=lambda index: len(self._options[index]))
            self.ahead = self._behind(len(self._options[longest]))
            self._decide(longest)
        elif not begun:
            stop = '"\n' if self._quoted else "\n"
            if any(character in self._text.strip() for character in stop) or len(said) > 80:
                self.end()

    def cut_by(self, stop: str, /) -> bool:
        said, more = _bare(self._text), _bare(self._text + stop)
        return any(
            len(option) > len(said) and (option.startswith(more) or more.startswith(option)) for option in self._options
        )

    def end(self) -> None:
        self.done = True
        said = _bare(self._text)
        if self.index is not None or not said:
            return
        exact = [index for index, option in enumerate(self._options) if option == said.rstrip('"')]
        if exact:
            self._decide(exact[0])
            return
        meant = _YES_AND_NO.get(said.strip("\"'.,"))
        said = meant if meant in self._options else said
        places = [
            (said.find(option), -len(option), index) for index, option in enumerate(self._options) if option in said
        ]
        if places:
            self.index = min(places)[2]
            return
        common = [_common(option, said) for option in self._options]
        if max(common):
            self.index = common.index(max(common))

    def _decide(self, index: int) -> None:
        self.index, self.done, self.clear = index, True, True

    def _behind(self, characters: int) -> str:
        """The text after so many characters that are no blanks."""
        for place, character in enumerate(self._text):
            if not characters:
                return self._text[place:].removeprefix('"') if self._quoted else self._text[place:]
            characters -= len(_bare(character))
        return ""


class PeekSlot(Slot):
    """How the model would go on: its first characters that are no blanks, `count` of them."""

    max_tokens = 8

    def __init__(self, count: int = 1) -> None:
        self._count = count
        self.said = ""

    def feed(self, text: str) -> None:
        self.said += "".join(text.split())
        self.done = len(self.said) >= self._count


def _bare(text: str) -> str:
    return "".join(text.split()).lower()


def _common(one: str, other: str) -> int:
    length = 0
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        length += 1
    return length
