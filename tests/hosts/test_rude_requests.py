"""Requests that HTTP allows and clients rarely send, and those it forbids: each has an answer, and harms nobody."""

import json
import re
import socket
import time
from collections.abc import Iterator
from urllib.parse import unquote

import pytest

from tests.conftest import scripted_library
from tests.hosts.raw import Reply, connect, read_all, request, send
from tests.hosts.test_hosts import chat
from tests.serving import Server, start_server

LIMIT = 100_000
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture(scope="module", params=["gevent", "gthread"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp(request.param)
    env = {"MAX_BODY_BYTES": str(LIMIT), "HEARTBEAT": "0", "HF_ENDPOINT": NOWHERE, "HF_HOME": str(folder / "hf")}
    started = start_server(folder, library=scripted_library("1.3"), host=request.param, env=env)
    yield started
    assert content(started) == "alive"
    assert "Traceback" not in started.log
    started.stop()


def content(server: Server, text: str = "alive") -> str:
    answer = server.post("/v1/chat/completions", chat(f"<<script text={text}>>")).json()
    return str(answer["choices"][0]["message"]["content"])


def post(path: str, body: object, *headers: str, version: str = "1.1") -> bytes:
    return request("POST", path, json.dumps(body).encode(), *headers, version=version)


def is_api_error(reply: Reply) -> bool:
    return bool(reply.json.get("error")) and "application/json" in reply.head


def test_http_1_0_gets_a_whole_answer_and_a_stream_without_chunks(server: Server) -> None:
    whole = send(server, post("/v1/chat/completions", chat("<<script text=old>>"), version="1.0"))
    assert whole.json["choices"][0]["message"]["content"] == "old"
    streamed = send(server, post("/v1/chat/completions", chat("<<script text=old>>", stream=True), version="1.0"))
    assert streamed.body.startswith(b"data: {")
    assert streamed.body.endswith(b"data: [DONE]\n\n")
    assert "Transfer-Encoding" not in streamed.head


def test_pipelined_requests_are_answered_in_their_order(server: Server) -> None:
    bodies = [chat(f"<<script text=number{n}>>", stream=n == 1) for n in range(3)]
    raws = [post("/v1/chat/completions", body, "Connection: keep-alive") for body in bodies]
    reply = send(server, b"".join(raws) + request("GET", "/api/version"))
    assert reply.raw.count(b"HTTP/1.1 200 OK") == 4
    assert re.findall(rb"number\d", reply.raw) == [b"number0", b"number1", b"number2"]
    assert reply.raw.index(b"number2") < reply.raw.index(b'{"version"')


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (request("GET", "/health", b"", *(f"X-{n}: y" for n in range(10_000))), 431),
        (request("GET", "/health", b"", "X-Long: " + "a" * 100_000), 431),
        (request("GET", "/" + "a" * 9000), 414),
        (request("GET", "/health", version="3.0"), 400),
        (b"GET /health\r\n\r\n", 400),
        (b"GET /health HTTP/1.1\nHost: localhost\n\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\r\n\r\n", 400),
        (request("GET", "/health", b"", "Host: example.com"), 400),
        (request("GET", "/health", b"", "X-Folded: a\r\n b"), 400),
        (request("GET", "/health", b"", "X-Nul: a\0b"), 400),
        (b"GET /health HTTP/1.1\r\nHost : localhost\r\n\r\n", 400),
        (request("GET", "/v1/models/\xff"), 400),
        (request("POST", "/api/show", b"{}", "Expect: wonders", "Content-Length: 2"), 417),
    ],
)
def test_what_gunicorn_refuses_itself_keeps_gunicorns_shape(server: Server, raw: bytes, status: int) -> None:
    assert send(server, raw).status == status


@pytest.mark.parametrize(
    "headers",
    [
        ("Content-Length: 5", "Transfer-Encoding: chunked"),
        ("Transfer-Encoding: chunked", "Content-Length: 5"),
        ("Content-Length: 5", "Content-Length: 6"),
        ("Content-Length: 5, 5",),
        ("Content-Length: +5",),
        ("Content-Length: 0x5",),
        ("Content-Length: -1",),
        ("Transfer-Encoding: chunked, identity",),
        ("Transfer-Encoding: xchunked",),
        ("Transfer-Encoding : chunked",),
    ],
)
def test_a_request_whose_end_two_servers_could_see_in_two_places_is_refused_and_cut(
    server: Server, headers: tuple[str, ...]
) -> None:
    """What is smuggled behind it is never looked at."""
    smuggled = request("DELETE", "/health/crashes")
    reply = send(server, request("POST", "/api/show", b"0\r\n\r\n" + smuggled, *headers, "Connection: keep-alive"))
    assert reply.status in (400, 501)
    assert reply.raw.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize("path", ["/health", "/v1/chat/completions", "/api/chat", "/v1/messages", "/nowhere", "/"])
@pytest.mark.parametrize("method", ["TRACE", "FOO", "PATCH", "CONNECT"])
def test_an_unknown_method_is_told_in_the_apis_shape_and_shows_nothing_back(
    server: Server, method: str, path: str
) -> None:
    reply = send(server, request(method, path, b"", "X-Secret: tell-nobody"))
    assert reply.status in (404, 405)
    assert is_api_error(reply)
    assert b"tell-nobody" not in reply.raw


@pytest.mark.parametrize(
    ("target", "host", "status"),
    [
        ("http://localhost/health", "localhost", 200),
        ("http://localhost/health", "example.com", 403),
        ("*", "localhost", 400),
        ("//example.com/health", "localhost", 404),
        ("/v1/models/%zz%00%0d%0aX-Injected:%20y", "localhost", 404),
        ("/health?%00=%ff&a[]=1", "localhost", 200),
    ],
)
def test_odd_targets_reach_nothing_they_should_not(server: Server, target: str, host: str, status: int) -> None:
    reply = send(server, f"GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    assert reply.status == status
    assert "X-Injected" not in reply.head


@pytest.mark.parametrize(
    "name",
    [
        "../../canary",
        "..%2f..%2fcanary",
        "%2e%2e/%2e%2e/canary",
        "%252e%252e%252fcanary",
        "%c0%ae%c0%ae%c0%afcanary",
        "..%5c..%5ccanary",
        "..;/canary",
        "%00canary",
        "canary%00.json",
        "/etc/passwd",
        "%2fetc%2fpasswd",
        "%e2%80%ae",
        "a" * 3000,
        "con:aux",
        ".hidden",
        "scripted.json.part-1",
    ],
)
def test_no_spelling_of_a_name_leads_out_of_its_folder(server: Server, name: str) -> None:
    (server.folder / "canary").write_text("alive")
    for method, path in (
        ("DELETE", f"/v1/cache/scripted/{name}"),
        ("GET", f"/v1/cache/scripted/{name}"),
        ("GET", f"/v1/cache/{name}"),
        ("GET", f"/v1/models/{name}"),
        ("HEAD", f"/api/blobs/{name}"),
        ("GET", f"/docs/{name}"),
        ("GET", f"/ui/{name}"),
    ):
        reply = send(server, request(method, path))
        assert reply.status in (301, 308, 400, 404, 405), (method, path, reply.raw)
        assert b"root:" not in reply.raw
        assert b"alive" not in reply.raw
    for wanted in (name, f"scripted/../{name}", unquote(name)):
        reply = send(server, post("/v1/cache/scripted", {"cache_name": wanted, "prompt": "a"}))
        assert reply.status in (200, 400), reply.raw
    assert (server.folder / "canary").read_text() == "alive"
    kept = {path.parent for path in (server.folder / "cache").rglob("*.kv")}
    assert kept <= {server.folder / "cache" / "scripted"}


def test_no_address_that_a_client_sends_is_ever_asked(server: Server) -> None:
    with socket.create_server(("127.0.0.1", 0)) as canary:
        here = f"127.0.0.1:{canary.getsockname()[1]}"
        url = f"http://{here}/x"
        parts = (
            {"type": "image_url", "image_url": {"url": url}},
            {"type": "input_image", "image_url": url},
            {"type": "input_audio", "input_audio": {"data": url, "format": "wav"}},
            {"type": "file", "file": {"file_id": url, "file_data": url}},
            {"type": "image", "source": {"type": "url", "url": url}},
            {"type": "document", "source": {"type": "url", "url": url}},
        )
        for part in parts:
            messages = [{"role": "user", "content": [part]}]
            server.post("/v1/chat/completions", {"model": "scripted", "messages": messages})
            server.post("/v1/messages", {"model": "scripted", "messages": messages, "max_tokens": 1})
            server.post("/v1/responses", {"model": "scripted", "input": messages})
        server.post("/api/chat", {"model": "scripted", "messages": [{"role": "user", "content": "a", "images": [url]}]})
        server.post("/api/generate", {"model": "scripted", "prompt": "a", "images": [url]})
        for schema in ({"$ref": url}, {"$schema": url, "$id": url}, {"properties": {"a": {"$dynamicRef": url}}}):
            wish = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
            server.post("/v1/chat/completions", chat("a", response_format=wish))
            server.post("/api/chat", chat("a", format=schema, stream=False))
        for name in (
            url,
            f"{here}/org/repo",
            f"hf.co@{here}/org/repo",
            f"http://{here}@hf.co/org/repo",
            "file:///etc/passwd",
        ):
            for path, field in (("/api/pull", "model"), ("/v1/models/download", "model"), ("/api/create", "from")):
                reply = server.post(path, {"model": "new", field: name, "stream": False})
                assert reply.status_code >= 400, reply.text
        tools = [{"type": "mcp", "server_label": "a", "server_url": url}]
        server.post("/v1/responses", {"model": "scripted", "input": "a", "tools": tools, "previous_response_id": url})
        canary.settimeout(0.1)
        with pytest.raises(TimeoutError):
            canary.accept()


def test_head_is_answered_as_get_without_a_body(server: Server) -> None:
    for path in ("/", "/health", "/ready", "/v1/models", "/api/tags", "/api/ps", "/api/version", "/v1/cache"):
        reply = send(server, request("HEAD", path))
        assert (reply.status, reply.body) == (200, b""), path


def test_every_route_says_what_it_takes(server: Server) -> None:
    for path in ("/health", "/v1/chat/completions", "/api/chat", "/v1/messages", "/v1/models/load", "/v1/cache/a/b"):
        reply = send(server, request("OPTIONS", path))
        assert reply.status == 200, path
        assert "\r\nAllow: " in reply.head


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/api/chat", "/v1/messages", "/v1/models/load"])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_over_the_limit_is_413_in_the_apis_shape(server: Server, path: str, chunked: bool) -> None:
    body = json.dumps(chat("a" * LIMIT)).encode()
    if chunked:
        half = len(body) // 2
        pieces = b"".join(f"{len(one):x}\r\n".encode() + one + b"\r\n" for one in (body[:half], body[half:]))
        reply = send(server, request("POST", path, pieces + b"0\r\n\r\n", "Transfer-Encoding: chunked"))
    else:
        reply = send(server, request("POST", path, body))
    assert reply.status == 413
    assert is_api_error(reply)


def test_a_client_that_only_announces_too_much_is_told_so_at_once(server: Server) -> None:
    with connect(server) as connection:
        connection.sendall(request("POST", "/api/chat", b"", "Content-Length: 99999999999999999999"))
        assert Reply(connection.recv(65536)).status == 413


@pytest.mark.parametrize(
    "chunks", [b"zz\r\n\r\n", b"2\r\n{}zz\r\n", b"-1\r\n\r\n", b"2;" + b"a" * 70_000 + b"\r\n{}\r\n"]
)
def test_broken_chunks_are_the_clients_fault(server: Server, chunks: bytes) -> None:
    reply = send(server, request("POST", "/v1/chat/completions", chunks, "Transfer-Encoding: chunked"))
    assert reply.status == 400
    assert is_api_error(reply)


def test_a_body_of_a_byte_now_and_then_is_waited_for_and_nobody_waits_with_it(server: Server) -> None:
    raw = post("/v1/chat/completions", chat("<<script text=slow>>"))
    with connect(server) as slow:
        slow.sendall(raw[:-20])
        for byte in raw[-20:]:
            slow.sendall(bytes([byte]))
            assert server.get("/health").elapsed.total_seconds() < 5
        assert Reply(read_all(slow)).json["choices"][0]["message"]["content"] == "slow"


def test_connections_that_say_nothing_keep_nobody_out(server: Server) -> None:
    """On threads each costs a thread until its time is over, so that only a proxy helps against many."""
    idle = [connect(server) for _ in range(300 if server.folder.name.startswith("gevent") else 40)]
    try:
        begun = time.monotonic()
        assert content(server, "through") == "through"
        assert time.monotonic() - begun < 5
    finally:
        for connection in idle:
            connection.close()


@pytest.mark.parametrize(
    "agent", ["curl\r\n[2026] forged", "\x1b[2J", "{__import__('os')}", "${jndi:ldap://x}", "%(message)s %s %n"]
)
def test_what_a_client_calls_itself_forges_no_line_of_the_log(server: Server, agent: str) -> None:
    before = len(server.log)
    send(server, request("POST", "/v1/chat/completions", b"{", f"User-Agent: {agent}", f"X-Request-Id: {agent}"))
    send(server, request("GET", f"/{agent}"))
    server.post("/api/show", {"model": f"{agent}\n[2026-01-01 00:00:00 +0000] [1] [ERROR] forged"})
    added = server.log[before:]
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", added)
    record = re.compile(r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \+\d{4}\] \[\d+\] \[[A-Z]+\] |    ")
    for line in added.splitlines():
        assert record.match(line) or set(json.loads(line)) > {"time", "id", "path"}, line
    assert "\n[2026-01-01" not in added
