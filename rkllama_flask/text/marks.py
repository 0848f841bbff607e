"""Where two renderings of a template part, never within a mark or a word."""

import re

_MARKS = r"<[^<>\n]{1,80}>|\[[^\[\]\n\"']{1,80}\]"
_MARK, _WHOLE = re.compile(_MARKS), re.compile(_MARKS + r"|\w+")
"""A mark such as `<tool_call>` or `[ARGS]`, or a word: what is taken whole or not at all."""


def common_start(one: str, other: str) -> int:
    """How many characters both begin with, up to the edge of a mark or a word of both."""
    most = min(len(one), len(other))
    length = next((index for index in range(most) if one[index] != other[index]), most)
    while length and (length != (edge := min(_edge(one, length), _edge(other, length)))):
        length = edge
    return length


def common_end(one: str, other: str) -> int:
    """How many characters both end with, from the edge of a mark or a word of both."""
    most = min(len(one), len(other))
    length = next((index for index in range(most) if one[-1 - index] != other[-1 - index]), most)
    while length:
        cut = min(_back_edge(one, length), _back_edge(other, length))
        if cut == length:
            break
        length = cut
    return length


def last_mark(text: str) -> str:
    """The mark that ends the text, or its last line where none does; white space at its end aside."""
    bare = text.rstrip()
    marks = [match.group() for match in _WHOLE.finditer(bare) if match.end() == len(bare) and match.group()[0] in "<["]
    return marks[-1] if marks else bare.rpartition("\n")[2]


def first_mark(text: str) -> str:
    """The mark that begins the text, or its first line where none does; white space before it aside."""
    bare = text.lstrip()
    match = _WHOLE.match(bare)
    return match.group() if match and match.group()[0] in "<[" else bare.partition("\n")[0]


def pieces(text: str) -> list[str]:
    """The marks of a text and what stands between them, without white space."""
    found: list[str] = []
    place = 0
    for match in _MARK.finditer(text):
        found += [*text[place : match.start()].split(), match.group()]
        place = match.end()
    return [*found, *text[place:].split()]


def _edge(text: str, place: int) -> int:
    """The last place up to this one that lies within no mark and no word."""
    for match in _WHOLE.finditer(text):
        if match.start() < place < match.end():
            return match.start()
        if match.start() >= place:
            break
    return place


def _back_edge(text: str, length: int) -> int:
    place = len(text) - length
    for match in _WHOLE.finditer(text):
        if match.start() < place < match.end():
            return len(text) - match.end()
        if match.start() >= place:
            break
    return length
