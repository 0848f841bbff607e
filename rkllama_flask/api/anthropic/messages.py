"""`POST /v1/messages` and `/v1/messages/count_tokens`."""

from collections.abc import Mapping
from typing import Any

from flask import Response, jsonify

from rkllama_flask.api.anthropic.content import ContentBlocks, assemble
from rkllama_flask.api.anthropic.errors import ThreadUnsupported
from rkllama_flask.api.anthropic.fields import last_turn
from rkllama_flask.api.anthropic.framing import Head, MessageEvents
from rkllama_flask.api.anthropic.neutral import (
    format_of,
    messages_of,
    sampling_of,
    shows_thoughts,
    thinking_of,
    tools_of,
    unapplied_of,
)
from rkllama_flask.api.anthropic.schemas import CountSchema, MessagesSchema
from rkllama_flask.api.openapi import examples, replies
from rkllama_flask.api.openapi.views import accepts, returns
from rkllama_flask.api.web.body import read_json
from rkllama_flask.api.web.context import client_name, services
from rkllama_flask.api.web.streaming import Events, collect, stream, unapplied_header
from rkllama_flask.generation.events import Finished, WholeContent
from rkllama_flask.generation.request import GenerationRequest
from rkllama_flask.generation.whole_calls import WholeCalls

_messages = MessagesSchema()
_count = CountSchema()


@accepts(MessagesSchema, examples.MESSAGES)
@returns(replies.MESSAGE, stream=replies.MESSAGE_EVENTS)
def create_message() -> Response:
    """Answer a conversation, streamed or whole."""
    body = read_json(last_turn)
    fields = _messages.read(body)
    if fields.get("thread"):
        raise ThreadUnsupported
    request = generation_request(fields)
    unapplied = (*_messages.unapplied(body), *unapplied_of(fields, request))
    head = Head.of(request)
    blocks = ContentBlocks(thoughts=shows_thoughts(fields))
    generation = services().inference.generate(request)
    answer: Events[WholeContent] = WholeCalls(generation)
    if fields["stream"]:
        framing = MessageEvents(head, blocks, input_tokens=generation.prompt_tokens or 0)
        return stream(answer, framing, unapplied=unapplied)
    events = collect(answer)
    content = assemble(one for event in events for one in blocks.read(event))
    finished = events[-1]
    assert isinstance(finished, Finished)
    response = jsonify(head.whole(content, finished))
    response.headers.update(unapplied_header((*unapplied, *answer.unapplied)))
    return response


@accepts(CountSchema, examples.COUNT)
@returns(replies.COUNT)
def count_tokens() -> Response:
    """The tokens of the prompt that a conversation makes. Raises UnsupportedRequest where they can't be counted."""
    return jsonify(
        input_tokens=services().inference.count_tokens(generation_request(_count.read(read_json(last_turn))))
    )


def generation_request(fields: Mapping[str, Any]) -> GenerationRequest:
    """The neutral request for checked fields. Raises what is wrong between fields, ModelNotFound."""
    tools, tool_choice = tools_of(fields)
    return GenerationRequest(
        model=services().inference.choose(fields.get("model"), writes=True),
        messages=messages_of(fields),
        tools=tools,
        tool_choice=tool_choice,
        parallel_tool_calls=not fields.get("tool_choice", {}).get("disable_parallel_tool_use", False),
        thinking=thinking_of(fields),
        format=format_of(fields),
        sampling=sampling_of(fields),
        max_tokens=fields.get("max_tokens"),
        stop=tuple(text for text in fields.get("stop_sequences", ()) if text),
        use_cache=fields.get("use_cache"),
        client=client_name(),
    )
