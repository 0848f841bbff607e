"""The Ollama API."""

from flask import Blueprint

from rkllama_flask.api.ollama.blobs import check_blob, store_blob
from rkllama_flask.api.ollama.changes import copy_model, delete_model, push_model
from rkllama_flask.api.ollama.create import create_model
from rkllama_flask.api.ollama.embeddings import embed, embed_prompt
from rkllama_flask.api.ollama.errors import dialect
from rkllama_flask.api.ollama.generation import chat, generate
from rkllama_flask.api.ollama.models import list_loaded_models, list_models, show_model
from rkllama_flask.api.ollama.probes import root, version
from rkllama_flask.api.ollama.pull import pull_model

__all__ = ["blueprint", "dialect"]

blueprint = Blueprint("ollama", __name__)
blueprint.get("/")(root)
blueprint.get("/api/version")(version)
blueprint.post("/api/generate")(generate)
blueprint.post("/api/chat")(chat)
blueprint.post("/api/embed")(embed)
blueprint.post("/api/embeddings")(embed_prompt)
blueprint.get("/api/tags")(list_models)
blueprint.get("/api/ps")(list_loaded_models)
blueprint.post("/api/show")(show_model)
blueprint.post("/api/copy")(copy_model)
blueprint.post("/api/create")(create_model)
blueprint.delete("/api/delete")(delete_model)
blueprint.post("/api/pull")(pull_model)
blueprint.post("/api/push")(push_model)
blueprint.route("/api/blobs/<digest>", methods=["HEAD"])(check_blob)
blueprint.post("/api/blobs/<digest>")(store_blob)
