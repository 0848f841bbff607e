"""The fields of Anthropic's requests that can be more than one type, each read into one."""

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from marshmallow import ValidationError, fields

from rkllama_flask.generation.request import JsonFormat


class TextBlock(NamedTuple):
    """Text, also that of a document or of a search result."""

    text: str


class ThinkingBlock(NamedTuple):
    """Thoughts of an earlier answer."""

    text: str


class ToolUseBlock(NamedTuple):
    """A call the model made."""

    id: str
    name: str
    input: Mapping[str, Any]


class ToolResultBlock(NamedTuple):
    """What a call gave; `failed` as the client says."""

    call_id: str
    text: str
    failed: bool


Block = TextBlock | ThinkingBlock | ToolUseBlock | ToolResultBlock

_BILLING_STAMP = re.compile(r"\A(x-anthropic-billing-header:[^\n]*\bcch=)[0-9a-f]{5}(?=;)")


class Content(fields.Field[tuple[Block, ...]]):
    """A message's content: a string, or a list of blocks. Blocks of a kind that isn't known are left out."""

    def _deserialize(
        self,
        value: Any,
        attr: str | None,  # noqa: ARG002 - the name that marshmallow gives it
        data: Mapping[str, Any] | None,
        **_: Any,
    ) -> tuple[Block, ...]:
        role = data.get("role") if data else None
        found = _each(value, lambda block: _block(block, role))
        return (TextBlock(found),) if isinstance(found, str) else tuple(found)


class SystemPrompt(fields.Field[str]):
    """A string, or a list of text blocks.

    Coding clients begin it with a billing line whose stamp changes with each request. It is made one and the same, so
    that the prompt's prefix can be reused.
    """

    def _deserialize(self, value: Any, *_args: Any, **_kwargs: Any) -> str:
        return _BILLING_STAMP.sub(r"\g<1>00000", _text_of(value))


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


def _each(value: Any, read: Callable[[Mapping[str, Any]], Any]) -> str | list[Any]:
    """A string as it is; of a list what `read` makes of its blocks, without None."""
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise ValidationError("must be a string or a list of blocks")
    found = []
    for index, block in enumerate(value):
        if not isinstance(block, Mapping) or not isinstance(block.get("type"), str):
            raise ValidationError({index: ["must be an object with a type"]})
        try:
            found.append(read(block))
        except ValidationError as error:
            raise ValidationError({index: error.messages}) from error
    return [one for one in found if one is not None]


def _block(block: Mapping[str, Any], role: Any) -> Block | None:
    kind = block["type"]
    if kind in ("thinking", "tool_use") and role != "assistant":
        raise ValidationError({"type": [f"must not be '{kind}': that belongs to the assistant"]})
    if kind == "tool_result" and role != "user":
        raise ValidationError({"type": ["must not be 'tool_result': that belongs to the user"]})
    match kind:
        case "thinking":
            return ThinkingBlock(_string(block, "thinking"))
        case "tool_use":
            if not isinstance(block.get("input"), Mapping):
                raise ValidationError({"input": ["must be an object"]})
            return ToolUseBlock(_string(block, "id"), _string(block, "name", least=1), block["input"])
        case "tool_result":
            result = _inside(block, "content") if block.get("content") is not None else ""
            return ToolResultBlock(_string(block, "tool_use_id"), result, block.get("is_error") is True)
        case _:
            text = _block_text(block)
            return None if text is None else TextBlock(text)


def _block_text(block: Mapping[str, Any]) -> str | None:
    match block["type"]:
        case "text":
            return _string(block, "text")
        case "image":
            raise ValidationError("is an image, but the models here read only text")
        case "document":
            return _joined(block.get("title"), block.get("context"), _document_text(block.get("source")))
        case "search_result":
            return _joined(block.get("title"), block.get("source"), _inside(block, "content"))
        case _:
            return None


def _document_text(source: Any) -> str:
    match source:
        case {"type": "text", "data": str(data)}:
            return data
        case {"type": "content"}:
            try:
                return _inside(source, "content")
            except ValidationError as error:
                raise ValidationError({"source": error.messages}) from error
        case _:
            raise ValidationError("is a document that is not plain text, but the models here read only text")


def _inside(block: Mapping[str, Any], name: str) -> str:
    try:
        return _text_of(block.get(name))
    except ValidationError as error:
        raise ValidationError({name: error.messages}) from error


def _text_of(value: Any) -> str:
    found = _each(value, _block_text)
    return found if isinstance(found, str) else "\n".join(found)


def _joined(*parts: Any) -> str:
    return "\n".join(part for part in parts if part and isinstance(part, str))


def _string(block: Mapping[str, Any], name: str, *, least: int = 0) -> str:
    value = block.get(name)
    if not isinstance(value, str) or len(value) < least:
        raise ValidationError({name: ["must be a string" if not least else "must be a string that is not empty"]})
    return value
