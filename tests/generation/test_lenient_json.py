"""JSON as small models write it becomes strict JSON."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rkllama_flask.generation.output.arriving import ArrivingText
from rkllama_flask.generation.output.lenient_json import MAX_DEPTH, LenientJson, mended
from tests.generation.pieces import cuts

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=12,
)
SCRAPS = st.lists(
    st.sampled_from(
        [*"{}[]():,\"'\\<`= \n\t\x01é", '"a"', "1", "true", "None", "\\u", "d83d", "<escape>", '"""', "</t>"]
    )
).map("".join)


def read(pieces, *, ends=("</t>",)):
    """(What was written, whether it was complete, what was left) of text that arrives in these pieces."""
    text, written, complete = ArrivingText(), [], None
    reader = LenientJson(text, written.append, ends=ends).value()
    try:
        for piece in pieces:
            text.add(piece)
            next(reader)
        text.ended = True
        next(reader)
    except StopIteration as stop:
        complete = stop.value
    return "".join(written), complete, "".join(pieces)[text.position :]


@given(VALUES, st.sampled_from([None, 2]), st.booleans())
def test_well_formed_json_comes_out_as_it_is(value, indent, ascii_only):
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    assert mended(text) == text
    assert json.loads(mended('{"x": ' + text + "}"))["x"] == json.loads(mended(text))


@given(SCRAPS.flatmap(lambda text: cuts(text).map(lambda pieces: (text, pieces))))
def test_anything_becomes_valid_json_however_it_is_cut(case):
    text, pieces = case
    written, complete, left = read(pieces)
    json.loads(written)
    assert (written, complete, left) == read([text])


@given(SCRAPS)
def test_whatever_follows_a_bracket_becomes_an_object(scraps):
    assert isinstance(json.loads(mended("{" + scraps)), dict)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{'city': 'Paris'}", {"city": "Paris"}),
        ("{'text': 'it's'}", {"text": "it's"}),
        ('{"text": "He said "hi" to me", "b": 1}', {"text": 'He said "hi" to me', "b": 1}),
        ('{"text": "two\nlines"}', {"text": "two\nlines"}),
        ('{"pattern": "\\d+"}', {"pattern": "\\d+"}),
        ('{"a": [1, 2,], "b": 3,}', {"a": [1, 2], "b": 3}),
        ('{"a": "x"\n "b": "y"}', {"a": "x", "b": "y"}),
        (
            "{city: New York, days: 3, warm: True, wind: None}",
            {"city": "New York", "days": 3, "warm": True, "wind": None},
        ),
        ('{"a": NaN, "b": -Infinity}', {"a": None, "b": None}),
        ('{"zip": 02134, "huge": 1e999}', {"zip": "02134", "huge": "1e999"}),
        ('{"a": {"b": [1, 2', {"a": {"b": [1, 2]}}),
        ('{"a": [1, 2}', {"a": [1, 2]}),
        ('{"a": "b', {"a": "b"}),
        ('{"a"', {"a": None}),
        ('{"a": "b"</t>', {"a": "b"}),
        ('{"a": b</t>', {"a": "b"}),
        ('{{"a": 1}}', {"a": 1}),
        ('{a:<escape>x, "y"<escape>,b:<|"|>z<|"|>,c:["""d"""]}', {"a": 'x, "y"', "b": "z", "c": ["d"]}),
        ('{a:<|"|>C:\\tmp\\"x"<|"|>,b:<escape>\\d+\\n<escape>}', {"a": 'C:\\tmp\\"x"', "b": "\\d+\\n"}),
    ],
)
def test_what_small_models_get_wrong_is_mended(text, value):
    written, _, left = read([text])
    assert json.loads(written) == value
    assert left in ("", "</t>", "}")


def test_half_a_surrogate_pair_becomes_a_replacement_character():
    assert json.loads(mended(r'"\ud83d\ud83e\udd99\udd99\ud83"')) == "�🦙�\\ud83"


def test_depth_has_a_limit_so_that_any_reader_can_read_the_result():
    value = json.loads(mended("[" * 100_000))
    depth = 0
    while isinstance(value, list) and value:
        value, depth = value[0], depth + 1
    assert depth <= MAX_DEPTH


def test_numbers_are_written_as_they_come_and_none_is_too_long_to_read():
    assert mended("[1.50, -0, 1E5]") == "[1.50, -0, 1E5]"
    assert json.loads(mended("[" + "9" * 5000 + "]")) == ["9" * 5000]


def test_reading_stops_right_after_the_value():
    assert read(['{"a": 1} and more']) == ('{"a": 1}', True, " and more")
    assert read(['{"a": 1'])[1] is False


def test_pieces_of_a_string_come_as_they_arrive():
    text, written = ArrivingText(), []
    reader = LenientJson(text, written.append).value()
    for piece, expected in [('{"a": "one', '{"a": "one'), (" two", " two"), ('"', ""), ("}", '"}')]:
        written.clear()
        text.add(piece)
        next(reader, None)
        assert "".join(written) == expected
