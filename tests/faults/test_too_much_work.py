"""More work than can be done is refused at once and honestly, shared fairly, and keeps nobody from looking."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
import requests

from tests.hosts.test_clients_that_leave import busy
from tests.hosts.test_hosts import chat
from tests.serving import Server, wait_for

MODELS = {"scripted.rkllm": ""}
SETTINGS = {"MAX_QUEUE": "8", "QUEUE_TIMEOUT": "5"}
Answers = list[tuple[float, str, requests.Response]]


def send(server: Server, client: str, prompt: str) -> requests.Response:
    """From an address that a proxy tells."""
    return server.post("/v1/chat/completions", chat(prompt), headers={"X-Forwarded-For": client})


def in_background(server: Server, client: str, prompt: str, answers: Answers) -> threading.Thread:
    def run() -> None:
        answer = send(server, client, prompt)
        answers.append((time.monotonic(), client, answer))

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def waiting(server: Server) -> int:
    return int(server.get("/health").json()["queue"]["waiting"])


Flood = Callable[[str, int, str], Answers]


@pytest.fixture
def flood(server: Server) -> Iterator[Flood]:
    """Send so many requests of one client at once, and wait until they wait."""
    threads: list[threading.Thread] = []

    def send_many(client: str, count: int, prompt: str) -> Answers:
        answers: Answers = []
        before = waiting(server)
        threads.extend(in_background(server, client, prompt, answers) for _ in range(count))
        wait_for(lambda: waiting(server) == before + count, 10, server)
        return answers

    yield send_many
    for thread in threads:
        thread.join(30)


@contextmanager
def running(server: Server, tokens: int) -> Iterator[None]:
    """While an answer of 10 ms a token runs; it is left at the end."""
    body = chat(f"<<script tokens={tokens} decode_ms=10>>", stream=True)
    with server.post("/v1/chat/completions", body, stream=True) as stream:
        next(lines := stream.iter_lines())  # kept: the connection ends with it
        wait_for(lambda: busy(server), 10, server)
        yield
        del lines


def test_a_full_queue_refuses_at_once_says_when_to_come_back_and_lets_everybody_look(
    server: Server, flood: Flood
) -> None:
    with running(server, 3000):
        flood("a", 8, "<<script tokens=1>>")
        begun = time.monotonic()
        refused = send(server, "a", "<<script tokens=1>>")
        assert time.monotonic() - begun < 2
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "queue_full")
        assert 1 <= int(refused.headers["Retry-After"]) <= 60
        for path in ("/health", "/ready", "/metrics", "/v1/models", "/api/tags", "/api/ps", "/api/version"):
            begun = time.monotonic()
            assert server.get(path).status_code == 200, path
            assert time.monotonic() - begun < 2, path


def test_waiting_has_its_own_limit_and_never_touches_what_runs(server: Server) -> None:
    with running(server, 1000):
        refused = send(server, "a", "<<script tokens=1>>")
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "waited_too_long")
        assert 1 <= int(refused.headers["Retry-After"]) <= 60
        assert busy(server)


def test_one_client_with_many_requests_does_not_starve_another_with_one(server: Server, flood: Flood) -> None:
    with running(server, 3000):
        many = flood("many", 6, "<<script tokens=20 decode_ms=10>>")
        one = flood("one", 1, "<<script tokens=1>>")
    wait_for(lambda: len(many) == 6 and len(one) == 1, 30, server)
    assert sum(moment < one[0][0] for moment, _, _ in many) <= 2
    assert {answer.status_code for _, _, answer in (*many, *one)} == {200}


def test_a_documents_two_hundred_embeddings_are_all_made_and_nobody_waits_for_them(
    serve: Callable[..., Server],
) -> None:
    server = serve(models={"scripted.rkllm": "prefill_ms=10"})  # two seconds' work, with MAX_QUEUE as it is
    texts = [f"chunk {number} " * 20 for number in range(200)]
    with ThreadPoolExecutor(len(texts) + 1) as pool:

        def embed(place: int) -> requests.Response:
            path = "/api/embed" if place % 2 else "/v1/embeddings"
            return server.post(path, {"model": "scripted", "input": texts[place]})

        with running(server, 3000):
            asked = [pool.submit(embed, place) for place in range(len(texts))]
            wait_for(lambda: waiting(server) == len(texts), 30, server)
            chats = pool.submit(send, server, "another", "<<script tokens=1>>")
            wait_for(lambda: waiting(server) == len(texts) + 1, 10, server)
        assert chats.result().status_code == 200
        assert waiting(server) > 50
        replies = [one.result() for one in asked]
    assert {reply.status_code for reply in replies} == {200}
    vectors = [
        reply.json()["embeddings"][0] if n % 2 else reply.json()["data"][0]["embedding"]
        for n, reply in enumerate(replies)
    ]
    assert len({tuple(vector) for vector in vectors}) == len(texts)
