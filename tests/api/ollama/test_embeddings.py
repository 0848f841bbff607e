"""`POST /api/embed` and the older `POST /api/embeddings`."""

from typing import Any

import pytest

from rkllama_flask.errors import ContextLengthExceeded, QueueFull
from tests.api.ollama.conftest import OllamaApi
from tests.contract.ollama_spec import check

VECTOR = [0.5, -0.25, 0.125]


def embed(api: OllamaApi, **fields: Any) -> Any:
    response = api.post("/api/embed", {"model": "tiny"} | fields)
    assert response.status_code == 200, response.text
    check(response.json, "EmbedResponse")
    return response.json


def refuse(api: OllamaApi, path: str = "/api/embed", **fields: Any) -> tuple[int, str]:
    response = api.post(path, {"model": "tiny"} | fields)
    assert set(response.json) == {"error"}
    return response.status_code, response.json["error"]


def test_a_vector_for_each_text(api: OllamaApi) -> None:
    body = embed(api, model="TINY", input=["Hi", "Hello"])
    assert body["model"] == "TINY"
    assert body["embeddings"] == [VECTOR, VECTOR]
    assert body["prompt_eval_count"] == 7
    assert body["load_duration"] == 3_000_000
    assert body["total_duration"] >= 6_000_000
    assert embed(api, input="Hi")["embeddings"] == [VECTOR]


def test_what_is_asked_reaches_the_model(api: OllamaApi) -> None:
    embed(api, input="Hi", dimensions=2, truncate=False, keep_alive="1m", options={"num_ctx": 99999, "seed": 1})
    model, inputs, options = api.inference.embedded[-1]
    assert (model.name, tuple(inputs)) == ("tiny", ("Hi",))
    assert {key: options[key] for key in ("truncate", "keep_alive", "context_length", "normalize")} == {
        "truncate": False,
        "keep_alive": 60,
        "context_length": 4096,
        "normalize": True,
    }
    assert embed(api, input="Hi", dimensions=2)["embeddings"] == [VECTOR[:2]]
    assert embed(api, input="Hi", dimensions=0)["embeddings"] == [VECTOR]
    assert api.inference.embedded[-1][2]["truncate"] is True


def test_options_that_cannot_be_honoured_are_named(api: OllamaApi) -> None:
    response = api.post("/api/embed", {"model": "tiny", "input": "Hi", "options": {"num_gpu": 0}})
    assert response.headers["X-Unapplied-Parameters"] == "num_gpu"


@pytest.mark.parametrize("fields", [{}, {"input": ""}, {"input": []}, {"input": None}])
def test_no_text_loads_the_model(api: OllamaApi, fields: dict[str, Any]) -> None:
    assert embed(api, **fields) == {"model": "tiny", "embeddings": []}
    assert embed(api, keep_alive=0, **fields)["embeddings"] == []
    assert [move[0] for move in api.inference.moves] == ["load", "unload"]


def test_the_older_route(api: OllamaApi) -> None:
    response = api.post("/api/embeddings", {"model": "tiny", "prompt": "Hi"})
    assert response.json == {"embedding": VECTOR}
    assert api.inference.embedded[-1][2]["normalize"] is False
    assert api.post("/api/embeddings", {"model": "tiny"}).json == {"embedding": []}
    assert api.inference.moves == [("load", "tiny", None, None)]


def test_what_is_refused(api: OllamaApi) -> None:
    assert refuse(api, input=1) == (400, "invalid input type")
    assert refuse(api, input=["a", 1]) == (400, "invalid input type")
    assert refuse(api, model="") == (404, "model '' not found")
    assert refuse(api, model="nope", input="Hi") == (404, 'model "nope" not found, try pulling it first')
    assert refuse(api, model="../x", input="Hi") == (400, "invalid model name")
    assert refuse(api, "/api/embeddings", model="") == (400, "model is required")
    assert refuse(api, "/api/embeddings", model="nope") == (404, 'model "nope" not found, try pulling it first')


def test_what_goes_wrong(api: OllamaApi) -> None:
    api.inference.early = ContextLengthExceeded(9, 8, param="input")
    assert refuse(api, input="Hi", truncate=False) == (400, "the input length exceeds the context length")
    api.inference.early = QueueFull("full")
    assert refuse(api, input="Hi")[0] == 503
