"""The library says what context a model was made for, and that wins over what was guessed, and over what was asked."""

import time
from collections.abc import Iterator

import pytest
import requests

from tests.conftest import scripted_library
from tests.native import journal
from tests.serving import Server, start_server

PATIENCE = 15.0


@pytest.fixture
def server(family: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("limits")
    server = start_server(
        folder, library=scripted_library(family), models={"small.rkllm": "tokens=3\ncontext_limit=2048"}
    )
    yield server
    server.end()


def answered(server: Server, **fields: object) -> requests.Response:
    """The answer, asked for as SDKs do: again where the server says so."""
    body = {"model": "small", "messages": [{"role": "user", "content": "hi"}], "stream": False} | fields
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            response = server.post("/api/chat", body)
        except requests.ConnectionError:  # while the process is replaced
            response = None
        if response is not None and response.status_code != 503:
            return response
        assert time.monotonic() < deadline, server.log
        assert response is None or int(response.headers["Retry-After"]) <= 5
        time.sleep(0.1)


def loads(server: Server) -> int:
    return [entry.what for entry in journal.parse(server.calls)].count("init")


def test_a_model_made_for_less_than_was_guessed_is_loaded_with_what_it_was_made_for(server: Server) -> None:
    assert answered(server).status_code == 200
    assert server.get("/api/ps").json()["models"][0]["context_length"] == 2048
    assert loads(server) == 2  # one that told the limit, one that kept to it
    server.post("/v1/models/unload")
    assert answered(server).status_code == 200
    assert loads(server) == 3


def test_who_asks_for_more_gets_what_there_is_and_is_told(server: Server) -> None:
    assert answered(server).status_code == 200
    response = answered(server, options={"num_ctx": 16384})
    assert response.status_code == 200
    assert response.headers["X-Unapplied-Parameters"] == "num_ctx"
    assert server.get("/api/ps").json()["models"][0]["context_length"] == 2048


def test_what_does_not_fit_is_said_with_the_models_own_limit(server: Server) -> None:
    assert answered(server).status_code == 200
    response = answered(server, messages=[{"role": "user", "content": "word " * 5000}], truncate=False)
    assert response.status_code == 400
    assert "2044" in response.json()["error"]
