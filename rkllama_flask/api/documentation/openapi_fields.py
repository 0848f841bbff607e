"""Request schemas as JSON Schema: apispec's conversion, and the shapes of this package's own fields."""

from collections.abc import Mapping
from typing import Any

from apispec.ext.marshmallow import MarshmallowPlugin
from apispec.ext.marshmallow.common import resolve_schema_cls
from apispec.ext.marshmallow.openapi import OpenAPIConverter
from marshmallow import fields
from marshmallow.validate import Range

from rkllama_flask.api.anthropic import fields as anthropic
from rkllama_flask.api.ollama import fields as ollama
from rkllama_flask.api.ollama.options import HONOURED, NAMED
from rkllama_flask.api.openai import fields as openai
from rkllama_flask.api.openai import responses_input as responses
from rkllama_flask.api.openai import responses_items
from rkllama_flask.api.web import ollama_fields
from rkllama_flask.api.web.schema import Arguments, Boolean, EitherOf, StringOrList, Unapplied

_STRING = {"type": "string"}
_OBJECT = {"type": "object"}
_TEXTS = {"type": "array", "items": _STRING}
_UNAPPLIED = "Known and not honoured: the reply names it in `X-Unapplied-Parameters` where it asks for something."
_SOME = {"minItems": 1}
_TOKENS = {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 2**31 - 1}}


def _part(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": ["type"], "properties": {"type": _STRING, **properties}}


def _format(*kinds: str, **more: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["type"],
        "properties": {"type": {"type": "string", "enum": [*kinds]}, **more},
    }


_SHAPES: Mapping[type[fields.Field[Any]], Mapping[str, Any]] = {
    Boolean: {"type": "boolean"},
    StringOrList: {"anyOf": [_STRING, _TEXTS]},
    openai.Content: {
        "description": "Text, or a list of parts of text.",
        "anyOf": [_STRING, {"type": "array", "items": _part(text=_STRING)}],
    },
    Arguments: {"type": "string", "contentMediaType": "application/json"},
    openai.ToolChoiceField: {
        "anyOf": [{"type": "string", "enum": ["none", "auto", "required"]}, _format("function", "allowed_tools")]
    },
    openai.FunctionChoice: {"anyOf": [{"type": "string", "enum": ["none", "auto"]}, _OBJECT]},
    openai.ResponseFormat: _format("text", "json_object", "json_schema", json_schema=_OBJECT),
    responses.FlatFormat: _format("text", "json_object", "json_schema", schema=_OBJECT),
    openai.Prompts: {
        "description": "A text or token ids, or a list of several.",
        "anyOf": [
            _STRING,
            {"type": "array", "minItems": 1, "items": {"anyOf": [_STRING, _TOKENS, *[_TOKENS["items"]]]}},
        ],
    },
    responses_items.Items: {
        "description": "Text, or the items of a conversation.",
        "anyOf": [_STRING, {"type": "array", "items": _OBJECT}],
    },
    responses.Tools: {"type": "array", "items": _part(name=_STRING, description=_STRING, parameters=_OBJECT)},
    anthropic.Content: {
        "description": "Text, or a list of blocks.",
        "anyOf": [_STRING, {"type": "array", "items": _part(text=_STRING)}],
    },
    anthropic.SystemPrompt: {"anyOf": [_STRING, {"type": "array", "items": _part(text=_STRING)}]},
    anthropic.OutputFormat: _format("json_schema", schema=_OBJECT),
    ollama_fields.KeepAlive: {
        "description": "Seconds, or a duration such as `5m`; negative: for ever; 0: unload.",
        "type": ["number", "string"],
    },
    ollama_fields.Think: {"anyOf": [{"type": "boolean"}, {"type": "string", "enum": [*ollama_fields.LEVELS]}]},
    ollama.Arguments: {"description": "An object, or its JSON text.", "anyOf": [_OBJECT, _STRING]},
    ollama.Format: {
        "description": "A JSON Schema, `json`, or an empty text for none.",
        "anyOf": [{"type": "string", "enum": ["", "json"]}, _OBJECT],
    },
    ollama.OptionsField: {
        "type": "object",
        "description": f"Honoured: {', '.join(HONOURED)}. Known, and named in `X-Unapplied-Parameters` where they ask "
        f"for something: {', '.join(NAMED)}.",
    },
    ollama.ContextField: {"description": "Token ids that an earlier reply ended with.", **_TOKENS},
    ollama.Inputs: {"anyOf": [_STRING, _TEXTS]},
    ollama.TopLogprobs: {"type": "number", "minimum": 0, "maximum": 20, "description": _UNAPPLIED},
    ollama.Role: {"type": "string", "description": "`system`, `developer`, `user`, `assistant` or `tool`."},
    fields.Raw: {},
}


class _Converter(OpenAPIConverter):
    """Says what a schema's docstring says, and leaves out defaults that belong to Python alone."""

    def schema2jsonschema(self, schema: Any) -> dict[str, Any]:
        found: dict[str, Any] = super().schema2jsonschema(schema)  # type: ignore[no-untyped-call]
        documentation = resolve_schema_cls(schema).__dict__.get("__doc__")
        return found | ({"description": documentation.partition("\n\n")[0]} if documentation else {})

    def field2default(self, field: fields.Field[Any], **kwargs: Any) -> dict[str, Any]:
        found: dict[str, Any] = super().field2default(field, **kwargs)
        return found if isinstance(found.get("default"), bool | int | float | str) else {}

    def field2type_and_format(self, field: fields.Field[Any], **_: Any) -> dict[str, Any]:
        for kind in type(field).__mro__:
            if kind in _SHAPES:
                return dict(_SHAPES[kind])
        if isinstance(field, Unapplied):
            return self._property(field.kind) | {"description": _UNAPPLIED}
        if isinstance(field, EitherOf):
            return {"anyOf": [self._property(kind) for kind in field.kinds]}
        found: dict[str, Any] = super().field2type_and_format(field)
        return found

    def _property(self, field: fields.Field[Any]) -> dict[str, Any]:
        found: dict[str, Any] = self.field2property(field)
        return found

    def field2range(self, field: fields.Field[Any], ret: Any) -> dict[str, Any]:
        found: dict[str, Any] = super().field2range(field, ret)
        for rule in field.validators:
            if isinstance(rule, Range) and not rule.min_inclusive and "minimum" in found:
                found["exclusiveMinimum"] = found.pop("minimum")
        return found


class Plugin(MarshmallowPlugin):
    """What turns the schemas that operations name into components."""

    Converter = _Converter

    def __init__(self) -> None:
        super().__init__(schema_name_resolver=component_name)


def component_name(schema: Any) -> str:
    """`openai.Chat` for the ChatSchema in openai/schemas.py: other modules may use the same word."""
    kind = resolve_schema_cls(schema)
    assert isinstance(kind, type)
    rooms = [part for part in kind.__module__.split(".")[2:] if part != "schemas"]
    return ".".join([*rooms, kind.__name__.removesuffix("Schema")])
