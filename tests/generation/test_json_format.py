"""Answers that are one JSON value, and schemas that can't do harm."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rkllama_flask.errors import InvalidRequest
from rkllama_flask.generation.events import Text
from rkllama_flask.generation.json_format import JsonOutput
from rkllama_flask.generation.json_schema import MAX_DEPTH, SchemaChecker
from rkllama_flask.generation.request import JsonFormat
from tests.generation.pieces import cuts, every_cut

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name"],
    "additionalProperties": False,
}
TREE = {
    "$defs": {
        "node": {"type": "object", "properties": {"children": {"type": "array", "items": {"$ref": "#/$defs/node"}}}}
    },
    "$ref": "#/$defs/node",
}


def answered(pieces, schema=None, **options):
    """(The text that came out, the JsonOutput) of an answer that arrives in these pieces."""
    output = JsonOutput(JsonFormat(schema), **options)
    events = [event for piece in pieces for event in output.feed(piece)] + output.finish()
    assert all(isinstance(event, Text) and event.text for event in events)
    return "".join(event.text for event in events), output


@pytest.mark.parametrize(
    "answer",
    [
        '{"name": "Ada"}',
        '\n{"name": "Ada"}\n',
        '```json\n{"name": "Ada"}\n```',
        'Here you are:\n\n```\n{"name": "Ada"}\n```\nAnything else? {"name": 1}',
        'Sure! {"name": "Ada"} is what you want.',
    ],
)
def test_what_stands_around_the_value_is_dropped(answer):
    for pieces in every_cut(answer):
        text, output = answered(pieces, PERSON)
        assert text == '{"name": "Ada"}'
        assert (output.done, output.problem) == (True, None)


def test_the_value_streams_as_it_comes_and_ends_the_answer():
    output = JsonOutput(JsonFormat())
    assert output.feed("Sure: ") == []
    assert output.feed('{"a": "one') == [Text('{"a": "one')]
    assert output.feed(" two") == [Text(" two")]
    assert not output.done
    assert output.feed('"}\n``') == [Text('"}')]
    assert output.done
    assert output.feed("` more {}") == []
    assert output.finish() == []
    assert output.problem is None


def test_a_value_that_breaks_off_is_completed_and_then_judged():
    text, output = answered(['{"name": "Ad'], PERSON)
    assert (json.loads(text), output.problem, output.done) == ({"name": "Ad"}, None, True)
    text, output = answered(['{"age": 3'], PERSON)
    assert output.problem == "The answer is not valid by the schema at $: 'name' is a required property"


def test_what_small_models_get_wrong_is_mended():
    assert answered(["{'name': 'Ada', 'age': 36,}"], PERSON)[0] == '{"name": "Ada", "age": 36}'
    assert answered(['{"x": NaN}'])[0] == '{"x": null}'


def test_an_answer_without_json_is_a_problem():
    for schema in (None, PERSON, {"type": "integer"}):
        text, output = answered(["I would rather not."], schema)
        assert text == ""
        assert output.problem == "The answer holds no JSON value of the kind that was asked for."


@pytest.mark.parametrize(
    ("schema", "answer", "text"),
    [
        ({"type": "array", "items": {"type": "integer"}}, "The list: [1, 2]", "[1, 2]"),
        ({"type": "string"}, 'It is "Paris".', '"Paris"'),
        ({"type": "string"}, "Paris\n", '"Paris"'),
        ({"enum": ["red", "green"]}, '"red"', '"red"'),
        ({"type": "integer"}, "It is 42.", "42"),
        ({"type": "number"}, "-1.5e3", "-1.5e3"),
        ({"type": "boolean"}, "That is true", "true"),
        ({"anyOf": [PERSON, {"type": "null"}]}, "null", "null"),
        ({"anyOf": [PERSON, {"type": "null"}]}, '{"name": "Ada"}', '{"name": "Ada"}'),
        (TREE, '{"children": [{}]}', '{"children": [{}]}'),
        ({}, "[1]", "[1]"),
        (True, "7", "7"),
    ],
)
def test_values_of_any_kind_are_found(schema, answer, text):
    for pieces in ([answer], list(answer)):
        found, output = answered(pieces, schema)
        assert (found, output.problem) == (text, None)


def test_the_schema_decides_in_the_end():
    text, output = answered(['{"name": 5}'], PERSON)
    assert text == '{"name": 5}'
    assert output.problem == "The answer is not valid by the schema at $.name: 5 is not of type 'string'"
    assert answered(['{"name": "x", "more": 1}'], PERSON)[1].problem.endswith('"more" is not one of its properties')


def test_a_prefill_begins_the_answer_where_only_one_beginning_is_possible():
    assert JsonOutput(JsonFormat()).prefill == JsonOutput(JsonFormat(PERSON)).prefill == "{"
    assert JsonOutput(JsonFormat(TREE)).prefill == "{"
    assert JsonOutput(JsonFormat({"type": "array"})).prefill == "["
    assert JsonOutput(JsonFormat({"type": "integer"})).prefill == ""
    assert JsonOutput(JsonFormat({"type": ["object", "null"]})).prefill == ""
    assert answered(['"name": "Ada"}'], PERSON, prefilled=True)[0] == '{"name": "Ada"}'


def test_the_model_is_told_what_is_wanted():
    assert "JSON object" in JsonOutput(JsonFormat()).instruction
    assert json.dumps(PERSON) in JsonOutput(JsonFormat(PERSON)).instruction


SCRAPS = st.lists(st.sampled_from([*'{}[]":,\\ \n', "a", "1", "true", "```", '"name"'])).map("".join)


@given(
    SCRAPS.flatmap(lambda text: cuts(text).map(lambda pieces: (text, pieces))), st.sampled_from([None, PERSON, True])
)
def test_whatever_comes_out_is_json_however_the_answer_is_cut(case, schema):
    text, pieces = case
    found, output = answered(pieces, schema)
    whole, same = answered([text], schema)
    assert (found, output.problem, output.done) == (whole, same.problem, same.done)
    if found:
        json.loads(found)
    else:
        assert output.problem


# Schemas


def nested(depth):
    schema = {}
    for _ in range(depth):
        schema = {"items": schema}
    return schema


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        (123, "must be an object"),
        (False, "no value is valid"),
        ({"type": "hiccup"}, "hiccup"),
        ({"required": "name"}, "not of type 'array'"),
        ({"$schema": "http://json-schema.org/draft-03/schema#"}, "Draft 3"),
        (nested(MAX_DEPTH + 1), "deep"),
        ({"enum": list(range(100_000))}, "parts"),
        ({"$ref": "#"}, "circle"),
        ({"$defs": {"a": {"anyOf": [{"$ref": "#/$defs/b"}]}, "b": {"$ref": "#/$defs/a"}}}, "circle"),
        ({"properties": {"a": {"not": {"$ref": "#/properties/a"}}}}, "circle"),
        (
            {"$defs": {str(i): {"$ref": f"#/$defs/{i + 1}"} for i in range(900)} | {"900": {}}, "$ref": "#/$defs/0"},
            "deep",
        ),
        ({"$ref": "https://example.com/schema"}, "leads outside"),
        ({"$ref": "file:///etc/passwd"}, "leads outside"),
        ({"$ref": "#/$defs/missing"}, "leads nowhere"),
        ({"$dynamicRef": "#a"}, "$dynamicRef"),
        ({"properties": {"a": {"$id": "https://example.com/a"}}}, "$id"),
        ({"patternProperties": {"a": {}}, "unevaluatedProperties": False}, "unevaluatedProperties"),
        ({"pattern": "("}, "no regular expression"),
        ({"pattern": "a" * 1001}, "longer than"),
        ({"pattern": "(" * 500 + ")" * 500}, "no regular expression"),
        ({"pattern": "^(a|a)*$"}, "can take forever"),
        ({"patternProperties": {"^(a|aa)+$": {}}}, "can take forever"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_a_schema_that_can_not_be_used_is_refused_before_anything_runs(schema, reason):
    with pytest.raises(InvalidRequest, match="JSON Schema can't be used") as refused:
        JsonOutput(JsonFormat(schema))
    assert reason in refused.value.message
    assert len(refused.value.message) < 1000
    assert refused.value.param == "response_format"


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        (PERSON, {"name": "Ada", "age": 36}),
        (TREE, {"children": [{"children": []}]}),
        ({"$id": "https://example.com/tree", **TREE}, {"children": [{}]}),
        ({"$schema": "http://json-schema.org/draft-07/schema#", "type": "object"}, {}),
        ({"$schema": "urn:of-nobody", "type": "object"}, {}),
        ({"properties": {"$ref": {"type": "string"}, "pattern": {"type": "integer"}}}, {"$ref": "x", "pattern": 1}),
        ({"type": "string", "pattern": "^[a-z]+(-[a-z]+)*$"}, "a-slug-of-words"),
        ({"type": "string", "pattern": r"^(?!\.)[\w.]+@([a-z0-9-]+\.)+[a-z]{2,}$"}, "ada@example.com"),
        ({"type": "string", "pattern": r"^\p{L}+$"}, "Łódź"),
        ({"patternProperties": {"^x-": {"type": "integer"}}, "additionalProperties": False}, {"x-a": 1}),
        ({"additionalProperties": {"type": "integer"}}, {"a": 1}),
    ],
    ids=lambda value: str(value)[:60],
)
def test_what_clients_really_send_is_accepted(schema, value):
    assert SchemaChecker(schema).problem(value) is None


@pytest.mark.parametrize(
    ("schema", "value", "reason"),
    [
        ({"pattern": "^[a-z]+$"}, "A1", "\"A1\" does not match '^[a-z]+$'"),
        ({"patternProperties": {"^x-": {"type": "integer"}}}, {"x-a": "b"}, "'b' is not of type 'integer'"),
        ({"additionalProperties": {"type": "integer"}}, {"a": "b"}, "'b' is not of type 'integer'"),
        ({"properties": {"a": {}}, "additionalProperties": False}, {"b": 1}, '"b" is not one of its properties'),
        (TREE, {"children": [{"children": 1}]}, "at $.children[0].children: 1 is not of type 'array'"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(schema, value, reason):
    assert SchemaChecker(schema).problem(value).endswith(reason)


def deep_value(depth):
    value = {}
    for _ in range(depth):
        value = {"a": value}
    return value


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        (
            {"$defs": {f"d{i}": {"allOf": [{"$ref": f"#/$defs/d{i + 1}"}] * 2} for i in range(40)} | {"d40": {}}}
            | {"$ref": "#/$defs/d0"},
            {},
        ),
        ({"properties": {"a": {"anyOf": [{"$ref": "#"}, {"$ref": "#"}]}}, "required": ["b"]}, deep_value(60)),
        ({"pattern": "^(([bc])+.)+[B-C]([bc])+$"}, "b" * 5000),
        ({"items": {"not": {"pattern": "^(([bc])+.)+[B-C]([bc])+$"}}}, ["b" * 30] * 1000),
        ({"properties": {"a": {"$ref": "#"}}}, deep_value(900)),
    ],
    ids=["doubled references", "doubled choices", "one pattern", "many patterns", "depth"],
)
def test_a_check_that_would_take_forever_is_given_up(schema, value):
    checker = SchemaChecker(schema)
    began = time.process_time()
    assert checker.problem(value) == "The answer can't be checked against the schema: that takes too long."
    assert time.process_time() - began < 10
