"""Who may ask: nobody from a foreign web page, where API keys are set only who has one, and each so often.

A web page can make its visitor's browser send requests to a server on that machine. The browser then tells the page's
`Origin`; after DNS rebinding it tells the page's name as `Host`. Both are looked at before anything acts.
The default origins are Ollama's: this machine, and the schemes of desktop applications.
"""

import fnmatch
import hmac
import ipaddress
import math
import socket
from collections.abc import Iterable
from functools import lru_cache
from urllib.parse import urlsplit

from flask import Flask, Response, request

from rkllama_flask.api.web.context import client_name, name_client, services
from rkllama_flask.api.web.errors import respond
from rkllama_flask.api.web.rate_limit import RateLimit
from rkllama_flask.api.web.record import record
from rkllama_flask.errors import Forbidden, RkllamaError, TooManyRequests, Unauthorized

OPEN_PATHS = frozenset({"/", "/health", "/v1/health", "/ready", "/openapi.json", "/docs", "/ui"})
OPEN_FOLDERS = ("/docs/", "/ui/")
"""What may be asked without a key: probes have none, and pages hold nothing but what everybody can read."""

_LOCAL_ORIGIN_HOSTS = frozenset({"localhost", "127.0.0.1", "0.0.0.0", "::1"})  # noqa: S104 - compared, not bound
_APP_SCHEMES = frozenset({"app", "file", "tauri", "vscode-webview", "vscode-file"})
_LOCAL_SUFFIXES = (".localhost", ".local", ".internal")
_PREFLIGHT_HEADERS = "Authorization, Content-Type, User-Agent, Accept, X-Requested-With, X-Api-Key, OpenAI-Beta"


_PAGE_POLICY = "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; frame-ancestors 'none'"
"""For pages that don't say themselves what they need: nothing from elsewhere, and no page around them."""

_REMEMBERED = 256
"""Names and addresses that need not be taken apart again at each request."""


def install(app: Flask) -> None:
    """Look at each request before it acts, and tell browsers what they may do with the answer."""
    rate_limit = RateLimit()

    @app.before_request
    def admit() -> Response | None:
        try:
            _check_host()
            _check_origin()
            if _is_preflight():
                return Response(status=204)
            _check_key()
            _check_rate(rate_limit)
        except RkllamaError as error:
            return respond(error)
        return None

    app.after_request(_allow_origin)
    app.after_request(_bind_browsers)


def is_open(path: str) -> bool:
    """Whether this path may be asked without a key."""
    return path in OPEN_PATHS or path.startswith(OPEN_FOLDERS)


def _check_host() -> None:
    settings = services().settings
    name = _host_name(request.headers.get("Host", ""))
    listens_locally = _is_loopback(settings.host) and _is_loopback(request.remote_addr or "")
    if listens_locally and name and not _is_local_name(name) and not _matches(name, settings.allowed_hosts):
        raise Forbidden("This server answers only to names of this machine; ALLOWED_HOSTS adds others.")


def _check_origin() -> None:
    origin = request.headers.get("Origin")
    if origin and not _is_own_origin(origin) and not _is_allowed_origin(origin):
        raise Forbidden("Web pages of this origin may not use this server; ALLOWED_ORIGINS adds some.")


def _check_key() -> None:
    keys = services().settings.api_keys
    if not keys or is_open(request.path):
        return
    scheme, _, bearer = request.headers.get("Authorization", "").partition(" ")
    offered = (bearer.strip() if scheme.lower() == "bearer" else "", request.headers.get("X-Api-Key", ""))
    # Every key is compared with every offer in full, so that the time taken tells nothing about either.
    right = [key for key in keys for offer in offered if hmac.compare_digest(key.encode(), offer.encode("latin-1"))]
    if not right:
        raise Unauthorized("This server wants an API key: send `Authorization: Bearer <key>` or `x-api-key: <key>`.")
    name_client(right[0])
    record().key = keys.index(right[0]) + 1


def _check_rate(limit: RateLimit) -> None:
    per_minute = services().settings.rate_limit
    if not per_minute or request.method in ("GET", "HEAD", "OPTIONS"):
        return
    wait = limit.take(client_name(), per_minute)
    if wait:
        raise TooManyRequests(
            f"You have made the {per_minute:g} requests a minute that this server allows. Try again in {wait:.0f} s.",
            retry_after=math.ceil(wait),
        )


@lru_cache(maxsize=_REMEMBERED)
def _host_name(host: str) -> str:
    # Not request.host: it is empty for names that HTTP forbids and that some resolvers know all the same.
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return host


def _is_preflight() -> bool:
    return request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers


def _allow_origin(response: Response) -> Response:
    origin = request.headers.get("Origin")
    if not origin or not _is_allowed_origin(origin):
        return response
    response.headers["Access-Control-Allow-Origin"] = origin
    response.headers["Access-Control-Expose-Headers"] = (
        "x-request-id, request-id, x-should-retry, X-Unapplied-Parameters, X-Token-Ids, Retry-After"
    )
    response.vary.add("Origin")
    if _is_preflight():
        wanted = request.headers.get("Access-Control-Request-Headers", _PREFLIGHT_HEADERS)
        response.headers["Access-Control-Allow-Methods"] = "GET,POST,PUT,PATCH,DELETE,HEAD,OPTIONS"
        response.headers["Access-Control-Allow-Headers"] = wanted
        response.headers["Access-Control-Max-Age"] = "43200"
    return response


def _bind_browsers(response: Response) -> Response:
    """No guessing of types, no telling of addresses, no foreign frames."""
    response.headers["X-Content-Type-Options"] = "nosniff"
    if response.mimetype == "text/html":
        response.headers.setdefault("Content-Security-Policy", _PAGE_POLICY)
        response.headers["X-Frame-Options"] = "DENY"
        response.headers["Referrer-Policy"] = "no-referrer"
    return response


def _is_own_origin(origin: str) -> bool:
    # The scheme is not compared: a proxy that ends TLS is not seen from here.
    return origin.lower().partition("://")[2] == request.headers.get("Host", "").lower() != ""


def _is_allowed_origin(origin: str) -> bool:
    try:
        parts = urlsplit(origin)
        host = parts.hostname or ""
    except ValueError:
        return False
    if parts.scheme in _APP_SCHEMES:
        return True
    if parts.scheme in ("http", "https") and host in _LOCAL_ORIGIN_HOSTS:
        return True
    return _matches(origin, services().settings.allowed_origins)


def _is_local_name(name: str) -> bool:
    name = name.lower().rstrip(".")
    address = _address(name)
    if address is not None:
        return address.is_loopback or address.is_private or address.is_unspecified
    return name in ("localhost", socket.gethostname().lower()) or name.endswith(_LOCAL_SUFFIXES)


def _is_loopback(host: str) -> bool:
    address = _address(host)
    return host.lower() == "localhost" if address is None else address.is_loopback


@lru_cache(maxsize=_REMEMBERED)
def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _matches(text: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(text.lower(), pattern.lower()) for pattern in patterns)
