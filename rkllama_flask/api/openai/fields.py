"""The fields of OpenAI's requests that can be more than one type, each read into one."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from marshmallow import ValidationError, fields

from rkllama_flask.api.web.schema import MAX_INPUTS
from rkllama_flask.api.web.unread import Told, joined, stand_in
from rkllama_flask.generation.request import JsonFormat, ToolChoice

_TEXT_PARTS = {
    **dict.fromkeys(("text", "input_text", "output_text", "summary_text", "reasoning_text"), "text"),
    "refusal": "refusal",
}
_OTHER_PARTS = {
    "image_url": "an image",
    "input_image": "an image",
    "image_file": "an image",
    "computer_screenshot": "an image",
    "input_audio": "audio",
    "output_audio": "audio",
    "file": "a file",
    "input_file": "a file",
}


class Content(fields.Field[Told]):
    """A message's text: a string, or a list of parts whose texts are joined by line breaks."""

    def _deserialize(self, value: Any, *_args: Any, **_kwargs: Any) -> Told:
        if isinstance(value, str):
            return Told(value)
        if not isinstance(value, list):
            raise ValidationError("must be a string or a list of parts")
        return joined(_part(part, index) for index, part in enumerate(value))


def _part(part: Any, index: int) -> Told:
    kind = part.get("type") if isinstance(part, Mapping) else None
    if not isinstance(kind, str):
        raise ValidationError({index: ["must be an object with a type"]})
    if kind in _OTHER_PARTS:
        return stand_in(_OTHER_PARTS[kind], index)
    if kind not in _TEXT_PARTS:
        return stand_in("a part of an unknown type", index, field="type")
    name = _TEXT_PARTS[kind]
    if not isinstance(part.get(name), str):
        raise ValidationError({index: {name: ["must be a string"]}})
    return Told(part[name])


class Choice(NamedTuple):
    """A tool choice; `allowed` are the only names on offer, None for all."""

    choice: ToolChoice
    allowed: frozenset[str] | None = None


class ToolChoiceField(fields.Field[Choice]):
    """`none`, `auto`, `required`, one function, or a list of allowed ones."""

    default_error_messages = {  # noqa: RUF012 - marshmallow's own way to say it
        "invalid": "must be none, auto, required, or an object that names a function or the allowed tools"
    }

    def _deserialize(self, value: Any, *_args: Any, **_kwargs: Any) -> Choice:
        if value in ("none", "auto", "required"):
            return Choice(ToolChoice(value))
        kind = value.get("type") if isinstance(value, Mapping) else None
        if kind == "function":
            return Choice(ToolChoice("named", self._name(value)))
        allowed = self._allowed(value) if kind == "allowed_tools" else None
        if not isinstance(allowed, Mapping) or allowed.get("mode") not in ("auto", "required"):
            raise self.make_error("invalid")
        tools = allowed.get("tools")
        if not isinstance(tools, list):
            raise self.make_error("invalid")
        return Choice(ToolChoice(allowed["mode"]), frozenset(self._name(tool) for tool in tools))

    def _name(self, value: Any) -> str:
        function = self._function(value) if isinstance(value, Mapping) else None
        name = function.get("name") if isinstance(function, Mapping) else None
        if not isinstance(name, str):
            raise self.make_error("invalid")
        return name

    # Where the API puts what belongs to these types

    def _function(self, value: Mapping[str, Any]) -> Any:
        return value.get("function")

    def _allowed(self, value: Mapping[str, Any]) -> Any:
        return value.get("allowed_tools")


class FunctionChoice(fields.Field[Choice]):
    """The older way to choose: `none`, `auto`, or an object with the name of a function."""

    def _deserialize(self, value: Any, *_args: Any, **_kwargs: Any) -> Choice:
        if value in ("none", "auto"):
            return Choice(ToolChoice(value))
        if isinstance(value, Mapping) and isinstance(value.get("name"), str):
            return Choice(ToolChoice("named", value["name"]))
        raise ValidationError("must be none, auto, or an object with the name of a function")


class ResponseFormat(fields.Field[JsonFormat | None]):
    """`text` (None), `json_object` (with llama-server's `schema`, if sent), or `json_schema`."""

    def _deserialize(self, value: Any, *_args: Any, **_kwargs: Any) -> JsonFormat | None:
        if not isinstance(value, Mapping):
            raise ValidationError("must be an object")
        match value.get("type"):
            case "text":
                return None
            case "json_object":
                return JsonFormat(json_schema(value.get("schema")))
            case "json_schema":
                return self._by_schema(value)
            case _:
                raise ValidationError({"type": ["must be text, json_object or json_schema"]})

    def _by_schema(self, value: Mapping[str, Any]) -> JsonFormat:
        wrapper = value.get("json_schema")
        if not isinstance(wrapper, Mapping):
            raise ValidationError({"json_schema": ["must be an object with a schema"]})
        try:
            return JsonFormat(json_schema(wrapper.get("schema")))
        except ValidationError as error:
            raise ValidationError({"json_schema": error.messages}) from error


def json_schema(value: Any) -> Mapping[str, Any] | bool | None:
    """What stands under the name `schema`; ValidationError for what is none."""
    if value is None or isinstance(value, bool | Mapping):
        return value
    raise ValidationError({"schema": ["must be a JSON Schema: an object, true or false"]})


Prompt = str | tuple[int, ...]


class Prompts(fields.Field[tuple[Prompt, ...]]):
    """A prompt or a list of prompts, each a string or a list of token ids."""

    default_error_messages = {  # noqa: RUF012 - marshmallow's own way to say it
        "required": "is required",
        "invalid": "must be a string, a list of strings, a list of token ids, or a list of such lists",
        "empty": "must not be empty",
        "many": f"must not hold more than {MAX_INPUTS} texts",
    }

    def _deserialize(self, value: Any, *_args: Any, **_kwargs: Any) -> tuple[Prompt, ...]:
        if isinstance(value, str):
            return (value,)
        if not isinstance(value, list):
            raise self.make_error("invalid")
        if not value:
            raise self.make_error("empty")
        if _are_ids(value):
            return (tuple(value),)
        if len(value) > MAX_INPUTS:
            raise self.make_error("many")
        return tuple(self._one(item) for item in value)

    def _one(self, item: Any) -> Prompt:
        if isinstance(item, str):
            return item
        if isinstance(item, list) and item and _are_ids(item):
            return tuple(item)
        raise self.make_error("invalid")


def token_ids_header(field: str, prompts: tuple[Prompt, ...]) -> dict[str, str]:
    """The header that says whose token ids they were taken for, as nothing tells whose they are; none for texts."""
    taken = any(not isinstance(prompt, str) for prompt in prompts)
    return {"X-Token-Ids": f"{field} (taken as the model's own)"} if taken else {}


def _are_ids(items: list[Any]) -> bool:
    return all(type(item) is int and 0 <= item < 2**31 for item in items)
