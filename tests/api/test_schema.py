"""Unknown fields are ignored, null means unset, and a wrong type is named by its path."""

from typing import Any

import pytest

from rkllama_flask.api.web.schema import (
    Boolean,
    Integer,
    List,
    Nested,
    Number,
    Object,
    RequestSchema,
    String,
    StringOrList,
    Unapplied,
)
from rkllama_flask.errors import InvalidRequest


class Inner(RequestSchema):
    text = String(required=True)


class Example(RequestSchema):
    integer = Integer()
    number = Number()
    boolean = Boolean()
    string = String()
    strings = StringOrList()
    items = List(Nested(Inner))
    anything = Object()
    seed = Unapplied()
    min_p = Unapplied(neutral=(0, 0.0))
    logprobs = Unapplied(neutral=(False,))


schema = Example()


@pytest.mark.parametrize(
    ("body", "checked"),
    [
        ({}, {}),
        ({"unheard_of": 1}, {}),
        ({"integer": None, "items": None, "anything": None}, {}),
        ({"integer": 5.0}, {"integer": 5}),
        ({"number": 1}, {"number": 1.0}),
        ({"boolean": False}, {"boolean": False}),
        ({"strings": "a"}, {"strings": ("a",)}),
        ({"strings": ["a", "b"]}, {"strings": ("a", "b")}),
        ({"anything": {"x": None}}, {"anything": {"x": None}}),
        ({"items": [{"text": "a", "extra": 1}]}, {"items": [{"text": "a"}]}),
    ],
)
def test_what_is_sent_rightly_is_read(body: dict[str, Any], checked: dict[str, Any]) -> None:
    assert schema.read(body) == checked


@pytest.mark.parametrize(
    ("body", "param", "message"),
    [
        ({"integer": "5"}, "integer", "'integer' must be an integer."),
        ({"integer": True}, "integer", "'integer' must be an integer."),
        ({"integer": 5.5}, "integer", "'integer' must be an integer."),
        ({"integer": 2**63}, "integer", "'integer' is too large."),
        ({"integer": 1e300}, "integer", "'integer' is too large."),
        ({"number": "0.5"}, "number", "'number' must be a number."),
        ({"number": False}, "number", "'number' must be a number."),
        ({"number": 10**400}, "number", "'number' is too large."),
        ({"boolean": "true"}, "boolean", "'boolean' must be true or false."),
        ({"boolean": 1}, "boolean", "'boolean' must be true or false."),
        ({"string": 1}, "string", "'string' must be a string."),
        ({"strings": [1]}, "strings", "'strings' must be a string or a list of strings."),
        ({"items": {}}, "items", "'items' must be a list."),
        ({"items": ["a"]}, "items.0", "'items.0' must be an object."),
        ({"items": [{"text": "a"}, {}]}, "items.1.text", "'items.1.text' is required."),
        ({"items": [{"text": None}]}, "items.0.text", "'items.0.text' is required."),
        ({"items": [None]}, "items.0", "'items.0' must not be null."),
        ({"anything": []}, "anything", "'anything' must be an object."),
    ],
)
def test_what_is_wrong_is_named_by_its_path(body: dict[str, Any], param: str, message: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        schema.read(body)
    assert (refusal.value.param, refusal.value.message) == (param, message)


def test_the_names_of_what_cannot_be_honoured_are_told() -> None:
    assert schema.unapplied({"seed": 1, "min_p": 0.1, "logprobs": True, "integer": 1}) == ("seed", "min_p", "logprobs")


def test_a_value_that_asks_for_nothing_is_not_told() -> None:
    assert schema.unapplied({"seed": None, "min_p": 0, "logprobs": False}) == ()


def test_a_neutral_value_of_another_type_is_told() -> None:
    assert schema.unapplied({"logprobs": 0}) == ("logprobs",)
