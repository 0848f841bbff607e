"""A JSON Schema as a small model reads it best: the form of its values with remarks, much shorter than the schema."""

import json
from collections.abc import Sequence

from rkllama_flask.generation.json_formats import EXAMPLES
from rkllama_flask.generation.json_schema import KINDS
from rkllama_flask.generation.json_shapes import (
    Array,
    Free,
    Member,
    Number,
    Object,
    Options,
    Part,
    Shapes,
    String,
    Union,
)

_MOST_OPTIONS = 40
_MAX_DEPTH = 6


def outline(part: Part, shapes: Shapes, *, depth: int = 0) -> str:
    """The form of a value: `{"name": string, "age": integer}`. References in a circle end in dots."""
    if depth > _MAX_DEPTH:
        return "..."
    match shapes.of(part):
        case Options(texts):
            form = " | ".join(texts[:_MOST_OPTIONS])
        case String(_, _, format_):
            form = f"string ({EXAMPLES[format_]})" if format_ in EXAMPLES else "string"
        case Number(integer=integer) as number:
            form = ("integer" if integer else "number") + _bounds(number)
        case Array(prefix, items):
            parts = [outline(one, shapes, depth=depth + 1) for one in (*prefix, *(() if items is None else (items,)))]
            form = f"[{', '.join(parts)}{'' if items is None else ', ...'}]"
        case Object(members):
            form = _object(members, shapes, depth)
        case Union(parts):
            form = " | ".join(dict.fromkeys(outline(one, shapes, depth=depth + 1) for one in parts))
        case Free(part, kinds):
            said = json.dumps(part, ensure_ascii=False) if isinstance(part, dict) and part else ""
            form = said or (" | ".join(sorted(kinds)) if len(kinds) < len(KINDS) else "any value")
    return form


def _object(members: Sequence[Member], shapes: Shapes, depth: int) -> str:
    written = []
    for member in members:
        text = f"{json.dumps(member.key, ensure_ascii=False)}: {outline(member.part, shapes, depth=depth + 1)}"
        remark = member.part.get("description") if not isinstance(member.part, bool) else None
        written.append(f"{text} ({remark})" if isinstance(remark, str) and remark else text)
    return "{" + ", ".join(written) + "}"


def _bounds(number: Number) -> str:
    part = number.part
    assert not isinstance(part, bool)
    low, high = part.get("minimum"), part.get("maximum")
    if low is not None and high is not None:
        return f" from {low} to {high}"
    return f" from {low}" if low is not None else f" up to {high}" if high is not None else ""
