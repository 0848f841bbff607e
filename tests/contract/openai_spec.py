"""Check values against OpenAI's own description of them."""

import json
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

_SPECS = Path(__file__).parent / "specs"
_SPEC: dict[str, Any] = {"components": {"schemas": {}}}
for _file in ("openai_responses.json", "openai.json"):
    _SPEC["components"]["schemas"] |= json.loads((_SPECS / _file).read_text())["components"]["schemas"]
_SCHEMAS = _SPEC["components"]["schemas"]
_EVENTS = [one["$ref"].rpartition("/")[2] for one in _SCHEMAS["ResponseStreamEvent"]["anyOf"]]
RESPONSE_EVENTS = {_SCHEMAS[name]["properties"]["type"]["enum"][0]: name for name in _EVENTS}
"""The schema of each event of a response's stream by its type."""


def check(value: Any, schema: str) -> None:
    """Raise what is wrong with a value of this schema's name."""
    document = {"$ref": f"#/components/schemas/{schema}", **_SPEC}
    Draft202012Validator(document).validate(value)


def property_names(schema: str) -> set[str]:
    """The names of all properties of the object that this schema describes."""
    node = _SCHEMAS[schema]
    names = set(node.get("properties", {}))
    for part in node.get("allOf", []):
        names |= property_names(part["$ref"].rpartition("/")[2]) if "$ref" in part else set(part.get("properties", {}))
    return names
