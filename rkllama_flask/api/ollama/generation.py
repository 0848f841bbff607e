"""`POST /api/generate` and `POST /api/chat`, which differ in how they ask and where the text stands."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from flask import Response, jsonify

from rkllama_flask.api.ollama.details import within_context
from rkllama_flask.api.ollama.durations import utc_now
from rkllama_flask.api.ollama.framing import AnswerLines, Fields, Shape, chat_shape, generate_shape
from rkllama_flask.api.ollama.names import find_model, full_name, quoted, required
from rkllama_flask.api.ollama.neutral import asks_with_images, messages_of, tools_of, unapplied_images
from rkllama_flask.api.ollama.options import Options
from rkllama_flask.api.ollama.schemas import AnswerSchema, ChatSchema, GenerateSchema, model_name
from rkllama_flask.api.ollama.truncation import FittingAnswer, without_beginning, without_oldest_turns
from rkllama_flask.api.openapi import examples, replies
from rkllama_flask.api.openapi.views import accepts, returns
from rkllama_flask.api.web.context import client_name, services
from rkllama_flask.api.web.streaming import Events, collect, stream, unapplied_header
from rkllama_flask.catalog.model import Model
from rkllama_flask.errors import InvalidRequest, ModelNotFound, UnsupportedRequest
from rkllama_flask.generation.events import Content, WholeContent
from rkllama_flask.generation.inference import Inference
from rkllama_flask.generation.request import UNLIMITED, GenerationRequest, Message
from rkllama_flask.generation.whole_calls import WholeCalls

_generate = GenerateSchema()
_chat = ChatSchema()


@dataclass(frozen=True)
class _Ask:
    """A checked body, the model it names as `name`, and what that model can do. `begun` is `time.monotonic_ns()`."""

    fields: Mapping[str, Any]
    name: str
    model: Model
    shape: Shape
    unapplied: tuple[str, ...]
    capabilities: tuple[str, ...]
    begun: int

    @property
    def options(self) -> Options:
        options: Options = self.fields["options"]
        return options


@accepts(GenerateSchema, examples.OLLAMA_GENERATE)
@returns(replies.OLLAMA_GENERATE, stream=replies.OLLAMA_GENERATE_LINES)
def generate() -> Response:
    """Answer a prompt; an empty one loads the model, or unloads it with a keep_alive of 0."""
    fields = _generate.read_body()
    name = model_name(fields)
    if not name:
        raise ModelNotFound("")
    ask = _ask(_generate, fields, name, generate_shape)
    if fields["raw"] and (fields["template"] or fields["system"] or fields["context"]):
        raise InvalidRequest("raw mode does not support template, system, or context")
    _require(ask, "generate", insert=bool(fields["suffix"]), images=bool(fields["images"]))
    if not fields["prompt"]:
        return _load(ask)
    request = _request(ask)
    if fields["raw"] or fields["suffix"]:  # a gap leaves no room for a conversation around it
        dropped = tuple(name for name in ("system", "template", "context") if fields[name])
        ask = replace(ask, unapplied=(*ask.unapplied, *dropped))
        return _answer(ask, replace(request, prompt=fields["prompt"], suffix=fields["suffix"]))
    system = (Message("system", fields["system"]),) if fields["system"] else ()
    request = replace(
        request,
        messages=(*system, Message("user", fields["prompt"])),
        template=fields["template"] or None,
        context=fields["context"],
    )
    return _answer(ask, request, with_context=True)


@accepts(ChatSchema, examples.OLLAMA_CHAT)
@returns(replies.OLLAMA_CHAT, stream=replies.OLLAMA_CHAT_LINES)
def chat() -> Response:
    """Answer a conversation; an empty one loads the model, or unloads it with a keep_alive of 0."""
    fields = _chat.read_body()
    ask = _ask(_chat, fields, required(model_name(fields)), chat_shape)
    messages = fields["messages"]
    _require(ask, "chat", tools=bool(fields["tools"]), images=asks_with_images(messages))
    ask = replace(ask, unapplied=(*ask.unapplied, *unapplied_images(messages)))
    if not messages:
        return _load(ask)
    request = replace(_request(ask), messages=messages_of(messages), tools=tools_of(fields["tools"]))
    return _answer(ask, request)


def _ask(schema: AnswerSchema, fields: Mapping[str, Any], name: str, shape: Shape) -> _Ask:
    begun = time.monotonic_ns()
    model = find_model(name)
    unapplied = (*schema.unapplied(fields), *fields["options"].unapplied)
    return _Ask(fields, name, model, shape, unapplied, services().inference.capabilities(model), begun)


def _require(ask: _Ask, kind: str, *, images: bool, insert: bool = False, tools: bool = False) -> None:
    """Raises UnsupportedRequest, in Ollama's words where it has some, for what the model's files don't offer."""
    if "completion" not in ask.capabilities:
        raise UnsupportedRequest(f"{quoted(ask.name)} does not support {kind}", param="model")
    for capability, wanted, param in (("insert", insert, "suffix"), ("tools", tools, "tools")):
        if wanted and capability not in ask.capabilities:
            raise UnsupportedRequest(f"{full_name(ask.model.name)} does not support {capability}", param=param)
    if ask.fields.get("think") and "thinking" not in ask.capabilities:
        raise UnsupportedRequest(f"{quoted(ask.name)} does not support thinking", param="think")
    if images:
        raise UnsupportedRequest(f"{quoted(ask.name)} reads no images, only text", param="images")


def _request(ask: _Ask) -> GenerationRequest:
    fields, options = ask.fields, ask.options
    return GenerationRequest(
        model=ask.model,
        thinking=_thinking(ask),
        format=fields.get("format"),
        sampling=options.sampling,
        max_tokens=UNLIMITED if options.num_predict == -1 else options.num_predict,
        stop=options.stop,
        context_length=within_context(ask.model, ask.options.num_ctx),
        keep_alive=fields.get("keep_alive"),
        use_cache=fields.get("use_cache"),
        client=client_name(),
    )


def _thinking(ask: _Ask) -> bool | str | None:
    """What was asked, else what the Modelfile says, else yes where the model can."""
    asked: bool | str | None = ask.fields.get("think")
    if asked is None and "thinking" in ask.capabilities and "think" not in ask.model.modelfile.parameters:
        return True
    return asked


def _answer(ask: _Ask, request: GenerationRequest, *, with_context: bool = False) -> Response:
    if ask.fields["render_only"]:
        shown = {"rendered_template": services().inference.render(request)}
        return jsonify({"model": ask.name, "created_at": utc_now()} | ask.shape("", "", ()) | {"_debug_info": shown})
    events = _events(ask, request)
    ending = _context(services().inference, request, events) if with_context else None
    heartbeat = services().settings.ndjson_heartbeat
    lines = AnswerLines(ask.name, ask.shape, begun=ask.begun, ending=ending, heartbeat=heartbeat)
    answer: Events[WholeContent] = WholeCalls(events)
    if ask.fields["stream"]:
        return stream(answer, lines, unapplied=ask.unapplied)
    response = jsonify(lines.whole(collect(answer)))
    response.headers.update(unapplied_header((*ask.unapplied, *events.unapplied)))
    return response


def _events(ask: _Ask, request: GenerationRequest) -> Events[Content]:
    """Those of an answer to as much of the request as the context has room for, unless that isn't wanted."""
    generate: Callable[[GenerationRequest], Events[Content]] = services().inference.generate
    if not ask.fields["truncate"]:
        return generate(request)
    if ask.shape is chat_shape:
        return FittingAnswer(generate, request, without_oldest_turns)
    # Ollama cuts a plain prompt only where it may shift the context.
    return (
        generate(request) if ask.fields.get("shift") is False else FittingAnswer(generate, request, without_beginning)
    )


def _context(inference: Inference, request: GenerationRequest, events: Events[Content]) -> Callable[[str], Fields]:
    """What the last object says for a later request to go on from: what was answered, which may be less than was asked.

    Nothing for a model without a tokenizer.
    """

    def ending(text: str) -> Fields:
        ids = inference.context_after(events.request if isinstance(events, FittingAnswer) else request, text)
        return {} if ids is None else {"context": ids}

    return ending


def _load(ask: _Ask) -> Response:
    """Load or unload, and answer when that is done."""
    inference = services().inference
    keep_alive = ask.fields.get("keep_alive")
    if keep_alive == 0:
        inference.unload(ask.model)
        reason = "unload"
    else:
        inference.load(ask.model, keep_alive=keep_alive, context_length=within_context(ask.model, ask.options.num_ctx))
        reason = "load"
    said = ask.shape("", "", ())
    response = jsonify({"model": ask.name, "created_at": utc_now()} | said | {"done": True, "done_reason": reason})
    response.headers.update(unapplied_header(ask.unapplied))
    return response
