"""`POST /api/embed` and the older `POST /api/embeddings`: texts as vectors."""

import time
from collections.abc import Mapping
from typing import Any

from flask import Response, jsonify

from rkllama_flask.api.ollama.details import within_context
from rkllama_flask.api.ollama.names import find_model, quoted, required
from rkllama_flask.api.ollama.options import Options
from rkllama_flask.api.ollama.schemas import EmbeddingsSchema, EmbedSchema, model_name
from rkllama_flask.api.openapi import examples, replies
from rkllama_flask.api.openapi.views import accepts, returns
from rkllama_flask.api.web.context import client_name, services
from rkllama_flask.api.web.streaming import collect, unapplied_header
from rkllama_flask.api.web.vectors import numbers, reply_with
from rkllama_flask.catalog.model import Model
from rkllama_flask.errors import ContextLengthExceeded, InvalidRequest, ModelNotFound, NotFound
from rkllama_flask.generation.embeddings import Embeddings

_embed = EmbedSchema()
_embeddings = EmbeddingsSchema()


@accepts(EmbedSchema, examples.OLLAMA_EMBED)
@returns(replies.OLLAMA_EMBED)
def embed() -> Response:
    """A vector of length 1 for each text, in order; no text loads the model, or unloads it with a keep_alive of 0."""
    begun = time.monotonic_ns()
    fields = _embed.read_body()
    name = model_name(fields)
    if not name:
        raise ModelNotFound("")
    model = _find(name)
    inputs: tuple[str, ...] = fields["input"]
    if not inputs:
        return _load(model, fields, {"model": name, "embeddings": []})
    dimensions = max(fields["dimensions"], 0) or None
    found = _vectors(model, inputs, fields, dimensions=dimensions, truncate=fields["truncate"])
    load = max(1, found.timings.queue + found.timings.load)
    figures = {
        "model": name,
        "total_duration": max(time.monotonic_ns() - begun, load + found.timings.prefill),
        "load_duration": load,
        "prompt_eval_count": found.prompt_tokens,
    }
    response = reply_with(figures, "embeddings", numbers(found.vectors))
    response.headers.update(unapplied_header(fields["options"].unapplied))
    return response


@accepts(EmbeddingsSchema, examples.OLLAMA_EMBEDDINGS)
@returns(replies.OLLAMA_EMBEDDINGS)
def embed_prompt() -> Response:
    """The vector of one text, as long as the model made it."""
    fields = _embeddings.read_body()
    model = _find(required(model_name(fields)))
    if not fields["prompt"]:
        return _load(model, fields, {"embedding": []})
    found = _vectors(model, (fields["prompt"],), fields, normalize=False)
    response = jsonify(embedding=found.vectors[0].tolist())
    response.headers.update(unapplied_header(fields["options"].unapplied))
    return response


def _find(name: str) -> Model:
    try:
        return find_model(name)
    except ModelNotFound as error:
        raise NotFound(f"model {quoted(name)} not found, try pulling it first", param="model") from error


def _vectors(
    model: Model,
    inputs: tuple[str, ...],
    fields: Mapping[str, Any],
    *,
    dimensions: int | None = None,
    normalize: bool = True,
    truncate: bool = True,
) -> Embeddings:
    options: Options = fields["options"]
    try:
        events = services().inference.embed(
            model,
            inputs,
            dimensions=dimensions,
            normalize=normalize,
            truncate=truncate,
            context_length=within_context(model, options.num_ctx),
            keep_alive=fields.get("keep_alive"),
            client=client_name(),
        )
        return collect(events)[0]
    except ContextLengthExceeded as error:
        raise InvalidRequest("the input length exceeds the context length", param="input") from error


def _load(model: Model, fields: Mapping[str, Any], body: Mapping[str, Any]) -> Response:
    inference, keep_alive = services().inference, fields.get("keep_alive")
    if keep_alive == 0:
        inference.unload(model)
    else:
        inference.load(model, keep_alive=keep_alive, context_length=within_context(model, fields["options"].num_ctx))
    return jsonify(body)
