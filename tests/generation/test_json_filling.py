"""JSON of which the server writes keys and punctuation, and the model only the values."""

import json
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rkllama_flask.errors import AnswerUnfit, InvalidRequest
from rkllama_flask.generation.guided.json_filling import DEFAULT_MOST_ITEMS
from rkllama_flask.generation.guided.json_schema import KINDS
from rkllama_flask.generation.guided.json_values import ATTEMPTS, MOST_CHOICES
from rkllama_flask.generation.guided.repetition import COUNTED_ITEMS, LEAST_CHARACTERS, REPEATED_ITEMS
from tests.generation.filled import filled, steps_for

COLOUR = {"enum": ["red", "green", "grey"]}


def object_of(required=None, **properties):
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties) if required is None else required,
        "additionalProperties": False,
    }


def value_of(schema, *words, **options):
    """The value of an answer in which the model says these words, slot by slot; it has to be valid."""
    text, output, _ = filled(schema, words, **options)
    assert output.problem is None
    return json.loads(text)


def test_the_model_is_asked_for_the_values_alone_and_each_time_behind_all_that_is_written():
    text, output, prompts = filled(
        object_of(name={"type": "string"}, age={"type": "integer"}, fair={"type": "boolean"}),
        ['Ann", "age', " 31,", " t"],
    )
    assert text == '{"name": "Ann", "age": 31, "fair": true}'
    assert output.problem is None
    assert prompts == ['{"name": "', '{"name": "Ann", "age":', '{"name": "Ann", "age": 31, "fair":']


def test_what_the_server_alone_knows_needs_no_answer_of_the_model():
    schema = object_of(version={"const": 2}, kind={"enum": ["a"]}, none={"type": "null"}, empty=object_of())
    text, _, prompts = filled(schema, ["whatever"])
    assert text == '{"version": 2, "kind": "a", "none": null, "empty": {}}'
    assert len(prompts) == 1


# Strings


@pytest.mark.parametrize(
    ("said", "value"),
    [
        ('Ann", and more', "Ann"),
        ("Ann", "Ann"),
        ("", ""),
        ('a\\"b\\\\c\\n\\u00e9\\/"', 'a"b\\c\né/'),
        ('tab\there"', "tab\there"),
        ('wrong \\x escape"', "wrong \\x escape"),
        ('broken \\u12"', "broken \\u12"),
        ('pair \\ud83d\\ude00"', "pair 😀"),
        ('half \\ud83d and \\ude00"', "half \ufffd and \ufffd"),
        ("half at the end \\ud83d", "half at the end \ufffd"),
        ("a backslash at the end \\", "a backslash at the end \\"),
        ('two\nlines"', "two\nlines"),
        ('left open\n  "age": 3', "left open"),
        ("left open\n}", "left open"),
        ("left open\n", "left open"),
    ],
)
def test_a_string_ends_at_its_quote_and_is_escaped_wherever_it_is_cut(said, value):
    for cut in (lambda text: [text], list, lambda text: re.findall(r"(?s).{1,3}", text)):
        assert value_of(object_of(a={"type": "string"}), said, cut=cut) == {"a": value}


def test_a_string_is_cut_at_its_greatest_length():
    schema = object_of(a={"type": "string", "maxLength": 3}, b={"type": "string", "maxLength": 3})
    assert value_of(schema, "abcdef", 'a\\nb"') == {"a": "abc", "b": "a\nb"}


def test_a_string_in_which_the_model_only_repeats_itself_is_closed_behind_a_whole_repetition():
    schema = object_of(a={"type": "string"}, b={"type": "integer"})
    for cut in (lambda text: [text], list, lambda text: re.findall(r"(?s).{1,7}", text)):
        said = ["Once there was: " + r"a \"gem\" and\n" * 200, "7}"]
        found = value_of(schema, *said, cut=cut)
        assert re.fullmatch(r'Once there was: (a "gem" and\n)+', found["a"])
        assert LEAST_CHARACTERS <= len(found["a"].removeprefix("Once there was: ")) < LEAST_CHARACTERS + 12
        assert found["b"] == 7


def test_a_string_that_has_to_be_long_may_repeat_itself_until_it_is():
    schema = {"type": "string", "minLength": 2 * LEAST_CHARACTERS, "maxLength": 3 * LEAST_CHARACTERS}
    assert value_of(object_of(a=schema), "ab" * 2000) == {"a": "ab" * LEAST_CHARACTERS}


def test_a_string_streams_while_it_is_said_unless_it_has_to_be_checked_first():
    sent = []
    plain = {"type": "string"}
    checked = {"type": "string", "minLength": 2}
    steps, _ = steps_for(object_of(a=plain, b=checked))
    for piece in ("On", "e", '"'):
        sent.append(steps.take())
        steps.feed(piece)
    assert sent == ['{"a": "', "On", "e"]
    steps.end()
    assert steps.take() == '", "b": "'
    assert not steps.feed("Two")
    assert steps.take() == ""
    assert steps.feed('"')
    steps.end()
    assert steps.take() == 'Two"}'


@pytest.mark.parametrize(
    ("schema", "said", "value"),
    [
        ({"minLength": 3}, ["ab", "abcd"], "abcd"),
        ({"pattern": r"^\d{4}-\d{2}$"}, ["May 2024", "2024-05"], "2024-05"),
        ({"pattern": r"^\d{4}-\d{2}$"}, ["2024-05-17"], "2024-05"),
        ({"format": "date"}, ["2024-05-17T10:00:00Z"], "2024-05-17"),
        ({"format": "date"}, ["17 May 2024", "17 May 2024", "05", "17"], "2024-05-17"),
        ({"format": "date"}, ["soon", "2024", "13", "1"], "2024-12-01"),
        ({"format": "time"}, ["noon", "12:00", "7", "9x"], "12:07:09Z"),
        ({"format": "date-time"}, ["2024-05-17", *["2024", "05", "17", "10", "20", "30"]], "2024-05-17T10:20:30Z"),
        ({"format": "email"}, ["Ann", " ann@example.com"], "ann@example.com"),
        ({"format": "uuid"}, ["123e4567-e89b-12d3-a456-426614174000"], "123e4567-e89b-12d3-a456-426614174000"),
        ({"format": "ipv4"}, ["192.0.2.300"], "192.0.2.30"),
        ({"format": "of nobody's"}, ["anything"], "anything"),
    ],
)
def test_a_string_that_would_not_do_is_shortened_or_asked_for_again(schema, said, value):
    assert value_of(object_of(a={"type": "string", **schema}), *(f'{text}"' for text in said)) == {"a": value}


def test_what_the_model_can_not_be_brought_to_is_an_error_and_says_where():
    for part, said in (
        ({"type": "string", "format": "email"}, 'nobody"'),
        ({"type": "integer"}, "many\n"),
        ({"type": "integer", "minimum": 0, "maximum": MOST_CHOICES}, "many\n"),
        ({"type": "object", "not": {"required": ["x"]}}, '"x": "y"}'),
    ):
        asked = []

        def say(prompt, said=said, asked=asked):
            asked.append(prompt)
            return said

        with pytest.raises(AnswerUnfit, match=r"\$\.a"):
            filled(object_of(a=part), say)
        assert len(asked) == ATTEMPTS


# Numbers


@pytest.mark.parametrize(
    ("schema", "said", "value"),
    [
        ({"minimum": 3, "maximum": 5}, ["none\n"] * ATTEMPTS, 3),
        ({"minimum": 3, "maximum": 5}, [" 9,", "none\n", "none\n"], 5),
        ({"minimum": 3, "maximum": 12, "multipleOf": 5}, [""] * ATTEMPTS, 5),
        ({"exclusiveMinimum": 0, "exclusiveMaximum": MOST_CHOICES + 1}, ["}"] * ATTEMPTS, 1),
        ({"minimum": 10}, [" 2,", "none\n", "none\n"], 10),
        ({}, [" 2.5,", "none\n", "none\n"], 2),
    ],
)
def test_an_integer_of_a_few_is_the_nearest_that_was_said_and_else_the_lowest(schema, said, value):
    assert value_of(object_of(a={"type": "integer", **schema}), *said) == {"a": value}


@pytest.mark.parametrize(
    ("schema", "said", "value"),
    [
        ({"type": "integer"}, [" 31, "], 31),
        ({"type": "integer"}, [' "31"'], 31),
        ({"type": "integer"}, [" about 31 years\n"], 31),
        ({"type": "integer"}, [" -0031}"], -31),
        ({"type": "integer"}, [" 31"], 31),
        ({"type": "integer"}, [" 1.8,", " 2,"], 2),
        ({"type": "integer"}, [" 1.8,"] * ATTEMPTS, 1),
        ({"type": "integer"}, [" 1e3,"], 1000),
        ({"type": "number"}, [" 1.75}"], 1.75),
        ({"type": "number"}, [" 1."], 1),
        ({"type": "number"}, [" 2.5e-3 "], 0.0025),
        ({"type": "number"}, [" 1e999,", " 3,"], 3),
        ({"type": "integer", "minimum": 1, "maximum": 5}, [" 10,", " 4,"], 4),
        ({"type": "integer", "minimum": 1, "maximum": 5}, [" 10,"] * ATTEMPTS, 5),
        ({"type": "integer", "exclusiveMinimum": 0, "exclusiveMaximum": 10}, [" 0,"] * ATTEMPTS, 1),
        ({"type": "integer", "multipleOf": 5, "maximum": 12}, [" 13,"] * ATTEMPTS, 10),
        ({"type": "number", "multipleOf": 0.5}, [" 1.3,"] * ATTEMPTS, 1.5),
    ],
)
def test_a_number_is_cut_where_it_stops_being_one_and_brought_within_its_bounds(schema, said, value):
    for cut in (lambda text: [text], list):
        found = value_of(object_of(a=schema), *said, cut=cut)["a"]
        assert found == value
        assert type(found) is type(value)


# Choices


@pytest.mark.parametrize(
    ("said", "value"),
    [
        ('red"', "red"),
        ("r", "red"),
        ("gree", "green"),
        ("GREY", "grey"),
        ('I think green."', "green"),
        ('greenish"', "green"),
        ('grape"', "green"),
        ('purple"', "red"),
        ("", "red"),
    ],
)
def test_of_several_options_the_one_that_is_said_or_the_nearest_is_taken(said, value):
    assert value_of(object_of(a=COLOUR), said) == {"a": value}


def test_a_choice_ends_as_soon_as_only_one_option_is_left():
    assert value_of(object_of(a=COLOUR), "grey and so on", cut=list) == {"a": "grey"}
    assert value_of(object_of(a={"enum": ["a", "ab"]}), 'a"', cut=list) == {"a": "a"}
    assert value_of(object_of(a={"enum": [1, 12, 123]}), " 12,", cut=list) == {"a": 12}


@pytest.mark.parametrize(
    ("schema", "said", "value"),
    [
        ({"type": "boolean"}, " false", False),
        ({"type": "boolean"}, " True,", True),
        ({"type": "boolean"}, ' "no"', False),
        ({"enum": [1, "one", None, True]}, " null", None),
        ({"enum": [1, "one", None, True]}, ' "one"', "one"),
        ({"enum": ["x", 5], "type": "integer"}, "", 5),
        ({"enum": [{"a": 1}, {"a": 2}]}, ' {"a": 2}', {"a": 2}),
    ],
)
def test_booleans_and_mixed_options_are_chosen_the_same_way(schema, said, value):
    assert value_of(object_of(a=schema), said) == {"a": value}


# Arrays


@pytest.mark.parametrize(
    ("words", "value"),
    [
        ([' ["', 'a", "', 'b"]'], ["a", "b"]),
        ([' ["', "a", '"]'], ["a"]),
        ([' ["', 'a"', ",", 'b"', "]"], ["a", "b"]),
        ([" []"], []),
        ([" ]"], []),
        (["", ""], []),
    ],
)
def test_an_array_goes_on_as_long_as_the_model_says_so(words, value):
    assert value_of(object_of(a={"type": "array", "items": {"type": "string"}}), *words) == {"a": value}


def test_an_array_keeps_its_limits_whatever_the_model_wants():
    numbers = {"type": "array", "items": {"type": "integer"}}
    assert value_of({**numbers, "minItems": 2}, "1]", "2]") == [1, 2]
    assert value_of({**numbers, "maxItems": 2}, "[1", "1,", "2,") == [1, 2]
    assert value_of({**numbers, "maxItems": 0}, "anything") == []
    assert len(json.loads(filled(numbers, lambda _: "7,")[0])) == DEFAULT_MOST_ITEMS


def test_an_array_ends_where_the_model_only_repeats_itself():
    words = {"type": "array", "items": {"type": "string"}}
    said = filled(words, lambda prompt: '["' if not prompt else 'again", ')[0]
    assert json.loads(said) == ["again"] * REPEATED_ITEMS
    said = filled(words, lambda prompt: '["' if not prompt else f'Gemstone {prompt.count(",") + 21}", ')[0]
    assert len(json.loads(said)) == COUNTED_ITEMS
    assert value_of({**words, "minItems": 5, "maxItems": 5}, *['again", '] * 5) == ["again"] * 5


def test_a_date_of_which_the_model_says_no_year_is_an_error():
    with pytest.raises(AnswerUnfit, match=r"\$\.a"):
        filled(object_of(a={"type": "string", "format": "date"}), lambda _: 'the 14th"')


def test_an_item_that_must_not_come_twice_ends_the_array_or_is_asked_for_again():
    numbers = {"type": "array", "items": {"type": "integer"}, "uniqueItems": True}
    assert value_of({**numbers, "minItems": 1}, "1,", "2,", "1,") == [1, 2]
    assert value_of({**numbers, "minItems": 3}, "1,", "1,", "2,", "2,", "3]") == [1, 2, 3]
    with pytest.raises(AnswerUnfit, match="different"):
        filled({**numbers, "minItems": 2}, lambda _: "1,")


def test_a_tuple_has_a_schema_for_each_place():
    pair = {"type": "array", "prefixItems": [{"type": "string"}, {"type": "integer"}], "minItems": 2, "maxItems": 2}
    assert value_of(pair, 'a", ', " 1]") == ["a", 1]
    assert value_of({**pair, "items": {"type": "boolean"}, "maxItems": 3}, 'a", ', " 1,", "true") == ["a", 1, True]


# Objects


def test_members_that_are_not_required_come_where_the_model_writes_them():
    schema = object_of(["a", "d"], **{key: {"type": "integer"} for key in "abcd"})
    assert value_of(schema, "1", ', "c', "3", "4}") == {"a": 1, "c": 3, "d": 4}
    assert value_of(schema, "1", ', "d', "4}") == {"a": 1, "d": 4}
    assert value_of(schema, "1", "}", "4}") == {"a": 1, "d": 4}
    last = object_of(["a"], a={"type": "integer"}, b={"type": "integer"})
    assert value_of(last, "1}") == {"a": 1}
    assert value_of(last, "1,", "2") == {"a": 1, "b": 2}
    assert value_of(last, "1", "whatever") == {"a": 1}


def test_an_answer_has_at_least_one_member_but_an_object_within_it_need_not():
    open_ = object_of([], x={"type": "integer"}, y={"type": "integer"})
    assert value_of(open_, 'y"', "2}") == {"y": 2}
    assert value_of(object_of(a=open_), " {}") == {"a": {}}
    assert value_of(object_of(a=open_), ' {"x', "1}") == {"a": {"x": 1}}
    assert value_of({"type": "array", "items": open_, "minItems": 2}, '{"y"', "2}", ",", "{}", "]") == [{"y": 2}, {}]


def test_a_required_member_without_a_schema_of_its_own_is_written_too():
    assert value_of({"type": "object", "required": ["a"], "properties": {}}, " [1, 2] and more") == {"a": [1, 2]}


TREE = {
    "$defs": {
        "node": object_of(name={"type": "string"}, children={"type": "array", "items": {"$ref": "#/$defs/node"}}),
    },
    "$ref": "#/$defs/node",
}


def test_references_may_lead_back_to_where_they_came_from():
    words = ['root"', ' [{"', 'leaf"', "[]", "]"]
    assert value_of(TREE, *words) == {"name": "root", "children": [{"name": "leaf", "children": []}]}


def nested(said):
    """How often it stands within itself."""
    below = said.get("children") or said.get("next") or []
    return 1 + max(map(nested, below if isinstance(below, list) else [below]), default=0)


NODE = {"$ref": "#/$defs/node"}


@pytest.mark.parametrize(
    "schema",
    [
        TREE,
        {
            "$defs": {"node": object_of(name={"type": "string"}, next={"anyOf": [NODE, {"type": "null"}]})},
            **NODE,
        },
        {"$defs": {"node": object_of(["name"], name={"type": "string"}, next=NODE)}, **NODE},
        object_of(name={"type": "string"}, next={"anyOf": [{"$ref": "#"}, {"type": "null"}]}),
    ],
)
def test_a_value_within_itself_is_closed_where_it_gets_deep(schema):
    def say(prompt):
        if prompt.endswith('"children":'):
            return ' [{"'
        return ' {"' if prompt.endswith(":") else 'x", "next": {"name": "'

    text, output, _ = filled(schema, say)
    assert output.problem is None
    assert 3 < nested(json.loads(text)) < 12


def test_a_tree_that_grows_in_breadth_is_closed_too():
    count = 0

    def say(prompt):
        nonlocal count
        count += 1
        return ' [{"' if prompt.endswith('"children":') else f'{count}", [{{' if prompt.endswith('"') else ", {"

    _, output, _ = filled(TREE, say)
    assert output.problem is None
    assert count < 5000


@pytest.mark.parametrize(
    ("schema", "place"),
    [
        (object_of(child={"$ref": "#"}), r"\$\.child"),
        (object_of(a=object_of(b={"enum": []})), r"\$\.a\.b"),
        (object_of(a={"type": "array", "items": {"$ref": "#"}, "minItems": 1}), r"\$\.a\[0\]"),
        (object_of(a={"anyOf": [{"enum": []}, object_of(b={"$ref": "#"})]}), r"\$\.a"),
    ],
)
def test_what_has_no_end_or_no_value_is_refused_with_its_place_before_anything_runs(schema, place):
    with pytest.raises(InvalidRequest, match=place):
        steps_for(schema)


def test_what_has_no_value_is_left_out_where_it_need_not_be():
    schema = object_of(["a"], a={"type": "integer"}, b={"enum": []}, c={"type": "array", "items": {"enum": []}})
    assert value_of(schema, '1, "b": 2', ', "c": [1]}') == {"a": 1, "c": []}


@pytest.mark.parametrize(
    ("pattern", "said", "value"),
    [
        ("^v1$", ["the first"], "v1"),
        ("^#[0-9a-f]{6}$", ["orange ff", "#ff8"], "#aeffff"),
        (r"^v\d+\.\d+\.\d+$", ["2.0.1"], "v2.0.1"),
        (r"^(?!x)[a-z]{2}\d$", ["xy7"], "y"),
        ("^(red|green)$", ["I like green"], "green"),
    ],
)
def test_a_pattern_keeps_of_what_is_said_what_it_can(pattern, said, value):
    words = iter(said)
    text, output, _ = filled(object_of(a={"type": "string", "pattern": pattern}), lambda _: next(words, "") + '"')
    assert output.problem is None
    assert json.loads(text)["a"].startswith(value)


def test_an_object_of_any_keys_is_written_key_by_key_where_the_model_fails_in_one():
    words = ['"a": {"b": 1}}', '"a": []}', '"', 'red"', " many 3,", 'green"', " 4}"]
    assert value_of({"type": "object", "additionalProperties": {"type": "integer"}}, *words) == {"red": 3, "green": 4}


@pytest.mark.parametrize(
    ("part", "said", "value"),
    [
        ({"type": "integer"}, ["none", "none", "2, "], 12),
        ({"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}, ["1,", "1,", "1,"], 0.99),
        ({"type": "number", "exclusiveMinimum": 0}, ["0,", "0,", "0,"], 1),
        ({"type": "number", "exclusiveMinimum": 0}, ["0.001,"], 0.001),
    ],
)
def test_a_number_that_the_model_does_not_say_is_begun_or_the_nearest(part, said, value):
    assert value_of(object_of(a=part), *said) == {"a": value}


def test_a_day_is_one_of_its_month():
    words = ["soon", "2023", "02", "31"]
    assert value_of(object_of(a={"type": "string", "format": "date"}), *words) == {"a": "2023-02-28"}


def test_what_allof_puts_together_is_one_object():
    schema = {
        "allOf": [object_of(a={"type": "integer"}), {"properties": {"b": {"type": "boolean"}}, "required": ["b"]}]
    }
    schema["allOf"][0].pop("additionalProperties")
    assert value_of(schema, "1", "true") == {"a": 1, "b": True}


# Several schemas


@pytest.mark.parametrize(
    ("words", "value"),
    [
        ([" null"], None),
        ([' "', 'text"'], "text"),
        ([" 5", "5"], 5),
        ([' {"', "true"], {"x": True}),
        (["?", 'text"'], "text"),
    ],
)
def test_of_several_schemas_the_one_that_the_model_begins_is_taken(words, value):
    kinds = [{"type": "string"}, {"type": "null"}, {"type": "integer"}, object_of(x={"type": "boolean"})]
    assert value_of(object_of(a={"anyOf": kinds}), *words) == {"a": value}


def test_a_type_may_be_several():
    assert value_of(object_of(a={"type": ["string", "null"], "maxLength": 2}), ' "', "abc") == {"a": "ab"}


def test_objects_are_told_apart_by_the_member_that_names_their_kind():
    cat = object_of(kind={"const": "cat"}, lives={"type": "integer"})
    dog = object_of(kind={"const": "dog"}, name={"type": "string"})
    assert value_of({"anyOf": [cat, dog]}, 'dog"', 'Rex"') == {"kind": "dog", "name": "Rex"}
    assert value_of({"oneOf": [cat, dog]}, 'cat"', "9}") == {"kind": "cat", "lives": 9}


def test_else_objects_are_told_apart_by_a_key_of_their_own():
    cat = object_of(name={"type": "string"}, lives={"type": "integer"})
    dog = object_of(name={"type": "string"}, bone={"type": "boolean"})
    assert value_of({"anyOf": [cat, dog]}, 'bone"', "true", 'Rex"') == {"bone": True, "name": "Rex"}


# Free values


@pytest.mark.parametrize(
    ("said", "value"),
    [
        ('"name": "Ada"}', {"name": "Ada"}),
        ('{"name": "Ada"}', {"name": "Ada"}),
        ('```json\n{"name": "Ada"}\n```', {"name": "Ada"}),
        ("'name': 'Ada',}", {"name": "Ada"}),
        ('"name": "Ad', {"name": "Ad"}),
    ],
)
def test_a_free_object_is_mended_and_ends_where_it_ends(said, value):
    for cut in (lambda text: [text], list):
        assert value_of(None, said, cut=cut) == value


def test_a_free_value_in_which_the_model_only_repeats_itself_is_ended_and_mended():
    for said, cut in (('"a": [' + "[0, 1], " * 500, list), (" " * 5000, lambda text: [text])):
        text, output, _ = filled({"type": "object"}, [said], cut=cut)
        assert output.problem is None
        assert len(text) < LEAST_CHARACTERS + 20


def test_a_free_value_within_an_object_is_asked_for_again_until_it_is_valid():
    schema = object_of(scores={"type": "object", "additionalProperties": {"type": "integer"}}, last={"type": "boolean"})
    words = ['"a": "b"}', '"a": 1}, ', "true"]
    assert value_of(schema, *words) == {"scores": {"a": 1}, "last": True}


@pytest.mark.parametrize(
    ("schema", "said", "value"),
    [
        ({"not": {"type": "string"}}, "7", 7),
        ({"type": "object", "patternProperties": {"^x": {"type": "integer"}}}, '"x": 1}', {"x": 1}),
        ({"type": "string", "not": {"const": "a"}}, 'b"', "b"),
        ({"type": "array", "contains": {"const": 1}}, "1, 2]", [1, 2]),
        (True, "[1]", [1]),
        ({}, "It is 42.", 42),
        ({"type": "string", "if": True}, "Paris", "Paris"),
    ],
)
def test_what_can_not_be_written_piece_by_piece_is_checked_as_a_whole(schema, said, value):
    assert value_of(schema, said) == value


# Any schema and any model

LETTERS = "abc"
NAMES = st.text(LETTERS + 'é"\\ ', min_size=1, max_size=3)
SCALARS = st.one_of(
    st.fixed_dictionaries({"type": st.just("string")}, optional={"maxLength": st.integers(0, 5)}),
    st.fixed_dictionaries({"type": st.just("string")}, optional={"minLength": st.integers(0, 3)}),
    st.sampled_from(["date", "email", "uuid", "time"]).map(lambda name: {"type": "string", "format": name}),
    st.sampled_from(["^[a-c]+$", "^a", r"\d"]).map(lambda pattern: {"type": "string", "pattern": pattern}),
    st.fixed_dictionaries(
        {"type": st.sampled_from(["integer", "number"])},
        optional={
            "minimum": st.integers(-9, 9),
            "maximum": st.integers(-3, 99),
            "multipleOf": st.sampled_from([2, 0.5]),
        },
    ),
    st.sampled_from(
        [{"type": "boolean"}, {"type": "null"}, {"type": ["string", "null"]}, {}, {"not": {"type": "null"}}]
    ),
    st.lists(st.one_of(NAMES, st.integers(), st.none(), st.booleans()), min_size=1, max_size=4).map(
        lambda values: {"enum": values}
    ),
)


def _within(parts):
    objects = st.dictionaries(NAMES, parts, max_size=3).flatmap(
        lambda properties: (
            st.lists(st.sampled_from(sorted(properties)), unique=True).map(
                lambda required: object_of(required, **properties)
            )
            if properties
            else st.just(object_of())
        )
    )
    arrays = st.fixed_dictionaries(
        {"type": st.just("array"), "items": parts, "maxItems": st.integers(1, 3)},
        optional={"minItems": st.integers(0, 3), "uniqueItems": st.booleans()},
    )
    unions = st.lists(parts, min_size=1, max_size=3).map(lambda some: {"anyOf": some})
    dictionaries = parts.map(lambda part: {"type": "object", "additionalProperties": part})
    return st.one_of(objects, arrays, unions, dictionaries)


SCHEMAS = st.recursive(SCALARS, _within, max_leaves=8)
SCRAPS = st.lists(
    st.sampled_from([*'{}[]":,\\ \n', "1", "-2.5", "true", "null", "```", "\\u", '", "', "a", "é", "2024-01-01", "{}"]),
    max_size=6,
).map("".join)


@given(SCHEMAS, st.lists(SCRAPS, min_size=1, max_size=8), st.integers(1, 5))
@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_whatever_the_schema_and_the_model_the_answer_is_valid_or_an_error(schema, words, size):
    asked = []

    def say(prompt):
        asked.append(prompt)
        return words[len(asked) % len(words)]

    try:
        text, output, _ = filled(schema, say, cut=lambda text: re.findall(rf"(?s).{{1,{size}}}", text))
    except (AnswerUnfit, InvalidRequest):  # InvalidRequest: no value is valid by it
        return
    json.loads(text)
    assert output.problem is None


ANY_NUMBER = st.one_of(st.integers(-5, 5), st.sampled_from([0.5, 2.0, 1e300, -1e300, 1e-320]))
ANY_LENGTH = st.sampled_from([0, 1, 2, 2.0])


def _any_keywords(parts):
    some = st.lists(parts, min_size=1, max_size=3)
    return st.fixed_dictionaries(
        {},
        optional={
            "type": st.lists(st.sampled_from(sorted(KINDS)), min_size=1, max_size=3, unique=True),
            "enum": st.lists(st.one_of(ANY_NUMBER, NAMES, st.none()), max_size=3),
            **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"), ANY_NUMBER),
            "multipleOf": ANY_NUMBER.filter(lambda number: number > 0),
            **dict.fromkeys(("minLength", "maxLength", "minItems", "maxItems", "minProperties"), ANY_LENGTH),
            **dict.fromkeys(("items", "additionalProperties", "contains", "not", "if", "propertyNames"), parts),
            **dict.fromkeys(("anyOf", "oneOf", "allOf", "prefixItems"), some),
            "properties": st.dictionaries(NAMES, parts, max_size=3),
            "required": st.lists(NAMES, max_size=2, unique=True),
            "$ref": st.just("#/$defs/a"),
            "$defs": st.fixed_dictionaries({"a": parts}),
        },
    )


@given(st.recursive(st.booleans(), _any_keywords, max_leaves=8), st.lists(SCRAPS, min_size=1, max_size=5))
@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_keywords_in_any_mixture_raise_nothing_but_the_two_errors(schema, words):
    asked = []

    def say(prompt):
        asked.append(prompt)
        return words[len(asked) % len(words)]

    try:
        text, output, _ = filled(schema, say)
    except (AnswerUnfit, InvalidRequest):
        return
    json.loads(text)
    assert output.problem is None
