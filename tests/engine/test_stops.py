"""Stop strings end an answer, and none of their characters gets out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rkllama_flask.text.stops import StopMatcher, overlap

TEXT = st.text(alphabet="ab\n", max_size=24)
STOPS = st.lists(st.text(alphabet="ab\n", min_size=1, max_size=5), min_size=1, max_size=4)


def matched(stops, pieces):
    """What came out before the end, and the stop string that made it."""
    matcher = StopMatcher(stops)
    out = []
    for piece in pieces:
        text, stop = matcher.feed(piece)
        out.append(text)
        if stop is not None:
            return "".join(out), stop
    return "".join([*out, matcher.flush()]), None


def expected(stops, text):
    """The definition, character by character: the first stop string that is complete ends the text before it."""
    for end in range(len(text) + 1):
        complete = [stop for stop in stops if text[:end].endswith(stop)]
        if complete:
            longest = max(complete, key=len)
            return text[: end - len(longest)], longest
    return text, None


def test_without_stops_text_passes_as_it_is():
    assert StopMatcher([]).feed("anything") == ("anything", None)
    assert StopMatcher([""]).feed("anything") == ("anything", None)


def test_a_stop_split_over_tokens_is_found():
    assert matched(["END"], ["one E", "N", "D two"]) == ("one ", "END")


def test_only_what_can_become_a_stop_is_held_back():
    matcher = StopMatcher(["###"])
    assert matcher.feed("ab#") == ("ab", None)
    assert matcher.feed("c") == ("#c", None)
    assert matcher.feed("##") == ("", None)
    assert matcher.flush() == "##"
    assert matcher.flush() == ""


def test_a_false_start_does_not_hide_the_stop_that_begins_in_it():
    assert matched(["aab"], ["a", "a", "a", "b"]) == ("a", "aab")


@pytest.mark.parametrize("stops", [["\n", "\n\n"], ["\n\n", "\n"]])
def test_of_two_stops_the_one_complete_first_wins(stops):
    assert matched(stops, ["text\n\nmore"]) == ("text", "\n")


@pytest.mark.parametrize("stops", [["abc", "c"], ["c", "abc"]])
def test_of_two_stops_complete_at_once_the_longer_wins(stops):
    assert matched(stops, ["xab", "cd"]) == ("x", "abc")


def test_an_overlap_is_the_longest_end_that_begins_the_marker():
    assert overlap("xaba", "abac") == 3
    assert overlap("xaa", "ab") == 1
    assert overlap("abac", "abac") == 0


@given(STOPS, st.lists(TEXT))
def test_however_the_text_is_cut_the_same_comes_out(stops, pieces):
    assert matched(stops, pieces) == expected(stops, "".join(pieces))


@given(STOPS, st.lists(TEXT))
def test_a_stop_string_never_leaks_a_character(stops, pieces):
    matcher = StopMatcher(stops)
    whole, before = "".join(pieces), expected(stops, "".join(pieces))[0]
    out = ""
    for piece in pieces:
        text, stop = matcher.feed(piece)
        out += text
        assert before.startswith(out)
        if stop is not None:
            return
    assert whole.startswith(out)
