"""Copy, create and delete: other names for weights that are here. What would need a registry is refused."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from flask import Response, jsonify

from rkllama_flask.api import openapi_examples as examples
from rkllama_flask.api import openapi_replies as replies
from rkllama_flask.api.context import services
from rkllama_flask.api.ollama.framing import CONTENT_TYPE, Fields, line
from rkllama_flask.api.ollama.names import find_model, quoted, required
from rkllama_flask.api.ollama.schemas import CopySchema, CreateSchema, NamedSchema, model_name
from rkllama_flask.api.openapi import accepts, returns
from rkllama_flask.api.streaming import unapplied_header
from rkllama_flask.catalog import names
from rkllama_flask.catalog.modelfile import Written, compose, inherit, parse
from rkllama_flask.catalog.uploaded import Uploaded, arrange
from rkllama_flask.errors import InvalidRequest, ModelNotFound, NotFound, Unavailable, UnsupportedRequest

_copy = CopySchema()
_create = CreateSchema()
_named = NamedSchema()


@accepts(CopySchema, examples.OLLAMA_COPY)
@returns()
def copy_model() -> Response:
    """`POST /api/copy`: another name for a model; the weights are shared."""
    fields = _copy.read_body()
    source, destination = fields["source"], fields["destination"]
    _check_name(source, f"source {quoted(source)} is invalid")
    _check_name(destination, f"destination {quoted(destination)} is invalid", new=True)
    try:
        services().catalog.copy(source, destination)
    except ModelNotFound as error:
        raise NotFound(f"model {quoted(source)} not found", param="source") from error
    return Response(status=200)


@accepts(NamedSchema, examples.OLLAMA_DELETE)
@returns()
def delete_model() -> Response:
    """`DELETE /api/delete`: take a model and its prompt caches away.

    Memory that its weights hold is freed when no name has them any more.
    """
    name = required(model_name(_named.read_body()))
    _check_name(name, f"name {quoted(name)} is invalid")
    catalog, inference = services().catalog, services().inference
    loaded = {one.model.path: one.model for one in inference.resident()}
    inference.caches.delete_all(catalog.delete(name))
    left = {model.path for model in catalog.list()}
    for path, model in loaded.items():
        if path not in left:
            with suppress(Unavailable):  # it is deleted all the same, and the memory is freed when its time is over
                inference.unload(model)
    return Response(status=200)


@accepts(CreateSchema, examples.OLLAMA_CREATE)
@returns(replies.OLLAMA_STATUS, stream=replies.OLLAMA_CREATE_LINES)
def create_model() -> Response:
    """`POST /api/create`: a model of uploaded files, or of one that is here, with words and parameters around it."""
    fields = _create.read_body()
    name = model_name(fields)
    _check_name(name, "invalid model name", new=True)
    uploaded = arrange(fields["files"], fields["adapters"], _find_blob)
    written, uploaded = _written(fields, uploaded)
    services().catalog.create(name, written, uploaded=uploaded)
    files = (*uploaded.weights, *uploaded.side, *uploaded.adapters)
    told = [f"using existing layer sha256:{file.sha256}" for file in files]
    statuses = [{"status": status} for status in (*told, "writing manifest", "success")]
    response = _progress(statuses, streamed=fields["stream"])
    response.headers.update(unapplied_header(_create.unapplied(fields)))
    return response


@accepts(NamedSchema, examples.OLLAMA_NAME)
@returns(refused=400)
def push_model() -> Response:
    """`POST /api/push`: always refused."""
    find_model(required(model_name(_named.read_body())))
    raise UnsupportedRequest("models can't be pushed from here: this server has no registry of its own")


def _find_blob(sha256: str) -> Path | None:
    return services().blobs.find(sha256) or services().catalog.find_weights(sha256)


def _written(fields: Mapping[str, Any], uploaded: Uploaded) -> tuple[Written, Uploaded]:
    """The Modelfile that is asked for, and the adapters with the scales that it gives them.

    Raises InvalidRequest, and UnsupportedRequest for what can't be done here.
    """
    if fields["quantize"] or fields["quantization"]:
        raise UnsupportedRequest("models can't be quantized here: it is done when they are converted", param="quantize")
    text = parse(fields["modelfile"]) if fields["modelfile"] else Written()
    source = fields.get("source") or text.source
    if not source and not uploaded.weights:
        missing = "no files provided to convert" if fields["files"] else "neither 'from' or 'files' was specified"
        raise InvalidRequest(missing, param="from")
    said = compose(
        system=fields.get("system"),
        template=fields.get("template"),
        parameters={key: value for key, value in fields["parameters"].items() if value is not None},
        messages=[(turn["role"], turn["content"]) for turn in fields["messages"]],
        license=fields["license"],
    )
    scales = {path.name: scale for path, scale in text.modelfile.adapters}
    adapters = tuple(replace(file, scale=scales.pop(file.name, 1.0)) for file in uploaded.adapters)
    here = tuple(one for one in text.modelfile.adapters if one[0].name in scales)  # the others are the uploaded ones
    if here and adapters:
        raise InvalidRequest("adapters are all uploaded, or all in the models folder", param="adapters")
    modelfile = inherit(replace(text.modelfile, adapters=here), said)
    return Written(source, modelfile), replace(uploaded, adapters=adapters)


def _progress(statuses: Sequence[Fields], *, streamed: bool) -> Response:
    if not streamed:
        return jsonify(statuses[-1])
    return Response([line(status) for status in statuses], content_type=CONTENT_TYPE)


def _check_name(name: str, refusal: str, *, new: bool = False) -> None:
    try:
        (names.parse_new if new else names.parse)(name)
    except InvalidRequest as error:
        raise InvalidRequest(refusal, param="model") from error
