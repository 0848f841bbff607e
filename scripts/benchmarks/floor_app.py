"""The least that gunicorn can serve: what an answer costs that nobody had to think about."""

from collections.abc import Callable, Iterable
from typing import Any


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Type", "text/event-stream")])
    return iter([b"data: {}\n\n"])
