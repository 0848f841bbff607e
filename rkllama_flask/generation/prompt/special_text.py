"""Client text that looks like special tokens, kept apart from the template's own.

A template works on the client's strings (trims, splits, compares), so they can't be replaced by opaque marks. Only what
looks like a special token is: before rendering, each of its characters is exchanged for a private-use one, which keeps
length and order; after rendering those characters are changed back and their place is marked untrusted. Everything else
may be treated as the template's own, because it can't become special.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from importlib.resources import files
from itertools import islice, pairwise
from typing import TypeVar

from rkllama_flask.errors import InvalidRequest
from rkllama_flask.generation.prompt.segments import Prompt, Segment

MODEL_TAGS = ("<think>", "</think>", "<tool_call>", "</tool_call>")
"""Markup that a model writes in its own turns."""

MAX_LOOK_ALIKES = 65_536
"""Each is a token at least, and costs some 10 µs of everybody's time, which is more than other text does."""

_LINES = files(__package__).joinpath("special_strings.txt").read_text(encoding="utf-8").splitlines()
WELL_KNOWN = (*MODEL_TAGS, *(line for line in _LINES if line and not line.startswith("# ")))
"""The special strings of every family that has a built-in template, and of some that bring their own."""

_MARKER = re.compile("<[|\uff5c].*[|\uff5c]>")
_PRIVATE = range(0x100000, 0x10FFFE)
_PRIVATE_USE = re.compile("[\U000f0000-\U0010ffff]")
_HALF_CHARACTER = re.compile("[\ud800-\udfff]")

T = TypeVar("T")


def is_markup(token: str, template: str) -> bool:
    """Whether a token that is found whole in text structures conversations, rather than being mere vocabulary.

    Vocabularies hold runs of spaces or HTML tags that way. `template` is the model's chat template, as far as known.
    """
    return token in WELL_KNOWN or _MARKER.fullmatch(token) is not None or (bool(token.strip()) and token in template)


class SpecialText:
    """A set of special strings, ready to be found in text."""

    def __init__(self, strings: Iterable[str]) -> None:
        self.strings = tuple(sorted(set(strings) - {""}, key=lambda string: (-len(string), string)))
        self._pattern = re.compile("|".join(map(re.escape, self.strings)) or "(?!)")
        self._heads = {string[:cut] for string in self.strings for cut in range(1, len(string))}
        self._tails = {string[cut:] for string in self.strings for cut in range(1, len(string))}
        self._head_sizes = _sizes((head[-1], len(head)) for head in self._heads)
        self._tail_sizes = _sizes((tail[0], len(tail)) for tail in self._tails)
        self.alphabet = "".join(sorted({letter for string in self.strings for letter in string}))

    def spans(self, text: str) -> Iterator[tuple[int, int]]:
        """Where special strings stand in `text`, the longest at each place."""
        return (match.span() for match in self._pattern.finditer(text))

    def edges(self, text: str) -> Iterator[tuple[int, int]]:
        """The ends of `text` that would complete a special string together with what is put beside them."""
        start, end = len(text) - len(text.lstrip()), len(text.rstrip())
        if start >= end:
            return
        for size in self._tail_sizes.get(text[start], ()):
            if size <= end - start and text[start : start + size] in self._tails:
                yield start, start + size
                break
        for size in self._head_sizes.get(text[end - 1], ()):
            if size <= end - start and text[end - size : end] in self._heads:
                yield end - size, end
                break


def _sizes(parts: Iterable[tuple[str, int]]) -> dict[str, list[int]]:
    """For each letter the lengths of those parts that have it at their outer end, the longest first."""
    found: dict[str, set[int]] = {}
    for letter, size in parts:
        found.setdefault(letter, set()).add(size)
    return {letter: sorted(sizes, reverse=True) for letter, sizes in found.items()}


@lru_cache(maxsize=16)
def special_text(strings: frozenset[str]) -> SpecialText:
    """The compiled set; kept, because a tokenizer can have thousands."""
    return SpecialText(strings)


class Cover:
    """Private-use characters for what looks special, for one rendering.

    `texts` is everything that can reach the output: no character in it is used as a private one. `end_mark` is one
    more, to find a place again in the output. Raises InvalidRequest for texts that leave too few characters.
    """

    def __init__(self, special: SpecialText, texts: Iterable[str]) -> None:
        self._special = special
        taken = {letter for text in texts if not text.isascii() for letter in _PRIVATE_USE.findall(text)}
        self._left = MAX_LOOK_ALIKES
        self.end_mark, self._cover, self._uncover, self._covered = _tables(special.alphabet, frozenset(taken))

    def text(self, text: str, *, allowed: frozenset[str] = frozenset()) -> str:
        """`text` with its look-alikes covered, but for those in `allowed`."""
        edges = list(self._special.edges(text))
        pieces, done = [], 0
        for start, end in self._special.spans(text):
            if not self._holds(text[start:end], allowed):
                self._count()
                pieces += [text[done:start], text[start:end].translate(self._cover)]
                done = end
        if pieces:
            text = "".join((*pieces, text[done:]))
        for start, end in edges:
            if not self._holds(text[start:end], allowed):
                text = text[:start] + text[start:end].translate(self._cover) + text[end:]
        return text

    def _count(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise InvalidRequest(
                f"The messages hold more than {MAX_LOOK_ALIKES} look-alikes of special tokens, which no context takes.",
                param="messages",
            )

    @staticmethod
    def _holds(text: str, tags: frozenset[str]) -> bool:
        return any(tag in text for tag in tags)

    def value(self, value: T) -> T:
        """A JSON value with every string and key in it covered."""
        if isinstance(value, str):
            return self.text(value)  # type: ignore[return-value]
        if isinstance(value, Mapping):
            return {self.value(key): self.value(item) for key, item in value.items()}  # type: ignore[return-value]
        if isinstance(value, list | tuple):
            return [self.value(item) for item in value]  # type: ignore[return-value]
        return value

    def prompt(self, rendered: str) -> Prompt:
        """The rendered text in segments, the covered parts uncovered and untrusted."""
        rendered = without_half_characters(rendered)
        segments, done = [], 0
        for match in self._covered.finditer(rendered):
            segments.append(Segment(rendered[done : match.start()], trusted=True))
            segments.append(Segment(match.group().translate(self._uncover), trusted=False))
            done = match.end()
        segments.append(Segment(rendered[done:], trusted=True))
        return Prompt(tuple(segment for segment in segments if segment.text))


@lru_cache(maxsize=64)
def _tables(alphabet: str, taken: frozenset[str]) -> tuple[str, dict[int, int], dict[int, int], re.Pattern[str]]:
    """The end mark, the way to the private characters and back, and what finds them; without those `taken`."""
    free = (chr(code) for code in _PRIVATE if chr(code) not in taken)
    private = "".join(islice(free, len(alphabet) + 1))
    if len(private) <= len(alphabet):
        raise InvalidRequest("The messages use nearly every private-use character there is.", param="messages")
    used = private[1:]
    # A range is quicker to find than its members; what else lies in it is the client's, and is not changed back.
    covered = re.compile(f"[{used[0]}-{used[-1]}]+" if used else "(?!)")
    return private[0], str.maketrans(alphabet, used), str.maketrans(used, alphabet), covered


def without_half_characters(text: str) -> str:
    """Lone surrogates, which JSON can hold and UTF-8 can't, replaced by U+FFFD."""
    return text if text.isascii() else _HALF_CHARACTER.sub("\ufffd", text)


def neutralise(prompt: Prompt, special_strings: Iterable[str] = ()) -> str:
    """The prompt as one string for a runtime that takes special strings for tokens wherever they stand.

    A special string that reaches into untrusted text gets a space after its first character (`< |im_end|>`), which no
    tokenizer joins again. NUL, which would end a C string, becomes U+FFFD. `special_strings` empty means the well-known
    ones of every family.
    """
    special = special_text(frozenset(special_strings) or frozenset(WELL_KNOWN))
    text, trusted = without_half_characters(prompt.text).replace("\0", "\ufffd"), bytearray()
    for segment in prompt.segments:
        trusted.extend(bytes([segment.trusted]) * len(segment.text))
    while breaks := [start + 1 for start, end in special.spans(text) if 0 in trusted[start:end]]:
        places = [0, *breaks, len(text)]
        text = " ".join(text[start:end] for start, end in pairwise(places))
        trusted = bytearray(b"\0").join(trusted[start:end] for start, end in pairwise(places))
    return text
