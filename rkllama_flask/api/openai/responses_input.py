"""The body of `POST /v1/responses`: items become messages, flat tools and formats what the other endpoints know."""

import operator
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import dropwhile
from typing import Any

from marshmallow import ValidationError, fields
from marshmallow.validate import OneOf, Range

from rkllama_flask.api.openai.fields import Arguments, Content, ResponseFormat, ToolChoiceField, json_schema
from rkllama_flask.api.openai.schemas import EFFORTS, VERBOSITIES, AnswerSchema, FunctionSchema, MessageSchema
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

_OTHER_SERVICES = frozenset(
    {
        "web_search_call",
        "file_search_call",
        "code_interpreter_call",
        "image_generation_call",
        "mcp_list_tools",
        "tool_search_call",
        "tool_search_output",
        "additional_tools",
        "compaction",
    }
)
"""Traces of what a hosted service did by itself; the conversation can be read without them."""

_JOINED = ("content", "reasoning_content")
"""What an assistant's message gathers of several items."""


class MessageItemSchema(MessageSchema):
    role = String(required=True, validate=OneOf(["developer", "system", "user", "assistant"]))


class CallItemSchema(RequestSchema):
    call_id = String(required=True)
    name = String(required=True)
    namespace = String()
    arguments = Arguments(load_default="{}")


class CallOutputItemSchema(RequestSchema):
    call_id = String(required=True)
    output = Content(required=True)


class ReasoningItemSchema(RequestSchema):
    summary = Content(load_default="")
    content = Content(load_default="")


_SCHEMAS: dict[str, RequestSchema] = {
    "message": MessageItemSchema(),
    "function_call": CallItemSchema(),
    "function_call_output": CallOutputItemSchema(),
    "reasoning": ReasoningItemSchema(),
}


def full_name(namespace: str | None, name: str) -> str:
    """How the model is told of a function."""
    return f"{namespace}.{name}" if namespace else name


class Items(fields.Field[list[dict[str, Any]]]):
    """A string, or items; read into the messages of a chat.

    An assistant's thoughts, text and calls that stand together are one message.
    """

    default_error_messages = {  # noqa: RUF012 - marshmallow's own way to say it
        "required": "is required",
        "invalid": "must be a string or a list of items",
        "empty": "must not be empty",
    }

    def _deserialize(self, value: Any, *_args: Any, **_kwargs: Any) -> list[dict[str, Any]]:
        if isinstance(value, str):
            return [{"role": "user", "content": value}]
        if not isinstance(value, list):
            raise self.make_error("invalid")
        if not value:
            raise self.make_error("empty")
        messages: list[dict[str, Any]] = []
        for index, item in enumerate(value):
            with _at(index):
                _add(messages, item)
        for message in messages:
            for name, texts in message.items():
                if name in _JOINED and isinstance(texts, list):
                    message[name] = "\n".join(dropwhile(operator.not_, texts))
        return messages


@contextmanager
def _at(index: int) -> Iterator[None]:
    """Errors tell where in the list they are."""
    try:
        yield
    except ValidationError as error:
        raise ValidationError({index: error.messages}) from error


def _add(messages: list[dict[str, Any]], item: Any) -> None:
    kind = item.get("type") if isinstance(item, Mapping) else None
    if kind is None and isinstance(item, Mapping) and "role" in item:
        kind = "message"
    if not isinstance(kind, str):
        raise ValidationError("must be an object with a type")
    if kind in _OTHER_SERVICES:
        return
    if kind == "item_reference":
        raise ValidationError("refers to a stored item, but this server stores none: send the item itself")
    if kind not in _SCHEMAS:
        raise ValidationError(
            {"type": [f"'{kind}' is not known: send messages, function calls, their outputs, reasoning"]}
        )
    read: dict[str, Any] = _SCHEMAS[kind].load(item)
    match kind:
        case "function_call":
            name = full_name(read.get("namespace"), read["name"])
            call = {"id": read["call_id"], "function": {"name": name, "arguments": read["arguments"]}}
            _assistant(messages).setdefault("tool_calls", []).append(call)
        case "function_call_output":
            messages.append({"role": "tool", "tool_call_id": read["call_id"], "content": read["output"]})
        case "reasoning":
            _assistant(messages).setdefault("reasoning_content", []).append(read["content"] or read["summary"])
        case "message" if read["role"] == "assistant":
            _assistant(messages).setdefault("content", []).append(read.get("content", ""))
        case _:
            messages.append({"role": read["role"], "content": read["content"]})


def _assistant(messages: list[dict[str, Any]]) -> dict[str, Any]:
    """The assistant's message that ends the conversation so far, a new one where another does."""
    if not messages or messages[-1]["role"] != "assistant":
        messages.append({"role": "assistant"})
    return messages[-1]


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
            with _at(index):
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

    input = Items(required=True)
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
    """What is known and can't be honoured below the first level: a length of the text, tools of other kinds."""
    skipped = any(tool["type"] not in ("function", "namespace") for tool in body.get("tools") or ())
    return (
        *(("tools",) if skipped else ()),
        *(("text.verbosity",) if checked["text"].get("verbosity", "medium") != "medium" else ()),
    )
