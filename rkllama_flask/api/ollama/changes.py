"""Copy and delete: another name for weights that are here, and a name less. What would need a registry is refused."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from flask import Response

from rkllama_flask.api.ollama.names import find_model, quoted, required
from rkllama_flask.api.ollama.schemas import CopySchema, NamedSchema, model_name
from rkllama_flask.api.openapi import examples
from rkllama_flask.api.openapi.views import accepts, returns
from rkllama_flask.api.web.context import services
from rkllama_flask.catalog.catalog import Catalog
from rkllama_flask.catalog.reading import names
from rkllama_flask.errors import InvalidRequest, ModelNotFound, NotFound, Unavailable, UnsupportedRequest
from rkllama_flask.generation.inference import Inference

_copy = CopySchema()
_named = NamedSchema()


@accepts(CopySchema, examples.OLLAMA_COPY)
@returns()
def copy_model() -> Response:
    """`POST /api/copy`: another name for a model; the weights are shared."""
    fields = _copy.read_body()
    source, destination = fields["source"], fields["destination"]
    check_name(source, f"source {quoted(source)} is invalid")
    check_name(destination, f"destination {quoted(destination)} is invalid", new=True)
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
    check_name(name, f"name {quoted(name)} is invalid")
    catalog, inference = services().catalog, services().inference
    with freeing(catalog, inference):
        inference.caches.delete_all(catalog.delete(name))
    return Response(status=200)


@accepts(NamedSchema, examples.OLLAMA_NAME)
@returns(refused=400)
def push_model() -> Response:
    """`POST /api/push`: always refused."""
    find_model(required(model_name(_named.read_body())))
    raise UnsupportedRequest("models can't be pushed from here: this server has no registry of its own")


@contextmanager
def freeing(catalog: Catalog, inference: Inference) -> Iterator[None]:
    """Free the memory of models that have no name any more after what is done in here."""
    loaded = [one.model for one in inference.resident()]
    yield
    named = {(model.path, model.identity) for model in catalog.list()}
    for model in loaded:
        if (model.path, model.identity) not in named:
            with suppress(Unavailable):  # what was asked for is done, and the memory is freed when its time is over
                inference.unload(model)


def check_name(name: str, refusal: str, *, new: bool = False) -> None:
    """Raise InvalidRequest with Ollama's words for what can't be a name, or can't be given as a `new` one."""
    try:
        (names.parse_new if new else names.parse)(name)
    except InvalidRequest as error:
        raise InvalidRequest(refusal, param="model") from error
