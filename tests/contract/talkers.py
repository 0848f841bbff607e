"""The clients that hold the conversation: the three official ones, in each way they have of asking."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from typing import Any

import anthropic
import ollama
import openai
from anthropic import beta_tool

from tests.contract.conversations import SYSTEM, Said, Stage

Talk = Callable[[str, str, Stage], Iterator[Said]]
"""Holds the conversation of a stage with the server at this URL, asking this model."""

_SCHEMAS: Mapping[str, Any] = {
    "search": {
        "type": "object",
        "properties": {
            "step": {"type": "integer"},
            "query": {"type": "string"},
            "limits": {"type": "object", "additionalProperties": {"type": "integer"}},
        },
        "required": ["step", "query", "limits"],
    },
    "note": {
        "type": "object",
        "properties": {
            "step": {"type": "integer"},
            "text": {"type": "string"},
            "tags": {"type": "array", "items": {"type": "string"}},
            "urgent": {"type": "boolean"},
        },
        "required": ["step", "text", "tags", "urgent"],
    },
}
_FUNCTIONS: Any = [
    {"type": "function", "function": {"name": name, "description": f"To {name}.", "parameters": schema}}
    for name, schema in _SCHEMAS.items()
]


def _openai(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0)


def openai_chat(url: str, model: str, stage: Stage) -> Iterator[Said]:
    messages: list[Any] = [{"role": "system", "content": SYSTEM}]
    with _openai(url) as client:
        for turn in stage.turns:
            messages.append({"role": "user", "content": turn.question})
            cached = []
            while True:
                reply = client.chat.completions.create(model=model, messages=messages, tools=_FUNCTIONS)
                cached.append(_cached(reply.usage))
                message = reply.choices[0].message
                messages.append(message)
                assert (reply.choices[0].finish_reason == "tool_calls") == bool(message.tool_calls)
                for call in message.tool_calls or ():
                    assert call.type == "function"
                    result = stage.carry_out(call.function.name, json.loads(call.function.arguments))
                    messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
                if not message.tool_calls:
                    break
            yield Said(message.content or "", tuple(cached))


def openai_stream(url: str, model: str, stage: Stage) -> Iterator[Said]:
    messages: list[Any] = [{"role": "system", "content": SYSTEM}]
    with _openai(url) as client:
        for turn in stage.turns:
            messages.append({"role": "user", "content": turn.question})
            cached, calls = [], []
            while not cached or calls:
                options: Any = {"stream_options": {"include_usage": True}}
                text, calls = "", []
                for chunk in client.chat.completions.create(
                    model=model, messages=messages, tools=_FUNCTIONS, stream=True, **options
                ):
                    if chunk.usage:
                        cached.append(_cached(chunk.usage))
                    for choice in chunk.choices:
                        text += choice.delta.content or ""
                        for part in choice.delta.tool_calls or ():
                            assert part.function is not None
                            if part.index == len(calls):
                                calls.append({"id": part.id, "name": part.function.name, "arguments": ""})
                            calls[part.index]["arguments"] += part.function.arguments or ""
                made = [
                    {"id": one["id"], "type": "function", "function": {key: one[key] for key in ("name", "arguments")}}
                    for one in calls
                ]
                messages.append({"role": "assistant", "content": text} | ({"tool_calls": made} if made else {}))
                for one in calls:
                    result = stage.carry_out(one["name"], json.loads(one["arguments"]))
                    messages.append({"role": "tool", "tool_call_id": one["id"], "content": result})
            yield Said(text, tuple(cached))


def openai_responses(url: str, model: str, stage: Stage) -> Iterator[Said]:
    tools: Any = [{"type": "function", "strict": False} | one["function"] for one in _FUNCTIONS]
    items: list[Any] = []
    with _openai(url) as client:
        for turn in stage.turns:
            items.append({"role": "user", "content": turn.question})
            cached, calls = [], []
            while not cached or calls:
                reply = client.responses.create(model=model, instructions=SYSTEM, input=items, tools=tools)
                assert reply.usage is not None
                cached.append(reply.usage.input_tokens_details.cached_tokens)
                items += [item.model_dump(exclude_none=True) for item in reply.output]
                calls = [item for item in reply.output if item.type == "function_call"]
                for call in calls:
                    result = stage.carry_out(call.name, json.loads(call.arguments))
                    items.append({"type": "function_call_output", "call_id": call.call_id, "output": result})
            yield Said(reply.output_text, tuple(cached))


def anthropic_messages(url: str, model: str, stage: Stage) -> Iterator[Said]:
    """Every other request streamed."""
    tools: Any = [{"name": name, "input_schema": schema} for name, schema in _SCHEMAS.items()]
    messages: list[Any] = []
    with anthropic.Anthropic(base_url=url, api_key="any", max_retries=0) as client:
        for turn in stage.turns:
            messages.append({"role": "user", "content": turn.question})
            cached, results = [], []
            while not cached or results:
                asked: Any = {"model": model, "system": SYSTEM, "max_tokens": 1000, "tools": tools}
                if len(cached) % 2:
                    with client.messages.stream(messages=messages, **asked) as stream:
                        reply = stream.get_final_message()
                else:
                    reply = client.messages.create(messages=messages, **asked)
                cached.append(reply.usage.cache_read_input_tokens or 0)
                messages.append({"role": "assistant", "content": reply.content})
                results = [
                    {
                        "type": "tool_result",
                        "tool_use_id": block.id,
                        "content": stage.carry_out(block.name, dict(block.input)),
                    }
                    for block in reply.content
                    if block.type == "tool_use"
                ]
                assert (reply.stop_reason == "tool_use") == bool(results)
                if results:
                    messages.append({"role": "user", "content": results})
            yield Said("".join(block.text for block in reply.content if block.type == "text"), tuple(cached))


def anthropic_tool_runner(url: str, model: str, stage: Stage) -> Iterator[Said]:
    """The client's own agent loop."""
    tools = [beta_tool(stage.search), beta_tool(stage.note)]
    messages: list[Any] = []
    with anthropic.Anthropic(base_url=url, api_key="any", max_retries=0) as client:
        for turn in stage.turns:
            messages.append({"role": "user", "content": turn.question})
            runner = client.beta.messages.tool_runner(
                model=model, system=SYSTEM, max_tokens=1000, tools=tools, messages=list(messages)
            )
            cached = []
            for reply in runner:
                cached.append(reply.usage.cache_read_input_tokens or 0)
                messages.append({"role": "assistant", "content": reply.content})
                results = runner.generate_tool_call_response()
                if results is not None:
                    messages.append(results)
            yield Said("".join(block.text for block in reply.content if block.type == "text"), tuple(cached))


def ollama_chat(url: str, model: str, stage: Stage) -> Iterator[Said]:
    """Every other request streamed."""
    messages: list[Any] = [{"role": "system", "content": SYSTEM}]
    with closing(ollama.Client(url)) as client:
        for turn in stage.turns:
            messages.append({"role": "user", "content": turn.question})
            asked, calls = 0, []
            while not asked or calls:
                if asked % 2:
                    pieces = list(client.chat(model, messages, tools=_FUNCTIONS, stream=True))
                else:
                    pieces = [client.chat(model, messages, tools=_FUNCTIONS)]
                text = "".join(piece.message.content or "" for piece in pieces)
                calls = [call for piece in pieces for call in piece.message.tool_calls or ()]
                asked += 1
                messages.append({"role": "assistant", "content": text, "tool_calls": calls})
                for call in calls:
                    result = stage.carry_out(call.function.name, dict(call.function.arguments))
                    messages.append({"role": "tool", "tool_name": call.function.name, "content": result})
            yield Said(text, None)


def _cached(usage: Any) -> int:
    details = usage.prompt_tokens_details
    return int(details.cached_tokens or 0) if details else 0


CLIENTS: tuple[Talk, ...] = (
    openai_chat,
    openai_stream,
    openai_responses,
    anthropic_messages,
    anthropic_tool_runner,
    ollama_chat,
)
