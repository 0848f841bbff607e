"""Answers that are one JSON value, and schemas that can't do harm."""

import json
import time

import pytest

from rkllama_flask.errors import AnswerUnfit, InvalidRequest
from rkllama_flask.generation.events import Text
from rkllama_flask.generation.guided.filling import Filling
from rkllama_flask.generation.guided.json_format import JsonOutput
from rkllama_flask.generation.guided.json_schema import MAX_DEPTH, SchemaChecker
from rkllama_flask.generation.guided.written import Written
from rkllama_flask.generation.request import JsonFormat
from tests.generation.filled import encode

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


def test_the_text_is_passed_on_and_checked_at_the_end():
    output = JsonOutput(JsonFormat(PERSON))
    assert output.feed('{"name": ') + output.feed('"Ada"}') == [Text('{"name": '), Text('"Ada"}')]
    assert output.finish() == []
    assert output.problem is None


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"age": 3}', "The answer is not valid by the schema at $: 'name' is a required property"),
        ('{"name": 5}', "The answer is not valid by the schema at $.name: 5 is not of type 'string'"),
        ('{"name": "x", "more": 1}', 'The answer is not valid by the schema at $: "more" is not one of its properties'),
        ('{"name": "x"', "The answer is not whole."),
        ("", "The answer is not whole."),
    ],
)
def test_whatever_was_written_the_schema_decides_in_the_end(text, problem):
    output = JsonOutput(JsonFormat(PERSON))
    output.feed(text)
    output.finish()
    assert output.problem == problem


def test_the_model_is_told_the_form_of_the_answer_and_not_the_schema():
    assert "JSON object" in JsonOutput(JsonFormat()).instruction
    assert '{"name": string, "age": integer}' in JsonOutput(JsonFormat(PERSON)).instruction
    assert "$defs" not in JsonOutput(JsonFormat(TREE)).instruction


@pytest.mark.parametrize(
    ("part", "form"),
    [
        ({"enum": ["red", 1, None]}, '"red" | 1 | null'),
        ({"type": "boolean", "description": "whether it is so"}, "true | false (whether it is so)"),
        ({"type": "string", "format": "date"}, "string (YYYY-MM-DD)"),
        ({"type": "integer", "minimum": 1, "maximum": 5}, "integer from 1 to 5"),
        ({"type": "number", "minimum": 0}, "number from 0"),
        ({"type": "array", "items": {"type": "string"}}, "[string, ...]"),
        (
            {"type": "array", "prefixItems": [{"type": "string"}, {"type": "number"}], "items": False},
            "[string, number]",
        ),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, "string | null"),
        (PERSON, '{"name": string, "age": integer}'),
        ({"type": "object"}, '{"type": "object"}'),
        ({}, "any value"),
    ],
)
def test_the_form_says_what_each_value_may_be(part, form):
    output = JsonOutput(JsonFormat({"type": "object", "properties": {"a": part}}))
    assert f'{{"a": {form}}}' in output.instruction


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


def doubling(levels, last, level):
    """A short schema of which each level leads to the next one twice."""
    levels_ = {f"d{i}": level({"$ref": f"#/$defs/d{i + 1}"}) for i in range(levels)}
    return {"$defs": levels_ | {f"d{levels}": last}, "$ref": "#/$defs/d0"}


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "array", "minItems": 10**9, "items": {"const": 1}},
        doubling(40, {"const": 1}, lambda to: {"properties": {"a": to, "b": to}, "required": ["a", "b"]}),
        doubling(6, {"type": "string"}, lambda to: {"properties": {f"p{i}": to for i in range(20)}}),
        doubling(40, {"const": 1}, lambda to: {"anyOf": [to, {**to, "title": "again"}]}),
        doubling(30, {"type": "string"}, lambda to: {"allOf": [to, {**to, "title": "again"}]}),
        {"anyOf": [{"$ref": "#/$defs/d", "required": [f"k{i}"]} for i in range(250)]}
        | {"$defs": {"d": {"type": "object", "properties": {f"k{i}": True for i in range(700)}}}},
        {"$defs": {f"d{i}": {"$ref": f"#/$defs/d{i + 1}"} for i in range(400)} | {"d400": {}}, "$ref": "#/$defs/d0"},
    ],
    ids=["items", "members", "form", "choices", "parts", "objects", "depth"],
)
def test_a_short_schema_of_a_gigantic_answer_holds_nobody_up(schema):
    """It is refused, or comes to a run of the model with a prompt that is no gigantic one."""
    began = time.process_time()
    try:
        output = JsonOutput(JsonFormat(schema))
        written = Written()
        assert Filling(output.script(written), written, encode).step is not None
        assert len(output.instruction) < 200_000
    except (InvalidRequest, AnswerUnfit):
        pass
    assert time.process_time() - began < 10


NODE = {"type": "object", "required": ["a"], "properties": {"a": {"type": "string"}}}


@pytest.mark.parametrize(
    ("schema", "valid", "invalid"),
    [
        ({**NODE, "required": None, "description": None, "$defs": None, "enum": None}, {}, {"a": 1}),
        ({"type": "object", "properties": {"a": {"type": "integer", "description": None}}}, {"a": 1}, {"a": "x"}),
        ({"type": "array", "items": None, "minItems": 1}, [1], []),
        ({"type": "array", "items": {"anyOf": [{"enum": ["x"], "default": None}], "not": None}}, ["x"], ["y"]),
        ({"enum": ["x", None]}, None, 1),
        ({"const": None}, None, 1),
        ({"type": "object", "properties": {"enum": {"const": None}}}, {"enum": None}, {"enum": 1}),
        ({"type": "string", "nullable": True}, None, 1),
        ({"type": "string", "enum": ["x"], "nullable": True}, None, "y"),
        ({"$defs": {"a": NODE}, "$ref": "#/$defs/a", "nullable": True}, None, {}),
        ({"type": "string", "nullable": False}, "x", None),
        ({"type": "number", "minimum": 3, "exclusiveMinimum": True}, 3.5, 3),
        ({"type": "number", "maximum": 3, "exclusiveMaximum": False}, 3, 4),
        ({"type": "integer", "exclusiveMinimum": True}, 0, "x"),
        (
            {
                "$schema": "http://json-schema.org/draft-04/schema#",
                "type": "object",
                "properties": {"a": {"type": "integer", "maximum": 9, "exclusiveMaximum": True}},
            },
            {"a": 8},
            {"a": 9},
        ),
    ],
)
def test_a_schema_is_read_as_its_client_means_it(schema, valid, invalid):
    for value, right in ((valid, True), (invalid, False)):
        output = JsonOutput(JsonFormat(schema))
        output.feed(json.dumps(value))
        output.finish()
        assert (output.problem is None) is right
