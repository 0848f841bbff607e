"""Errors as Ollama's clients read them: `{"error": "<text>"}`, in Ollama's own words where it has some."""

from rkllama_flask.errors import ContextLengthExceeded, QueueFull, RkllamaError

PREFIX = "/api"


class OllamaDialect:
    """Has what lies under `/api`."""

    prefixes: tuple[str, ...] = (PREFIX,)
    header: str | None = None

    def render_error(self, error: RkllamaError, _request_id: str, /) -> dict[str, str]:
        """The body of an error, and the last line of a stream that fails."""
        return {"error": _text(error)}


def _text(error: RkllamaError) -> str:
    if isinstance(error, QueueFull):
        return "server busy, please try again.  maximum pending requests exceeded"
    if isinstance(error, ContextLengthExceeded):
        return (
            "the prompt is longer than the context length currently available to the model; it has "
            f"{error.prompt_tokens} tokens, and the context takes at most {error.limit}"
        )
    return error.message


dialect = OllamaDialect()
