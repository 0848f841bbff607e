"""No body whatever makes the server fail; unknown fields are never refused, and refusals have the API's shape."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rkllama_flask.api.openai.responses_input import ResponseSchema
from rkllama_flask.api.openai.schemas import ChatSchema, CompletionSchema, EmbeddingSchema
from tests.api.conftest import Api
from tests.contract.openai_spec import check

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=8,
)
CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "Hi"}]}
COMPLETION = {"model": "tiny", "prompt": "Once"}
EMBEDDING = {"model": "tiny", "input": "Once"}
RESPONSE = {"model": "tiny", "input": "Hi"}
ANY_BODY = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def bodies(names: list[str]) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(st.sampled_from(names), JSON, max_size=4)


def assert_in_order(response: Any) -> None:
    assert response.status_code in (200, 400, 404)
    if response.status_code != 200:
        check(response.json, "ErrorResponse")


@ANY_BODY
@given(fields=bodies(list(ChatSchema().fields)))
def test_any_field_of_a_chat_with_any_value(api: Api, fields: dict[str, Any]) -> None:
    assert_in_order(api.post("/v1/chat/completions", CHAT | fields))


@ANY_BODY
@given(
    message=bodies(["role", "content", "tool_calls", "tool_call_id", "function_call", "name", "refusal", "reasoning"])
)
def test_any_message_of_a_chat(api: Api, message: dict[str, Any]) -> None:
    assert_in_order(api.post("/v1/chat/completions", CHAT | {"messages": [{"role": "assistant"} | message]}))


@ANY_BODY
@given(fields=bodies(list(CompletionSchema().fields)))
def test_any_field_of_a_completion_with_any_value(api: Api, fields: dict[str, Any]) -> None:
    assert_in_order(api.post("/v1/completions", COMPLETION | fields))


@ANY_BODY
@given(fields=bodies(list(EmbeddingSchema().fields)))
def test_any_field_of_an_embedding_with_any_value(api: Api, fields: dict[str, Any]) -> None:
    assert_in_order(api.post("/v1/embeddings", EMBEDDING | fields))


@ANY_BODY
@given(fields=bodies(list(ResponseSchema().fields)))
def test_any_field_of_a_response_with_any_value(api: Api, fields: dict[str, Any]) -> None:
    assert_in_order(api.post("/v1/responses", RESPONSE | fields))


@ANY_BODY
@given(
    kind=st.sampled_from(["message", "function_call", "function_call_output", "reasoning"]),
    item=bodies(["role", "content", "call_id", "name", "arguments", "output", "summary", "status"]),
)
def test_any_item_of_a_response(api: Api, kind: str, item: dict[str, Any]) -> None:
    assert_in_order(api.post("/v1/responses", RESPONSE | {"input": [{"type": kind} | item]}))


@ANY_BODY
@given(
    path=st.sampled_from(["/tokenize", "/detokenize", "/apply-template", "/v1/chat/completions/input_tokens"]),
    fields=bodies(["model", "content", "tokens", "messages", "add_special", "parse_special", "tools"]),
)
def test_any_field_of_what_counts_and_cuts(api: Api, path: str, fields: dict[str, Any]) -> None:
    assert_in_order(api.post(path, CHAT | {"model": "org/big:7b", "content": "Hi", "tokens": [5]} | fields))


@ANY_BODY
@given(fields=st.dictionaries(st.text(min_size=1).map(lambda name: f"x_{name}"), JSON, max_size=4))
def test_unknown_fields_are_never_refused(api: Api, fields: dict[str, Any]) -> None:
    assert api.post("/v1/chat/completions", fields | CHAT).status_code == 200
    assert api.post("/v1/completions", fields | COMPLETION).status_code == 200
    assert api.post("/v1/embeddings", fields | EMBEDDING).status_code == 200
    assert api.post("/v1/responses", fields | RESPONSE).status_code == 200


@ANY_BODY
@given(raw=st.binary(max_size=200))
@pytest.mark.parametrize("encoding", ["", "gzip", "zstd"])
def test_any_bytes(api: Api, encoding: str, raw: bytes) -> None:
    response = api.client.post("/v1/chat/completions", data=raw, headers={"Content-Encoding": encoding})
    assert response.status_code == 400
    check(response.json, "ErrorResponse")
