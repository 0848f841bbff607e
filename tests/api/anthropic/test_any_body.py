"""No body whatever makes the server fail; unknown fields are never refused, and refusals have the API's shape."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rkllama_flask.api.anthropic.schemas import MessagesSchema
from tests.api.anthropic.reading import HI
from tests.api.conftest import Api
from tests.contract.anthropic_spec import check

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=8,
)
KINDS = ["text", "image", "document", "search_result", "thinking", "tool_use", "tool_result", "unknown"]
KEYS = ["text", "thinking", "id", "name", "input", "tool_use_id", "content", "is_error", "source", "title"]
BLOCK = st.builds(
    lambda kind, fields: fields | {"type": kind}, st.sampled_from(KINDS), st.dictionaries(st.sampled_from(KEYS), JSON)
)
BODY = {"model": "tiny", "max_tokens": 9, "messages": HI}
ANY_BODY = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def assert_in_order(response: Any) -> None:
    assert response.status_code in (200, 400, 404)
    check(response.json, "Message" if response.status_code == 200 else "ErrorResponse")


@ANY_BODY
@given(fields=st.dictionaries(st.sampled_from([*MessagesSchema().fields, "metadata"]), JSON, max_size=4))
def test_any_field_with_any_value(api: Api, fields: dict[str, Any]) -> None:
    response = api.post("/v1/messages", BODY | fields | {"stream": False})
    assert_in_order(response)
    assert api.post("/v1/messages/count_tokens", BODY | fields).status_code in (200, 400, 404)


@ANY_BODY
@given(role=st.sampled_from(["user", "assistant", "system"]), blocks=st.lists(BLOCK | JSON, max_size=3))
def test_any_blocks(api: Api, role: str, blocks: list[Any]) -> None:
    assert_in_order(api.post("/v1/messages", BODY | {"messages": [{"role": role, "content": blocks}, *HI]}))


@ANY_BODY
@given(fields=st.dictionaries(st.text(min_size=1).map(lambda name: f"x_{name}"), JSON, max_size=4))
def test_unknown_fields_are_never_refused(api: Api, fields: dict[str, Any]) -> None:
    assert api.post("/v1/messages", fields | BODY).status_code == 200


@ANY_BODY
@given(raw=st.binary(max_size=200))
@pytest.mark.parametrize("encoding", ["", "gzip", "zstd"])
def test_any_bytes(api: Api, encoding: str, raw: bytes) -> None:
    response = api.client.post("/v1/messages", data=raw, headers={"Content-Encoding": encoding})
    assert response.status_code == 400
    check(response.json, "ErrorResponse")
