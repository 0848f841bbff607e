"""What probes and operators see."""

import pytest

import rkllama_flask
from tests.api.conftest import Api


@pytest.mark.parametrize("path", ["/health", "/v1/health"])
def test_health_tells_how_the_server_stands(api: Api, path: str) -> None:
    api.post("/v1/models/load", {"model": "tiny"})
    body = api.get(path).json
    assert body["status"] == "ok"
    assert body["version"] == rkllama_flask.__version__
    assert body["queue"] == {"waiting": 0, "expected_wait": 0.0}
    assert body["models"][0]["name"] == "tiny"
    assert body["config"] == {"error": None}


@pytest.mark.parametrize(("draining", "word"), [(False, "loading"), (True, "draining")])
def test_a_server_that_is_not_ready_is_alive_but_wants_no_requests(api: Api, draining: bool, word: str) -> None:
    api.inference.ready = False
    api.inference.draining = draining
    assert (api.get("/health").status_code, api.get("/health").json["status"]) == (200, word)
    response = api.get("/ready")
    assert response.status_code == 503
    assert int(response.headers["Retry-After"]) >= 1
    assert response.json["error"]["message"] == f"The server is {word}."


def test_a_server_that_is_ready(api: Api) -> None:
    assert api.get("/ready").json == {"status": "ok"}


@pytest.mark.parametrize("path", ["/health", "/ready", "/v1/models"])
def test_head_is_answered_as_get_without_a_body(api: Api, path: str) -> None:
    response = api.client.head(path)
    assert (response.status_code, response.data) == (200, b"")


@pytest.mark.parametrize("path", ["/health/crashes", "/v1/health/crashes"])
def test_the_record_of_crashes_can_be_cleared_by_those_who_may(api: Api, path: str) -> None:
    api.inference.crashes = 3
    api.configure(api_keys=("secret",))
    assert api.client.delete(path).status_code == 401
    cleared = api.client.delete(path, headers={"Authorization": "Bearer secret"})
    assert (cleared.status_code, cleared.json) == (200, {"cleared": 3})
