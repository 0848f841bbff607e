"""The form in which a template writes calls, reasoning and text is found out, proven, and read back."""

import json
import random
import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from rkllama_flask.generation.events import ToolArguments, ToolCallCut, ToolCallFinished, ToolCallStarted
from rkllama_flask.generation.guided.filling import Filling
from rkllama_flask.generation.guided.forced_calls import ForcedCall
from rkllama_flask.generation.guided.written import Written
from rkllama_flask.generation.output.readers import calls_for
from rkllama_flask.generation.output.tool_calls import ToolCallParser
from rkllama_flask.generation.output.tool_dialects.dialects import HERMES
from rkllama_flask.generation.output.turn_form import TaggedCall, TurnForm
from rkllama_flask.generation.prompt.templates import ChatTemplate
from rkllama_flask.generation.request import Tool, ToolChoice
from rkllama_flask.generation.turns.probes import KEYS, ONE, TWO, Call, Probe, Probes
from rkllama_flask.generation.turns.proof import find_reading, read_back
from rkllama_flask.generation.turns.readings import probes_for
from tests.generation.filled import encode, play
from tests.generation.turn_arguments import calls

TEMPLATES = sorted((Path(__file__).parent / "data" / "turns").glob("*.jinja"))
WRITING = [path for path in TEMPLATES if path.stem != "no-calls"]
TOOLS = (
    Tool(ONE, "", {"properties": {KEYS[0]: {"type": "string"}, KEYS[1]: {"type": "integer"}}, "required": [*KEYS]}),
    Tool(TWO, "", {"properties": {KEYS[0]: {"type": "boolean"}, KEYS[1]: {"type": "string"}}, "required": [KEYS[0]]}),
)
CALLS = (
    (Call(ONE, {KEYS[0]: "New York", KEYS[1]: 345}),),
    (Call(TWO, {KEYS[0]: True}),),
    (Call(TWO, {KEYS[0]: False, KEYS[1]: "a <b>\nc"}),),
    (Call(ONE, {KEYS[0]: "x", KEYS[1]: 3}), Call(TWO, {KEYS[0]: True, KEYS[1]: "z"})),
)
SAMPLE = 60
"""Random calls for each template; the longer run makes a thousand."""


def probes_of(path: Path) -> Probes:
    return probes_for(ChatTemplate(path.read_text()))


@pytest.mark.parametrize("path", WRITING, ids=lambda path: path.stem)
def test_every_form_of_writing_calls_is_found_and_proven(path: Path) -> None:
    assert find_reading(probes_of(path)).calls == "found"


@pytest.mark.parametrize("path", WRITING, ids=lambda path: path.stem)
def test_what_a_template_writes_for_any_arguments_is_read_back(path: Path) -> None:
    tried, twins = round_trips(path, SAMPLE, seed=1)
    assert twins <= max(1, tried // 50)


def holds_its_end(form: TurnForm, made: Sequence[Call]) -> bool:
    """Whether a text that stands as it is holds the mark that ends it."""
    if form.calls is None or not isinstance(form.calls.call, TaggedCall):
        return False
    values = [value for call in made for value in call.arguments.values()]
    return any(isinstance(value, str) and form.calls.call.close.strip() in value for value in values)


def round_trips(path: Path, count: int, *, seed: int) -> tuple[int, int]:
    """How many calls were written and read back, and how many of them are written as other ones are."""
    probes = probes_of(path)
    form = find_reading(probes).form
    chance = random.Random(seed)
    twins = 0
    for _, made in zip(range(count), calls(form, chance), strict=False):
        probe = Probe(calls=made)
        written = probes.answer(probe)
        assert written is not None
        for size in (len(written), 1, chance.randrange(1, 9)):
            read = read_back(form, written, probe, size=size)
            if read == probe:
                continue
            same = read is not None and probes.answer(read) == written
            assert same or holds_its_end(form, made), (made, read, written)
            twins += 1
            break
    return count, twins


def calls_of(answer: str, form: TurnForm, *, cut: bool) -> list[Call]:
    """The finished calls that an answer is read as."""
    parser = ToolCallParser(TOOLS, form=calls_for(form))
    found: list[Call] = []
    name, arguments = "", ""
    for event in (*parser.feed(answer), *parser.finish(cut=cut)):
        match event:
            case ToolCallStarted():
                name, arguments = event.name, ""
            case ToolArguments():
                arguments += event.text
            case ToolCallFinished():
                found.append(Call(name, json.loads(arguments)))
            case ToolCallCut():
                name = ""
    return found


@pytest.mark.parametrize("path", WRITING, ids=lambda path: path.stem)
def test_of_a_cut_answer_only_finished_calls_are_made_wherever_it_is_cut(path: Path) -> None:
    probes = probes_of(path)
    form = find_reading(probes).form
    for made in CALLS:
        answer = probes.answer(Probe(calls=made)) if form.calls and (len(made) == 1 or form.calls.between) else None
        if answer is None:
            continue
        assert calls_of(answer, form, cut=False) == list(made)
        counts = []
        for place in range(len(answer)):
            found = calls_of(answer[:place], form, cut=True)
            assert found == list(made[: len(found)]), answer[:place]
            counts.append(len(found))
        assert counts[0] == 0
        assert counts == sorted(counts)


@pytest.mark.parametrize("path", WRITING, ids=lambda path: path.stem)
@pytest.mark.parametrize("made", CALLS, ids=("two-values", "one-value", "markup", "two-calls"))
def test_a_forced_call_is_written_byte_for_byte_as_the_template_writes_it(path: Path, made: tuple[Call, ...]) -> None:
    """The model says at each place what the template has there, and on: only the values may be taken from it."""
    probes = probes_of(path)
    form = find_reading(probes).form.calls
    assert form is not None
    answer = probes.answer(Probe(calls=made)) if len(made) == 1 or form.between is not None else None
    if answer is None:
        return  # this template writes one call in a turn
    wanted = answer if form.opened else answer[answer.index(form.begin) :]
    call = ForcedCall(TOOLS, ToolChoice("required"), HERMES, parallel=len(made) > 1, found=form)
    written = Written()
    text, _ = play(Filling(call.script(written), written, encode), lambda prompt: wanted[len(prompt) :])
    assert without_ids(text).rstrip() == without_ids(wanted).rstrip()


def without_ids(text: str) -> str:
    """Ids of calls are made up anew each time."""
    return re.sub(r"[0-9a-f]{9}|probeid\d\d", "ID", text)
