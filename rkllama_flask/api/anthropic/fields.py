"""The fields of Anthropic's requests that can be more than one type, each read into one."""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

from marshmallow import ValidationError, fields

from rkllama_flask.api.web.half_characters import whole_json
from rkllama_flask.api.web.unread import Path, Told, Unread, place_of_last, placed, stand_in
from rkllama_flask.generation.request import JsonFormat

T = TypeVar("T")


class TextBlock(NamedTuple):
    """Text, also that of a document or of a search result; empty for a block that is left out."""

    text: str
    unread: tuple[Unread, ...] = ()


class ThinkingBlock(NamedTuple):
    """Thoughts of an earlier answer."""

    text: str


class ToolUseBlock(NamedTuple):
    """A call the model made. Its arguments are the JSON text of an object, unless they were damaged on their way."""

    id: str | None
    name: str
    arguments: str


class ToolResultBlock(NamedTuple):
    """What a call gave; `failed` as the client says."""

    call_id: str | None
    text: str
    failed: bool
    unread: tuple[Unread, ...] = ()


Block = TextBlock | ThinkingBlock | ToolUseBlock | ToolResultBlock

_BILLING_STAMP = re.compile(r"\A(x-anthropic-billing-header:[^\n]*\bcch=)[0-9a-f]{5}(?=;)")


class Content(fields.Field[tuple[Block, ...]]):
    """A message's content: a string, or a list of blocks."""

    def _deserialize(
        self,
        value: Any,
        attr: str | None,  # noqa: ARG002 - the name that marshmallow gives it
        data: Mapping[str, Any] | None,
        **_: Any,
    ) -> tuple[Block, ...]:
        role = data.get("role") if data else None
        found = _each(value, lambda block, index: _block(block, index, role))
        return (TextBlock(found),) if isinstance(found, str) else tuple(found)


class SystemPrompt(fields.Field[Told]):
    """A string, or a list of text blocks.

    Coding clients begin it with a billing line whose stamp changes with each request. It is made one and the same, so
    that the prompt's prefix can be reused.
    """

    def _deserialize(self, value: Any, *_args: Any, **_kwargs: Any) -> Told:
        told = _text_of(value)
        return told._replace(text=_BILLING_STAMP.sub(r"\g<1>00000", told.text))


class OutputFormat(fields.Field[JsonFormat]):
    """`{"type": "json_schema", "schema": …}`."""

    def _deserialize(self, value: Any, *_args: Any, **_kwargs: Any) -> JsonFormat:
        if not isinstance(value, Mapping):
            raise ValidationError("must be an object")
        if value.get("type") != "json_schema":
            raise ValidationError({"type": ["must be json_schema"]})
        if not isinstance(value.get("schema"), Mapping):
            raise ValidationError({"schema": ["must be a JSON Schema: an object"]})
        return JsonFormat(value["schema"])


def is_users(message: Mapping[str, Any]) -> bool:
    """Whether a message is a user's own, in a body or checked.

    One that carries results is the client program's, with all that it puts beside them: nobody could take it back.
    """
    content = message.get("content")
    return message.get("role") == "user" and not any(
        isinstance(block, ToolResultBlock) or (isinstance(block, Mapping) and block.get("type") == "tool_result")
        for block in (content if isinstance(content, list | tuple) else ())
    )


def last_turn(body: Mapping[str, Any]) -> Path:
    """Where the body has the last turn of its user's own."""
    return place_of_last(body, "messages", is_users)


def unread_in(blocks: Iterable[Block]) -> Iterator[Unread]:
    """What was left out of blocks, or is a line of text now."""
    return (one for block in blocks if isinstance(block, TextBlock | ToolResultBlock) for one in block.unread)


def _each(value: Any, read: Callable[[Mapping[str, Any], int], T]) -> str | list[T]:
    """A string as it is; of a list what `read` makes of its blocks."""
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise ValidationError("must be a string or a list of blocks")
    found = []
    for index, block in enumerate(value):
        if not isinstance(block, Mapping) or not isinstance(block.get("type"), str):
            raise ValidationError({index: ["must be an object with a type"]})
        try:
            found.append(read(block, index))
        except ValidationError as error:
            raise ValidationError({index: error.messages}) from error
    return found


def _block(block: Mapping[str, Any], index: int, role: Any) -> Block:
    kind = block["type"]
    if kind in ("thinking", "tool_use") and role != "assistant":
        raise ValidationError({"type": [f"must not be '{kind}': that belongs to the assistant"]})
    if kind == "tool_result" and role != "user":
        raise ValidationError({"type": ["must not be 'tool_result': that belongs to the user"]})
    match kind:
        case "thinking":
            return ThinkingBlock(_string(block, "thinking"))
        case "tool_use":
            return ToolUseBlock(_id(block, "id"), _string(block, "name", least=1), _arguments(block.get("input")))
        case "tool_result":
            text, unread = _inside(block, "content") if block.get("content") is not None else Told()
            failed = block.get("is_error") is True
            return ToolResultBlock(_id(block, "tool_use_id"), text, failed, placed(unread, index))
        case _:
            return TextBlock(*_block_text(block, index))


def _arguments(value: Any) -> str:
    if isinstance(value, str):
        return whole_json(value)
    return json.dumps({} if value is None else value, ensure_ascii=False)


def _block_text(block: Mapping[str, Any], index: int) -> Told:
    match block["type"]:
        case "text":
            return Told(_string(block, "text"))
        case "image":
            return stand_in("an image", index)
        case "document":
            source = _document_text(block.get("source"))
            return _together(block.get("title"), block.get("context"), source.under(index))
        case "search_result":
            content = _inside(block, "content")
            return _together(block.get("title"), block.get("source"), content.under(index))
        case "redacted_thinking":
            return Told()
        case _:
            return Told(unread=(Unread((index,)),))


def _document_text(source: Any) -> Told:
    match source:
        case {"type": "text", "data": str(data)}:
            return Told(data)
        case {"type": "content"}:
            try:
                return _inside(source, "content").under("source")
            except ValidationError as error:
                raise ValidationError({"source": error.messages}) from error
        case _:
            return stand_in("a document that is not plain text")


def _inside(block: Mapping[str, Any], name: str) -> Told:
    try:
        return _text_of(block.get(name)).under(name)
    except ValidationError as error:
        raise ValidationError({name: error.messages}) from error


def _text_of(value: Any) -> Told:
    found = _each(value, _block_text)
    return Told(found) if isinstance(found, str) else _together(*found)


def _together(*parts: Any) -> Told:
    """Those of the parts that have a text, on lines of their own."""
    told = [part if isinstance(part, Told) else Told(part) for part in parts if part and isinstance(part, Told | str)]
    text = "\n".join(part.text for part in told if part.text)
    return Told(text, tuple(one for part in told for one in part.unread))


def _id(block: Mapping[str, Any], name: str) -> str | None:
    return _string(block, name) if block.get(name) is not None else None


def _string(block: Mapping[str, Any], name: str, *, least: int = 0) -> str:
    value = block.get(name)
    if not isinstance(value, str) or len(value) < least:
        raise ValidationError({name: ["must be a string" if not least else "must be a string that is not empty"]})
    return value
