"""The form in which a template writes calls, reasoning and text is found out, proven, and read back."""

import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from rkllama_flask.generation.output.turn_form import TaggedCall, TurnForm
from rkllama_flask.generation.prompt.templates import ChatTemplate
from rkllama_flask.generation.turns.probes import Call, Probe, Probes
from rkllama_flask.generation.turns.proof import find_reading, read_back
from rkllama_flask.generation.turns.readings import probes_for
from tests.generation.turn_arguments import calls

TEMPLATES = sorted((Path(__file__).parent / "data" / "turns").glob("*.jinja"))
WRITING = [path for path in TEMPLATES if path.stem != "no-calls"]
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
