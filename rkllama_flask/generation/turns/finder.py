"""Finds out from a chat template how its model writes calls, reasoning and text.

The template is rendered with chosen names and values; where these stand in what it writes for an assistant's turn, and
what stands between them, is the form. What is found is a proposal until it is proven (proof.py).
"""

import json
import re
from collections.abc import Iterator
from dataclasses import astuple, replace
from typing import Any, NamedTuple

from rkllama_flask.generation.output import channels
from rkllama_flask.generation.output.turn_form import (
    ID,
    INDEX,
    Around,
    CallForm,
    Marks,
    NamedCall,
    ObjectCall,
    PythonCall,
    TaggedCall,
    TurnForm,
)
from rkllama_flask.generation.turns.probes import KEYS, ONE, TEXT, THOUGHT, TWO, Call, Probe, Probes
from rkllama_flask.text.marks import common_end, common_start, first_mark, last_mark

_DECODER = json.JSONDecoder()
_VALUES = ("probevaluea", "probevalueb")
_NUMBER = 70717
_MARKUP = "probe<value&c\nd"
_ID = re.compile(r"probeid\d\d")
_FIRST = Call(ONE, {KEYS[0]: _VALUES[0]})
_SECOND = Call(TWO, {KEYS[1]: _VALUES[1]})


class _Found(NamedTuple):
    """A call in a rendering: where it stands, and its form."""

    start: int
    end: int
    call: Any


def find_form(probes: Probes) -> TurnForm:
    """What the template writes, as far as it can be told from its renderings."""
    text = probes.turn(Probe(content=TEXT))
    if text is None or TEXT not in text:
        return TurnForm()
    before, _, behind = text.partition(TEXT)
    reasoning = _reasoning(probes, before)
    turn = probes.turn(Probe(calls=(_FIRST,)))
    if turn is not None and ONE not in turn:
        probes.named_ids = True
        turn = probes.turn(Probe(calls=(_FIRST,)))
    calls = None if turn is None or ONE not in turn else _calls(probes, turn, before, behind)
    if all(mark in text for mark in channels.MARKS):
        return TurnForm(calls, in_channels=True)
    return TurnForm(calls, reasoning, _content(turn, before, behind, reasoning))


def _calls(probes: Probes, turn: str, before: str, behind: str) -> CallForm | None:
    looks = (_object_calls, _named_calls, _python_calls)
    seen = next(((found, look) for look in looks if (found := look(turn)) is not None), None)
    two = probes.turn(Probe(calls=(_FIRST, _SECOND))) or ""
    if seen is None:
        return _tagged_calls(probes, turn, two, before, behind)
    found, look = seen
    begin, end = _trimmed(turn[: found.start], turn[found.end :], before, behind)
    between, call = None, found.call
    first, second = look(two), look(two, _SECOND)
    around = _around(turn, found, _FIRST)
    if first is not None and second is not None:
        between = two[first.end : second.start]
        if isinstance(call, NamedCall):
            call = _with_gap(first.call, second.call)
        if around is not None and (other := _around(two, second, _SECOND)) is not None:
            around = Around(*map(_numbered, astuple(around), astuple(other)))
    if isinstance(call, ObjectCall | NamedCall):
        call = replace(call, around=around)
    opened = not begin.strip() and isinstance(call, NamedCall | PythonCall)
    if opened:
        spoken = probes.turn(Probe(TEXT, calls=(_FIRST,))) or ""
        begin = spoken.partition(TEXT)[2].partition(ONE)[0] or between or ""
        opened = bool(begin.strip()) and probes.generation_prompt.endswith(begin)
    return CallForm(begin, call, between, end, opened)


def _around(text: str, found: _Found, call: Call) -> Around | None:
    """What stands around name and arguments in a call whose arguments come last."""
    body = text[found.start : found.end]
    name = body.find(call.name)
    behind = body[name + len(call.name) :]
    for start, end, value in _objects(behind):
        if value == call.arguments and name >= 0:
            return Around(*(_ID.sub(ID, part) for part in (body[:name], behind[:start], behind[end:])))
    return None


def _numbered(first: str, second: str) -> str:
    """The text around the first call, a number in it that the second one counts up."""
    for match in re.finditer("0", first):
        if f"{first[: match.start()]}1{first[match.end() :]}" == second:
            return first[: match.start()] + INDEX + first[match.end() :]
    return first


def _trimmed(begin: str, end: str, before: str, behind: str) -> tuple[str, str]:
    """Without what stands around any turn, of text too."""
    return begin[common_start(begin, before) :], end[: len(end) - common_end(end, behind)]


def _objects(text: str) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """Every JSON object in the text with its place, the outer ones first."""
    for match in re.finditer(r"\{", text):
        try:
            value, end = _DECODER.raw_decode(text, match.start())
        except ValueError:
            continue
        if isinstance(value, dict):
            yield match.start(), end, value


def _object_calls(text: str, call: Call = _FIRST) -> _Found | None:
    for start, end, value in _objects(text):
        if (members := _members(value, call)) is not None:
            return _Found(start, end, members)
    return None


def _members(value: dict[str, Any], call: Call) -> ObjectCall | None:
    if call.name in value and _is_arguments(value[call.name], call):
        return ObjectCall(None, None)
    names = [key for key, member in value.items() if member == call.name]
    arguments = [key for key, member in value.items() if _is_arguments(member, call)]
    if names and arguments:
        return ObjectCall(names[-1], arguments[0])
    for key, member in value.items():
        if isinstance(member, dict) and (inner := _members(member, call)) is not None:
            return ObjectCall(inner.name, inner.arguments, key)
    return None


def _is_arguments(value: Any, call: Call) -> bool:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return False
    return bool(value == call.arguments)


def _named_calls(text: str, call: Call = _FIRST) -> _Found | None:
    """The function's name, and behind it the object of its arguments."""
    for start, end, value in _objects(text):
        place = text.rfind(call.name, 0, start)
        if value == call.arguments and place >= 0:
            after = text[place + len(call.name) : start]
            return _Found(place, end, NamedCall(tuple(_ID.split(after))))
    return None


def _python_calls(text: str, call: Call = _FIRST) -> _Found | None:
    ((key, value),) = call.arguments.items()
    match = re.search(rf"{call.name}\({key}\s?=\s?(['\"]){value}\1\)", text)
    return None if match is None else _Found(match.start(), match.end(), PythonCall())


def _with_gap(one: NamedCall, other: NamedCall) -> NamedCall:
    """What differs between two calls of a turn, such as a running number, is an id too."""
    if one == other or len(one.after_name) > 1:
        return one
    first, second = one.after_name[0], other.after_name[0]
    start = common_start(first, second)
    end = common_end(first[start:], second[start:])
    return NamedCall((first[:start], first[len(first) - end :]))


def _tagged_calls(probes: Probes, turn: str, two: str, before: str, behind: str) -> CallForm | None:
    pair = probes.turn(Probe(calls=(Call(ONE, dict(zip(KEYS, _VALUES, strict=True))),))) or ""
    alone = probes.turn(Probe(calls=(Call(ONE, {}),)))
    number = probes.turn(Probe(calls=(Call(ONE, {KEYS[0]: _NUMBER}),))) or ""
    parts = _split(turn, ONE, KEYS[0], _VALUES[0])
    both = _split(pair, ONE, KEYS[0], _VALUES[0], KEYS[1], _VALUES[1])
    if parts is None or both is None:
        return None
    begin, first, separator, tail = parts
    middle = both[3]
    key = first[len(first) - common_end(first, middle) :]
    middle = middle[: len(middle) - len(key)]
    close = middle[: common_start(middle, tail)]
    if not close.strip():
        return None
    plain = _split(number, ONE, KEYS[0], str(_NUMBER))
    plain_separator = plain[2] if plain is not None and plain[2] != separator else None
    quote = ""
    if plain_separator is not None and separator.startswith(plain_separator):
        quote = separator[len(plain_separator) :]
        separator, plain_separator = plain_separator, None
        if not close.startswith(quote):
            return None
        close, middle, tail = close[len(quote) :], middle[len(quote) :], tail[len(quote) :]
        if not close.strip():
            return None
    begin, end = _trimmed(begin, tail[len(close) :], before, behind)
    rest = "" if alone is None or ONE not in alone else alone.rpartition(ONE)[2]
    rest = _trimmed("", rest, "", behind)[1]
    between = None
    if (calls := _split(two, ONE, KEYS[0], _VALUES[0], TWO)) is not None and calls[3].startswith(quote + close):
        between = calls[3][len(quote + close) :]
    markup = _split(probes.turn(Probe(calls=(Call(ONE, {KEYS[0]: _MARKUP}),))) or "", ONE, KEYS[0], _MARKUP)
    shield = None
    if markup is not None and markup[2].startswith(separator) and close in markup[3]:
        around = Marks(markup[2][len(separator) :], markup[3].partition(close)[0])
        shield = around if around.open and around.close and not quote else None
    call = TaggedCall(
        after_name=first[: len(first) - len(key)],
        key=key,
        separator=separator,
        close=close,
        between=middle[len(close) :],
        alone=rest[: len(rest) - common_end(rest, end)],
        quote=quote,
        shield=shield,
        plain_separator=plain_separator,
        python_words="True" in (probes.turn(Probe(calls=(Call(ONE, {KEYS[0]: True}),))) or "").rpartition(KEYS[0])[2],
        python_brackets="['" in (probes.turn(Probe(calls=(Call(ONE, {KEYS[0]: ["x"]}),))) or "").rpartition(KEYS[0])[2],
    )
    return CallForm(begin, call, between, end)


def _split(text: str, *needles: str) -> list[str] | None:
    """The text between needles that stand in it in this order; None where one is missing."""
    parts = []
    for needle in needles:
        before, found, text = text.partition(needle)
        if not found:
            return None
        parts.append(before)
    return [*parts, text]


def _reasoning(probes: Probes, before: str) -> Marks | None:
    turn = probes.turn(Probe(content=TEXT, reasoning=THOUGHT))
    if turn is None or (parts := _split(turn, THOUGHT, TEXT)) is None:
        turn = probes.turn(Probe(calls=(_FIRST,), reasoning=THOUGHT))
        if turn is None or (parts := _split(turn, THOUGHT, ONE)) is None:
            return None
    close = first_mark(parts[1])
    if not close:
        return None
    if parts[0].strip():
        return Marks(last_mark(parts[0]), close)
    prompt, opened = probes.generation_prompt[: probes.header], probes.generation_prompt[probes.header :]
    if opened.strip() and close not in opened:  # the prompt opens it, and earlier turns don't show that
        return Marks(last_mark(opened), close)
    opening = last_mark(prompt)
    is_role = opening[:1] in ("<", "[") and close not in before and _word(opening) not in _word(close)
    return Marks("" if is_role else opening, close)


def _word(mark: str) -> str:
    return "".join(filter(str.isalnum, mark))


def _content(turn: str | None, before: str, behind: str, reasoning: Marks | None) -> Marks | None:
    """What stands around text and, as `turn` shows, around no call."""
    rest = before.rpartition(reasoning.close)[2] if reasoning and reasoning.close in before else before
    open_mark = first_mark(rest)
    if not open_mark or turn is None:
        return None
    if rest.endswith("\n") and rest.strip().isalnum() and not turn.startswith(rest):
        return Marks(rest, "")  # the name of nobody's function, as Functionary's `all`
    close = first_mark(behind[: len(behind) - common_end(behind, turn)])
    return Marks(open_mark, close) if _words(open_mark) & _words(close) else None


def _words(mark: str) -> set[str]:
    """What a mark and its counterpart have in common."""
    return set(re.findall("[a-z]+", mark.lower())) - {"start", "end", "begin", "of", "turn", "token"}
