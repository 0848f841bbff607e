"""Whoever leaves frees the runtime at any moment; who takes nothing leaves in the end; who is slow gets all."""

import contextlib
import json
import socket
import time
from collections.abc import Callable, Iterator

import pytest

from tests.conftest import scripted_library
from tests.hosts.raw import Reply, connect, read_all, request
from tests.hosts.test_hosts import chat
from tests.serving import Server, start_server, wait_for

Serve = Callable[..., Server]
LONG = "<<script tokens=3000 decode_ms=10>>"


@pytest.fixture(scope="module")
def server(family: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    models = {"scripted.rkllm": "load_ms=0\ncontext_limit=16384", "slow.rkllm": "load_ms=1500"}
    started = start_server(
        tmp_path_factory.mktemp(family),
        library=scripted_library(family),
        models=models,
        env={"CLIENT_TIMEOUT": "2", "MAX_QUEUE": "100"},
    )
    yield started
    assert "Traceback" not in started.log
    started.stop()


def send(server: Server, prompt: str, **fields: object) -> socket.socket:
    """Send a request and keep the bare connection."""

    body = json.dumps(chat(prompt, **fields)).encode()
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=30)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
    connection.sendall(head.encode() + body)
    return connection


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
    before = len(runs(server))
    running = send(server, LONG, stream=True)
    wait_for(lambda: busy(server), 5, server)
    queued = send(server, "<<script tokens=5>>")
    wait_for(lambda: server.get("/health").json()["queue"]["waiting"] == 1, 5, server)
    queued.close()
    wait_for(lambda: server.get("/health").json()["queue"]["waiting"] == 0, 10, server)
    running.close()
    wait_for(lambda: not busy(server), 10, server)
    assert len(runs(server)) == before + 1


def test_a_client_that_leaves_before_its_first_byte_harms_nobody(server: Server) -> None:
    for wait in (0.0, 0.001, 0.01, 0.05):
        connection = send(server, LONG, stream=True)
        time.sleep(wait)
        connection.close()
        answer = server.post("/v1/chat/completions", chat("<<script text=next>>")).json()
        assert answer["choices"][0]["message"]["content"] == "next"


def test_a_client_that_leaves_while_its_model_loads_never_runs(server: Server) -> None:
    before = len(runs(server))
    connection = send(server, "<<script tokens=5>>", model="slow", stream=True)
    wait_for(lambda: server.get("/health").json()["busy"] is not None, 5, server)
    connection.close()
    answer = server.post("/v1/chat/completions", chat("<<script text=next>>", model="slow")).json()
    assert answer["choices"][0]["message"]["content"] == "next"
    assert len(runs(server)) == before + 1


def stalled(server: Server, prompt: str) -> socket.socket:
    """A stream whose client takes nothing, with next to no room for what it does not take."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(30)
    connection.connect(("127.0.0.1", server.port))
    body = json.dumps(chat(prompt, stream=True, max_tokens=9000)).encode()
    connection.sendall(request("POST", "/v1/chat/completions", body))
    return connection


def test_a_client_that_takes_nothing_is_given_up_and_its_run_ended(server: Server) -> None:
    connection = stalled(server, "<<script tokens=9000 decode_ms=2>>")
    wait_for(lambda: busy(server), 5, server)
    assert wait_for(lambda: not busy(server), 20, server) < 15
    assert tokens_of_last_run(server) < 4000
    assert "it is given up" in server.log
    connection.close()


def test_a_reader_slower_than_the_model_gets_every_byte_and_holds_nobody_up(server: Server) -> None:
    connection = stalled(server, "<<script tokens=2000>>")
    time.sleep(0.2)
    begun = time.monotonic()
    answer = server.post("/v1/chat/completions", chat("<<script text=next>>")).json()
    assert answer["choices"][0]["message"]["content"] == "next"
    assert time.monotonic() - begun < 5
    taken = b""
    while len(taken) < 100_000:
        taken += connection.recv(10_000)
        time.sleep(0.01)
    raw = taken + read_all(connection)
    assert [word for word in raw.decode().split('"') if word.strip().startswith("w1999")] == [" w1999"]
    assert raw.count(b'"content":') == 2001  # the first has none
    connection.close()


def test_two_hundred_at_once_are_answered_or_told_when_to_come_back(server: Server) -> None:
    server.post("/v1/models/load", {"model": "scripted"})
    bodies = [json.dumps(chat(f"<<script text=answer{n}. decode_ms=1>>")).encode() for n in range(200)]
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(connect(server)) for _ in bodies]
        for connection, body in zip(connections, bodies, strict=True):
            connection.sendall(request("POST", "/v1/chat/completions", body))
        replies = [Reply(read_all(connection)) for connection in connections]
    answered = [n for n, reply in enumerate(replies) if reply.status == 200]
    assert len(answered) >= 100
    assert [replies[n].json["choices"][0]["message"]["content"] for n in answered] == [f"answer{n}." for n in answered]
    for reply in replies:
        assert reply.status == 200 or (reply.status == 503 and "\r\nRetry-After: " in reply.head)


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
