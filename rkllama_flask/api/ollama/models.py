"""What models there are, which are loaded, and all that is known about one."""

import time
from typing import Any

from flask import Response, jsonify, request

from rkllama_flask.api.ollama.details import details, identity, model_info, parameters_text
from rkllama_flask.api.ollama.durations import NEVER, local_time
from rkllama_flask.api.ollama.names import display_name, find_model, required
from rkllama_flask.api.ollama.schemas import ShowSchema, model_name
from rkllama_flask.api.openapi import examples, replies
from rkllama_flask.api.openapi.views import accepts, returns
from rkllama_flask.api.web.context import services
from rkllama_flask.api.web.streaming import unapplied_header
from rkllama_flask.errors import ModelNotFound
from rkllama_flask.generation.prompt.templates import ChatTemplate

_schema = ShowSchema()


@returns(replies.OLLAMA_TAGS)
def list_models() -> Response:
    """`GET /api/tags`: every model on disk, the newest first."""
    inference = services().inference
    models = sorted(services().catalog.list(), key=lambda model: -model.modified_at)
    return jsonify(
        models=[
            identity(model)
            | {
                "modified_at": local_time(model.modified_at),
                "details": details(model),
                "capabilities": list(inference.capabilities(model)),
            }
            for model in models
        ]
    )


@returns(replies.OLLAMA_PS)
def list_loaded_models() -> Response:
    """`GET /api/ps`: the loaded models and the one that is being loaded, the one that stays longest first."""
    inference, now = services().inference, time.time()
    arriving = inference.loading()  # asked first: a model that comes meanwhile must not be missed
    loaded = [(one.expires_at or now + NEVER, one.model, one.context_length) for one in inference.resident()]
    if arriving is not None and all(model != arriving for _, model, _ in loaded):
        stays = min(services().settings.keep_alive, NEVER)
        loaded.append((now + stays, arriving, arriving.context_length))
    return jsonify(
        models=[
            identity(model)
            | {
                "details": details(model),
                "expires_at": local_time(expires),
                "size_vram": model.size if model.format == "rkllm" else 0,  # only the NPU has memory of its kind
                "context_length": context_length,
            }
            for expires, model, context_length in sorted(loaded, key=lambda one: -one[0])
        ]
    )


@accepts(ShowSchema, examples.OLLAMA_NAME)
@returns(replies.OLLAMA_SHOW)
def show_model() -> Response:
    """`POST /api/show`: all that is known about one model."""
    fields = _schema.read_body()
    name = required(model_name(fields))
    try:
        model = find_model(name)
    except ModelNotFound as error:
        raise ModelNotFound(display_name(name)) from error
    info = model_info(model)
    if request.headers.get("User-Agent", "").startswith("GitHubCopilotChat/"):
        info["general.basename"] = name  # what that program shows as the model's name
    modelfile = model.modelfile
    texts: dict[str, Any] = {
        "license": "\n".join(modelfile.license),
        "modelfile": services().catalog.modelfile_text(model),
        "parameters": parameters_text(model),
        "template": ChatTemplate.for_model(model).source,
        "system": modelfile.system,
        "messages": [{"role": role, "content": content} for role, content in modelfile.messages],
    }
    response = jsonify(
        {key: value for key, value in texts.items() if value}
        | {
            "details": details(model),
            "model_info": info,
            "capabilities": list(services().inference.capabilities(model)),
            "turns": services().inference.reading(model).told,
            "modified_at": local_time(model.modified_at),
        }
    )
    response.headers.update(unapplied_header(_schema.unapplied(fields)))
    return response
