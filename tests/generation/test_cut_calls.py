"""Of a call that was not finished when its answer was cut no call is made, wherever that is and however it is written.

`CUT_CALLS_SECONDS=600 pytest -s -k random tests/generation/test_cut_calls.py` tries random calls for ten minutes.
"""

import json
import os
import random
import time

import pytest

from rkllama_flask.generation.events import Text, ToolArguments, ToolCallCut, ToolCallFinished, ToolCallStarted
from rkllama_flask.generation.output.tool_calls import ToolCallParser
from rkllama_flask.text.utf8 import Utf8Decoder
from tests.generation.written_calls import DIALECTS, END, TOOLS, random_calls

BOTH = [("get_weather", {"city": 'Saint "Ö"', "days": 123, "where": {"in": ["a", {"b": None}]}}), ("now", {})]
BEFORE = "I will look.\n"


def read(pieces, *, cut):
    """(Text, finished calls, what a client was sent of a cut one or None) of an answer that arrives in these pieces."""
    parser = ToolCallParser(TOOLS)
    text, names, sent, finished, rest = "", [], [], 0, None
    events = [event for piece in pieces for event in parser.feed(piece)]
    for event in (*events, *parser.finish(cut=cut)):
        match event:
            case Text(more):
                text += more
            case ToolCallStarted(index, _, name):
                assert index == len(names) == finished
                names.append(name)
                sent.append("")
            case ToolArguments(index, more):
                assert (index, finished) == (len(names) - 1, index), "arguments of a call that is over"
                sent[index] += more
            case ToolCallFinished(index):
                finished += 1
                assert index == finished - 1
            case ToolCallCut(_, more):
                rest = sent.pop()
                text += more
    assert len(sent) == finished
    return text, [(name, json.loads(one)) for name, one in zip(names, sent, strict=False)], rest


def check_every_cut(written, *, before="", by_letter=False):
    """The calls that this text has, cut at each place; how many places that were."""
    text = before + written.replace(END, "")
    _, calls, _ = read([text], cut=False)
    assert len(calls) == written.count(END)
    ends, place = [], len(before)
    for part in written.split(END)[:-1]:
        place += len(part)
        ends.append(place)
    for cut in range(len(text) + 1):
        begun = text[:cut]
        said, found, sent = read(list(begun) if by_letter else [begun], cut=True)
        whole = sum(end <= cut for end in ends)
        assert found == calls[:whole]
        if not whole:
            assert said == begun
        else:
            assert said.startswith(before)
            assert begun.endswith(said.removeprefix(before))
        if sent is not None:
            assert sent.startswith("{")
            with pytest.raises(json.JSONDecodeError):
                json.loads(sent)
        for name, _ in calls[whole:][:1]:  # what was written of the next one is told as it is
            assert f"{name}" not in begun[max(0, *ends[:whole], len(before)) :] or name in said
    return len(text) + 1


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_call_is_made_only_of_what_was_finished_wherever_the_answer_was_cut(dialect):
    check_every_cut(DIALECTS[dialect](BOTH))


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_same_holds_behind_text_and_letter_by_letter(dialect):
    check_every_cut(DIALECTS[dialect]([("get", {"key": "12"}), ("now", {})]), before=BEFORE, by_letter=True)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_same_holds_between_the_bytes_of_a_character(dialect):
    data = DIALECTS[dialect]([("get", {"key": "Ö🦙e\u0301"})]).replace(END, "").encode()
    for cut in range(len(data) + 1):
        begun = Utf8Decoder().feed(data[:cut])  # the beginning of a character is no text
        assert data.startswith(begun.encode())
        by_byte = Utf8Decoder()
        pieces = [by_byte.feed(data[at : at + 1]) for at in range(cut)]
        assert read(pieces, cut=True) == read([begun], cut=True)


def test_random_calls_are_made_only_of_what_was_finished():
    seconds = float(os.environ.get("CUT_CALLS_SECONDS", "0"))
    rng, deadline, tried, texts = random.Random(17 if not seconds else None), time.monotonic() + seconds, 0, 0
    while texts < len(DIALECTS) or time.monotonic() < deadline:
        dialect = list(DIALECTS)[texts % len(DIALECTS)]
        written = DIALECTS[dialect](random_calls(rng, dialect))
        try:
            tried += check_every_cut(
                written, before=rng.choice(["", BEFORE]), by_letter=bool(seconds) and texts % 3 == 0
            )
        except BaseException:
            print(dialect, repr(written))
            raise
        texts += 1
    print(f"{tried} cuts of {texts} texts")
