"""The items of `POST /v1/responses`, read into the messages of a chat."""

import json
import operator
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import dropwhile
from typing import Any

from marshmallow import ValidationError, fields
from marshmallow.validate import OneOf

from rkllama_flask.api.openai.fields import Content
from rkllama_flask.api.openai.schemas import MessageSchema, is_users
from rkllama_flask.api.web.schema import Arguments, List, Object, RequestSchema, String
from rkllama_flask.api.web.unread import Path, Told, dotted, joined, last, place_of_last, placed, refuse

Turn = dict[str, Any]


class MessageItemSchema(MessageSchema):
    role = String(required=True, validate=OneOf(["developer", "system", "user", "assistant"]))


class CallItemSchema(RequestSchema):
    call_id = String()
    name = String(required=True)
    namespace = String()
    arguments = Arguments(load_default="{}")


class CustomCallItemSchema(RequestSchema):
    call_id = String()
    name = String(required=True)
    namespace = String()
    input = String(load_default="")


class ActionItemSchema(RequestSchema):
    """A call of a tool that the API has by itself: what it did is an object, in a shell or on a file."""

    id = String()
    call_id = String()
    action = Object()
    operation = Object()


class ServerCallItemSchema(CallItemSchema):
    """A call of a tool server, with what it gave."""

    id = String()
    server_label = String()
    output = String()
    error = fields.Raw()


class OutputItemSchema(RequestSchema):
    id = String()
    call_id = String()
    name = String()
    output = Content(load_default=Told())


class ShellOutputItemSchema(OutputItemSchema):
    output = List(Object(), load_default=list)  # type: ignore[assignment]


class ReasoningItemSchema(RequestSchema):
    summary = Content(load_default=Told())
    content = Content(load_default=Told())


_ACTIONS = {"local_shell_call": "local_shell", "shell_call": "shell", "apply_patch_call": "apply_patch"}
"""The names of the tools that the API has by itself."""

_SCHEMAS: dict[str, RequestSchema] = {
    "message": MessageItemSchema(),
    "reasoning": ReasoningItemSchema(),
    "function_call": CallItemSchema(),
    "custom_tool_call": CustomCallItemSchema(),
    "mcp_call": ServerCallItemSchema(),
    **dict.fromkeys(_ACTIONS, ActionItemSchema()),
    **dict.fromkeys(
        ("function_call_output", "custom_tool_call_output", "local_shell_call_output", "apply_patch_call_output"),
        OutputItemSchema(),
    ),
    "shell_call_output": ShellOutputItemSchema(),
}
"""What is read. All other items are left out and named: mostly traces of what a hosted service did by itself."""


class Items(fields.Field[list[Turn]]):
    """A string, or items; read into the messages of a chat. Nothing at all is an empty text.

    An assistant's thoughts, text and calls that stand together are one message.
    """

    default_error_messages = {  # noqa: RUF012 - marshmallow's own way to say it
        "invalid": "must be a string or a list of items"
    }

    def _deserialize(self, value: Any, *_args: Any, **_kwargs: Any) -> list[Turn]:
        if isinstance(value, str):
            return asking(value)
        if not isinstance(value, list):
            raise self.make_error("invalid")
        messages: list[Turn] = []
        for index, item in enumerate(value):
            with at_index(index):
                _add(messages, item, index)
        for message in messages:
            _join(message)
        newest = last(messages, is_users)
        if newest is not None:
            refuse(messages[newest]["content"].unread)
        return messages or asking()


def asking(text: str = "") -> list[Turn]:
    """The conversation that consists of a user's text."""
    return [{"role": "user", "content": Told(text)}]


def last_turn(body: Mapping[str, Any]) -> Path:
    """Where the body has the last turn of its user."""
    return place_of_last(body, "input", is_users) if isinstance(body.get("input"), list) else ("input",)


def unapplied_items(body: Mapping[str, Any], messages: Sequence[Turn]) -> tuple[str, ...]:
    """The items that were left out, and the parts of others that a line of text stands for, by dotted path."""
    items = body.get("input")
    kinds = map(_kind, items if isinstance(items, list) else ())
    unread = (one for message in messages if "content" in message for one in message["content"].unread)
    return (
        *(f"input.{index}" for index, kind in enumerate(kinds) if kind not in _SCHEMAS),
        *dotted(placed(unread, "input")),
    )


def full_name(namespace: str | None, name: str) -> str:
    """How the model is told of a function."""
    return f"{namespace}.{name}" if namespace else name


@contextmanager
def at_index(index: int) -> Iterator[None]:
    """Errors tell where in the list they are."""
    try:
        yield
    except ValidationError as error:
        raise ValidationError({index: error.messages}) from error


def _kind(item: Any) -> str:
    kind = item.get("type") if isinstance(item, Mapping) else None
    if kind is None and isinstance(item, Mapping) and "role" in item:
        kind = "message"
    if not isinstance(kind, str):
        raise ValidationError("must be an object with a type")
    return kind


def _add(messages: list[Turn], item: Any, index: int) -> None:
    kind = _kind(item)
    if kind == "item_reference":
        raise ValidationError("refers to a stored item, but this server stores none: send the item itself")
    if kind not in _SCHEMAS:
        return
    read: dict[str, Any] = _SCHEMAS[kind].load(item)
    match kind:
        case "reasoning":
            told = read["content"] if read["content"].text else read["summary"]
            _assistant(messages).setdefault("reasoning_content", []).append(told.text)
        case "message" if read["role"] == "assistant":
            content = read.get("content", Told(read.get("refusal", "")))
            _assistant(messages).setdefault("content", []).append(content.under(index, "content"))
        case "message":
            messages.append({"role": read["role"], "content": read["content"].under(index, "content")})
        case "mcp_call":
            call_id = read.get("id") or f"mcp_{index}"
            _call(messages, full_name(read.get("server_label"), read["name"]), read["arguments"], call_id)
            messages.append({"role": "tool", "tool_call_id": call_id, "content": Told(_outcome(read))})
        case _ if kind.endswith("_output"):
            output = read["output"] if isinstance(read["output"], Told) else Told(_json(read["output"]))
            result = {"role": "tool", "content": output.under(index, "output")}
            messages.append(result | _said(tool_call_id=_call_id(read), name=read.get("name")))
        case _:
            name = _ACTIONS.get(kind) or full_name(read.get("namespace"), read["name"])
            _call(messages, name, _arguments(kind, read), _call_id(read))


def _call(messages: list[Turn], name: str, arguments: str, call_id: str | None) -> None:
    call = {"type": "function", "function": {"name": name, "arguments": arguments}} | _said(id=call_id)
    _assistant(messages).setdefault("tool_calls", []).append(call)


def _arguments(kind: str, read: Mapping[str, Any]) -> str:
    match kind:
        case "function_call":
            arguments: str = read["arguments"]
            return arguments
        case "custom_tool_call":
            return _json({"input": read["input"]})
        case _:
            return _json(read.get("action") or read.get("operation") or {})


def _outcome(read: Mapping[str, Any]) -> str:
    """What a tool server gave, or why it gave nothing."""
    error = read.get("error")
    if error is None:
        return read.get("output") or ""
    return f"Error: {error if isinstance(error, str) else _json(error)}"


def _call_id(read: Mapping[str, Any]) -> str | None:
    return read.get("call_id") or read.get("id")


def _said(**fields: str | None) -> dict[str, str]:
    return {name: value for name, value in fields.items() if value}


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _assistant(messages: list[Turn]) -> Turn:
    """The assistant's message that ends the conversation so far, a new one where another does."""
    if not messages or messages[-1]["role"] != "assistant":
        messages.append({"role": "assistant"})
    return messages[-1]


def _join(message: Turn) -> None:
    """Make texts of what an assistant's items have gathered."""
    if message["role"] != "assistant":
        return
    if "reasoning_content" in message:
        message["reasoning_content"] = "\n".join(dropwhile(operator.not_, message["reasoning_content"]))
    if "content" in message:
        message["content"] = joined(dropwhile(lambda one: not one.text, message["content"]))
