"""docs/ollama.md says of every route, field and option what becomes of it."""

import re
from pathlib import Path

import pytest

from rkllama_flask.api.ollama.options import HONOURED, NAMED
from rkllama_flask.api.ollama.schemas import (
    ChatSchema,
    CopySchema,
    CreateSchema,
    EmbeddingsSchema,
    EmbedSchema,
    GenerateSchema,
    MessageSchema,
)
from tests.api.ollama.conftest import OllamaApi
from tests.contract.ollama_spec import property_names, routes

DOCS = (Path(__file__).parents[3] / "docs" / "ollama.md").read_text()
NAMES = set(re.findall(r"`([a-z0-9_]+)`", DOCS))
INSIDE = {"role", "content", "thinking", "tool_calls", "source", "destination"}
"""What needs no words: parts of a message, and the two names of a copy."""


@pytest.mark.parametrize(
    "schema", [ChatSchema, GenerateSchema, EmbedSchema, EmbeddingsSchema, CreateSchema, CopySchema, MessageSchema]
)
def test_every_field_that_is_read_is_documented(schema: type) -> None:
    names = {field.data_key or name for name, field in schema().fields.items()}
    assert names - NAMES - INSIDE == set()


def test_every_option_is_documented() -> None:
    assert {*HONOURED, *NAMED} - NAMES == set()


@pytest.mark.parametrize(
    "schema", ["ChatRequest", "GenerateRequest", "EmbedRequest", "CreateRequest", "ModelOptions", "ShowRequest"]
)
def test_every_field_of_ollamas_description_is_documented(schema: str) -> None:
    assert property_names(schema) - NAMES == set()


def test_every_route_of_ollamas_description_is_there(api: OllamaApi) -> None:
    ours = {(method, str(rule)) for rule in api.app.url_map.iter_rules() for method in rule.methods or ()}
    assert routes() - ours == set()


def test_every_route_is_documented(api: OllamaApi) -> None:
    ours = {str(rule) for rule in api.app.url_map.iter_rules() if str(rule).startswith("/api/")}
    assert {path for path in ours if f"`{path}" not in DOCS and f" {path}`" not in DOCS} == {"/api/blobs/<digest>"}
