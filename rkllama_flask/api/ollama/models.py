"""What is there, what is loaded, what a model can do; other names for models."""

import json
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

from flask import Response, jsonify

from rkllama_flask.api.body import read_json
from rkllama_flask.api.context import services
from rkllama_flask.api.ollama.schemas import CopySchema, CreateSchema, ModelSchema, ShowSchema
from rkllama_flask.catalog.model import Model
from rkllama_flask.catalog.modelfile import Written, compose, parse
from rkllama_flask.errors import InvalidRequest, UnsupportedRequest
from rkllama_flask.generation.templates import ChatTemplate

API_VERSION = "0.12.6"
"""The version of Ollama whose API this is: clients compare it before they use newer parts. Our own is in /health."""

_FOR_EVER = timedelta(days=106_000)  # what Ollama shows for a model that stays: some 290 years
_show = ShowSchema()
_copy = CopySchema()
_model = ModelSchema()
_create = CreateSchema()


def tags() -> Response:
    """Every model, the newest first."""
    models = sorted(services().catalog.list(), key=lambda model: -model.modified_at)
    return jsonify(
        models=[
            _identity(model)
            | {
                "modified_at": _local(model.modified_at),
                "details": _details(model),
                "capabilities": list(services().inference.capabilities(model)),
            }
            for model in models
        ]
    )


def ps() -> Response:
    """The loaded models, those that stay longest first."""
    shown = []
    for resident in services().inference.resident():
        expires = resident.expires_at
        end = datetime.now(timezone.utc) + _FOR_EVER if expires is None else _moment(expires)
        shown.append(
            _identity(resident.model)
            | {
                "details": _details(resident.model),
                "expires_at": end.astimezone().isoformat(),
                "size_vram": resident.size,
                "context_length": resident.context_length,
            }
        )
    return jsonify(models=sorted(shown, key=lambda model: str(model["expires_at"]), reverse=True))


def version() -> Response:
    return jsonify(version=API_VERSION)


def show() -> Response:
    """All that is known about one model."""
    fields = _show.read(read_json())
    model = _find(fields["model"])
    modelfile = model.modelfile
    body: dict[str, Any] = {
        "license": "\n".join(modelfile.license),
        "modelfile": services().catalog.modelfile_text(model),
        "parameters": _parameters(modelfile.parameters),
        "template": ChatTemplate.for_model(model).source,
        "system": modelfile.system or "",
        "messages": [{"role": role, "content": content} for role, content in modelfile.messages],
    }
    return jsonify(
        {key: value for key, value in body.items() if value}
        | {
            "details": _details(model),
            "model_info": _info(model),
            "capabilities": list(services().inference.capabilities(model)),
            "modified_at": _local(model.modified_at),
        }
    )


def copy() -> Response:
    """Another name for a model; the weights are shared."""
    fields = _copy.read(read_json())
    for place in ("source", "destination"):
        if not fields[place]:
            raise InvalidRequest(f'{place} "" is invalid', param=place)
    services().catalog.copy(fields["source"], fields["destination"])
    return Response(status=200)


def delete() -> Response:
    """Take a model away; one that is loaded is unloaded first, unless another name shares its weights."""
    model = _find(_model.read(read_json())["model"])
    if not any(other.path == model.path and other.name != model.name for other in services().catalog.list()):
        services().inference.unload(model)
    services().catalog.delete(model.name)
    return Response(status=200)


def create() -> Response:
    """Make a model of one that is here: with another prompt, template or parameters."""
    fields = _create.read(read_json())
    name = fields["model"]
    if not name:
        raise InvalidRequest("invalid model name", param="model")
    if fields["files"]:
        raise UnsupportedRequest(
            "files can't be uploaded here: put them into the models folder and name them in 'from'", param="files"
        )
    if fields.get("modelfile"):
        written = parse(fields["modelfile"])
    elif fields.get("from"):
        modelfile = compose(
            system=fields.get("system"),
            template=fields.get("template"),
            parameters=fields["parameters"],
            messages=[(message["role"], message["content"]) for message in fields["messages"]],
            license=fields["license"],
        )
        written = Written(fields["from"], modelfile)
    else:
        raise InvalidRequest("neither 'from' or 'files' was specified", param="from")
    services().catalog.create(name, written)
    if not fields["stream"]:
        return jsonify(status="success")
    return Response(_lines("writing manifest", "success"), content_type="application/x-ndjson")


def push() -> Response:
    raise UnsupportedRequest("this server has no registry to push models to")


def _lines(*states: str) -> Iterator[bytes]:
    for state in states:
        yield json.dumps({"status": state}).encode() + b"\n"


def _find(name: str) -> Model:
    if not name:
        raise InvalidRequest("model is required", param="model")
    return services().catalog.find(name)


def _identity(model: Model) -> dict[str, Any]:
    name = model.name if ":" in model.name else f"{model.name}:latest"
    return {"name": name, "model": name, "size": model.size, "digest": model.digest}


def _details(model: Model) -> dict[str, Any]:
    details: dict[str, Any] = {
        "parent_model": "",
        "format": model.format,
        "family": model.family or "",
        "families": [model.family] if model.family else None,
        "parameter_size": model.parameter_size or "",
        "quantization_level": model.quantization or "",
        "context_length": model.context_length,
    }
    return details | ({"embedding_length": model.embedding_length} if model.embedding_length else {})


def _info(model: Model) -> dict[str, Any]:
    """What is known, under the names of GGUF."""
    family = model.family or "unknown"
    known = {
        "general.architecture": model.family,
        "general.parameter_count": model.parameter_count,
        f"{family}.context_length": model.context_length,
        f"{family}.embedding_length": model.embedding_length,
        f"{family}.block_count": model.block_count,
    }
    return {key: value for key, value in known.items() if value is not None}


def _parameters(parameters: Mapping[str, Any]) -> str:
    return "\n".join(
        f"{name:<30} {json.dumps(one) if isinstance(one, str) else one}"
        for name, value in parameters.items()
        for one in (value if isinstance(value, list | tuple) else [value])
    )


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, timezone.utc)


def _local(seconds: float) -> str:
    return _moment(seconds).astimezone().isoformat()
