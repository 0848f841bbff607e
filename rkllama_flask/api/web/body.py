"""A request's body as a JSON object, whatever its content type says, and whatever a hostile client puts into it."""

import gzip
import io
import json
import math
import socket
import sys
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any, NoReturn

from flask import request
from werkzeug.exceptions import ClientDisconnected
from werkzeug.wsgi import get_content_length, get_input_stream

from rkllama_flask.api.web.context import services
from rkllama_flask.api.web.half_characters import has_halves, whole
from rkllama_flask.api.web.streaming import ClientGone
from rkllama_flask.api.web.unread import Path
from rkllama_flask.errors import InvalidRequest, PayloadTooLarge, RequestTimedOut

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

Asked = Callable[[Mapping[str, Any]], Path]
"""Where a body has what is asked now; nowhere is the empty path."""

MAX_DEPTH = 100
"""Levels of nesting. Beyond, the recursion of what works on a body later (templates, schemas) would be the limit."""

MAX_OBJECTS = 20_000
"""Objects in one body. Each costs some 50 µs of everybody's time to look at (four times that on a board); a long
conversation with many tools has some thousands."""

READ_TIMEOUT = 30.0
"""Seconds without a single byte after which a body is given up."""

MAX_READ_TIME = 300.0
"""Seconds after which a body is given up that still trickles in; of a file, the time for each `PACE` bytes."""

PACE = 1 << 20

_BLOCK = 256 * 1024
_WINDOW_LOG = 23  # 8 MiB, what RFC 9659 allows a `zstd` content coding to need


def read_json(asked: Asked | None = None) -> dict[str, Any]:
    """The object in this request's body; empty for an empty body. `asked` is as in `parse_object`.

    Raises PayloadTooLarge over the limit of the settings (as sent and as decompressed), RequestTimedOut when the
    body stops coming, ClientGone when it breaks off, InvalidRequest for all that is not one sound JSON object.
    """
    return parse_object(read_bytes(), asked)


def read_bytes() -> bytes:
    """This request's body, decompressed; raises as `read_json`."""
    limit = services().settings.max_body_bytes
    return _decompress(_receive(limit), request.headers.get("Content-Encoding", ""), limit)


def parse_object(raw: bytes, asked: Asked | None = None) -> dict[str, Any]:
    """The JSON object in `raw`; nothing in it can surprise a later reader.

    Refused as InvalidRequest: invalid UTF-8, repeated keys, NaN and infinities, nesting deeper than MAX_DEPTH, and
    values that are no object. Half of a surrogate pair becomes U+FFFD; it is refused in a name, in a key, and where
    `asked` says that the body has what is asked now.
    """
    if not raw.strip():
        return {}
    try:
        value = json.loads(
            raw.decode("utf-8-sig"),
            object_pairs_hook=_Objects().take,
            parse_constant=_refuse_constant,
            parse_float=_finite,
        )
    except UnicodeDecodeError as error:
        raise InvalidRequest("The request body is not valid UTF-8.") from error
    except json.JSONDecodeError as error:
        raise InvalidRequest(
            f"The request body is not valid JSON: {error.msg} (line {error.lineno}, column {error.colno})."
        ) from error
    except RecursionError as error:
        raise _too_deep() from error
    except ValueError as error:  # an integer of thousands of digits
        raise InvalidRequest("The request body holds a number that is too long.") from error
    if not isinstance(value, dict):
        raise InvalidRequest("The request body must be a JSON object.")
    _check_depth(value)
    if b"\\ud" in raw or b"\\uD" in raw:
        return whole(value, asked(value) if asked else ()) if has_halves(value) else value
    return value


def read_file(limit: int) -> Iterator[bytes]:
    """This request's body as it comes, for what is too large to be held in memory: of any length up to `limit` bytes.

    Raises as `read_json`, and InvalidRequest for a body that is compressed.
    """
    if request.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
        raise InvalidRequest("A file is sent as it is, without a Content-Encoding.")
    return _blocks(limit, paced=True)


def abandon_body() -> None:
    """Read no more of this request's body: gunicorn would take in the rest of it before the next request."""
    connection: socket.socket | None = request.environ.get("gunicorn.socket")
    if connection is not None:
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RD)


def _receive(limit: int) -> bytes:
    return b"".join(_blocks(limit))


def _blocks(limit: int, *, paced: bool = False) -> Iterator[bytes]:
    expected = get_content_length(request.environ)
    if expected is not None and expected > limit:
        raise _too_large(limit)
    stream = get_input_stream(request.environ)
    size = 0
    with _Patience(request.environ.get("gunicorn.socket"), pace=PACE if paced else None) as patience:
        try:
            while size <= limit and (block := stream.read(min(_BLOCK, limit + 1 - size))):
                size += len(block)
                patience.note(size)
                if size <= limit:
                    yield block
        except (OSError, ClientDisconnected) as error:
            patience.explain(error)
        except Exception as error:  # each host has its own for chunks that are none
            raise InvalidRequest("The request body is not sent as HTTP says: its chunks are broken.") from error
        if size > limit:
            raise _too_large(limit)
        if expected is not None and size < expected:
            patience.explain()


class _Patience:
    """How long a body may take. gunicorn reads one for ever: only its socket can be told to stop.

    A silence is ended by the socket's own timeout, a trickle by shutting the socket for reading. That is done after a
    silence too, because gunicorn would read on to the body's end before the connection's next request. With a `pace`
    the time begins again whenever so many bytes have come.
    """

    def __init__(self, connection: socket.socket | None, *, pace: int | None = None) -> None:
        self._connection = connection
        self._before: float | None = None
        self._pace = pace
        self._next = pace
        self._cancel: Callable[[], None] = lambda: None
        self._stopped = False

    def __enter__(self) -> "_Patience":
        if self._connection is not None:
            self._before = self._connection.gettimeout()
            self._connection.settimeout(READ_TIMEOUT)
            self._cancel = _after(MAX_READ_TIME, self._stop, self._connection)
        return self

    def __exit__(self, *_: object) -> None:
        self._cancel()
        if self._connection is not None:
            self._connection.settimeout(self._before)

    def note(self, size: int) -> None:
        """So many bytes have come in all."""
        if self._pace is not None and self._next is not None and size >= self._next:
            self._next = size + self._pace
            self._cancel()
            if self._connection is not None:
                self._cancel = _after(MAX_READ_TIME, self._stop, self._connection)

    def explain(self, error: Exception | None = None) -> NoReturn:
        """Raise why the body is not whole."""
        if isinstance(error, TimeoutError):
            self._stop()
        if self._stopped:
            raise RequestTimedOut("The request body did not arrive in time.") from error
        raise ClientGone from error

    def _stop(self) -> None:
        self._stopped = True
        if self._connection is not None:
            with suppress(OSError):
                self._connection.shutdown(socket.SHUT_RD)


def _after(seconds: float, action: Callable[[], None], connection: socket.socket) -> Callable[[], None]:
    """Do `action` after so many seconds, unless what this returns is called before."""
    hub = getattr(connection, "hub", None)
    if hub is None:
        timer = threading.Timer(seconds, action)
        timer.start()
        return timer.cancel
    # gevent's socket: a greenlet for each body that never sleeps is dearer than all else that is done with it.
    watcher = hub.loop.timer(seconds)
    watcher.start(action)
    return watcher.close  # type: ignore[no-any-return]


def _decompress(raw: bytes, encoding: str, limit: int) -> bytes:
    reader: gzip.GzipFile | zstd.ZstdFile
    match encoding.strip().lower():
        case "" | "identity":
            return raw
        case "gzip" | "x-gzip":
            reader = gzip.GzipFile(fileobj=io.BytesIO(raw))
        case "zstd":
            reader = zstd.ZstdFile(io.BytesIO(raw), options={zstd.DecompressionParameter.window_log_max: _WINDOW_LOG})
        case _:
            raise InvalidRequest("The request body's Content-Encoding must be gzip, zstd or identity.")
    try:
        with reader:
            plain = reader.read(limit + 1)
    except (OSError, EOFError, zlib.error, zstd.ZstdError) as error:
        raise InvalidRequest(f"The request body is not valid {encoding.strip().lower()} data.") from error
    if len(plain) > limit:
        raise _too_large(limit)
    return plain


class _Objects:
    """Makes a body's objects, and counts them."""

    def __init__(self) -> None:
        self._left = MAX_OBJECTS

    def take(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        self._left -= 1
        if self._left < 0:
            raise InvalidRequest(f"The request body holds more than {MAX_OBJECTS} objects.")
        value = dict(pairs)
        if len(value) < len(pairs):
            raise InvalidRequest("The request body holds the same key twice in one object.")
        return value


def _refuse_constant(name: str) -> float:
    raise InvalidRequest(f"The request body holds {name}, which is not JSON.")


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise InvalidRequest("The request body holds a number that is too large.")
    return value


def _check_depth(value: dict[str, Any]) -> None:
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH):
        level = [
            child
            for node in level
            for child in (node.values() if isinstance(node, dict) else node)
            if isinstance(child, dict | list)
        ]
        if not level:
            return
    raise _too_deep()


def _too_large(limit: int) -> PayloadTooLarge:
    return PayloadTooLarge(f"The request body is larger than {limit} bytes.")


def _too_deep() -> InvalidRequest:
    return InvalidRequest(f"The request body is nested more than {MAX_DEPTH} levels deep.")
