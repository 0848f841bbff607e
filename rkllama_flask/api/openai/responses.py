"""`POST /v1/responses` and `/v1/responses/input_tokens`. Nothing is stored: a conversation is sent whole each time."""

from collections.abc import Mapping
from typing import Any

from flask import Response, jsonify

from rkllama_flask.api.openai.errors import naming
from rkllama_flask.api.openai.neutral import (
    limit_of,
    messages_of,
    sampling_of,
    thinking_of,
    tools_of,
    unapplied_sampling,
    unapplied_thinking,
)
from rkllama_flask.api.openai.responses_framing import ResponseEvents, ResponseHead
from rkllama_flask.api.openai.responses_input import ResponseSchema, namespaces_of, unapplied_parts
from rkllama_flask.api.openai.responses_items import last_turn
from rkllama_flask.api.openai.responses_output import OutputItems
from rkllama_flask.api.openapi import examples, replies
from rkllama_flask.api.openapi.views import accepts, returns
from rkllama_flask.api.web.body import read_json
from rkllama_flask.api.web.context import client_name, services
from rkllama_flask.api.web.streaming import Events, collect, stream, unapplied_header
from rkllama_flask.errors import UnsupportedRequest
from rkllama_flask.generation.events import Content, Finished, WholeContent
from rkllama_flask.generation.request import GenerationRequest, Message
from rkllama_flask.generation.whole_calls import WholeCalls

_schema = ResponseSchema()
_NAMES = {"messages": "input", "response_format": "text.format"}
_STORED = {
    "previous_response_id": "No responses are stored here, so none can be continued: send the whole conversation.",
    "conversation": "No conversations are stored here: send the whole conversation.",
    "prompt": "No prompts are stored here: send 'instructions' and 'input'.",
}


@accepts(ResponseSchema, examples.RESPONSE)
@returns(replies.RESPONSE, stream=replies.RESPONSE_EVENTS)
def create_response() -> Response:
    """Answer a conversation of items, streamed or whole."""
    body = read_json(last_turn)
    fields = _schema.read(body)
    request = _request(fields)
    unapplied = (
        *_schema.unapplied(body),
        *unapplied_sampling(fields),
        *unapplied_thinking(fields, request),
        *unapplied_parts(body, fields),
    )
    head = ResponseHead.of(request, body)
    items = OutputItems(namespaces_of(fields["tools"]))
    with naming(_NAMES):
        generation: Events[Content] = services().inference.generate(request)
        if fields["stream"]:
            return stream(generation, ResponseEvents(head, items), unapplied=unapplied)
        answer: Events[WholeContent] = WholeCalls(generation)
        events = collect(answer)
    for event in events:
        items.read(event)
    finished = events[-1]
    assert isinstance(finished, Finished)
    response = jsonify(head.finished(items.items, finished))
    response.headers.update(unapplied_header((*unapplied, *generation.unapplied)))
    return response


@accepts(ResponseSchema, examples.RESPONSE)
@returns(replies.INPUT_TOKENS)
def count_input_tokens() -> Response:
    """The tokens of the prompt that the items make. Raises UnsupportedRequest where they can't be counted."""
    request = _request(_schema.read(read_json(last_turn)))
    with naming(_NAMES):
        count = services().inference.count_tokens(request)
    return jsonify(object="response.input_tokens", input_tokens=count)


def _request(fields: Mapping[str, Any]) -> GenerationRequest:
    """The neutral request for the checked fields. Raises what is wrong between fields, ModelNotFound."""
    for name, sentence in _STORED.items():
        if name in fields:
            raise UnsupportedRequest(sentence, param=name)
    tools, tool_choice = tools_of(fields)
    thinking, template_arguments = thinking_of(fields)
    instructions = fields.get("instructions")
    return GenerationRequest(
        model=services().inference.choose(fields.get("model"), writes=True),
        messages=(*((Message("system", instructions),) if instructions else ()), *messages_of(fields["input"])),
        tools=tools,
        tool_choice=tool_choice,
        parallel_tool_calls=fields["parallel_tool_calls"],
        thinking=thinking,
        template_arguments=template_arguments,
        format=fields["text"].get("format"),
        sampling=sampling_of(fields),
        max_tokens=limit_of({"max_tokens": fields.get("max_output_tokens")}),
        keep_alive=fields.get("keep_alive"),
        use_cache=fields.get("use_cache"),
        client=client_name(),
    )
