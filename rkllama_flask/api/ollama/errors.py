"""Errors as Ollama's clients read them: `{"error": "<text>"}` and nothing else."""

from typing import Any

from rkllama_flask.errors import QueueFull, RkllamaError


class OllamaDialect:
    """Has every path below `/api`."""

    prefixes: tuple[str, ...] = ("/api",)

    def render_error(self, error: RkllamaError, _request_id: str, /) -> dict[str, Any]:
        """The sentence. Ollama's own test of a full queue looks for the word `busy`."""
        busy = "server busy, please try again.  " if isinstance(error, QueueFull) else ""
        return {"error": f"{busy}{error.message}"}


dialect = OllamaDialect()
