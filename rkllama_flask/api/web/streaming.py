"""How events become a response: streamed as they come, or collected, and never for a client that has gone.

Nothing leaves before the first event is there, so that an error found early keeps its status. Only when that takes
longer than the heartbeat time do the headers leave alone, since clients and proxies give up on silence.
"""

import logging
import select
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any, Protocol, TypeVar

from flask import Response, request

from rkllama_flask.api.web.context import services
from rkllama_flask.api.web.record import Record, record
from rkllama_flask.errors import RkllamaError
from rkllama_flask.generation.events import Waiting

logger = logging.getLogger(__name__)

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
T_contra = TypeVar("T_contra", contravariant=True)

LOOK_EVERY = 0.5
"""Seconds between two looks for the client while events flow; silence brings its own ticks."""

_HANGS_UP = select.POLLRDHUP | select.POLLHUP | select.POLLERR

_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}

UNAPPLIED_HEADER = "X-Unapplied-Parameters"
MOST_NAMED = 60


class ClientGone(Exception):
    """The client hung up before its answer began; nobody will read what is returned (logged as 499)."""


class Events(Protocol[T_co]):
    """What inference hands out: `unapplied` is complete once the first event that is not Waiting has come."""

    @property
    def unapplied(self) -> tuple[str, ...]: ...
    def __iter__(self) -> "Iterator[T_co | Waiting]": ...
    def __next__(self) -> "T_co | Waiting": ...
    def close(self) -> None: ...


class Framing(Protocol[T_contra]):
    """How one response of one dialect looks on the wire.

    `frame` gives the bytes for an event, b"" where it has none. `heartbeat` is what may be sent at any moment without
    meaning anything, b"" where the dialect has no such thing. `begin` is asked, where there is a heartbeat, for what
    is sent when the first event is long in coming. `error` ends a stream that has begun.
    """

    content_type: str
    heartbeat: bytes

    def begin(self) -> bytes: ...
    def frame(self, event: T_contra, /) -> bytes: ...
    def error(self, error: RkllamaError, request_id: str, /) -> bytes: ...


def stream(events: Events[T], framing: Framing[T], *, unapplied: tuple[str, ...] = ()) -> Response:
    """A response that sends each event as it comes and closes `events` however it ends.

    `unapplied` are the request's fields that can't be honoured; those that only the generation knows are added.
    Raises what `events` raises before its first event, and ClientGone.
    """
    client = _Client(request.environ)
    heartbeat = services().settings.heartbeat if framing.heartbeat else 0.0
    body = _Body(events)
    # Made in a moment of waiting, so that it need not be when the first token is there.
    response = cache(lambda: Response(body, content_type=framing.content_type, headers=_HEADERS))
    try:
        first = _first(events, client, heartbeat, meanwhile=response)
        body.chunks = _chunks(events, first, framing, client, heartbeat=heartbeat, record=record())
        response().headers.update(unapplied_header((*unapplied, *(events.unapplied if first else ()))))
        return response()
    except BaseException:
        events.close()
        raise


def collect(events: Events[T]) -> list[T]:
    """All events but Waiting, once the last has come; raises what `events` raises, and ClientGone. Closes `events`."""
    client = _Client(request.environ)
    collected: list[T] = []
    try:
        for event in events:
            if client.gone(now=isinstance(event, Waiting)):
                raise ClientGone
            if not isinstance(event, Waiting):
                collected.append(event)
    finally:
        events.close()
    return collected


def unapplied_header(names: tuple[str, ...]) -> dict[str, str]:
    """The header that names what was asked for and could not be honoured; none when that is nothing.

    Clients don't take headers of any length: of more names the first are told, whole fields before parts of some, and
    how many more there are.
    """
    told = list(dict.fromkeys(names))
    if len(told) > MOST_NAMED:
        told.sort(key=lambda name: "." in name)
        told[MOST_NAMED:] = [f"{len(told) - MOST_NAMED} more"]
    return {UNAPPLIED_HEADER: ", ".join(told)} if told else {}


def client_gone(environ: Mapping[str, Any]) -> bool:
    """Whether this request's client has hung up; False where the host gives no way to know.

    gunicorn and werkzeug lend their socket. It is polled first: under gevent a bare recv would wait, whatever its
    flags say. waitress knows only when started with `channel_request_lookahead` >= 1, uWSGI only what its descriptor
    shows, mod_wsgi nothing.
    """
    lent: socket.socket | None = environ.get("gunicorn.socket") or environ.get("werkzeug.socket")
    if lent is not None:
        return _hung_up(lent)
    if "uwsgi.version" in environ:
        return bool(_poll(sys.modules["uwsgi"].connection_fd()) & _HANGS_UP)
    ask: Callable[[], bool] | None = environ.get("waitress.client_disconnected")
    return ask() if ask else False


def _hung_up(connection: socket.socket) -> bool:
    if connection.fileno() < 0:
        return True
    shown = _poll(connection.fileno())
    if not shown:
        return False
    if shown & _HANGS_UP:
        return True
    try:
        return connection.recv(1, socket.MSG_PEEK) == b""
    except OSError:
        return True


def _poll(descriptor: int) -> int:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN | select.POLLRDHUP)
    ready = poll.poll(0)
    return ready[0][1] if ready else 0


class _Client:
    """Looks for the client, at most each LOOK_EVERY seconds while it isn't told to look now."""

    def __init__(self, environ: Mapping[str, Any]) -> None:
        self._environ = environ
        self._looked = time.monotonic()

    def gone(self, *, now: bool) -> bool:
        moment = time.monotonic()
        if not now and moment - self._looked < LOOK_EVERY:
            return False
        self._looked = moment
        return client_gone(self._environ)


class _Body:
    """The iterable a WSGI server reads and closes.

    A generator that was never started runs no `finally`, so closing the events belongs to this object: the client may
    leave between the headers and the first chunk.
    """

    def __init__(self, events: Events[T]) -> None:
        self._events = events
        self.chunks: Iterator[bytes] = iter(())

    def __iter__(self) -> Iterator[bytes]:
        return self.chunks

    def close(self) -> None:
        self._events.close()


def _first(events: Events[T], client: _Client, heartbeat: float, *, meanwhile: Callable[[], object]) -> T | None:
    """The first event; None when the heartbeat time passed before it. `meanwhile` is called while there is none."""
    started = time.monotonic()
    for event in events:
        if not isinstance(event, Waiting):
            return event
        if client.gone(now=True):
            raise ClientGone
        meanwhile()
        if heartbeat and time.monotonic() - started >= heartbeat:
            return None
    raise RkllamaError("The generation ended without an event.")


def _chunks(
    events: Events[T], first: T | None, framing: Framing[T], client: _Client, *, heartbeat: float, record: Record
) -> Iterator[bytes]:
    try:
        yield framing.begin() if first is None else framing.frame(first)
        written = time.monotonic()
        for event in events:
            chunk = b"" if isinstance(event, Waiting) else framing.frame(event)
            if client.gone(now=isinstance(event, Waiting)):
                record.error = "client_gone"
                return
            if not chunk and heartbeat and time.monotonic() - written >= heartbeat:
                chunk = framing.heartbeat
            if chunk:
                yield chunk
                written = time.monotonic()
    except RkllamaError as error:
        record.fail(error)
        logger.warning("%s: stream ended by %s: %s", record.id, type(error).__name__, error.log_text)
        yield framing.error(error, record.id)
    except Exception:
        record.fail(unforeseen := unexpected(record.id))
        logger.exception("%s: unexpected error in a stream", record.id)
        yield framing.error(unforeseen, record.id)
    finally:
        events.close()


def unexpected(name: str) -> RkllamaError:
    """What a client may know of an error nobody foresaw: where to look, and no more."""
    return RkllamaError(f"The server failed unexpectedly; its log tells more under {name}.")
