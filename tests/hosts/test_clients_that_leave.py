"""Whoever leaves frees the runtime: mid-stream, while waiting for a whole answer, while queued."""

import json
import socket
import time
from collections.abc import Callable

import pytest

from tests.hosts.test_hosts import chat
from tests.serving import Server

Serve = Callable[..., Server]
LONG = "<<script tokens=3000 decode_ms=10>>"


@pytest.fixture
def server(family: str, serve: Serve) -> Server:
    return serve(family=family)


def send(server: Server, prompt: str, **fields: object) -> socket.socket:
    """Send a request and keep the bare connection."""

    body = json.dumps(chat(prompt, **fields)).encode()
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=30)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
    connection.sendall(head.encode() + body)
    return connection


def wait_for(condition: Callable[[], bool], seconds: float, server: Server) -> float:
    """The seconds until it holds."""
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() - begun < seconds, server.log
        time.sleep(0.01)
    return time.monotonic() - begun


def busy(server: Server) -> bool:
    return bool(server.get("/health").json()["busy"] == "generating")


def runs(server: Server) -> list[str]:
    return [line for line in server.calls if line.split()[3] == "run"]


def tokens_of_last_run(server: Server) -> int:
    ends = [line for line in server.calls if line.split()[3] == "run_end"]
    return int(ends[-1].split("tokens=")[1].split()[0])


def test_a_stream_that_is_left_ends_within_a_few_tokens(server: Server) -> None:
    connection = send(server, LONG, stream=True)
    connection.recv(100_000)
    wait_for(lambda: busy(server), 5, server)
    connection.close()
    taken = wait_for(lambda: not busy(server), 5, server)
    assert taken < 2
    assert tokens_of_last_run(server) < 3000


def test_a_client_that_waits_for_a_whole_answer_and_leaves_is_noticed(server: Server) -> None:
    connection = send(server, LONG)
    wait_for(lambda: busy(server), 5, server)
    connection.close()
    assert wait_for(lambda: not busy(server), 10, server) < 5


def test_a_client_that_leaves_while_it_is_queued_never_runs(server: Server) -> None:
    running = send(server, LONG, stream=True)
    wait_for(lambda: busy(server), 5, server)
    queued = send(server, "<<script tokens=5>>")
    wait_for(lambda: server.get("/health").json()["queue"]["waiting"] == 1, 5, server)
    queued.close()
    wait_for(lambda: server.get("/health").json()["queue"]["waiting"] == 0, 10, server)
    running.close()
    wait_for(lambda: not busy(server), 10, server)
    assert len(runs(server)) == 1


def test_unloading_waits_for_the_answer_that_streams(server: Server) -> None:
    with server.post(
        "/v1/chat/completions", chat("<<script tokens=50 decode_ms=10>>", stream=True), stream=True
    ) as one:
        lines = one.iter_lines()
        next(lines)
        assert server.post("/v1/models/unload").json()["unloaded"] == ["scripted"]
        assert b"data: [DONE]" in list(lines)
    assert server.get("/v1/models/loaded").json()["loaded"] is False


def test_a_model_that_fails_to_load_leaves_the_old_one_answering(family: str, serve: Serve) -> None:
    server = serve(
        family=family,
        models={"good.rkllm": "load_ms=0", "bad.rkllm": "fail_init=invalid%20rkllm%20model!"},
    )
    assert server.post("/v1/models/load", {"model": "good"}).json()["loaded"] is True
    failed = server.post("/v1/models/load", {"model": "bad"})
    assert failed.status_code == 422
    assert "damaged" in failed.json()["error"]["message"]
    body = chat("<<script text=still%20here>>") | {"model": "good"}

    def answers() -> bool:
        """On 1.3 the process is replaced meanwhile."""
        reply = server.post("/v1/chat/completions", body)
        return reply.status_code == 200 and reply.json()["choices"][0]["message"]["content"] == "still here"

    wait_for(answers, 15, server)
    assert server.get("/v1/models/loaded").json()["model_name"] == "good"
