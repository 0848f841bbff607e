"""The access log: a line of JSON for each request, once its response has left. docs/monitoring.md explains the fields.

Nothing a client wrote is in it but method, path and request id, and those are escaped as JSON in ASCII and cut: no line
can be forged. Never in it: prompts, answers, keys, query strings.
"""

import json
import logging
import sys
import time
from collections.abc import Iterable
from datetime import datetime, timezone
from functools import partial
from typing import Any

from flask import Flask, Response

from rkllama_flask.api.web.context import services
from rkllama_flask.api.web.record import Record, record

logger = logging.getLogger("rkllama_flask.access")

MAX_PATH = 200
"""Characters of a path that are kept."""


class _Stderr(logging.Handler):
    """What stands in `sys.stderr` at the moment: the runtime's log moves it."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            sys.stderr.write(self.format(record) + "\n")
            sys.stderr.flush()
        except Exception:
            self.handleError(record)


def install(app: Flask) -> None:
    """Write a line for each request, unless the settings say not to. A host that gives the logger handlers of its own
    decides where they go."""
    if not logger.handlers:
        logger.addHandler(_Stderr())
        logger.propagate = False
    logger.setLevel(logging.INFO)

    @app.after_request
    def _follow(response: Response) -> Response:
        if services().settings.access_log:
            response.call_on_close(partial(_write, record()))
        return response


def _write(record: Record) -> None:
    logger.info(json.dumps(entry(record), separators=(",", ":")))


def entry(record: Record) -> dict[str, Any]:
    """The line's fields. Those of answers are sums where a request had several, and null where none began."""
    cancelled = record.error == "client_gone" or any(one.reason == "cancelled" for one in record.answers)
    fields: dict[str, Any] = {
        "time": datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "id": record.id,
        "who": f"key {record.key}" if record.key else record.address or "local",
        "method": record.method[:20],
        "path": record.path[:MAX_PATH],
        "status": record.status,
        "outcome": "cancelled" if cancelled else record.error or "ok",
        "total_ms": _ms(time.monotonic_ns() - record.begun),
    }
    answers = record.answers
    if answers:
        first = answers[0].first_token
        fields |= {
            "model": answers[0].model,
            "queue_ms": _total(one.queue for one in answers),
            "load_ms": _total(one.load for one in answers),
            "prefill_ms": _total(one.prefill for one in answers),
            "decode_ms": _total(one.decode for one in answers),
            "first_token_ms": None if first is None else _ms(first),
            "prompt_tokens": sum(one.prompt_tokens for one in answers),
            "cached_tokens": sum(one.cached_tokens for one in answers),
            "completion_tokens": sum(one.completion_tokens for one in answers),
        }
    return fields


def _total(times: Iterable[int | None]) -> float | None:
    known = [one for one in times if one is not None]
    return _ms(sum(known)) if known else None


def _ms(nanoseconds: int) -> float:
    return round(nanoseconds / 1e6, 1)
