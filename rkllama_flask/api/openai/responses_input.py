"""The body of `POST /v1/responses`: items become messages, flat tools and formats what the other endpoints know."""

from collections.abc import Mapping, Sequence
from typing import Any

from marshmallow import ValidationError, fields
from marshmallow.validate import OneOf, Range

from rkllama_flask.api.openai.fields import ResponseFormat, ToolChoiceField, json_schema
from rkllama_flask.api.openai.responses_items import Items, asking, at_index, full_name, unapplied_items
from rkllama_flask.api.openai.schemas import EFFORTS, VERBOSITIES, AnswerSchema, FunctionSchema
from rkllama_flask.api.web.schema import (
    Boolean,
    EitherOf,
    Integer,
    List,
    Nested,
    Object,
    RequestSchema,
    String,
    Unapplied,
)
from rkllama_flask.generation.request import UNLIMITED, JsonFormat


class Tools(fields.Field[list[dict[str, Any]]]):
    """The functions among the tools, in the form that chat completions give them.

    Those in a namespace have a full name, and `namespace` beside the function.
    """

    _function = FunctionSchema()

    def _deserialize(self, value: Any, *_args: Any, **_kwargs: Any) -> list[dict[str, Any]]:
        if not isinstance(value, list):
            raise ValidationError("must be a list")
        found = []
        for index, tool in enumerate(value):
            with at_index(index):
                found += self._functions(tool)
        return found

    def _functions(self, tool: Any) -> list[dict[str, Any]]:
        match tool:
            case {"type": "function"}:
                return [{"type": "function", "function": self._function.load(tool)}]
            case {"type": "namespace"}:
                read: dict[str, Any] = NamespaceSchema().load(tool)
                space, inner = read["name"], read["tools"]
                for one in inner:
                    one["function"]["name"] = full_name(space, one["function"]["name"])
                return [{**one, "namespace": space} for one in inner]
            case {"type": str()}:
                return []
            case _:
                raise ValidationError("must be an object with a type")


class NamespaceSchema(RequestSchema):
    """Functions under one name, as coding clients group those of a tool server."""

    name = String(required=True)
    tools = Tools(load_default=list)


class FlatToolChoice(ToolChoiceField):
    """A tool choice whose parts stand beside its type."""

    def _function(self, value: Mapping[str, Any]) -> Any:
        return value

    def _allowed(self, value: Mapping[str, Any]) -> Any:
        return value


class FlatFormat(ResponseFormat):
    """A response format whose schema stands beside its type."""

    def _by_schema(self, value: Mapping[str, Any]) -> JsonFormat:
        return JsonFormat(json_schema(value.get("schema")))


class TextSchema(RequestSchema):
    format = FlatFormat()
    verbosity = String(validate=OneOf(VERBOSITIES))


class ReasoningSchema(RequestSchema):
    effort = String(validate=OneOf(EFFORTS))
    summary = String()


class ResponseSchema(AnswerSchema):
    """`POST /v1/responses` and `/v1/responses/input_tokens`."""

    input = Items(load_default=asking)
    instructions = String()
    max_output_tokens = Integer(validate=Range(min=UNLIMITED))
    tools = Tools(load_default=list)
    tool_choice = FlatToolChoice()
    parallel_tool_calls = Boolean(load_default=True)
    text = Nested(TextSchema, load_default=dict)
    reasoning = Nested(ReasoningSchema, load_default=dict)
    enable_thinking = Boolean()
    chat_template_kwargs = Object(load_default=dict)
    metadata = Object(load_default=dict)

    previous_response_id = String()
    conversation = EitherOf(String(), Object(), invalid="must be a string or an object")
    prompt = Object()

    store = Boolean()
    include = List(String())
    max_tool_calls = Integer(validate=Range(min=0))

    top_logprobs = Unapplied(Integer(validate=Range(0, 20)), neutral=(0,))
    truncation = Unapplied(String(validate=OneOf(["auto", "disabled"])), neutral=("disabled",))
    background = Unapplied(Boolean(), neutral=(False,))
    context_management = Unapplied(List(Object()), neutral=([],))
    moderation = Unapplied(Object())


def namespaces_of(tools: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The namespaces of the functions that have one, by the function's full name."""
    return {tool["function"]["name"]: tool["namespace"] for tool in tools if "namespace" in tool}


def unapplied_parts(body: Mapping[str, Any], checked: Mapping[str, Any]) -> tuple[str, ...]:
    """What can't be honoured below the first level: a length of the text, tools and items of other kinds."""
    skipped = any(tool["type"] not in ("function", "namespace") for tool in body.get("tools") or ())
    return (
        *(("tools",) if skipped else ()),
        *unapplied_items(body, checked["input"]),
        *(("text.verbosity",) if checked["text"].get("verbosity", "medium") != "medium" else ()),
    )
