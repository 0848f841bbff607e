"""`GET /v1/models` and `/v1/models/{id}`.

Anthropic's clients ask at the same paths and get their own shape. What their SDK reads stands in this one too, for
those that send no `anthropic-version`.
"""

from datetime import datetime, timezone
from typing import Any

from flask import Response, jsonify

from rkllama_flask.api.anthropic import models as anthropic
from rkllama_flask.api.openapi import replies
from rkllama_flask.api.openapi.views import returns
from rkllama_flask.api.web.context import services
from rkllama_flask.catalog.model import Model


@returns(replies.MODELS)
def list_models() -> Response:
    """Every model on disk, then aliases."""
    if anthropic.asked():
        return anthropic.list_models()
    models = [_render(model, name) for name, model in services().inference.names().items()]
    names = [model["id"] for model in models] or [None]
    return jsonify(object="list", data=models, has_more=False, first_id=names[0], last_id=names[-1])


@returns(replies.MODEL)
def retrieve_model(name: str) -> Response:
    """One model under the name it was asked by, which may hold `:` and `/`. Raises ModelNotFound."""
    if anthropic.asked():
        return anthropic.retrieve_model(name)
    return jsonify(_render(services().inference.find(name), name))


def _render(model: Model, name: str) -> dict[str, Any]:
    reading = services().inference.known_reading(model)
    changed = datetime.fromtimestamp(int(model.modified_at), timezone.utc)
    return {
        "id": name,
        "object": "model",
        "created": int(model.modified_at),
        "owned_by": "library",
        "context_length": model.context_length,
        "turns": reading.told if reading else None,
        "type": "model",
        "display_name": model.name,
        "created_at": changed.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "lifecycle": "active",
    }
