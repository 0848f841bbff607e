"""A JSON Schema as a small model reads it best: the form of its values with remarks, much shorter than the schema."""

import json
from collections.abc import Sequence

from rkllama_flask.generation.guided.json_formats import EXAMPLES
from rkllama_flask.generation.guided.json_schema import KINDS
from rkllama_flask.generation.guided.json_shapes import (
    Array,
    Free,
    Map,
    Member,
    Number,
    Object,
    Options,
    Part,
    Shapes,
    String,
    Union,
)

MAX_CHARACTERS = 100_000
"""More than a context takes; references can make any length of a short schema."""

_MOST_OPTIONS = 40
_MAX_DEPTH = 6
_LEFT_OUT = "..."


def outline(part: Part, shapes: Shapes) -> str:
    """The form of a value: `{"name": string, "age": integer}`. References in a circle end in dots, and so does what
    goes beyond MAX_CHARACTERS.
    """
    return _Outline(shapes).of(part)


class _Outline:
    def __init__(self, shapes: Shapes) -> None:
        self._shapes = shapes
        self._left = MAX_CHARACTERS

    def of(self, part: Part, depth: int = 0) -> str:
        if depth > _MAX_DEPTH or self._left <= 0:
            return _LEFT_OUT
        match self._shapes.of(part):
            case Options(texts):
                form = self._paid(" | ".join(texts[:_MOST_OPTIONS]))
            case String(_, _, format_):
                form = self._paid(f"string ({EXAMPLES[format_]})" if format_ in EXAMPLES else "string")
            case Number(integer=integer) as number:
                form = self._paid(("integer" if integer else "number") + _bounds(number))
            case Array(prefix, items):
                parts = self._each((*prefix, *(() if items is None else (items,))), depth)
                form = f"[{', '.join(parts)}{'' if items is None else ', ...'}]"
            case Object(members):
                form = self._object(members, depth)
            case Map(_, _, value):
                form = self._paid(f'{{"key": {self.of(value, depth + 1)}, ...}}')
            case Union(parts):
                form = " | ".join(dict.fromkeys(self._each(parts, depth)))
            case Free(part, kinds):
                said = json.dumps(part, ensure_ascii=False) if isinstance(part, dict) and part else ""
                form = self._paid(said or (" | ".join(sorted(kinds)) if len(kinds) < len(KINDS) else "any value"))
        return form

    def _each(self, parts: Sequence[Part], depth: int) -> list[str]:
        found = []
        for part in parts:
            found.append(self.of(part, depth + 1))
            if self._left <= 0:
                break
        return found

    def _object(self, members: Sequence[Member], depth: int) -> str:
        written = []
        for member in members:
            if self._left <= 0:
                written.append(_LEFT_OUT)
                break
            key = self._paid(json.dumps(member.key, ensure_ascii=False))
            text = f"{key}: {self.of(member.part, depth + 1)}"
            remark = member.part.get("description") if not isinstance(member.part, bool) else None
            written.append(f"{text} ({self._paid(remark)})" if isinstance(remark, str) and remark else text)
        return "{" + ", ".join(written) + "}"

    def _paid(self, text: str) -> str:
        self._left -= len(text)
        return text


def _bounds(number: Number) -> str:
    part = number.part
    assert not isinstance(part, bool)
    low, high = part.get("minimum"), part.get("maximum")
    if low is not None and high is not None:
        return f" from {low} to {high}"
    return f" from {low}" if low is not None else f" up to {high}" if high is not None else ""
