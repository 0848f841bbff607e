"""`POST /api/generate` and `POST /api/chat`, which differ only in how they ask and where the text stands."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from flask import Response, jsonify

from rkllama_flask.api.body import read_json
from rkllama_flask.api.context import client_name, services
from rkllama_flask.api.ollama.framing import Answer, Fields, chat_shape, generate_shape, now
from rkllama_flask.api.ollama.neutral import (
    limit_of,
    messages_of,
    refuse_images,
    require,
    sampling_of,
    thinking_of,
    tools_of,
    unapplied_sampling,
)
from rkllama_flask.api.ollama.schemas import ChatSchema, GenerateSchema, OptionsSchema
from rkllama_flask.api.streaming import Events, collect, stream, unapplied_header
from rkllama_flask.catalog.model import Model
from rkllama_flask.errors import ContextLengthExceeded, InvalidRequest, ModelNotFound
from rkllama_flask.generation.events import Content
from rkllama_flask.generation.request import GenerationRequest, Message

_generate = GenerateSchema()
_chat = ChatSchema()
_options = OptionsSchema()

Shape = Callable[[str, str, list[Fields]], Fields]


def generate() -> Response:
    """Complete a prompt; an empty one loads the model, or unloads it with a keep_alive of 0."""
    body = read_json()
    fields = _generate.read(body)
    if not fields["model"]:
        raise ModelNotFound("")
    model = services().catalog.find(fields["model"])
    refuse_images(fields.get("images"))
    if not fields["prompt"]:
        return _load(model, fields, generate_shape)
    request = _common(model, fields)
    if fields["raw"]:
        if fields.get("template") or fields.get("system") or fields.get("context"):
            raise InvalidRequest("raw mode does not support template, system, or context")
        request = replace(request, prompt=fields["prompt"])
    else:
        if fields["suffix"]:
            require("insert", services().inference.capabilities(model), model)
        turns = [Message("system", fields["system"])] if fields.get("system") else []
        request = replace(
            request, messages=(*turns, Message("user", fields["prompt"])), template=fields.get("template") or None
        )
        request, prompt_ids = _after(request, fields.get("context") or [])
        return _answer(request, fields, body, generate_shape, ending=lambda text: _context(model, prompt_ids, text))
    return _answer(request, fields, body, generate_shape)


def chat() -> Response:
    """Answer a conversation; an empty one loads the model, or unloads it with a keep_alive of 0."""
    body = read_json()
    fields = _chat.read(body)
    if not fields["model"]:
        raise InvalidRequest("model is required")
    model = services().catalog.find(fields["model"])
    if not fields["messages"]:
        return _load(model, fields, chat_shape)
    tools = tools_of(fields["tools"])
    if tools:
        require("tools", services().inference.capabilities(model), model)
    request = replace(_common(model, fields), messages=messages_of(fields["messages"]), tools=tools)
    return _answer(request, fields, body, chat_shape)


def _common(model: Model, fields: Mapping[str, Any]) -> GenerationRequest:
    options = fields["options"]
    capabilities = services().inference.capabilities(model)
    return GenerationRequest(
        model=model,
        thinking=thinking_of(fields.get("think"), capabilities, fields["model"]),
        format=fields.get("format"),
        sampling=sampling_of(options),
        max_tokens=limit_of(options),
        stop=tuple(text for text in options["stop"] if text),
        context_length=options.get("num_ctx"),
        keep_alive=fields.get("keep_alive"),
        use_cache=fields.get("use_cache"),
        client=client_name(),
    )


def _answer(
    request: GenerationRequest,
    fields: Mapping[str, Any],
    body: Mapping[str, Any],
    shape: Shape,
    ending: Callable[[str], Fields] = lambda _: {},
) -> Response:
    options = body.get("options")
    unapplied = [*_chat.unapplied(body), *unapplied_sampling(fields["options"])]
    if isinstance(options, Mapping):
        unapplied += _options.unapplied(options)
    framing = Answer(fields["model"], shape, ending=ending, heartbeat=services().settings.ndjson_heartbeat)
    generation = _begin(request, truncate=fields["truncate"])
    if fields["stream"]:
        return stream(generation, framing, unapplied=tuple(unapplied))
    response = jsonify(framing.whole(collect(generation)))
    response.headers.update(unapplied_header((*unapplied, *generation.unapplied)))
    return response


def _begin(request: GenerationRequest, *, truncate: bool) -> Events[Content]:
    """The answer; with `truncate` to as much as fits: the oldest turns go, but no system message, nor the last one."""
    try:
        return services().inference.generate(request)
    except ContextLengthExceeded:
        messages = request.messages or ()
        oldest = next((i for i, message in enumerate(messages[:-1]) if message.role != "system"), None)
        if not truncate or oldest is None:
            raise
    return _begin(replace(request, messages=(*messages[:oldest], *messages[oldest + 1 :])), truncate=True)


def _after(request: GenerationRequest, context: list[int]) -> tuple[GenerationRequest, tuple[int, ...] | None]:
    """The request with the token ids of earlier turns in front, and its prompt's ids; None without a tokenizer."""
    ids = services().inference.encode(request)
    if ids is None or not context:
        return request, ids
    ids = (*context, *ids)
    return replace(request, messages=None, prompt=ids), ids


def _context(model: Model, prompt_ids: tuple[int, ...] | None, text: str) -> Fields:
    if prompt_ids is None:
        return {}
    return {"context": [*prompt_ids, *(services().inference.tokenize(model, text) or ())]}


def _load(model: Model, fields: Mapping[str, Any], shape: Shape) -> Response:
    """Load or unload, and answer when that is done."""
    inference = services().inference
    keep_alive = fields.get("keep_alive")
    body = {"model": fields["model"], "created_at": now()} | shape("", "", []) | {"done": True}
    if keep_alive == 0:
        inference.unload(model)
        return jsonify(body | {"done_reason": "unload"})
    inference.load(model, keep_alive=keep_alive, context_length=fields["options"].get("num_ctx"))
    return jsonify(body | {"done_reason": "load"})
