"""Proves a found form: what the template writes must be read back exactly, whole and character by character."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Literal, NamedTuple

from rkllama_flask.generation.events import Reasoning as Reasoned
from rkllama_flask.generation.events import Text, ToolArguments, ToolCallStarted
from rkllama_flask.generation.output.readers import calls_for, splitter_for
from rkllama_flask.generation.output.tool_calls import ToolCallParser
from rkllama_flask.generation.output.turn_form import TurnForm
from rkllama_flask.generation.request import Tool
from rkllama_flask.generation.turns.finder import find_form
from rkllama_flask.generation.turns.probes import KEYS, ONE, TEXT, THOUGHT, TWO, Call, Probe, Probes

_KINDS = {str: "string", bool: "boolean", int: "integer", float: "number", list: "array", dict: "object"}

_CALLS: tuple[tuple[Call, ...], ...] = (
    (Call(ONE, {KEYS[0]: "Paris"}),),
    (Call(ONE, {}),),
    (Call(ONE, {KEYS[0]: ["red", "green"], KEYS[1]: True}),),
    (Call(ONE, {KEYS[0]: 3, KEYS[1]: ""}),),
    (Call(ONE, {KEYS[0]: 'it\'s "so" <b> [x] {y} ', KEYS[1]: "\n two\nlines\n"}),),
    (Call(ONE, {KEYS[0]: {"a": [1, None, {"b": "c"}]}, KEYS[1]: "</ é 漢 \\"}),),
)
_SEVERAL = (Call(ONE, {KEYS[0]: "Paris"}), Call(TWO, {KEYS[1]: "UTC"}))

_TURN_END = re.compile(r"<[^<>\s]+>$")
"""What ends a turn of calls and no other: the runtime stops there, and it is nobody's text."""


class Reading(NamedTuple):
    """How a model's turns are read.

    `calls`: `found` in the template, read by a `named` way of writing, `unread` for the reason in `why`, or `none`,
    since the template writes no calls.
    """

    form: TurnForm
    calls: Literal["found", "named", "unread", "none"]
    why: str = ""

    @property
    def told(self) -> dict[str, str]:
        """How calls are read, as clients are told."""
        return {"calls": self.calls} | ({"why": self.why} if self.why else {})


UNREAD = Reading(TurnForm(), "unread", "the template can't be rendered")


def find_reading(probes: Probes) -> Reading:
    """The form that the template writes, as far as it is proven."""
    form = find_form(probes)
    form = replace(form, reasoning=form.reasoning if _reads(form, probes, Probe(TEXT, THOUGHT)) else None)
    form = replace(form, content=form.content if _reads(form, probes, Probe(TEXT)) else None)
    problem = ""
    if form.in_channels:
        return Reading(form, "named")
    if form.calls is not None:
        problem = next(_problems(form, probes), "")
        if not problem:
            return Reading(form, "found")
    form = replace(form, calls=None)
    if probes.turn(Probe(calls=_CALLS[0])) is None or not _writes_calls(probes):
        return Reading(form, "none")
    if not (unread := next(_problems(form, probes), "")):
        return Reading(form, "named")
    return Reading(form, "unread", problem or unread)


def _writes_calls(probes: Probes) -> bool:
    turn = probes.turn(Probe(calls=_CALLS[0]))
    return turn is not None and ONE in turn


def _problems(form: TurnForm, probes: Probes) -> Iterator[str]:
    """The turns that are not read back as they were meant."""
    for calls in _CALLS:
        if not _reads(form, probes, Probe(calls=calls)):
            yield f"a call with the arguments {json.dumps(dict(calls[0].arguments), ensure_ascii=False)}"
    for probe, what in (
        (Probe(TEXT, calls=_CALLS[0]), "text before a call"),
        (Probe(reasoning=THOUGHT, calls=_CALLS[0]), "reasoning before a call"),
        (Probe(calls=_SEVERAL), "two calls"),
    ):
        if not _reads(form, probes, probe):
            yield what


def _reads(form: TurnForm, probes: Probes, probe: Probe) -> bool:
    """Whether a turn is read back; true where the template doesn't write all of it."""
    written = probes.answer(probe)
    if written is None or not _is_whole(written, probe, probes.turn_end):
        return True
    opened = form.reasoning is not None and form.reasoning.close in written and probes.opens(form.reasoning)
    return all(read_back(form, written, probe, size=size, open=opened) == probe for size in (len(written) or 1, 1))


def _is_whole(written: str, probe: Probe, turn_end: str) -> bool:
    """Whether all of a turn is written, in the order in which models write it, and as one turn."""
    wanted = [part for part in (probe.reasoning, probe.content, *(call.name for call in probe.calls)) if part]
    places = [written.find(part) for part in wanted]
    in_order = -1 not in places and places == sorted(places)
    return in_order and not (turn_end and turn_end in written[places[0] : places[-1]])


def read_back(form: TurnForm, written: str, probe: Probe, *, size: int, open: bool = False) -> Probe | None:
    """The turn that is read from this text, which comes in pieces of `size` characters, by the types of `probe`.

    `open`: it begins inside the reasoning. None where a call is no JSON.
    """
    splitter = splitter_for(form, open=open)
    parser = ToolCallParser(_tools(probe), form=calls_for(form))
    events: list[Any] = []

    def take(parts: list[Text | Reasoned]) -> None:
        for part in parts:
            events.extend(parser.feed(part.text) if isinstance(part, Text) else [part])

    for start in range(0, len(written), size):
        take(splitter.feed(written[start : start + size]))
    take(splitter.finish())
    return _turn([*events, *parser.finish()])


def _turn(events: list[Any]) -> Probe | None:
    text = "".join(event.text for event in events if isinstance(event, Text)).strip()
    thought = "".join(event.text for event in events if isinstance(event, Reasoned)).strip()
    calls = [[event.name, ""] for event in events if isinstance(event, ToolCallStarted)]
    for event in events:
        if isinstance(event, ToolArguments):
            calls[event.index][1] += event.text
    try:
        made = tuple(Call(name, json.loads(arguments)) for name, arguments in calls)
    except ValueError:
        return None
    return Probe(_TURN_END.sub("", text) if made else text, thought or None, made)


def _tools(probe: Probe) -> list[Tool]:
    """The functions, with the types that this probe's values have."""
    names = dict.fromkeys((ONE, TWO, *(call.name for call in probe.calls)))
    arguments = {call.name: call.arguments for call in probe.calls}
    return [
        Tool(
            name,
            "",
            {
                "type": "object",
                "properties": {key: {"type": _KINDS[type(value)]} for key, value in arguments.get(name, {}).items()},
            },
        )
        for name in names
    ]
