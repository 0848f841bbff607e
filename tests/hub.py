"""A small Hugging Face hub on a loopback port: the few routes that its client library uses, and ways to misbehave."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

LARGE = 1024
"""Bytes from which a file counts as large: known by its sha256 instead of git's sha1."""


@dataclass
class Hub:
    """`repos` maps names to files by path. What is asked for is kept in `requests` as (method, path, Range).

    `private` names the repositories that want `token`. A download sends at most `pieces` bytes, if that is set, and
    breaks off; it stops before the byte `hold` until `release` is set; `lies` are paths whose content is wrong;
    `listed_sizes` and `listed_paths` are told instead of the true ones; `garbage` is the answer
    to everything; with `cdn` files come from another host, whose requests are kept in `strangers` with their headers.
    """

    repos: dict[str, dict[str, bytes]] = field(default_factory=dict)
    cards: dict[str, dict[str, Any]] = field(default_factory=dict)
    private: set[str] = field(default_factory=set)
    token: str = "hf_test"
    pieces: int | None = None
    hold: int | None = None
    release: threading.Event = field(default_factory=threading.Event)
    held: threading.Event = field(default_factory=threading.Event)
    lies: set[str] = field(default_factory=set)
    listed_sizes: dict[str, int] = field(default_factory=dict)
    listed_paths: dict[str, str] = field(default_factory=dict)
    ranges: bool = True
    garbage: bytes | None = None
    cdn: bool = False
    requests: list[tuple[str, str, str]] = field(default_factory=list)
    strangers: list[dict[str, str]] = field(default_factory=list)
    url: str = ""

    def downloads(self, path: str) -> list[str]:
        """The ranges in which a file was fetched."""
        return [part for method, asked, part in self.requests if method == "GET" and asked.endswith(f"/{path}")]

    def revision(self, repo: str) -> str:
        content = b"".join(f"{path} ".encode() + data for path, data in sorted(self.repos[repo].items()))
        return hashlib.sha1(content).hexdigest()

    def describe(self, repo: str) -> dict[str, Any]:
        siblings = []
        for path, data in self.repos[repo].items():
            size = self.listed_sizes.get(path, len(data))
            entry: dict[str, Any] = {
                "rfilename": self.listed_paths.get(path, path),
                "size": size,
                "blobId": hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest(),
            }
            if len(data) >= LARGE:
                entry["lfs"] = {"size": size, "sha256": hashlib.sha256(data).hexdigest(), "pointerSize": 135}
            siblings.append(entry)
        card = {"cardData": self.cards[repo]} if repo in self.cards else {}
        return {"_id": "1", "id": repo, "sha": self.revision(repo), "siblings": siblings, "tags": [], **card}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def do_GET(self) -> None:
        hub = self.hub
        parts = unquote(urlsplit(self.path).path).strip("/").split("/")
        hub.requests.append((self.command, "/" + "/".join(parts), self.headers.get("Range", "")))
        repo = "/".join(parts[2:4] if parts[:2] == ["api", "models"] else parts[:2])
        if hub.garbage is not None:
            self._send(200, hub.garbage, {})
        elif hub.cdn and self.headers["Host"].startswith("localhost"):
            hub.strangers.append(dict(self.headers))
            self._resolve(repo, "/".join(parts[4:]))
        elif repo in hub.private and self.headers.get("Authorization") != f"Bearer {hub.token}":
            self._fail(401, "RepoNotFound")
        elif repo not in hub.repos:
            self._fail(404, "RepoNotFound")
        elif parts[:2] == ["api", "models"]:
            self._send(200, json.dumps(hub.describe(repo)).encode(), {"Content-Type": "application/json"})
        elif hub.cdn:
            self._send(302, b"", {"Location": f"{hub.url.replace('127.0.0.1', 'localhost')}{self.path}"})
        elif len(parts) > 4 and parts[2] == "resolve" and parts[3] == hub.revision(repo):
            self._resolve(repo, "/".join(parts[4:]))
        else:
            self._fail(404, "EntryNotFound")

    do_HEAD = do_GET

    def _resolve(self, repo: str, path: str) -> None:
        data = self.hub.repos[repo].get(path)
        if data is None:
            self._fail(404, "EntryNotFound")
            return
        if path in self.hub.lies:
            data = bytes(len(data))
        headers = {"ETag": f'"{hashlib.sha256(data).hexdigest()}"', "X-Repo-Commit": self.hub.revision(repo)}
        asked = self.headers.get("Range", "")
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and self.hub.ranges else 0
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        self._send(206 if start else 200, data[start:], headers, start=start)

    def _send(self, status: int, body: bytes, headers: dict[str, str], *, start: int | None = None) -> None:
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        hold = self.hub.hold
        limit = len(body) if start is None or self.hub.pieces is None else self.hub.pieces
        try:
            for at in range(0, min(len(body), limit), 65536):
                chunk = body[at : min(at + 65536, limit)]
                if start is not None and hold is not None and start + at + len(chunk) > hold:
                    self.wfile.write(chunk[: max(0, hold - start - at)])
                    chunk = chunk[max(0, hold - start - at) :]
                    hold = None
                    self.hub.held.set()
                    self.hub.release.wait(60)
                self.wfile.write(chunk)
        except OSError:
            self.close_connection = True
        if limit < len(body):
            self.close_connection = True

    def _fail(self, status: int, code: str) -> None:
        self._send(status, b"{}", {"X-Error-Code": code, "X-Error-Message": code, "Content-Type": "application/json"})

    def log_message(self, format: str, *args: object) -> None:
        """Tests read `requests` instead."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients are killed on purpose."""


@contextmanager
def serve_hub(**settings: Any) -> Iterator[Hub]:
    """A hub that serves until the block ends."""
    hub = Hub(**settings)
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.release.set()
        server.shutdown()
        server.server_close()
        thread.join()
