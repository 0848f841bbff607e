"""What a request can reach: the application's services, and the id it is known by."""

import hashlib
import re
import uuid
from typing import TYPE_CHECKING, cast

from flask import Flask, Response, current_app, g, request

if TYPE_CHECKING:
    from rkllama_flask.services import Services

_SAFE_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


def services() -> "Services":
    """The settings, catalog and inference of the application that serves this request."""
    return cast("Services", current_app.extensions["rkllama"])


def request_id() -> str:
    """The id of this request: the client's own `X-Request-Id` where it is harmless in a log line, else a new one."""
    if "request_id" not in g:
        offered = request.headers.get("X-Request-Id", "")
        g.request_id = offered if _SAFE_ID.fullmatch(offered) else f"req_{uuid.uuid4().hex}"
    return cast(str, g.request_id)


def client_name() -> str:
    """Who asks, so that the queue can be fair: the digest of the key that was let in, else the address.

    Of a proxy on this machine the address it forwards for is taken, the last of the list: the others are the client's.
    """
    if "client_name" in g:
        return cast(str, g.client_name)
    address = request.remote_addr or ""
    forwarded = request.headers.get("X-Forwarded-For", "").rpartition(",")[2].strip()
    return forwarded if forwarded and address in ("", "127.0.0.1", "::1") else address


def name_client(key: str) -> None:
    """Know this request's client by its key, however it was sent; the key itself is kept nowhere."""
    g.client_name = hashlib.sha256(key.encode()).hexdigest()[:16]


def install(app: Flask) -> None:
    """Send every response with its request id, under the names both OpenAI's and Anthropic's SDKs read."""

    @app.after_request
    def _name_request(response: Response) -> Response:
        response.headers["x-request-id"] = request_id()
        response.headers["request-id"] = request_id()
        return response
