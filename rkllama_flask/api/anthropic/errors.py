"""Errors as Anthropic's clients read them: `{"type": "error", "error": {"type", "message"}, "request_id"}`."""

from typing import Any

from rkllama_flask.errors import ContextLengthExceeded, RkllamaError

_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}


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
        return {"type": "error", "error": {"type": kind, "message": message}, "request_id": request_id}


dialect = AnthropicDialect()
