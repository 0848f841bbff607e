"""The texts and statuses that Ollama's clients know, one by one."""

from typing import Any

import pytest

from rkllama_flask.errors import ContextLengthExceeded, QueueFull
from tests.api.ollama.conftest import OllamaApi

CHAT, GENERATE, EMBED, EMBEDDINGS = "/api/chat", "/api/generate", "/api/embed", "/api/embeddings"
HI = {"messages": [{"role": "user", "content": "Hi"}]}
TALK: dict[str, dict[str, Any]] = {CHAT: HI, GENERATE: {"prompt": "Hi"}}
TRY_PULLING = 'model "nope" not found, try pulling it first'
LEVELS = '"high", "medium", "low", "max", true, or false'
TOOL = {"type": "function", "function": {"name": "f"}}

Row = tuple[str, dict[str, Any], int, str]

NO_NAME: list[Row] = [
    (CHAT, HI, 400, "model is required"),
    (EMBEDDINGS, {"prompt": "Hi"}, 400, "model is required"),
    ("/api/show", {"verbose": True}, 400, "model is required"),
    ("/api/push", {"stream": True}, 400, "model is required"),
    ("/api/delete", {"name": ""}, 400, "model is required"),
    (GENERATE, {"prompt": "Hi"}, 404, "model '' not found"),
    (EMBED, {"input": "Hi"}, 404, "model '' not found"),
    ("/api/pull", {"stream": True}, 400, "invalid model name"),
    ("/api/create", {"from": "tiny"}, 400, "invalid model name"),
]
UNKNOWN: list[Row] = [
    (GENERATE, {"model": "nope", "prompt": "Hi"}, 404, "model 'nope' not found"),
    (CHAT, {"model": "nope", **HI}, 404, "model 'nope' not found"),
    ("/api/show", {"model": "nope"}, 404, "model 'nope:latest' not found"),
    ("/api/delete", {"model": "nope"}, 404, "model 'nope' not found"),
    (EMBED, {"model": "nope", "input": "Hi"}, 404, TRY_PULLING),
    (EMBEDDINGS, {"model": "nope", "prompt": "Hi"}, 404, TRY_PULLING),
    ("/api/copy", {"source": "nope", "destination": "new"}, 404, 'model "nope" not found'),
]
IMPOSSIBLE: list[Row] = [
    *(
        (path, {"model": "../x", "from": "tiny", "stream": False}, 400, "invalid model name")
        for path in (GENERATE, CHAT, EMBED, EMBEDDINGS, "/api/show", "/api/create")
    ),
    ("/api/delete", {"model": "../x"}, 400, 'name "../x" is invalid'),
    ("/api/copy", {"source": "../x", "destination": "new"}, 400, 'source "../x" is invalid'),
    ("/api/copy", {"source": "tiny", "destination": "../x"}, 400, 'destination "../x" is invalid'),
]


def think_is(value: Any, text: str) -> list[Row]:
    return [(path, {"think": value}, 400, text) for path in TALK]


FIELDS: list[Row] = [
    *((path, {"top_logprobs": 21}, 400, "top_logprobs must be between 0 and 20") for path in TALK),
    *((path, {"top_logprobs": -1}, 400, "top_logprobs must be between 0 and 20") for path in TALK),
    *(
        (GENERATE, {"raw": True} | field, 400, "raw mode does not support template, system, or context")
        for field in ({"template": "{{ x }}"}, {"system": "x"}, {"context": [1]})
    ),
    *think_is("hard", f'invalid think value: "hard" (must be {LEVELS})'),
    *think_is(1, f"think must be a boolean or string ({LEVELS})"),
    *think_is({}, f"think must be a boolean or string ({LEVELS})"),
    (CHAT, {"tools": [TOOL]}, 400, "registry.ollama.ai/library/tiny:latest does not support tools"),
    (GENERATE, {"suffix": "x"}, 400, "registry.ollama.ai/library/tiny:latest does not support insert"),
    *think_is(True, '"tiny" does not support thinking'),
    *think_is("low", '"tiny" does not support thinking'),
    *(
        (path, {"keep_alive": value}, 400, text)
        for path in (*TALK, EMBED, EMBEDDINGS)
        for value, text in (
            ("x", 'time: invalid duration "x"'),
            ("10", 'time: missing unit in duration "10"'),
            (True, "Unsupported type: 'bool'"),
        )
    ),
    (EMBED, {"input": 5}, 400, "invalid input type"),
    (EMBED, {"input": ["a", 5]}, 400, "invalid input type"),
    *(
        (path, {"options": {name: "x"}}, 400, f'option "{name}" must be of type {kind}')
        for path in TALK
        for name, kind in (("top_k", "integer"), ("temperature", "float32"), ("use_mmap", "boolean"))
    ),
    (CHAT, {"options": {"stop": 5}}, 400, 'option "stop" must be of type array'),
    (CHAT, {"options": {"stop": [5]}}, 400, 'option "stop" must be of an array of strings'),
    *(
        (path, {"format": "xml"}, 400, 'invalid format: "xml"; expected "json" or a valid JSON Schema object')
        for path in TALK
    ),
]


def ask(api: OllamaApi, path: str, body: Any) -> tuple[int, str]:
    response = api.client.open(path, method="DELETE" if path == "/api/delete" else "POST", json=body)
    assert response.content_type == "application/json"
    assert set(response.json) == {"error"}
    return response.status_code, response.json["error"]


@pytest.mark.parametrize(("path", "body", "status", "text"), [*NO_NAME, *UNKNOWN, *IMPOSSIBLE])
def test_names(api: OllamaApi, path: str, body: dict[str, Any], status: int, text: str) -> None:
    assert ask(api, path, body) == (status, text)


@pytest.mark.parametrize(("path", "body", "status", "text"), FIELDS)
@pytest.mark.parametrize("stream", [True, False])
def test_fields(api: OllamaApi, path: str, body: dict[str, Any], status: int, text: str, stream: bool) -> None:
    api.inference.abilities = ("completion",)
    rest = TALK.get(path, {"input": "Hi", "prompt": "Hi"})
    assert ask(api, path, {"model": "tiny", **rest, "stream": stream} | body) == (status, text)
    assert api.inference.requests == []


@pytest.mark.parametrize("path", [*TALK, EMBED, "/api/show", "/api/copy", "/api/delete", "/api/create", "/api/pull"])
def test_bodies(api: OllamaApi, path: str) -> None:
    def send(raw: bytes) -> Any:
        return api.client.open(path, method="DELETE" if path == "/api/delete" else "POST", data=raw)

    assert send(b"").json == send(b" \n").json == {"error": "missing request body"}
    for raw in (b"{", b"[]", b"5", b'{"model": ["x"], "source": 5}', b"\xff"):
        assert (send(raw).status_code, set(send(raw).json)) == (400, {"error"})


def test_a_model_that_only_makes_embeddings(api: OllamaApi) -> None:
    api.inference.abilities = ("embedding",)
    assert ask(api, CHAT, {"model": "tiny", **HI}) == (400, '"tiny" does not support chat')
    assert ask(api, GENERATE, {"model": "tiny", "prompt": "Hi"}) == (400, '"tiny" does not support generate')


@pytest.mark.parametrize("path", TALK)
@pytest.mark.parametrize("stream", [True, False])
def test_what_is_known_only_when_it_is_tried(api: OllamaApi, path: str, stream: bool) -> None:
    body = {"model": "tiny", **TALK[path], "stream": stream, "truncate": False}
    api.inference.scripts = [(ContextLengthExceeded(5000, 4092),), (QueueFull("64 requests are waiting already."),)]
    status, text = ask(api, path, body)
    assert status == 400
    assert text.startswith("the prompt is longer than the context length currently available to the model; ")
    status, text = ask(api, path, body)
    assert (status, text) == (503, "server busy, please try again.  maximum pending requests exceeded")
