"""Pulls as the events and lines of a response, the same for every API that offers them."""

import json
import time
from typing import Any

from flask import request

from rkllama_flask.api.web.context import services
from rkllama_flask.api.web.errors import Dialect, dialect_of
from rkllama_flask.catalog.pull.pulls import BEGIN, TICK, Step
from rkllama_flask.errors import Draining, RkllamaError
from rkllama_flask.generation.events import Waiting


class PullEvents:
    """The steps of a pull. Raises PullFailed, and Draining where the server stops before the pull is done."""

    unapplied: tuple[str, ...] = ()

    def __init__(self, name: str) -> None:
        self._watch = services().pulls.pull(name)
        self._inference = services().inference
        self._looked = time.monotonic()

    def __iter__(self) -> "PullEvents":
        return self

    def __next__(self) -> Step | Waiting:
        step = next(self._watch)
        now = time.monotonic()
        if now - self._looked >= TICK:
            self._looked = now
            if self._inference.status().draining:
                raise Draining("The server is stopping. Pull again later: it goes on where it stopped.")
        return Waiting(TICK) if step is None else step

    def close(self) -> None:
        self._watch.close()


class PullLines:
    """Each step is a line of JSON; in a silence the last one comes again."""

    content_type = "application/x-ndjson"

    def __init__(self) -> None:
        self._dialect: Dialect = dialect_of(request.path)
        self.heartbeat = _line(BEGIN)

    def begin(self) -> bytes:
        return self.heartbeat

    def frame(self, event: Step, /) -> bytes:
        self.heartbeat = _line(event)
        return self.heartbeat

    def error(self, error: RkllamaError, request_id: str, /) -> bytes:
        return _line(self._dialect.render_error(error, request_id))


def _line(value: Any) -> bytes:
    return json.dumps(value).encode() + b"\n"
