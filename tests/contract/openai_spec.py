"""Check values against OpenAI's own description of them."""

import json
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

_SPEC = json.loads((Path(__file__).parent / "specs" / "openai.json").read_text())


def check(value: Any, schema: str) -> None:
    """Raise what is wrong with a value of this schema's name."""
    document = {"$ref": f"#/components/schemas/{schema}", **_SPEC}
    Draft202012Validator(document).validate(value)


def property_names(schema: str) -> set[str]:
    """The names of all properties of the object that this schema describes."""
    node = _SPEC["components"]["schemas"][schema]
    names = set(node.get("properties", {}))
    for part in node.get("allOf", []):
        names |= property_names(part["$ref"].rpartition("/")[2]) if "$ref" in part else set(part.get("properties", {}))
    return names
