"""Uploads over a real socket: far above the limit of JSON, broken off, and ended by the server's own end."""

import hashlib
import os
import signal
import socket
from collections.abc import Callable, Iterator

import requests

from tests.hosts.test_lifetime import workers
from tests.serving import Server, processes, wait_for

BLOCK = b"#" * (1 << 20)
LARGE = 33
"""Blocks: more than a JSON body may have."""


def digest_of(blocks: int) -> str:
    digest = hashlib.sha256()
    for _ in range(blocks):
        digest.update(BLOCK)
    return f"sha256:{digest.hexdigest()}"


WRITER = "rkllama_flask.catalog.changing.blob_writer"


def uploads(server: Server) -> set[str]:
    """What lies in the folder of uploads, in letters that don't depend on the process."""
    folder = server.folder / "models" / ".rkllama" / "uploads"
    return {path.name.partition("-")[0] for path in folder.glob("*")} | {path.name[:5] for path in folder.glob(".*")}


def begin(server: Server, *, chunked: bool) -> socket.socket:
    """Send three of the blocks that were announced."""
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=30)
    length = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {LARGE * len(BLOCK)}"
    connection.sendall(f"POST /api/blobs/{digest_of(LARGE)} HTTP/1.1\r\nHost: localhost\r\n{length}\r\n\r\n".encode())
    for _ in range(3):
        connection.sendall(b"%x\r\n%s\r\n" % (len(BLOCK), BLOCK) if chunked else BLOCK)
    return connection


def test_a_file_far_above_the_limit_of_json_with_a_length_and_in_chunks(scripted: Server) -> None:
    def blocks() -> Iterator[bytes]:
        yield from [BLOCK] * LARGE

    url = f"{scripted.url}/api/blobs/{digest_of(LARGE)}"
    assert requests.post(url, data=blocks(), timeout=60).status_code == 201
    assert requests.post(url, data=BLOCK * LARGE, timeout=60).status_code == 200
    body = {"model": "large", "files": {"large.rkllm": digest_of(LARGE)}, "stream": False}
    assert scripted.post("/api/create", body).json() == {"status": "success"}
    assert scripted.delete("/api/delete", json={"model": "large"}).status_code == 200
    assert requests.head(url, timeout=10).status_code == 404


def test_a_client_that_leaves_in_the_middle_leaves_nothing(scripted: Server) -> None:
    for chunked in (True, False):
        with begin(scripted, chunked=chunked):
            wait_for(lambda: uploads(scripted) == {".part"}, 60, scripted)
        wait_for(lambda: not uploads(scripted) and not processes(WRITER, scripted), 60, scripted)
    assert requests.head(f"{scripted.url}/api/blobs/{digest_of(LARGE)}", timeout=10).status_code == 404


def test_a_server_that_is_killed_in_the_middle_leaves_nothing(serve: Callable[..., Server]) -> None:
    server = serve()
    server.post("/v1/models/load", {"model": "scripted"})
    with begin(server, chunked=False):
        wait_for(lambda: uploads(server) == {".part"}, 60, server)
        for worker in workers(server):  # the one that has loaded a model
            os.kill(int(worker), signal.SIGKILL)
        wait_for(lambda: not uploads(server) and not processes(WRITER, server), 60, server)
    assert server.get("/health").status_code == 200  # its successor
