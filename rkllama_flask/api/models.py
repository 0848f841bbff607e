"""Models by name: `/v1/models/load`, `/unload`, `/available`, `/loaded`, `/download`.

These paths and the keys of their answers are this server's own; scripts written for its forerunner read them.
"""

from typing import Any

from flask import Blueprint, Response, jsonify
from marshmallow.validate import Range
from werkzeug.routing import PathConverter

from rkllama_flask.api.openapi import examples, replies
from rkllama_flask.api.openapi.views import accepts, returns
from rkllama_flask.api.pulling import PullEvents, PullLines
from rkllama_flask.api.web.body import read_json
from rkllama_flask.api.web.context import services
from rkllama_flask.api.web.schema import Boolean, Integer, RequestSchema, String
from rkllama_flask.api.web.streaming import collect, stream

blueprint = Blueprint("models", __name__)


class NameConverter(PathConverter):
    """A model's name in a path. The words that are paths of their own here are none, whatever the method."""

    regex = "(?!(?:load|unload|download|available|loaded)$)[^/].*?"


class LoadSchema(RequestSchema):
    """`context_length` is in tokens; without it the model's own."""

    model = String()
    context_length = Integer(validate=Range(min=1))


class DownloadSchema(RequestSchema):
    """`model` is a repository of the hub; `file` one of its files, or a quantisation."""

    model = String(required=True)
    file = String()
    stream = Boolean(load_default=False)


class UnloadSchema(RequestSchema):
    model = String()


_load = LoadSchema()
_download = DownloadSchema()
_unload = UnloadSchema()


@blueprint.post("/models/load")
@accepts(LoadSchema, examples.LOAD)
@returns(replies.LOADED)
def load_model() -> Response:
    """Load a model and keep it until it is unloaded; answers when it is ready."""
    fields = _load.read(read_json())
    inference = services().inference
    model = inference.choose(fields.get("model"))
    taken = inference.load(model, context_length=fields.get("context_length"))
    return jsonify(
        success=True,
        message=f"Model {model.name} is loaded.",
        model_name=model.name,
        loaded=True,
        load_ms=round(taken / 1e6, 2),
    )


@blueprint.post("/models/unload")
@accepts(UnloadSchema, examples.UNLOAD)
@returns(replies.UNLOADED)
def unload_model() -> Response:
    """Unload one model, or all of them; a running answer ends first."""
    name = _unload.read(read_json()).get("model")
    unloaded = services().inference.unload(services().catalog.find(name) if name else None)
    if unloaded:
        message = f"Unloaded {', '.join(unloaded)}."
    else:
        message = f"Model {name} was not loaded." if name else "No model was loaded."
    return jsonify(success=True, message=message, unloaded=unloaded)


@blueprint.post("/models/download")
@accepts(DownloadSchema, examples.DOWNLOAD)
@returns(replies.DOWNLOADED, stream=replies.PULL_LINES)
def download_model() -> Response:
    """Fetch a model from Hugging Face; answers when it is here, or with `stream` tells each step as a line of JSON."""
    fields = _download.read(read_json())
    name = f"{fields['model']}:{fields['file']}" if fields.get("file") else fields["model"]
    events = PullEvents(name)
    if fields["stream"]:
        return stream(events, PullLines())
    collect(events)
    model = services().pulls.find(name)
    return jsonify(
        success=True,
        message=f"Model {model.name} is here.",
        model_name=model.name,
        filename=model.path.name,
        size_mb=round(model.size / 2**20, 2),
    )


@blueprint.get("/models/available")
@returns(replies.AVAILABLE)
def list_available_models() -> Response:
    """Every model on disk, and which of them is loaded."""
    loaded = _loaded_names()
    models: list[dict[str, Any]] = [
        {
            "name": model.name,
            "filename": model.path.name,
            "size_mb": round(model.size / 2**20, 2),
            "loaded": model.name in loaded,
        }
        for model in services().catalog.list()
    ]
    return jsonify(models=models, total=len(models), loaded_model=loaded[0] if loaded else None)


@blueprint.get("/models/loaded")
@returns(replies.RESIDENT)
def list_loaded_models() -> Response:
    """The model that answers when none is named, and all that are loaded, the most recently used first."""
    loaded = _loaded_names()
    return jsonify(loaded=bool(loaded), model_name=loaded[0] if loaded else None, models=loaded)


def _loaded_names() -> list[str]:
    return [resident.model.name for resident in services().inference.resident()]
