"""Every error as a response in the shape of the API whose path was asked for."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from flask import Flask, Response, current_app, jsonify, request
from werkzeug.exceptions import HTTPException

from rkllama_flask.api.web.context import request_id
from rkllama_flask.api.web.record import record
from rkllama_flask.api.web.streaming import ClientGone, unexpected
from rkllama_flask.errors import NotFound, PayloadTooLarge, RkllamaError

logger = logging.getLogger(__name__)

_EXTENSION = "rkllama_dialects"


class Dialect(Protocol):
    """One API's way to say an error.

    `prefixes` are the paths that belong to it, without a slash at the end. At paths that belong to none it is told by
    `header`, which its clients alone send.
    """

    prefixes: tuple[str, ...]
    header: str | None

    def render_error(self, error: RkllamaError, request_id: str, /) -> Mapping[str, Any]:
        """The body of an error response."""


class HttpFailed(RkllamaError):
    """An error that HTTP itself has, such as a method that a path doesn't take."""

    code = "http_error"

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def install(app: Flask, dialects: Sequence[Dialect]) -> None:
    """Answer every error of `app` in a dialect's shape; the first dialect has what no other claims."""
    app.extensions[_EXTENSION] = tuple(dialects)
    app.register_error_handler(RkllamaError, respond)
    app.register_error_handler(HTTPException, _respond_http)
    app.register_error_handler(ClientGone, _respond_to_nobody)
    app.register_error_handler(Exception, _respond_unexpected)


def dialect_of(path: str) -> Dialect:
    """The dialect that a path belongs to, the longest prefix deciding; at shared paths that of the request's client."""
    dialects: tuple[Dialect, ...] = current_app.extensions[_EXTENSION]
    claims = [
        (len(prefix), dialect)
        for dialect in dialects
        for prefix in dialect.prefixes
        if path == prefix or path.startswith(f"{prefix}/")
    ]
    if claims:
        return max(claims, key=lambda claim: claim[0])[1]
    return next((one for one in dialects if one.header and one.header in request.headers), dialects[0])


def respond(error: RkllamaError) -> Response:
    """The response for `error` to the current request, with the headers that tell SDKs whether to try again."""
    record().fail(error)
    response = jsonify(dialect_of(request.path).render_error(error, request_id()))
    response.status_code = error.status
    if error.retry_after is not None:
        response.headers["Retry-After"] = str(error.retry_after)
    if error.should_retry is not None:
        response.headers["x-should-retry"] = "true" if error.should_retry else "false"
    if error.status >= 500:
        cause = error.__cause__  # a bug of ours, where it is none of our own errors: the log has where
        bug = None if isinstance(cause, RkllamaError) else cause
        logger.warning("%s: %s: %s", request_id(), type(error).__name__, error.log_text, exc_info=bug)
    return response


def _respond_http(error: HTTPException) -> Response:
    response = respond(_from_http(error))
    for name, value in error.get_headers():
        if name.lower() not in ("content-type", "content-length"):
            response.headers[name] = value
    return response


def _from_http(error: HTTPException) -> RkllamaError:
    match error.code:
        case 404:
            return NotFound(f"There is nothing at {request.method} {request.path}.")
        case 405:
            return HttpFailed(405, f"{request.path} does not take {request.method}.")
        case 413:
            return PayloadTooLarge("The request body is too large.")
        case code:
            return HttpFailed(code or 500, error.description or error.name)


def _respond_to_nobody(_: ClientGone) -> Response:
    record().error = "client_gone"
    logger.info("%s: 499, the client left", request_id())
    return Response(status=499)


def _respond_unexpected(_: Exception) -> Response:
    logger.exception("%s: unexpected error", request_id())
    return respond(unexpected(request_id()))
