"""A client without manners: bytes over a bare connection."""

import json
import socket
from dataclasses import dataclass
from typing import Any

from tests.serving import Server


@dataclass(frozen=True)
class Reply:
    """What came back until the server closed."""

    raw: bytes

    @property
    def status(self) -> int:
        return int(self.raw.split(b" ", 2)[1])

    @property
    def head(self) -> str:
        return self.raw.partition(b"\r\n\r\n")[0].decode("latin-1")

    @property
    def body(self) -> bytes:
        return self.raw.partition(b"\r\n\r\n")[2]

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def connect(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=20)


def request(method: str, path: str, body: bytes = b"", *headers: str, version: str = "1.1") -> bytes:
    """A request after which the server closes, unless a header says otherwise."""
    lines = [f"{method} {path} HTTP/{version}", "Host: localhost", *headers]
    if not any(header.lower().startswith("connection:") for header in headers):
        lines.append("Connection: close")
    if body and not any(header.lower().startswith(("content-length:", "transfer-encoding:")) for header in headers):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def send(server: Server, raw: bytes) -> Reply:
    """All that the server says until it closes."""
    with connect(server) as connection:
        connection.sendall(raw)
        return Reply(read_all(connection))


def read_all(connection: socket.socket) -> bytes:
    blocks = []
    try:
        while block := connection.recv(65536):
            blocks.append(block)
    except ConnectionResetError:  # it has answered, and did not wait for the rest
        pass
    return b"".join(blocks)
