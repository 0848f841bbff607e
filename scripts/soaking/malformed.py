"""Requests that no server should take: as bytes, with the statuses that are right."""

import json
from dataclasses import dataclass

MAX_BODY = 1 << 20
"""Bytes; the soak's server is started with this limit."""


@dataclass(frozen=True)
class Malformed:
    """`statuses` empty: there is nobody left to answer. `ours` where the reply has to be JSON with an error."""

    name: str
    raw: bytes
    statuses: frozenset[int]
    ours: bool = True


def _post(body: bytes, path: str = "/v1/chat/completions", *, length: int | None = None, head: str = "") -> bytes:
    size = len(body) if length is None else length
    start = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{head}Content-Length: {size}\r\n\r\n"
    return start.encode() + body


def _chat(**fields: object) -> bytes:
    body = {"model": "one", "messages": [{"role": "user", "content": "hello"}]} | fields
    return json.dumps(body).encode()


def _chunked(size: int) -> bytes:
    head = "POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head.encode() + f"{size:x}\r\n".encode() + b" " * size + b"\r\n0\r\n\r\n"


def _refused(name: str, raw: bytes, *statuses: int, ours: bool = True) -> Malformed:
    return Malformed(name, raw, frozenset(statuses), ours)


MALFORMED = (
    _refused("no JSON", _post(b"{"), 400),
    _refused("no UTF-8", _post(b'{"model": "\xff"}'), 400),
    _refused("NaN", _post(_chat(temperature=float("nan"))), 400),
    _refused("the same key twice", _post(b'{"model": "one", "model": "two"}', "/api/chat"), 400),
    _refused("half a surrogate pair", _post(_chat(model="\ud800")), 400),
    _refused("too deep", _post(b'{"a":' * 5000), 400),
    _refused("a huge number", _post(b'{"model": "one", "seed": ' + b"9" * 5000 + b"}"), 400),
    _refused("no messages", _post(_chat(messages=[])), 400),
    _refused("a wrong type", _post(_chat(max_tokens="many")), 400),
    _refused("an unknown model", _post(_chat(model="nowhere", max_tokens=9), "/v1/messages"), 404),
    _refused("a path as model", _post(_chat(model="../../etc/passwd")), 400, 404),
    _refused("an unknown path", _post(_chat(), "/v1/nowhere"), 404),
    _refused("a wrong method", b"PATCH /api/chat HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 405),
    _refused("a foreign page", _post(_chat(), head="Origin: https://example.com\r\n"), 403),
    _refused("a body over the limit", _post(b"{", length=MAX_BODY + 1), 413),
    _refused("a chunked body over the limit", _chunked(MAX_BODY + 1), 413),
    _refused("many headers", _post(_chat(), head="X-Many: 1\r\n" * 200), 431, ours=False),
    _refused("a long path", b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 414, ours=False),
    _refused("two lengths", _post(_chat(), head="Content-Length: 1\r\n"), 400, ours=False),
    _refused("no HTTP", b"\x16\x03\x01\x02\x00\r\n\r\n", 400, ours=False),
    _refused("a body that breaks off", _post(b'{"model"', length=500)),
)
