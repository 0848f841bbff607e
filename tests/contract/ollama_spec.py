"""Check replies against Ollama's own description of them."""

from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator

_SPEC = yaml.safe_load((Path(__file__).parent / "specs" / "ollama" / "openapi.yaml").read_text())


def check(value: Any, schema: str) -> None:
    """Raise what is wrong with a value of this schema's name."""
    document = {"$ref": f"#/components/schemas/{schema}", "components": _SPEC["components"]}
    Draft202012Validator(document).validate(value)


def property_names(schema: str) -> set[str]:
    """The names of all properties of the object that this schema describes."""
    return set(_SPEC["components"]["schemas"][schema].get("properties", {}))


def routes() -> set[tuple[str, str]]:
    """Every method and path that is described."""
    return {(method.upper(), path) for path, methods in _SPEC["paths"].items() for method in methods}


def replies(method: str, path: str) -> dict[str, str]:
    """The schemas' names of what a route answers with 200, by content type; empty where it has no body."""
    content = _SPEC["paths"][path][method.lower()]["responses"]["200"].get("content", {})
    return {kind: one["schema"]["$ref"].rpartition("/")[2] for kind, one in content.items()}
