"""Bytes of tokens become whole characters."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rkllama_flask.text.utf8 import Utf8Decoder


def decoded(chunks):
    decoder = Utf8Decoder()
    return [*map(decoder.feed, chunks), decoder.finish()]


def test_a_character_split_over_tokens_comes_whole_with_its_last_byte():
    first, second, third, fourth = (bytes([byte]) for byte in "🦙".encode())
    assert decoded([b"a" + first, second, third, fourth + b"b"]) == ["a", "", "", "🦙b", ""]


def test_empty_tokens_change_nothing():
    assert decoded([b"\xc3", b"", b"\xa9", b""]) == ["", "", "é", "", ""]


@pytest.mark.parametrize("invalid", [b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xf8\x88\x80\x80\x80", b"\xc0\xaf"])
def test_invalid_bytes_become_replacement_characters(invalid):
    text = "".join(decoded([b"a" + invalid + b"b"]))
    assert text == "a" + invalid.decode(errors="replace") + "b"
    assert "�" in text


def test_a_character_cut_off_at_the_end_becomes_one_replacement_character():
    assert decoded([b"a\xf0\x9f\xa6"]) == ["a", "�"]


@given(st.lists(st.binary(max_size=4)))
def test_any_bytes_in_any_pieces_give_the_same_text(chunks):
    assert "".join(decoded(chunks)) == b"".join(chunks).decode("utf-8", "replace")
