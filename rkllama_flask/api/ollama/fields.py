"""The fields of Ollama's requests that can be more than one type.

What they refuse, they refuse with InvalidRequest at once, so that the text stays Ollama's own.
"""

import json
from collections.abc import Mapping
from typing import Any

from marshmallow import fields

from rkllama_flask.api.ollama.options import Options, read_options
from rkllama_flask.api.web import schema
from rkllama_flask.api.web.schema import MAX_INPUTS, Unapplied
from rkllama_flask.errors import InvalidRequest
from rkllama_flask.generation.request import JsonFormat


class Arguments(schema.Arguments):
    """Those that Ollama's own clients keep as an object."""


class Format(fields.Field[JsonFormat | None]):
    """`json`, a JSON Schema, or an empty string, which is none."""

    def _deserialize(self, value: Any, *_args: Any, **_kwargs: Any) -> JsonFormat | None:
        if value == "":
            return None
        if value == "json":
            return JsonFormat()
        if isinstance(value, Mapping):
            return JsonFormat(value)
        said = json.dumps(value if isinstance(value, str) else json.dumps(value), ensure_ascii=False)
        raise InvalidRequest(f'invalid format: {said}; expected "json" or a valid JSON Schema object', param="format")


class OptionsField(fields.Field[Options]):
    """The options, sorted into what can be done with them."""

    def _deserialize(self, value: Any, *_args: Any, **_kwargs: Any) -> Options:
        if not isinstance(value, Mapping):
            raise InvalidRequest("options must be an object", param="options")
        return read_options(value)


class ContextField(fields.Field[tuple[int, ...]]):
    """Token ids of an earlier reply."""

    def _deserialize(self, value: Any, *_args: Any, **_kwargs: Any) -> tuple[int, ...]:
        if not isinstance(value, list) or not all(type(item) is int and 0 <= item < 2**31 for item in value):
            raise InvalidRequest("context must be a list of token ids", param="context")
        return tuple(value)


class Inputs(fields.Field[tuple[str, ...]]):
    """What is to be embedded: a text or several; an empty text alone is none."""

    def _deserialize(self, value: Any, *_args: Any, **_kwargs: Any) -> tuple[str, ...]:
        if isinstance(value, str):
            return (value,) if value else ()
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            if len(value) > MAX_INPUTS:
                raise InvalidRequest(f"input must not hold more than {MAX_INPUTS} texts", param="input")
            return tuple(value)
        raise InvalidRequest("invalid input type", param="input")


class TopLogprobs(Unapplied):
    """How many alternatives to each token; checked although none can be given."""

    def _deserialize(self, value: Any, *_args: Any, **_kwargs: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 20:
            raise InvalidRequest("top_logprobs must be between 0 and 20", param="top_logprobs")
        return value


class Role(fields.Field[str]):
    """Who speaks, in any case; OpenAI's `developer` is the system."""

    default_error_messages = {"required": "is required"}  # noqa: RUF012 - marshmallow's own way to say it

    def _deserialize(self, value: Any, *_args: Any, **_kwargs: Any) -> str:
        role = value.lower() if isinstance(value, str) else None
        role = "system" if role == "developer" else role
        if role not in ("system", "user", "assistant", "tool"):
            raise InvalidRequest("a message's role must be system, user, assistant or tool", param="messages")
        return role
