"""`POST /v1/chat/completions`."""

from collections.abc import Mapping, Sequence
from typing import Any

from flask import Response, jsonify

from rkllama_flask.api.openai.choices import Choice, Choices, assemble, total_usage
from rkllama_flask.api.openai.framing import ChatChunks, Head, finish_reason
from rkllama_flask.api.openai.neutral import (
    asks_by_functions,
    limit_of,
    messages_of,
    sampling_of,
    thinking_of,
    tools_of,
    unapplied_messages,
    unapplied_sampling,
    unapplied_thinking,
    unapplied_tools,
)
from rkllama_flask.api.openai.schemas import ChatSchema, last_turn
from rkllama_flask.api.openai.usage import render_timings, render_usage
from rkllama_flask.api.openapi import examples, replies
from rkllama_flask.api.openapi.views import accepts, returns
from rkllama_flask.api.web.body import read_json
from rkllama_flask.api.web.context import client_name, services
from rkllama_flask.api.web.streaming import collect, stream, unapplied_header
from rkllama_flask.generation.request import GenerationRequest

_schema = ChatSchema()


@accepts(ChatSchema, examples.CHAT)
@returns(replies.CHAT, stream=replies.CHAT_CHUNKS)
def create_chat_completion() -> Response:
    """Answer a conversation, streamed or whole."""
    body = read_json(last_turn)
    fields = _schema.read(body)
    request = generation_request(fields)
    count: int = fields["n"]
    unapplied = (
        *_schema.unapplied(body),
        *unapplied_sampling(fields),
        *unapplied_tools(fields),
        *unapplied_thinking(fields, request),
        *unapplied_messages(fields["messages"]),
    )
    by_functions = asks_by_functions(fields)
    choices = Choices(services().inference.generate, [request] * count)
    head = Head.of(request.model, "chatcmpl")
    if fields["stream"]:
        include_usage = fields.get("stream_options", {}).get("include_usage", False)
        framing = ChatChunks(head, count=count, include_usage=include_usage, by_functions=by_functions)
        return stream(choices, framing, unapplied=unapplied)
    answers = assemble(collect(choices), count)
    response = jsonify(_completion(head, answers, by_functions=by_functions))
    response.headers.update(unapplied_header((*unapplied, *choices.unapplied)))
    return response


@accepts(ChatSchema, examples.CHAT)
@returns(replies.INPUT_TOKENS)
def count_chat_tokens() -> Response:
    """The tokens of the prompt that a conversation makes. Raises UnsupportedRequest where they can't be counted."""
    count = services().inference.count_tokens(generation_request(_schema.read(read_json(last_turn))))
    return jsonify(object="response.input_tokens", input_tokens=count)


def generation_request(fields: Mapping[str, Any]) -> GenerationRequest:
    """The neutral request for the checked fields of a chat body. Raises what is wrong between fields, ModelNotFound."""
    tools, tool_choice = tools_of(fields)
    thinking, template_arguments = thinking_of(fields)
    return GenerationRequest(
        model=services().inference.choose(fields.get("model"), writes=True),
        messages=messages_of(fields["messages"]),
        tools=tools,
        tool_choice=tool_choice,
        parallel_tool_calls=fields["parallel_tool_calls"] and not asks_by_functions(fields),
        thinking=thinking,
        template_arguments=template_arguments,
        format=fields.get("response_format"),
        sampling=sampling_of(fields),
        max_tokens=limit_of(fields),
        stop=tuple(text for text in fields["stop"] if text),
        keep_alive=fields.get("keep_alive"),
        use_cache=fields.get("use_cache"),
        client=client_name(),
    )


def _completion(head: Head, answers: Sequence[Choice], *, by_functions: bool) -> dict[str, Any]:
    finished = [answer.finished for answer in answers if answer.finished]
    body = head.body(
        "chat.completion",
        choices=[_choice(index, answer, by_functions=by_functions) for index, answer in enumerate(answers)],
        usage=render_usage(total_usage(finished, per_prompt=len(answers))),
    )
    return body | ({"timings": render_timings(finished[0])} if len(answers) == 1 else {})


def _choice(index: int, answer: Choice, *, by_functions: bool) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": answer.text, "refusal": None}
    if answer.reasoning:
        message["reasoning_content"] = answer.reasoning
    if answer.calls:
        message["content"] = answer.text or None
        functions = [{"name": call.name, "arguments": call.arguments} for call in answer.calls]
        if by_functions:
            message["function_call"] = functions[0]
        else:
            message["tool_calls"] = [
                {"id": call.id, "type": "function", "function": function}
                for call, function in zip(answer.calls, functions, strict=True)
            ]
    reason = finish_reason(answer.finished, by_functions=by_functions) if answer.finished else None
    return {"index": index, "message": message, "logprobs": None, "finish_reason": reason}
