"""Events leave as they come, an early error keeps its status, and nobody generates for a client that has gone."""

import logging
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Response

from rkllama_flask.api.web import streaming
from rkllama_flask.api.web.streaming import ClientGone, client_gone, collect, stream
from rkllama_flask.errors import QueueFull, RkllamaError, RuntimeFailed
from rkllama_flask.generation.events import Text, Waiting
from tests.api.conftest import Api
from tests.api.stub import Script, StubGeneration


class Lines:
    """A framing of one line for each text."""

    content_type = "text/plain"

    def __init__(self, heartbeat: bytes = b"\n") -> None:
        self.heartbeat = heartbeat

    def begin(self) -> bytes:
        return self.heartbeat

    def frame(self, event: Any, /) -> bytes:
        return event.text.encode() + b"\n"

    def error(self, error: RkllamaError, request_id: str, /) -> bytes:
        return f"error {request_id}: {error.message}\n".encode()


class Clock:
    """Time as these tests make it; each look at it is one second later."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        self.now += 1
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(streaming, "time", clock)
    return clock


@pytest.fixture
def gone(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """`gone(n)`: the client leaves after n looks for it."""
    left = [10**9]

    def look(_: Any) -> bool:
        left[0] -= 1
        return left[0] < 0

    monkeypatch.setattr(streaming, "client_gone", look)
    return lambda looks: left.__setitem__(0, looks)


def open_stream(
    api: Api, *script: Any, framing: Lines | None = None, **options: Any
) -> tuple[StubGeneration, Response]:
    events = StubGeneration(script, ("seed",))
    with api.app.test_request_context(headers={"X-Request-Id": "r1"}):
        try:
            return events, stream(events, framing or Lines(), **options)
        except BaseException:
            assert events.closed
            raise


def body(response: Response) -> bytes:
    return b"".join(response.response)


def test_each_event_becomes_a_chunk(api: Api) -> None:
    events, response = open_stream(api, Text("a"), Text("b"))
    assert list(response.response) == [b"a\n", b"b\n"]
    assert events.closed


def test_nothing_holds_a_stream_back_on_its_way(api: Api) -> None:
    _, response = open_stream(api, Text("a"))
    assert response.headers["X-Accel-Buffering"] == "no"
    assert response.headers["Cache-Control"] == "no-cache"


@pytest.mark.parametrize("error", [QueueFull("full"), RuntimeFailed("broken"), ZeroDivisionError()])
def test_an_error_before_the_first_event_is_no_stream(api: Api, error: Exception) -> None:
    with pytest.raises(type(error)):
        open_stream(api, Waiting(0.5), error)


def test_an_error_after_it_is_told_in_the_stream(api: Api) -> None:
    events, response = open_stream(api, Text("a"), RuntimeFailed("The runtime failed."))
    assert body(response) == b"a\nerror r1: The runtime failed.\n"
    assert events.closed


def test_an_unforeseen_error_in_a_stream_tells_only_where_to_look(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    _, response = open_stream(api, Text("a"), ZeroDivisionError("/secret"))
    with caplog.at_level(logging.ERROR):
        text = body(response)
    assert b"r1" in text
    assert b"secret" not in text
    assert "/secret" in caplog.text


def test_a_stream_that_was_never_read_is_closed_all_the_same(api: Api) -> None:
    events, response = open_stream(api, Text("a"), Text("b"))
    response.close()
    assert events.closed


def test_a_stream_that_is_cut_is_closed(api: Api) -> None:
    events, response = open_stream(api, Text("a"), Text("b"))
    next(iter(response.response))
    response.close()
    assert events.closed


def test_headers_wait_for_the_first_event(api: Api) -> None:
    _, response = open_stream(api, Waiting(0.5), Waiting(1.0), Text("a"))
    assert body(response) == b"a\n"


def test_headers_leave_alone_when_the_heartbeat_time_passes_first(api: Api, clock: Clock) -> None:
    api.configure(heartbeat=3)
    _, response = open_stream(api, *[Waiting(0.5)] * 3, RuntimeFailed("late"))
    assert body(response) == b"\nerror r1: late\n"


def test_silence_is_broken_by_a_heartbeat(api: Api, clock: Clock) -> None:
    api.configure(heartbeat=4)
    _, response = open_stream(api, Text("a"), *[Waiting(0.5)] * 8, Text("b"))
    chunks = list(response.response)
    assert chunks[0] == b"a\n"
    assert chunks[-1] == b"b\n"
    assert 1 <= chunks.count(b"\n") < 8


@pytest.mark.parametrize(("seconds", "heartbeat"), [(0, b"\n"), (1, b"")])
def test_no_heartbeat_where_it_is_off_or_unknown(api: Api, clock: Clock, seconds: float, heartbeat: bytes) -> None:
    api.configure(heartbeat=seconds)
    _, response = open_stream(api, *[Waiting(0.5)] * 8, Text("a"), *[Waiting(0.5)] * 8, framing=Lines(heartbeat))
    assert body(response) == b"a\n"


def test_what_could_not_be_honoured_is_named_once(api: Api) -> None:
    _, response = open_stream(api, Text("a"), unapplied=("min_p", "seed"))
    assert response.headers["X-Unapplied-Parameters"] == "min_p, seed"


def test_headers_that_left_early_name_only_what_was_known(api: Api, clock: Clock) -> None:
    api.configure(heartbeat=1)
    _, response = open_stream(api, Waiting(0.5), Waiting(0.5), Text("a"), unapplied=("min_p",))
    assert response.headers["X-Unapplied-Parameters"] == "min_p"


def test_a_client_that_leaves_before_the_first_event_is_noticed(api: Api, gone: Callable[[int], None]) -> None:
    gone(1)
    with pytest.raises(ClientGone):
        open_stream(api, Waiting(0.5), Waiting(1), Text("a"))


def test_a_client_that_leaves_in_silence_ends_the_stream(api: Api, gone: Callable[[int], None]) -> None:
    gone(1)
    events, response = open_stream(api, Text("a"), Waiting(0.5), Waiting(1), Text("b"))
    assert body(response) == b"a\n"
    assert events.closed


def test_a_client_is_looked_for_also_while_events_flow(api: Api, clock: Clock, gone: Callable[[int], None]) -> None:
    gone(2)
    events, response = open_stream(api, *[Text("a")] * 100)
    assert len(list(response.response)) < 10
    assert events.closed


def collected(api: Api, script: Script) -> tuple[StubGeneration, Callable[[], list[Any]]]:
    events = StubGeneration(script, ())

    def run() -> list[Any]:
        with api.app.test_request_context():
            return collect(events)

    return events, run


def test_a_whole_answer_has_all_events_but_the_waits(api: Api) -> None:
    events, run = collected(api, (Waiting(0.5), Text("a"), Waiting(0.5), Text("b")))
    assert run() == [Text("a"), Text("b")]
    assert events.closed


def test_a_whole_answer_fails_as_its_generation_does(api: Api) -> None:
    events, run = collected(api, (Text("a"), RuntimeFailed("broken")))
    with pytest.raises(RuntimeFailed):
        run()
    assert events.closed


@pytest.mark.parametrize("script", [(Waiting(0.5),) * 9, (Text("a"),) * 100])
def test_nobody_waits_for_a_whole_answer_whose_client_has_gone(
    api: Api, clock: Clock, gone: Callable[[int], None], script: Script
) -> None:
    gone(2)
    events, run = collected(api, script)
    with pytest.raises(ClientGone):
        run()
    assert events.closed


@pytest.fixture
def connection() -> Iterator[tuple[socket.socket, socket.socket]]:
    listener = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(listener.getsockname())
    server, _ = listener.accept()
    yield client, server
    for one in (client, server, listener):
        one.close()


@pytest.mark.parametrize("key", ["gunicorn.socket", "werkzeug.socket"])
def test_an_open_connection_is_not_gone_even_when_it_sends_more(connection: Any, key: str) -> None:
    client, server = connection
    assert not client_gone({key: server})
    client.sendall(b"GET / HTTP/1.1\r\n")
    assert not client_gone({key: server})
    assert server.recv(100) == b"GET / HTTP/1.1\r\n"


def test_a_closed_connection_is_gone_also_behind_unread_data(connection: Any) -> None:
    client, server = connection
    client.sendall(b"more")
    client.close()
    assert client_gone({"gunicorn.socket": server})


def test_a_connection_that_was_closed_on_our_side_is_gone(connection: Any) -> None:
    _, server = connection
    server.close()
    assert client_gone({"gunicorn.socket": server})


@pytest.mark.parametrize("gone", [True, False])
def test_waitress_is_asked_in_its_own_way(gone: bool) -> None:
    assert client_gone({"waitress.client_disconnected": lambda: gone}) == gone


def test_a_host_that_tells_nothing_has_a_client() -> None:
    assert not client_gone({})
