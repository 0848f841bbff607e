"""The same application under every host: streaming, clients that leave, one answer each."""

import json
import threading
import time
from collections.abc import Callable

import pytest
import requests

from tests.serving import Server

Serve = Callable[..., Server]
HOSTS = ["gevent", "gthread", "waitress", "flask"]


def chat(prompt: str, **fields: object) -> dict[str, object]:
    return {"model": "scripted", "messages": [{"role": "user", "content": prompt}], **fields}


def read_stream(response: requests.Response) -> list[tuple[float, str]]:
    """The texts of a stream with the seconds at which they came."""
    texts = []
    for line in response.iter_lines():
        if line.startswith(b"data: {"):
            delta = json.loads(line[6:])["choices"][0]["delta"]
            if delta.get("content"):
                texts.append((time.monotonic(), delta["content"]))
    return texts


@pytest.fixture(params=HOSTS)
def server(request: pytest.FixtureRequest, serve: Serve) -> Server:
    return serve(host=request.param)


def test_tokens_arrive_one_by_one(server: Server) -> None:
    prompt = "<<script tokens=20 decode_ms=20>>"
    response = server.post("/v1/chat/completions", chat(prompt, stream=True), stream=True)
    texts = read_stream(response)
    assert "".join(text for _, text in texts).split() == [f"w{n}" for n in range(20)]
    assert len(texts) == 20
    assert texts[-1][0] - texts[0][0] > 0.2


def test_a_client_that_leaves_stops_the_runtime_and_the_next_answer_is_right(server: Server) -> None:
    prompt = "<<script tokens=2000 decode_ms=10>>"
    response = server.post("/v1/chat/completions", chat(prompt, stream=True), stream=True)
    lines = response.iter_lines()
    for _ in range(10):
        next(lines)
    response.close()
    left = time.monotonic()
    answer = server.post("/v1/chat/completions", chat("<<script text=next>>")).json()
    assert answer["choices"][0]["message"]["content"] == "next"
    assert time.monotonic() - left < 5


def test_every_client_gets_its_own_whole_answer(server: Server) -> None:
    answers: dict[int, str] = {}

    def ask(n: int) -> None:
        body = chat(f"<<script text=answer%20number%20{n} decode_ms=1>>")
        answers[n] = server.post("/v1/chat/completions", body).json()["choices"][0]["message"]["content"]

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert answers == {n: f"answer number {n}" for n in range(16)}
