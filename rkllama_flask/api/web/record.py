"""What becomes of one request, gathered until its response is closed: for who counts, and for who keeps a log.

A stream goes on after Flask has forgotten its request, and may begin further answers. It does so in the greenlet or
thread that took the request, so the record is also kept in a context variable, until the next request there.
"""

import time
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import cast

from flask import Flask, Response, g, request

from rkllama_flask.api.web.context import client_name, request_id
from rkllama_flask.errors import RkllamaError
from rkllama_flask.generation.events import Ended
from rkllama_flask.generation.following import OnEnd, nobody

MAX_ADDRESS = 60
"""Characters of an address that are kept: a proxy's header may hold anything."""

_latest: ContextVar["Record"] = ContextVar("record")


@dataclass
class Record:
    """`begun` is `time.monotonic_ns()`. `route` is empty for a path that has none, `status` 0 before there is one.

    `key` counts the API keys from 1, 0 where none was needed. `error` is an error's code, also one that ended a stream,
    or `client_gone`; empty where nothing failed.
    """

    id: str
    method: str
    path: str
    route: str
    address: str
    begun: int = field(default_factory=time.monotonic_ns)
    key: int = 0
    status: int = 0
    error: str = ""
    answers: list[Ended] = field(default_factory=list)

    def fail(self, error: RkllamaError) -> None:
        """The request ends in this error."""
        self.error = error.code


def record() -> Record:
    """The record of the current request."""
    if "record" not in g:
        rule = request.url_rule
        route = rule.rule if rule else ""
        g.record = Record(request_id(), request.method, request.path, route, address=client_name()[:MAX_ADDRESS])
        _latest.set(g.record)
    return cast(Record, g.record)


def observe() -> OnEnd:
    """Who hears of the end of what is being asked for: the record of the request that asks, if one does."""
    found = _latest.get(None)
    return found.answers.append if found else nobody


def install(app: Flask) -> None:
    """Keep a record of every request."""

    @app.before_request
    def _begin() -> None:
        record()

    @app.after_request
    def _keep_status(response: Response) -> Response:
        record().status = response.status_code
        return response
