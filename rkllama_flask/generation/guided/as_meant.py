"""A JSON Schema as its client means it, in the words of today's drafts.

Serialisers write `null` for a keyword that was not set; OpenAPI 3.0 says `nullable`, and with draft 4 it says
`exclusiveMinimum: true` beside a `minimum`.
"""

from collections.abc import Mapping
from typing import Any

_DEPTH = 64
"""Deeper parts stay as they are: what checks a schema refuses it there."""

_VALUES = frozenset(("const", "default", "example", "examples", "enum", "required"))
"""Keywords whose values are no schemas, so that a null within them is meant."""

_MEANT_NULLS = frozenset(("const", "default", "example"))
_NAMED_PARTS = frozenset(
    ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas", "dependencies")
)
_ELSEWHERE = frozenset(("$ref", "allOf", "anyOf", "oneOf", "const", "not", "if"))
_EXCLUSIVE = (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum"))
_DRAFT_4 = "http://json-schema.org/draft-04/schema"
_DRAFT_6 = "http://json-schema.org/draft-06/schema#"


def as_meant(schema: Any, depth: int = 0) -> Any:
    """The schema without keywords that are null, and with today's words for those of OpenAPI 3.0 and draft 4."""
    if depth > _DEPTH:
        return schema
    if isinstance(schema, list):
        return [as_meant(part, depth + 1) for part in schema]
    if not isinstance(schema, Mapping):
        return schema
    found = {
        key: _keyword(key, value, depth + 1)
        for key, value in schema.items()
        if value is not None or key in _MEANT_NULLS
    }
    asked = found.get("$schema")
    if isinstance(asked, str) and asked.rstrip("#") == _DRAFT_4:  # the next one differs in what is rewritten here
        found["$schema"] = _DRAFT_6
    for exclusive, bound in _EXCLUSIVE:
        if isinstance(found.get(exclusive), bool) and found.pop(exclusive) and bound in found:
            found[exclusive] = found.pop(bound)
    return _with_null(found) if found.get("nullable") is True else found


def _keyword(key: str, value: Any, depth: int) -> Any:
    if key in _VALUES:
        return value
    if key in _NAMED_PARTS and isinstance(value, Mapping):
        return {name: as_meant(part, depth + 1) for name, part in value.items()}
    return as_meant(value, depth)


def _with_null(schema: dict[str, Any]) -> dict[str, Any]:
    """A nullable schema as one that allows null."""
    rest = {key: value for key, value in schema.items() if key != "nullable"}
    said = rest.get("type")
    if rest.keys() & _ELSEWHERE:
        top: dict[str, Any] = {key: rest.pop(key) for key in ("$schema", "$defs", "definitions") if key in rest}
        return {**top, "anyOf": [rest, {"type": "null"}]}
    if isinstance(rest.get("enum"), list) and None not in rest["enum"]:
        rest["enum"] = [*rest["enum"], None]
    if isinstance(said, str | list):
        kinds = [said] if isinstance(said, str) else said
        rest["type"] = [*kinds, *(() if "null" in kinds else ("null",))]
    return rest
