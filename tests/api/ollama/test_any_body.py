"""No body whatever makes the server fail, and refusals have the API's shape."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rkllama_flask.api.ollama.options import HONOURED, NAMED
from rkllama_flask.api.ollama.schemas import ChatSchema, CreateSchema, EmbedSchema, GenerateSchema
from tests.api.ollama.conftest import OllamaApi

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=8,
)
CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "Hi"}]}
ANY_BODY = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
ROUTES = [
    ("/api/chat", ChatSchema, CHAT),
    ("/api/generate", GenerateSchema, {"model": "tiny", "prompt": "Once"}),
    ("/api/embed", EmbedSchema, {"model": "tiny", "input": "Hi"}),
    ("/api/create", CreateSchema, {"model": "new", "from": "tiny"}),
]


def assert_in_order(response: Any) -> None:
    assert response.status_code in (200, 400, 404), response.text
    if response.status_code != 200:
        assert set(response.json) == {"error"}
        assert isinstance(response.json["error"], str)


@pytest.mark.parametrize(("path", "schema", "body"), ROUTES)
@ANY_BODY
@given(data=st.data())
def test_any_field_with_any_value(api: OllamaApi, path: str, schema: Any, body: Any, data: st.DataObject) -> None:
    names = [field.data_key or name for name, field in schema().fields.items()]
    fields = data.draw(st.dictionaries(st.sampled_from(names), JSON, max_size=4))
    assert_in_order(api.post(path, body | fields))


@ANY_BODY
@given(options=st.dictionaries(st.sampled_from([*HONOURED, *NAMED, "unknown"]), JSON, max_size=5))
def test_any_option_with_any_value(api: OllamaApi, options: dict[str, Any]) -> None:
    assert_in_order(api.post("/api/chat", CHAT | {"options": options}))


@ANY_BODY
@given(
    message=st.dictionaries(
        st.sampled_from(["role", "content", "thinking", "images", "tool_calls", "tool_name", "tool_call_id"]), JSON
    )
)
def test_any_message(api: OllamaApi, message: dict[str, Any]) -> None:
    assert_in_order(api.post("/api/chat", CHAT | {"messages": [{"role": "tool"} | message]}))


@ANY_BODY
@given(body=JSON)
@pytest.mark.parametrize("path", ["/api/show", "/api/copy", "/api/delete", "/api/push", "/api/chat", "/api/embeddings"])
def test_any_json(api: OllamaApi, path: str, body: Any) -> None:
    assert_in_order(api.client.open(path, method="DELETE" if path == "/api/delete" else "POST", json=body))


@ANY_BODY
@given(raw=st.binary(max_size=200))
def test_any_bytes(api: OllamaApi, raw: bytes) -> None:
    response = api.client.post("/api/chat", data=raw)
    assert response.status_code == 400
    assert set(response.json) == {"error"}
