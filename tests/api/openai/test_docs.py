"""docs/openai.md says of every field what becomes of it."""

import re
from pathlib import Path

import pytest

from rkllama_flask.api.openai.responses_input import ResponseSchema
from rkllama_flask.api.openai.schemas import ChatSchema, CompletionSchema, EmbeddingSchema
from tests.contract.openai_spec import property_names

DOCS = (Path(__file__).parents[3] / "docs" / "openai.md").read_text()
NAMED = set(re.findall(r"`([a-z_]+)`", DOCS))


@pytest.mark.parametrize("schema", [ChatSchema, CompletionSchema, EmbeddingSchema, ResponseSchema])
def test_every_field_that_is_read_is_documented(schema: type) -> None:
    assert set(schema().fields) - NAMED - {"reasoning"} == set()


@pytest.mark.parametrize(
    "schema",
    [
        "CreateChatCompletionRequest",
        "CreateCompletionRequest",
        "CreateEmbeddingRequest",
        "CreateResponse",
        "TokenCountsBody",
    ],
)
def test_every_field_of_openais_description_is_documented(schema: str) -> None:
    assert property_names(schema) - NAMED == set()
