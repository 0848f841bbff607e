"""Thoughts and answer, told apart however the tokens are cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rkllama_flask.generation.events import Reasoning, Text
from rkllama_flask.generation.output.reasoning import TAGS, ReasoningSplitter
from rkllama_flask.generation.output.tool_calls import OnlyCalls, ToolCallParser
from rkllama_flask.generation.request import Tool
from tests.generation.pieces import every_cut


def split(pieces, *, open=False):
    """(thoughts, answer) of text that arrives in these pieces; thoughts come first."""
    splitter = ReasoningSplitter(open=open)
    events = [event for piece in pieces for event in splitter.feed(piece)] + splitter.finish()
    assert all(event.text for event in events)
    kinds = [type(event) for event in events]
    assert kinds == sorted(kinds, key=lambda kind: kind is Text)
    thoughts = "".join(event.text for event in events if isinstance(event, Reasoning))
    return thoughts, "".join(event.text for event in events if isinstance(event, Text))


def test_an_answer_without_thoughts_is_passed_on_as_it_is():
    assert split(["\n Hello", " there\n"]) == ("", "\n Hello there\n")


@pytest.mark.parametrize("tags", TAGS)
def test_every_known_pair_of_tags_is_understood(tags):
    assert split([f"{tags.open}\nHm.\n{tags.close}\n\nYes."]) == ("Hm.", "Yes.")


def test_tags_split_over_tokens_are_found():
    assert split(["<", "th", "ink>\n", "Hm", ".\n", "</thi", "nk", ">", "\n\n", "Yes."]) == ("Hm.", "Yes.")


def test_thoughts_and_text_come_as_soon_as_they_are_decided():
    splitter = ReasoningSplitter()
    assert splitter.feed("<think>Hm") == [Reasoning("Hm")]
    assert splitter.feed(" x </") == [Reasoning(" x")]
    assert splitter.feed("b>") == [Reasoning(" </b>")]
    assert splitter.feed("</think>Yes") == [Text("Yes")]
    assert splitter.feed(" <") == [Text(" <")]


def test_no_text_is_held_back_that_can_not_be_a_tag():
    splitter = ReasoningSplitter()
    assert splitter.feed("<thin") == []
    assert splitter.feed("g") == [Text("<thing")]


def test_a_prompt_that_opened_the_tag_lets_the_answer_begin_with_thoughts():
    assert split(["Hm.\n</think>\n\nYes."], open=True) == ("Hm.", "Yes.")
    assert split(["Hm.[/THINK]Yes."], open=True) == ("Hm.", "Yes.")


def test_a_model_that_repeats_the_opened_tag_is_understood():
    assert split(["\n<thi", "nk>\nHm.</think>Yes."], open=True) == ("Hm.", "Yes.")


def test_a_lone_closing_tag_at_the_start_is_dropped():
    assert split(["\n</think>\n\nYes."]) == ("", "Yes.")


def test_empty_thoughts_are_no_event():
    assert split(["<think>\n\n</think>\n\nYes."]) == ("", "Yes.")


def test_thoughts_may_come_in_several_blocks_before_the_answer():
    assert split(["<think>a</think>\n<think>b</think>\nYes."]) == ("ab", "Yes.")


def test_tags_in_the_middle_of_an_answer_are_text():
    text = "Write <think>a</think> around it."
    assert split([text]) == ("", text)
    assert split([f"<think>Hm</think>{text}"]) == ("Hm", text)


def test_only_the_tag_that_was_opened_closes_the_thoughts():
    assert split(["<thinking>a</think>b</thinking>c"]) == ("a</think>b", "c")


def test_unfinished_thoughts_stay_thoughts():
    assert split(["<think>Hm.\n</thin"]) == ("Hm.\n</thin", "")
    assert split(["Hm"], open=True) == ("Hm", "")
    assert split(["<think>\n"]) == ("", "")


def test_an_undecided_tag_at_the_end_is_text():
    assert split(["\n<thi"]) == ("", "\n<thi")


def test_the_indent_of_an_answer_after_thoughts_stays():
    assert split(["<think>Hm</think>\n\n    return 1"]) == ("Hm", "    return 1")


PARTS = st.sampled_from(["<think>", "</think>", "[THINK]", "[/THINK]", "\n", " ", "Hm", "<", "</th", "é"])


@given(st.lists(PARTS, max_size=12).map("".join), st.booleans(), st.data())
def test_however_the_text_is_cut_the_same_comes_out(text, open, data):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert split(pieces, open=open) == split([text], open=open) == split(list(text), open=open)


TOOLS = [Tool("get", parameters={"type": "object", "properties": {"key": {"type": "string"}}})]
CALL = '<tool_call>\n{"name": "get", "arguments": {"key": "v"}}\n</tool_call>'


def thought(pieces, *, cut=False):
    """(thoughts, answer) where functions are on offer and the prompt has opened the thoughts."""
    splitter = ReasoningSplitter(open=True, calls=lambda: OnlyCalls(ToolCallParser(TOOLS)))
    events = [event for piece in pieces for event in splitter.feed(piece)] + splitter.finish(cut=cut)
    texts = ["".join(event.text for event in events if isinstance(event, kind)) for kind in (Reasoning, Text)]
    return tuple(texts)


@pytest.mark.parametrize(
    "calls",
    [
        CALL,
        f"{CALL}\n{CALL}\n",
        "<tool_call>\n<function=get>\n<parameter=key>\nv\n</parameter>\n</function>\n</tool_call>",
        '[TOOL_CALLS]get[ARGS]{"key": "v"}',
        CALL.removesuffix("</tool_call>"),
    ],
)
def test_whole_calls_at_the_end_of_thoughts_that_were_never_closed_are_the_answer(calls):
    text = f"I need the key.\n{calls}"
    for pieces in (*every_cut(text), list(text)):
        assert thought(pieces) == ("I need the key.", calls)
    assert thought([calls]) == ("", calls)


@pytest.mark.parametrize(
    "text",
    [
        f"{CALL}\nOr maybe not.",
        f"I could write {CALL} and see.",
        CALL[:-20],
        CALL.replace("get", "got"),
        "A <tool_call> is what I need",
        "Hm. <tool_c",
    ],
)
def test_what_is_not_nothing_but_whole_calls_stays_a_thought(text):
    for pieces in (*every_cut(text), list(text)):
        assert thought(pieces) == (text, "")


def test_thoughts_that_were_cut_or_closed_behind_a_call_stay_thoughts():
    assert thought([f"Hm.\n{CALL}"], cut=True) == (f"Hm.\n{CALL}", "")
    assert thought([*f"Hm.\n{CALL}\n</think>Yes."]) == (f"Hm.\n{CALL}", "Yes.")
