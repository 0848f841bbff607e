"""What real clients send is answered, and whatever is broken in it is refused and never a failure of the server."""

import copy
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.api.conftest import Api
from tests.api.real_clients import BODIES, CLAUDE_CODE, CODEX
from tests.contract import anthropic_spec, openai_spec

JSON = st.sampled_from([None, True, 0, -1, 1.5, 2**70, "", "x", "\0", [], [None], [[]], {}, {"type": "x"}, {"a": {}}])


@pytest.mark.parametrize("client", BODIES)
def test_every_client_is_answered(api: Api, client: str) -> None:
    path, body = BODIES[client]
    response = api.post(path, body)
    assert response.status_code == 200, response.text


def test_what_cannot_be_given_to_coding_clients_is_named(api: Api) -> None:
    claude = api.post("/v1/messages", CLAUDE_CODE).headers["X-Unapplied-Parameters"]
    assert set(claude.split(", ")) == {"context_management", "tools.2"}
    codex = api.post("/v1/responses", CODEX).headers["X-Unapplied-Parameters"]
    assert set(codex.split(", ")) == {"tools", "text.verbosity"}


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where anything stands in a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for key, item in inner for found in places(item, (*path, key)))]


def broken(body: dict[str, Any], at: tuple[Any, ...], value: Any) -> dict[str, Any]:
    changed = copy.deepcopy(body)
    holder: Any = changed
    for key in at[:-1]:
        holder = holder[key]
    holder[at[-1]] = value
    return changed


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
@pytest.mark.parametrize("client", BODIES)
def test_whatever_is_broken_in_it_is_refused_in_the_apis_shape_at_worst(api: Api, client: str, data: Any) -> None:
    path, body = BODIES[client]
    api.inference.loaded = [api.inference.catalog.models[1]]  # for a body whose model is null
    at = data.draw(st.sampled_from(places(body)[1:]))
    response = api.post(path, broken(body, at, data.draw(JSON)))
    assert response.status_code in (200, 400, 404)
    if response.status_code == 400:
        spec = anthropic_spec if path.startswith("/v1/messages") else openai_spec
        spec.check(response.json, "ErrorResponse")
        assert any(f"'{name}" in response.json["error"]["message"] for name in (at[0], "tool_choice", "function_call"))
