"""How a conversation is fitted to what a template takes: all its words, in order, with as little bending as can be.

Each bending depends on the turn it is made for and the one before it, so that a later message leaves what was written
of earlier ones as it is.
"""

from collections.abc import Sequence
from enum import Enum
from itertools import takewhile
from typing import Literal, Protocol

from rkllama_flask.generation.prompt.template_messages import (
    CallForm,
    Turn,
    as_text,
    joined,
    with_call_ids,
    with_leading_system_joined,
    with_short_call_ids,
)

Kind = Literal["start", "user", "answer", "call", "result"]
"""Of a turn; `start` is none yet."""


_WAS = "was"
"""While a conversation is fitted: the role that a turn of the user had before."""


class Bend(Enum):
    """What is done with a turn that a template doesn't take behind the one before it."""

    KEEP = "nothing"
    JOIN = "both become one"
    QUESTION = "an empty turn of the user comes between"
    ANSWER = "an empty turn of the model comes between"
    TEXT = "a call or a result is written as tagged text"


class Takes(Protocol):
    """What a template takes. `call_form` None: neither calls nor results."""

    @property
    def system(self) -> bool: ...
    @property
    def late_system(self) -> bool: ...
    @property
    def system_alone(self) -> bool: ...
    @property
    def call_form(self) -> CallForm | None: ...
    @property
    def several_calls(self) -> bool: ...
    @property
    def text_beside_calls(self) -> bool: ...
    @property
    def long_call_ids(self) -> bool: ...
    def bend(self, before: Kind, kind: Kind) -> Bend: ...


def kind_of(turn: Turn) -> Kind:
    if turn["role"] == "assistant":
        return "call" if turn.get("tool_calls") else "answer"
    return "result" if turn["role"] == "tool" else "user"


class Strict:
    """What a template takes at the least: texts of the user and the model by turns, and perhaps a system's in front."""

    late_system = system_alone = several_calls = text_beside_calls = long_call_ids = False
    call_form = None

    def __init__(self, *, system: bool) -> None:
        self.system = system

    def bend(self, before: Kind, kind: Kind) -> Bend:
        if before == kind:
            return Bend.JOIN
        return Bend.QUESTION if (before, kind) == ("start", "answer") else Bend.KEEP


def has_calls(conversation: Sequence[Turn]) -> bool:
    return any(turn["role"] == "tool" or turn.get("tool_calls") for turn in conversation)


def fitted(conversation: Sequence[Turn], takes: Takes, *, system: bool = True, calls: bool = True) -> list[Turn]:
    """The conversation as the template can take it; without `system` and `calls` there is nothing such in it."""
    found = with_leading_system_joined(conversation)
    if any(turn["role"] == "system" for turn in found):
        found = _with_system_fitted(found, takes, system=system)
    if has_calls(found):
        form = takes.call_form if calls else None
        found = [_as_text(turn) for turn in found] if form is None else _with_calls_fitted(found, takes, form)
    found = _in_line(found, takes)
    if found and all(turn["role"] == "system" for turn in found) and not takes.system_alone:
        found.append(_EMPTY[Bend.QUESTION])
    return found


def _with_system_fitted(conversation: Sequence[Turn], takes: Takes, *, system: bool) -> list[Turn]:
    """System text behind a call and its results, and where the template takes none, in a turn of the user."""
    found: list[Turn] = []
    waiting: list[Turn] = []
    for index, turn in enumerate(conversation):
        if turn["role"] == "system":
            taken = system and (takes.system if index == 0 else takes.late_system)
            waiting.append(turn if taken else {"role": "user", "content": turn["content"], _WAS: "system"})
            continue
        if turn["role"] != "tool":
            _put(found, waiting)
        if turn["role"] == "user" and found and _WAS in found[-1]:
            found[-1] = {**turn, "content": _text(found[-1], turn)}
        else:
            found.append(turn)
    _put(found, waiting)
    return found


def _put(found: list[Turn], waiting: list[Turn]) -> None:
    for turn in waiting:
        if _WAS in turn and found and found[-1]["role"] == "user":
            found[-1] = {**found[-1], "content": _text(found[-1], turn)}
        elif turn["content"] or _WAS not in turn:
            found.append(turn)
    waiting.clear()


def _with_calls_fitted(conversation: Sequence[Turn], takes: Takes, form: CallForm) -> list[Turn]:
    """Calls of one turn after one another, each with its results, and text in a turn before, where that is wanted."""
    conversation = with_call_ids(conversation)
    conversation = conversation if takes.long_call_ids else with_short_call_ids(conversation)
    found: list[Turn] = []
    place = 0
    while place < len(conversation):
        turn = conversation[place]
        place += 1
        if turn.get("tool_calls") and turn["content"] and not takes.text_beside_calls:
            found.append({"role": "assistant", "content": turn["content"]})
            turn = {**turn, "content": form.empty}
        if len(turn.get("tool_calls", ())) < 2 or takes.several_calls:
            found.append(turn)
            continue
        results = list(takewhile(lambda later: later["role"] == "tool", conversation[place:]))
        place += len(results)
        found += _one_after_another(turn, results, form)
    return found


def _one_after_another(turn: Turn, results: list[Turn], form: CallForm) -> list[Turn]:
    found: list[Turn] = []
    for call in turn["tool_calls"]:
        head = {"role": "assistant", "content": form.empty} if found else turn
        mine = [result for result in results if result.get("tool_call_id") == call["id"]]
        results = [result for result in results if result.get("tool_call_id") != call["id"]]
        found += [{**head, "tool_calls": [call]}, *mine]
    return [*found, *results]


def _in_line(conversation: Sequence[Turn], takes: Takes) -> list[Turn]:
    """Every turn bent as the one before it asks for."""
    found: list[Turn] = []
    before: Kind = "start"
    for turn in conversation:
        if turn["role"] == "system":
            found.append(turn)
            continue
        new, bend = turn, takes.bend(before, kind_of(turn))
        if bend is Bend.TEXT:
            new = _as_text(turn)
            bend = takes.bend(before, kind_of(new))
        found = bent(found, new, bend)
        before = kind_of(found[-1])
    return [{key: value for key, value in turn.items() if key != _WAS} for turn in found]


def bent(found: list[Turn], turn: Turn, bend: Bend) -> list[Turn]:
    """What was found so far with one more turn, this bending done."""
    if found and found[-1].get(_WAS) == turn.get(_WAS) == "tool":
        return [*found[:-1], {**turn, "content": f"{found[-1]['content']}\n{turn['content']}"}]
    if bend is Bend.JOIN and found and found[-1]["role"] == turn["role"]:
        return [*found[:-1], joined(found[-1], turn)]
    if bend in _EMPTY:
        return [*found, _EMPTY[bend], turn]
    return [*found, turn]


_EMPTY: dict[Bend, Turn] = {
    Bend.QUESTION: {"role": "user", "content": ""},
    Bend.ANSWER: {"role": "assistant", "content": ""},
}


def _as_text(turn: Turn) -> Turn:
    return {**as_text(turn), _WAS: "tool"} if turn["role"] == "tool" else as_text(turn)


def _text(*turns: Turn) -> str:
    return "\n\n".join(turn["content"] for turn in turns if turn["content"])
