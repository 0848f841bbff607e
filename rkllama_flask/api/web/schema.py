"""The rules every request schema shares: unknown fields are ignored, null means unset, wrong types are refused.

Field types are JSON's own: no number is read out of a string, and no string, number or null counts as a boolean.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import cached_property, lru_cache
from typing import Any, cast

from marshmallow import EXCLUDE, Schema, ValidationError, fields, missing, pre_load

from rkllama_flask.api.web.half_characters import whole_json
from rkllama_flask.errors import InvalidRequest

_NARROWED = 64
"""Combinations of fields for which a schema is kept; making one costs a millisecond."""

MAX_INPUTS = 4096
"""Texts that one request may have embedded or completed; OpenAI takes half as many."""

MAX_ITEMS = 100_000
"""Of a list whose items have to be looked at one by one."""

_Texts = dict[str, str | list[Any] | dict[Any, Any]]

_REQUIRED: _Texts = {"required": "is required", "null": "must not be null"}


def _texts(own: _Texts) -> _Texts:
    return _REQUIRED | own


class Integer(fields.Integer):
    """A whole number of 64 bits; 5.0 is one, "5" and true are not."""

    default_error_messages = _texts({"invalid": "must be an integer", "too_large": "is too large"})

    def _validated(self, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int | float) or value != value // 1:
            raise self.make_error("invalid")
        if not -(2**63) <= value < 2**63:
            raise self.make_error("too_large")
        return int(value)


class Number(fields.Float):
    """A finite number; "0.5" and true are none."""

    default_error_messages = _texts({"invalid": "must be a number", "too_large": "is too large"})

    def _validated(self, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.make_error("invalid")
        try:
            return float(value)
        except OverflowError as error:
            raise self.make_error("too_large") from error


class Boolean(fields.Field[bool]):
    """true or false and nothing like them."""

    default_error_messages = _texts({"invalid": "must be true or false"})

    def _deserialize(self, value: Any, *_args: Any, **_kwargs: Any) -> bool:
        if not isinstance(value, bool):
            raise self.make_error("invalid")
        return value


class String(fields.String):
    """A string."""

    default_error_messages = _texts({"invalid": "must be a string"})


class List(fields.List[Any]):
    """A list. Its first wrong item is the error; what lies behind that is not looked at, however much it is."""

    default_error_messages = _texts({"invalid": "must be a list", "many": f"must not hold more than {MAX_ITEMS} items"})

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> list[Any]:  # noqa: ARG002
        if not isinstance(value, list):
            raise self.make_error("invalid")
        if self._are_plain(value):
            return list(value)
        found = [self._item(index, item, kwargs) for index, item in enumerate(value[:MAX_ITEMS])]
        if len(value) > MAX_ITEMS:
            raise self.make_error("many")
        return found

    def _are_plain(self, value: list[Any]) -> bool:
        """Whether the items are right as they are: marshmallow takes a microsecond or two to say so of each."""
        if self.inner.validators:
            return False
        if type(self.inner) is String:
            return all(isinstance(item, str) for item in value)
        return type(self.inner) is fields.Raw and all(item is not None for item in value)

    def _item(self, index: int, item: Any, kwargs: dict[str, Any]) -> Any:
        try:
            return self.inner.deserialize(item, **kwargs)
        except ValidationError as error:
            raise ValidationError({index: error.messages}) from error


class Object(fields.Dict):
    """A JSON object that is taken as it is."""

    default_error_messages = _texts({"invalid": "must be an object"})


class Arguments(fields.Field[str]):
    """An old call's arguments, as text. Models write what is no JSON too, and clients send what they keep of it."""

    def _deserialize(self, value: Any, *_args: Any, **_kwargs: Any) -> str:
        return whole_json(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)) or "{}"


class Nested(fields.Nested):
    """An object with a schema of its own."""

    default_error_messages = _texts({"type": "must be an object"})


class StringOrList(fields.Field[tuple[str, ...]]):
    """A string, or a list of strings; a tuple either way."""

    default_error_messages = _texts({"invalid": "must be a string or a list of strings"})

    def _deserialize(self, value: Any, *_args: Any, **_kwargs: Any) -> tuple[str, ...]:
        if isinstance(value, str):
            return (value,)
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return tuple(value)
        raise self.make_error("invalid")


class EitherOf(fields.Field[Any]):
    """The value of the first of these fields that takes it; where none does, `invalid` is the error."""

    def __init__(self, *kinds: fields.Field[Any], invalid: str, **kwargs: Any) -> None:
        super().__init__(error_messages={"invalid": invalid}, **kwargs)
        self.kinds = kinds

    def _deserialize(self, value: Any, *_args: Any, **_kwargs: Any) -> Any:
        for kind in self.kinds:
            with suppress(ValidationError):
                return kind.deserialize(value)
        raise self.make_error("invalid")


class Unapplied(fields.Field[Any]):
    """A field that the API knows and this server can't honour: its name is told, and its value is not looked at but
    for being of the right `kind`.

    A `neutral` value asks for nothing, so it is not worth telling.
    """

    default_error_messages = _REQUIRED

    def __init__(self, kind: fields.Field[Any] | None = None, *, neutral: tuple[Any, ...] = (), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.kind = kind or fields.Raw()
        self.neutral = neutral

    def _deserialize(self, value: Any, *_args: Any, **_kwargs: Any) -> Any:
        return self.kind.deserialize(value)

    def asks_for_something(self, value: Any) -> bool:
        """Whether an answer without this field could differ from what was asked."""
        return value is not None and not any(value == same and type(value) is type(same) for same in self.neutral)


class RequestSchema(Schema):
    """Base of every request schema."""

    class Meta:
        unknown = EXCLUDE

    error_messages = {"type": "must be an object"}  # noqa: RUF012 - marshmallow's own way to say it

    _full = True

    @pre_load
    def _drop_nulls(self, data: Any, **_: Any) -> Any:
        return {key: value for key, value in data.items() if value is not None} if isinstance(data, Mapping) else data

    def load(self, data: Any, **options: Any) -> Any:
        """Check `data`, with a schema of just the fields that it has and those that need not be sent to matter.

        marshmallow pays for each field it knows, and a message or a request has a few of dozens.
        """
        if self._full and isinstance(data, Mapping):
            return self._narrowed(frozenset(self._names.intersection(data))).load(data, **options)
        return super().load(data, **options)

    @cached_property
    def _names(self) -> frozenset[str]:
        """The fields that say nothing where they are not sent."""
        optional = ((name, field) for name, field in self.fields.items() if not field.required)
        return frozenset(name for name, field in optional if field.load_default is missing and not field.data_key)

    @cached_property
    def _narrowed(self) -> Callable[[frozenset[str]], "RequestSchema"]:
        @lru_cache(maxsize=_NARROWED)
        def make(sent: frozenset[str]) -> RequestSchema:
            schema = type(self)(only=[name for name in self.fields if name in sent or name not in self._names])
            schema._full = False
            return schema

        return make

    def read(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The fields that were sent, checked; InvalidRequest names the first wrong one by its dotted path."""
        try:
            return cast(dict[str, Any], self.load(body))
        except ValidationError as error:
            raise _invalid(error.messages) from error

    def unapplied(self, body: Mapping[str, Any]) -> tuple[str, ...]:
        """The names of the fields in `body` that this server knows and can't honour."""
        return tuple(name for name, field in self._unapplied.items() if field.asks_for_something(body.get(name)))

    @cached_property
    def _unapplied(self) -> dict[str, Unapplied]:
        return {name: field for name, field in self.fields.items() if isinstance(field, Unapplied)}


def _invalid(messages: Any) -> InvalidRequest:
    path, text = next(_errors(messages, ()))
    param = ".".join(path) or None
    sentence = f"{text[0].lower()}{text[1:].rstrip('.')}."
    return InvalidRequest(f"'{param}' {sentence}" if param else f"The request {sentence}", param=param)


def _errors(messages: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    if isinstance(messages, Mapping):
        for key, value in messages.items():
            yield from _errors(value, path if key == "_schema" else (*path, str(key)))
    elif isinstance(messages, list):
        for value in messages:
            yield from _errors(value, path)
    else:
        yield path, str(messages)
