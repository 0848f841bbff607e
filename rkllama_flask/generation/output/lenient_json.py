"""JSON as small models write it, made strict while it arrives.

Whatever is read, what is written is one valid JSON value. Well-formed JSON comes out as it is, but for blanks before
commas. The rest is mended: single, Python and Gemma quotes, bare words, trailing and missing commas, literal newlines
and unescaped quotes in strings, Python's literals, NaN, wrong or missing brackets.
"""

import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rkllama_flask.generation.output.arriving import ArrivingText, Reading

MAX_DEPTH = 64
"""Brackets within brackets; deeper ones are dropped, so that no reader of the result can run out of stack."""

BLANK = " \t\r\n"
_QUOTES = ('"', "'", '"""', "'''", "<escape>", '<|"|>')
_PLAIN = re.compile(r"""[^"'\\<\x00-\x1f]+""")
_BARE_KEY = re.compile(r"""[^\s:=,{}\[\]()"'<]+""")
_BARE_VALUE = re.compile(r"[^,{}\[\]()<\n`]+")
_IDENTIFIER = re.compile(r"\w+")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_MAX_NUMBER = 300  # digits; Python itself refuses to read integers of more than 4300
_WORDS = {"true": "true", "false": "false", "null": "null", "none": "null", "undefined": "null"} | dict.fromkeys(
    ("nan", "infinity", "-infinity", "inf", "-inf"), "null"
)
_CLOSES = {"{": "}", "[": "]"}
_HEX = re.compile(r"[0-9a-fA-F]{4}")


@dataclass
class _Open:
    """A bracket that is open: the character that closes it, what is written then, and how many members it has."""

    closer: str
    written: str
    members: int = 0


class LenientJson:
    """Reads one value from `text` and hands strict JSON to `write`, piece by piece.

    `ends` are strings that end it from outside where no string is open, such as `</tool_call>`; they are not taken.
    `exact` says that no bare word had to be taken for a string so far.
    """

    def __init__(self, text: ArrivingText, write: Callable[[str], None], *, ends: Sequence[str] = ()) -> None:
        self._text = text
        self._write = write
        self._ends = tuple(ends)
        self._open: list[_Open] = []
        self._blank = ""
        self._positional: tuple[str, ...] = ()
        self.exact = True

    def value(self) -> Reading[bool]:
        """One value that begins here; whether it was complete."""
        first = yield from self._text.peek()
        if first not in _CLOSES:
            yield from self._scalar()
            return True
        self._text.position += 1
        return (yield from self._members(_Open(_CLOSES[first], _CLOSES[first]), first))

    def arguments(self, positional: Sequence[str]) -> Reading[bool]:
        """Python's call arguments after the `(`, as an object; `positional` names those given without a name."""
        self._positional = tuple(positional)
        return (yield from self._members(_Open(")", "}"), "{"))

    def rest_of_object(self) -> Reading[bool]:
        """What is left of an object whose `{` has been read."""
        return (yield from self._members(_Open("}", "}"), "{"))

    def key(self) -> Reading[str]:
        """A key, as its text."""
        return json.loads((yield from self._key()))  # type: ignore[no-any-return]

    def string(self) -> Reading[str]:
        """A string in any quotes, as its text; a bare word too."""
        pieces: list[str] = []
        write, self._write = self._write, pieces.append
        self._open.append(_Open("", ""))
        try:
            yield from self._scalar()
        finally:
            self._write = write
            self._open.pop()
        found = json.loads("".join(pieces))
        return found if isinstance(found, str) else "".join(pieces)

    # Brackets

    def _members(self, outermost: _Open, opener: str) -> Reading[bool]:
        self._open = [outermost]
        self._write(opener)
        while self._open:
            blank = yield from self._text.skip(BLANK + "\u00a0,")
            self._blank += "".join(character for character in blank if character in BLANK)
            character = yield from self._text.peek()
            if not character or (yield from self._text.at(*self._ends)):
                while self._open:
                    self._close()
                return False
            if character in "}])":
                self._text.position += 1
                if any(bracket.closer == character for bracket in self._open):
                    while self._close() != character:
                        pass
            else:
                yield from self._member(character)
        return True

    def _close(self) -> str:
        bracket = self._open.pop()
        self._write(self._take_blank() + bracket.written)
        return bracket.closer

    def _member(self, character: str) -> Reading[None]:
        bracket = self._open[-1]
        if bracket.closer != "]":
            if bracket.closer == "}" and character in "{[:=(":
                self._text.position += 1  # no key begins with these
                return
            separator = self._separator(bracket)
            if bracket.closer == ")":
                key, value = yield from self._argument(bracket.members)
            else:
                key, value = (yield from self._key()), ""
            bracket.members += 1
            self._write(separator + key)
            if value:
                self._write(f":{value}")
                return
            blank = yield from self._colon()
            self._write(blank)
            character = yield from self._text.peek()
            if not character or character in ",}])" or (yield from self._text.at(*self._ends)):
                self._write("null")
                return
        else:
            self._write(self._separator(bracket))
            bracket.members += 1
        if character in _CLOSES:
            self._text.position += 1
            if len(self._open) >= MAX_DEPTH:
                self._write("null")
                return
            self._write(character)
            self._open.append(_Open(_CLOSES[character], _CLOSES[character]))
        else:
            yield from self._scalar()

    def _separator(self, bracket: _Open) -> str:
        return ("," if bracket.members else "") + self._take_blank()

    def _take_blank(self) -> str:
        blank, self._blank = self._blank, ""
        return blank

    def _colon(self) -> Reading[str]:
        """Write the colon; the blanks that follow it."""
        before = yield from self._text.skip(BLANK)
        character = yield from self._text.peek()
        after = ""
        if character and character in ":=":
            self._text.position += 1
            yield from self._text.literal(">")  # `=>`
            after = yield from self._text.skip(BLANK)
        self._write(f"{before}:")
        return after

    def _key(self) -> Reading[str]:
        if (yield from self._text.at(*_QUOTES)):
            pieces: list[str] = []
            write, self._write = self._write, pieces.append
            try:
                yield from self._quoted(followers=":,}=")
            finally:
                self._write = write
            return "".join(pieces)
        word = ""
        while (yield from self._text.peek()) and (more := self._text.run(_BARE_KEY)):
            word += more
        if not word:  # a stray character, of which some key has to be made
            word = yield from self._text.peek()
            self._text.position += 1
        return json.dumps(word)

    def _argument(self, index: int) -> Reading[tuple[str, str]]:
        """A Python argument's key, and its value if that had to be read to know the key."""
        word = ""
        while (yield from self._text.peek()) and (more := self._text.run(_IDENTIFIER)):
            word += more
        if word:
            yield from self._text.skip(BLANK)
            if separator := (yield from self._text.literal("=", ":")):
                self._text.position -= 1
                self.exact &= separator == "="
                return json.dumps(word), ""
        key = self._positional[index] if index < len(self._positional) else f"argument{index + 1}"
        rest = (yield from self._bare()) if word else ""
        return json.dumps(key), self._strict(word + rest) if word else ""

    # Scalars

    def _scalar(self) -> Reading[None]:
        if (yield from self._text.at(*_QUOTES)):
            yield from self._quoted(followers=",}])")
        else:
            self._write(self._strict((yield from self._bare())))

    def _strict(self, word: str) -> str:
        strict = strict_word(word)
        self.exact &= not strict.startswith('"')
        return strict

    def _bare(self) -> Reading[str]:
        """Unquoted text up to what ends a value."""
        word = ""
        in_call = any(bracket.closer == ")" for bracket in self._open)
        while character := (yield from self._text.peek()):
            if (yield from self._text.at(*self._ends)):
                break
            if more := self._text.run(_BARE_VALUE):
                word += more
            elif character in "<`" or (character in "()" and not in_call):
                word += character
                self._text.position += 1
            else:
                break
        if not word and character and character not in ",}])\n":
            word = character
            self._text.position += 1
        return word.strip()

    def _quoted(self, *, followers: str) -> Reading[None]:
        quote = yield from self._text.literal(*_QUOTES)
        self._write('"')
        while True:
            self._write(self._text.run(_PLAIN))
            character = yield from self._text.peek()
            if not character:
                break
            if character == "\\" and not quote.startswith("<"):  # between markers a text stands as it is
                yield from self._escape()
            elif character == quote[0] and (yield from self._closed(quote, followers)):
                break
            elif character in '"\\' or character < " ":
                self._write(json.dumps(character)[1:-1])
                self._text.position += 1
            elif character in "'<":
                self._write(character)
                self._text.position += 1
        self._write('"')

    def _closed(self, quote: str, followers: str) -> Reading[bool]:
        """Take the closing quote if it is one: a single one must be followed by what can follow a value."""
        start = self._text.position
        if not (yield from self._text.literal(quote)):
            return False
        end = self._text.position
        if len(quote) > 1 or not self._open:
            return True
        blank = yield from self._text.skip(BLANK)
        character = yield from self._text.peek()
        closed = not character or character in followers or "\n" in blank or (yield from self._text.at(*self._ends))
        self._text.position = end if closed else start
        return closed

    def _escape(self) -> Reading[None]:
        self._text.position += 1
        character = yield from self._text.peek()
        self._text.position += bool(character)
        if character == "u":
            yield from self._unicode()
        elif character and character in '"\\/bfnrt':
            self._write("\\" + character)
        elif character == "'":
            self._write("'")
        elif character and character != "\n":
            self._write("\\\\" + json.dumps(character, ensure_ascii=False)[1:-1])

    def _unicode(self) -> Reading[None]:
        """Four hexadecimal digits; half of a surrogate pair becomes U+FFFD, since no UTF-8 can hold it."""
        digits = yield from self._four_digits()
        if not digits:
            self._write("\\\\u")
        elif not 0xD800 <= int(digits, 16) < 0xE000:
            self._write(f"\\u{digits}")
        else:
            start = self._text.position
            low = ""
            if int(digits, 16) < 0xDC00 and (yield from self._text.literal("\\u")):
                low = yield from self._four_digits()
            if low and 0xDC00 <= int(low, 16) < 0xE000:
                self._write(f"\\u{digits}\\u{low}")
            else:
                self._text.position = start
                self._write("\\ufffd")

    def _four_digits(self) -> Reading[str]:
        text = self._text
        while len(text.text) < text.position + 4 and not text.ended and _is_hex(text.text[text.position :]):
            yield from text.more()
        return text.run(_HEX)


def _is_hex(text: str) -> bool:
    return all(character in "0123456789abcdefABCDEF" for character in text)


def strict_word(word: str) -> str:
    """A bare word as JSON: a number, a literal, or else a string."""
    if known := _WORDS.get(word.lower()):
        return known
    if len(word) <= _MAX_NUMBER and _NUMBER.fullmatch(word) and math.isfinite(float(word)):
        return word
    return json.dumps(word, ensure_ascii=False)


def mended(text: str) -> str:
    """The whole text as one strict JSON value."""
    pieces: list[str] = []
    for _ in LenientJson(ArrivingText(text.strip(), ended=True), pieces.append).value():
        pass
    return "".join(pieces)
