"""Errors as Anthropic's clients read them: `{"type": "error", "error": {"type", "message"}, "request_id"}`."""

from typing import Any

from rkllama_flask.errors import ContextLengthExceeded, RkllamaError, UnsupportedRequest

_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}


class ThreadUnsupported(UnsupportedRequest):
    """Only the newest messages of a conversation would come with each request, and none is kept here.

    Anthropic's client knows the code, and sends its conversations whole from then on.
    """

    def __init__(self) -> None:
        super().__init__("No conversations are kept here: send all of its messages with each request.", param="thread")


class AnthropicDialect:
    """Has the paths below `messages`, with `/v1` and without."""

    prefixes: tuple[str, ...] = ("/v1/messages", "/messages")
    header: str | None = "anthropic-version"

    def render_error(self, error: RkllamaError, request_id: str, /) -> dict[str, Any]:
        """The type follows the status. Coding clients shorten their history when they read `prompt is too long`."""
        message = error.message
        if isinstance(error, ContextLengthExceeded):
            message = f"prompt is too long: {error.prompt_tokens} tokens > {error.limit} maximum"
        kind = _TYPES.get(error.status, "api_error" if error.status >= 500 else "invalid_request_error")
        said: dict[str, Any] = {"type": kind, "message": message}
        if isinstance(error, ThreadUnsupported):
            said["details"] = {"error_code": "thread_unsupported_request", "unsupported": ["thread"]}
        return {"type": "error", "error": said, "request_id": request_id}


dialect = AnthropicDialect()
