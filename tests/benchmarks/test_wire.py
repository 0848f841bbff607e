"""An answer is taken apart afterwards, and each event keeps the moment at which it was complete."""

import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from scripts.benchmarks.client import ServerError, read
from scripts.benchmarks.wire import Address, Connection, Reply, Unreachable, ask_all

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunk(text: str) -> bytes:
    return f"{len(text):x}\r\n{text}\r\n".encode()


def test_each_event_has_the_moment_of_its_last_byte() -> None:
    first, second = chunk("data: one\n\n"), chunk("data: two\n\n")
    reply = Reply(0, [(1, HEAD), (2, first[:6]), (3, first[6:] + second[:-3]), (4, second[-3:] + b"0\r\n\r\n")])
    assert reply.events == [(3, b"one"), (4, b"two")]
    assert (reply.status, reply.ended_at) == (200, 4)


def test_several_events_in_one_chunk_and_one_in_several() -> None:
    reply = Reply(0, [(1, HEAD + chunk("data: a\n\ndata: b\n\nda")), (2, chunk("ta: c\n\n") + b"0\r\n\r\n")])
    assert reply.events == [(1, b"a"), (1, b"b"), (2, b"c")]


def test_tokens_are_those_of_usage_and_the_first_one_ends_the_prefill() -> None:
    texts = [(10**9 * (n + 1), chunk(f'data: {{"choices":[{{"delta":{{"content":"w{n}"}}}}]}}\n\n')) for n in range(3)]
    usage = 'data: {"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":5}}\n\ndata: [DONE]\n\n'
    answer = read(Reply(0, [(1, HEAD), *texts, (4 * 10**9, chunk(usage) + b"0\r\n\r\n")]))
    assert (answer.text, answer.ttft, answer.completion_tokens, answer.computed) == ("w0w1w2", 1.0, 5, 7)
    assert answer.tokens_per_second == 2.0
    assert answer.gaps == [1.0, 1.0]


def test_an_answer_without_usage_is_not_measured() -> None:
    with pytest.raises(ServerError, match="usage"):
        read(Reply(0, [(1, HEAD + chunk("data: [DONE]\n\n") + b"0\r\n\r\n")]))


@contextmanager
def answering(*parts: bytes) -> Iterator[Address]:
    """A server that sends these parts to each connection and closes it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(1 << 16)
                    for part in parts:
                        connection.sendall(part)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield Address("127.0.0.1", listener.getsockname()[1])
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.mark.parametrize(
    "parts",
    [
        (b"HTTP/1.1 200 OK\r\nContent-Le", b"ngth: 4\r\n\r\nab", b"cd"),
        (b"HTTP/1.1 200 OK\r\nx: 0\r\nTransfer-Encoding: chunked\r\n\r\n", b"4\r\nabcd\r\n0\r", b"\n\r\n"),
        (b"HTTP/1.0 200 OK\r\n\r\nab", b"cd"),
    ],
)
def test_the_end_of_an_answer_is_found_however_it_is_told_and_cut(parts: tuple[bytes, ...]) -> None:
    with answering(*parts) as address, closing(Connection(address)) as connection:
        assert connection.ask(address.request("GET", "/")).body == b"abcd"


def test_many_are_asked_at_once_and_answered_in_their_order() -> None:
    with answering(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok") as address:
        connections = [Connection(address) for _ in range(5)]
        replies = ask_all(connections, [address.request("GET", "/")] * 5)
        assert [reply.body for reply in replies] == [b"ok"] * 5
        assert [reply.sent_at for reply in replies] == sorted(reply.sent_at for reply in replies)
        for connection in connections:
            connection.close()


def test_an_answer_that_breaks_off_is_none() -> None:
    cut = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab"
    with answering(cut) as address, closing(Connection(address)) as connection, pytest.raises(Unreachable):
        connection.ask(address.request("GET", "/"))


def test_only_plain_http_is_measured() -> None:
    assert Address.of("localhost:8080/api") == ("localhost", 8080, "/api")
    with pytest.raises(ValueError, match="TLS"):
        Address.of("https://example.com")
