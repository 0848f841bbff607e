"""Errors as OpenAI's clients read them: `{"error": {"message", "type", "param", "code"}}`."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rkllama_flask.errors import ContextLengthExceeded, InvalidRequest, RkllamaError

_TYPES = {403: "permission_error", 429: "rate_limit_exceeded"}


class OpenAIDialect:
    """Has its own paths, with `/v1` and without, and what no other API claims."""

    prefixes = tuple(
        f"{version}/{path}" for version in ("/v1", "") for path in ("chat", "completions", "embeddings", "responses")
    )
    header: str | None = None

    def render_error(self, error: RkllamaError, _request_id: str, /) -> dict[str, Any]:
        """All four keys are always there. A prompt that is too long also tells both counts, as llama-server does."""
        kind = "server_error" if error.status >= 500 else _TYPES.get(error.status, "invalid_request_error")
        code = None if type(error) is InvalidRequest else error.code
        body: dict[str, Any] = {"message": error.message, "type": kind, "param": error.param, "code": code}
        if isinstance(error, ContextLengthExceeded):
            body |= {"n_prompt_tokens": error.prompt_tokens, "n_ctx": error.limit}
        return {"error": body}


@contextmanager
def naming(fields: Mapping[str, str]) -> Iterator[None]:
    """Errors of the floors below, which know only the words of a chat, name the fields of this endpoint instead."""
    try:
        yield
    except InvalidRequest as error:
        error.param = fields.get(error.param or "", error.param)
        raise


dialect = OpenAIDialect()
