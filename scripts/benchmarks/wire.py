"""HTTP/1.1 on plain sockets, with the moment each part of an answer arrived.

One loop serves all connections, so that 64 clients are timed by one clock and cost the measured machine little. Nothing
is looked at while it arrives but where the answer ends; `Reply` takes it apart afterwards.
"""

import bisect
import itertools
import json
import select
import socket
import time
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, NamedTuple
from urllib.parse import urlsplit

TIMEOUT = 1800
"""Seconds: a long prompt on a small board takes its time."""

_LAST_CHUNK = b"0\r\n\r\n"


class Unreachable(Exception):
    """There is no server, or it stopped in the middle of an answer."""


class Address(NamedTuple):
    """Where a server is, and what its paths begin with."""

    host: str
    port: int
    prefix: str = ""

    @classmethod
    def of(cls, url: str) -> "Address":
        """Raises ValueError for what is not http://HOST[:PORT][/PREFIX]."""
        parts = urlsplit(url if "://" in url else f"http://{url}")
        if parts.scheme != "http" or not parts.hostname:
            raise ValueError(f"{url}: only http://HOST:PORT can be measured; TLS would be measured with it.")
        return cls(parts.hostname, parts.port or 80, parts.path.rstrip("/"))

    def request(self, method: str, path: str, body: Any = None, *, api_key: str = "") -> bytes:
        """The bytes of a request."""
        content = b"" if body is None else json.dumps(body).encode()
        host = f"[{self.host}]" if ":" in self.host else self.host
        lines = [f"{method} {self.prefix}{path} HTTP/1.1", f"Host: {host}:{self.port}"]
        if body is not None:
            lines += ["Content-Type: application/json", f"Content-Length: {len(content)}"]
        if api_key:
            lines.append(f"Authorization: Bearer {api_key}")
        return "\r\n".join([*lines, "", ""]).encode() + content


class Reply:
    """One answer. Times are `time.monotonic_ns()`; `arrivals` are what each read gave."""

    def __init__(self, sent_at: int, arrivals: Sequence[tuple[int, bytes]]) -> None:
        self.sent_at = sent_at
        self.arrivals = arrivals
        self._raw = b"".join(data for _, data in arrivals)
        head, _, self._rest = self._raw.partition(b"\r\n\r\n")
        status, *lines = head.decode("latin-1").split("\r\n")
        self.status = int(status.split(" ")[1])
        self.headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}

    @property
    def ended_at(self) -> int:
        return self.arrivals[-1][0]

    @cached_property
    def body(self) -> bytes:
        return b"".join(part for part, _ in self._parts)

    @property
    def json(self) -> Any:
        """The body as JSON, None where it is none."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None

    @cached_property
    def events(self) -> list[tuple[int, bytes]]:
        """Server-sent events: when each was complete, and its data."""
        found, begun = [], b""
        for part, end in self._parts:
            *whole, begun = (begun + part).replace(b"\r\n", b"\n").split(b"\n\n")
            found += [(self._arrived(end), one[6:]) for one in whole if one.startswith(b"data: ")]
        return found

    @cached_property
    def _parts(self) -> list[tuple[bytes, int]]:
        """The body's chunks, and where in the raw answer each ends."""
        start = len(self._raw) - len(self._rest)
        if self.headers.get("transfer-encoding", "").lower() != "chunked":
            return [(self._rest, len(self._raw))]
        parts: list[tuple[bytes, int]] = []
        while True:
            end = self._raw.index(b"\r\n", start)
            size = int(self._raw[start:end].split(b";")[0], 16)
            if not size:
                return parts
            start = end + 2 + size + 2
            parts.append((self._raw[end + 2 : start - 2], start - 2))

    @cached_property
    def _ends(self) -> list[int]:
        return list(itertools.accumulate(len(data) for _, data in self.arrivals))

    def _arrived(self, position: int) -> int:
        return self.arrivals[bisect.bisect_left(self._ends, position)][0]


class Connection:
    """One client's connection, kept alive from request to request and opened again where the server closed it."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self._socket: socket.socket | None = None
        self._arrivals: list[tuple[int, bytes]] = []
        self._sent_at = 0
        self._left: int | None = None
        self._chunked = False
        self._head = self._tail = b""

    @property
    def is_open(self) -> bool:
        return self._socket is not None

    def open(self) -> None:
        """Connect, if it is not yet. Raises Unreachable."""
        if self._socket is None:
            try:
                self._socket = socket.create_connection((self.address.host, self.address.port), timeout=TIMEOUT)
            except OSError as error:
                raise Unreachable(f"No answer from http://{self.address.host}:{self.address.port}: {error}") from error
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def close(self) -> int:
        """Hang up, whatever is still coming; the moment."""
        moment = time.monotonic_ns()
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        return moment

    def ask(self, request: bytes) -> Reply:
        """Send and wait for the whole answer. Raises Unreachable."""
        (reply,) = ask_all([self], [request])
        return reply

    def send(self, request: bytes) -> None:
        """Send without waiting."""
        self.open()
        assert self._socket is not None
        self._arrivals, self._head, self._tail, self._left, self._chunked = [], b"", b"", None, False
        self._sent_at = time.monotonic_ns()
        try:
            self._socket.sendall(request)
        except OSError:  # a kept connection that the server gave up meanwhile
            self.close()
            self.open()
            self._sent_at = time.monotonic_ns()
            self._socket.sendall(request)

    def fileno(self) -> int:
        assert self._socket is not None
        return self._socket.fileno()

    def read(self) -> bool:
        """Take what is there; whether the answer is whole. Raises Unreachable."""
        assert self._socket is not None
        try:
            data = self._socket.recv(1 << 18)
        except OSError as error:
            raise Unreachable(f"{self.address.host}:{self.address.port} broke off: {error}") from error
        moment = time.monotonic_ns()
        if not data:
            self.close()
            if not self._head or self._chunked or self._left is not None:
                raise Unreachable(f"{self.address.host}:{self.address.port} broke off in the middle of an answer.")
            return True
        self._arrivals.append((moment, data))
        if self._head.endswith(b"\r\n\r\n"):
            return self._ends(data)
        self._head += data
        head, found, rest = self._head.partition(b"\r\n\r\n")
        if not found:
            return False
        self._head = head + found
        lowered = head.lower()
        self._chunked = b"\r\ntransfer-encoding: chunked" in lowered
        if b"\r\ncontent-length:" in lowered:
            self._left = int(lowered.split(b"\r\ncontent-length:")[1].split(b"\r\n")[0])
        return self._ends(rest)

    def reply(self) -> Reply:
        """What has arrived since `send`."""
        reply = Reply(self._sent_at, self._arrivals)
        if reply.headers.get("connection", "").lower() == "close":
            self.close()
        return reply

    def arrived(self) -> int:
        """How many reads have given something since `send`."""
        return len(self._arrivals)

    def _ends(self, data: bytes) -> bool:
        if self._chunked:
            self._tail = (self._tail + data)[-len(_LAST_CHUNK) :]
            return self._tail == _LAST_CHUNK
        if self._left is None:
            return False
        self._left -= len(data)
        return self._left <= 0


def ask_all(
    connections: Sequence[Connection],
    requests: Sequence[bytes],
    *,
    again: Callable[[int, Reply], bytes | None] = lambda _index, _reply: None,
) -> list[Reply]:
    """Ask one request on each connection at once, in order; the answers in the same order.

    `again(index, reply)` may give a connection its next request as soon as it has its answer; the last one counts.
    """
    for connection in connections:
        connection.open()
    poll = select.epoll()
    numbers = {}
    for index, (connection, request) in enumerate(zip(connections, requests, strict=True)):
        connection.send(request)
        numbers[connection.fileno()] = index
        poll.register(connection.fileno(), select.EPOLLIN)
    replies: list[Reply | None] = [None] * len(connections)
    waiting = len(connections)
    while waiting:
        ready = poll.poll(TIMEOUT)
        if not ready:
            raise Unreachable(f"No answer within {TIMEOUT} seconds.")
        for number, _ in ready:
            index = numbers[number]
            connection = connections[index]
            if not connection.read():
                continue
            reply = replies[index] = connection.reply()
            following = again(index, reply)
            if following is None:
                waiting -= 1
                if connection.is_open:
                    poll.unregister(number)
                continue
            connection.send(following)
            if connection.fileno() != number or reply.headers.get("connection", "").lower() == "close":
                numbers[connection.fileno()] = index
                poll.register(connection.fileno(), select.EPOLLIN)
    poll.close()
    return [reply for reply in replies if reply is not None]
