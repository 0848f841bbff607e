"""Loading and unloading by name, in the shapes that older scripts read."""

from typing import Any

import pytest

from rkllama_flask.errors import ModelUnusable
from tests.api.conftest import Api


def test_a_model_is_loaded_by_the_documented_command(api: Api) -> None:
    body = api.client.post("/v1/models/load", data='{"model": "tiny"}').json
    assert body == {
        "success": True,
        "message": "Model tiny is loaded.",
        "model_name": "tiny",
        "loaded": True,
        "load_ms": 12.0,
    }


def test_an_unknown_model_is_not_loaded(api: Api) -> None:
    response = api.post("/v1/models/load", {"model": "gpt-9"})
    assert response.status_code == 404
    assert response.json["error"]["code"] == "model_not_found"


def test_a_model_that_does_not_load_says_why(api: Api) -> None:
    api.inference.early = ModelUnusable("This model was made for an RK3576.")
    response = api.post("/v1/models/load", {"model": "tiny"})
    assert response.status_code == 422
    assert response.json["error"]["message"] == "This model was made for an RK3576."
    assert response.headers["x-should-retry"] == "false"


@pytest.mark.parametrize("body", [{"model": 1}, {"model": "tiny", "context_length": 0}])
def test_a_wrong_load_is_refused(api: Api, body: dict[str, Any]) -> None:
    assert api.post("/v1/models/load", body).status_code == 400


def test_what_is_loaded(api: Api) -> None:
    assert api.get("/v1/models/loaded").json == {"loaded": False, "model_name": None, "models": []}
    api.post("/v1/models/load", {"model": "tiny"})
    assert api.get("/v1/models/loaded").json == {"loaded": True, "model_name": "tiny", "models": ["tiny"]}


def test_what_is_available(api: Api) -> None:
    api.post("/v1/models/load", {"model": "tiny"})
    body = api.get("/v1/models/available").json
    assert body == {
        "models": [
            {"name": "tiny", "filename": "tiny.rkllm", "size_mb": 3.0, "loaded": True},
            {"name": "org/big:7b", "filename": "big:7b.rkllm", "size_mb": 3.0, "loaded": False},
        ],
        "total": 2,
        "loaded_model": "tiny",
    }


def test_no_answer_holds_a_path_of_the_server(api: Api) -> None:
    for path in ("/v1/models", "/v1/models/available", "/v1/models/loaded", "/health"):
        assert "/models/" not in api.get(path).text


@pytest.mark.parametrize("body", [None, {}, {"model": "tiny"}])
def test_a_model_is_unloaded(api: Api, body: dict[str, Any] | None) -> None:
    api.post("/v1/models/load", {"model": "tiny"})
    response = (
        api.client.post("/v1/models/unload", json=body) if body is not None else api.client.post("/v1/models/unload")
    )
    assert response.json == {"success": True, "message": "Unloaded tiny.", "unloaded": ["tiny"]}
    assert api.get("/v1/models/loaded").json["loaded"] is False


def test_unloading_what_is_not_loaded_succeeds_and_says_so(api: Api) -> None:
    assert api.post("/v1/models/unload", {}).json["message"] == "No model was loaded."
    assert api.post("/v1/models/unload", {"model": "tiny"}).json["message"] == "Model tiny was not loaded."
    assert api.post("/v1/models/unload", {"model": "gpt-9"}).status_code == 404
