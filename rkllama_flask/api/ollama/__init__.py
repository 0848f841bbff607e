"""The Ollama API."""

from flask import Blueprint, Response

from rkllama_flask.api.ollama import generation, models
from rkllama_flask.api.ollama.errors import dialect

__all__ = ["blueprint", "dialect"]

blueprint = Blueprint("ollama", __name__)
blueprint.post("/api/generate")(generation.generate)
blueprint.post("/api/chat")(generation.chat)
blueprint.get("/api/tags")(models.tags)
blueprint.get("/api/ps")(models.ps)
blueprint.get("/api/version")(models.version)
blueprint.post("/api/show")(models.show)
blueprint.post("/api/copy")(models.copy)
blueprint.delete("/api/delete")(models.delete)
blueprint.post("/api/create")(models.create)
blueprint.post("/api/push")(models.push)


@blueprint.get("/")
def root() -> Response:
    """What programs look for when they search an Ollama server."""
    return Response("Ollama is running", content_type="text/plain; charset=utf-8")
