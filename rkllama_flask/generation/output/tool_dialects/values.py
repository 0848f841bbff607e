"""Parameters that a model wrote as plain text, as the JSON values that their schema wants."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from rkllama_flask.generation.output.arriving import ArrivingText
from rkllama_flask.generation.output.lenient_json import LenientJson, mended, strict_word


def as_json(text: str, schema: Any) -> str:
    """JSON text of the value: of the schema's type if it can be read so, else a string."""
    types = set(_types(schema))
    if types == {"string"}:
        return json.dumps(text, ensure_ascii=False)
    if not types:
        return text.strip() if _is_json(text) else json.dumps(text, ensure_ascii=False)
    candidate = mended(text) if text.lstrip()[:1] in ("{", "[") else strict_word(text.strip())
    value = json.loads(candidate)
    if isinstance(value, float) and value.is_integer() and "integer" in types and "number" not in types:
        return str(int(value))
    return candidate if _kind(value) & types - {"string"} else json.dumps(text, ensure_ascii=False)


def may_be_text(schema: Any) -> bool:
    """Whether a value of this schema may be a text, also where it says nothing about it."""
    types = set(_types(schema))
    return not types or "string" in types


def is_value(text: str) -> bool:
    """Whether this is one whole value that is no text, as JSON or Python writes it."""
    if text[:1] not in ("{", "["):
        return not strict_word(text).startswith('"')
    arriving = ArrivingText(text, ended=True)
    try:
        next(LenientJson(arriving, list[str]().append).value())
    except StopIteration as done:
        return bool(done.value) and arriving.position == len(text)
    return False  # never: all of it is there


def _types(schema: Any) -> Iterator[str]:
    if not isinstance(schema, Mapping):
        return
    said = schema.get("type")
    if isinstance(said, str):
        yield said
    elif isinstance(said, list):
        yield from (one for one in said if isinstance(one, str))
    else:
        for option in (*_list(schema.get("anyOf")), *_list(schema.get("oneOf"))):
            if option is not schema:
                yield from _types(option)
        for value in _list(schema.get("enum")):
            yield from sorted(_kind(value))


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _kind(value: Any) -> set[str]:
    if value is None or isinstance(value, bool):
        return {"null" if value is None else "boolean"}
    if isinstance(value, int):
        return {"integer", "number"}
    names = {float: "number", str: "string", list: "array", dict: "object"}
    return {names[type(value)]}


def _is_json(text: str) -> bool:
    """Whether it is strict JSON already, and no string without quotes that looks like a constant."""
    try:
        json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return False
    return True


def _refuse(name: str) -> Any:
    raise ValueError(name)
