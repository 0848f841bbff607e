"""What each API's client has in hand when an answer is over: its text, its calls, and why it ended."""

import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from urllib.parse import quote

from tests.serving import Server

SCHEMA = {"type": "object", "properties": {"path": {"type": "string"}, "force": {"type": "boolean"}}}
STRICT = SCHEMA | {"required": ["path", "force"], "additionalProperties": False}
NAME = "delete_path"
MODEL = "qwen3-0.6b"


class Answer(NamedTuple):
    """`calls` are the finished ones, `half` what a stream has of a call besides."""

    text: str
    calls: list[dict[str, Any]]
    half: list[str]
    reason: str


class Asked(NamedTuple):
    """What is asked of each API alike. `form` is the format of the answer, `forced` that a function must be called."""

    said: str
    limit: int | None = None
    stop: str | None = None
    forced: bool = False
    form: bool = False
    bytewise: bool = False

    @property
    def prompt(self) -> str:
        return f"<<script text={quote(self.said)}{' split=single' if self.bytewise else ''}>>"


def _lines(raw: bytes) -> Iterator[dict[str, Any]]:
    for line in raw.splitlines():
        text = line.removeprefix(b"data: ")
        if text.startswith(b"{"):
            yield json.loads(text)


def chat(server: Server, asked: Asked, *, stream: bool) -> Answer:
    function = {"name": NAME, "parameters": STRICT if asked.forced else SCHEMA}
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": STRICT, "strict": True}}
    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": asked.prompt}],
        "stream": stream,
        **({"response_format": form} if asked.form else {"tools": [{"type": "function", "function": function}]}),
        **({"tool_choice": "required"} if asked.forced else {}),
        **({"max_tokens": asked.limit} if asked.limit else {}),
        **({"stop": [asked.stop]} if asked.stop else {}),
    }
    reply = server.post("/v1/chat/completions", body)
    assert reply.status_code == 200, reply.text
    if not stream:
        choice = reply.json()["choices"][0]
        calls = choice["message"].get("tool_calls", [])
        found = [json.loads(call["function"]["arguments"]) for call in calls]
        return Answer(choice["message"]["content"] or "", found, [], choice["finish_reason"])
    text, sent, reason = "", [], ""
    for chunk in _lines(reply.content):
        choice = chunk["choices"][0]
        text += choice["delta"].get("content") or ""
        reason = choice["finish_reason"] or reason
        for call in choice["delta"].get("tool_calls", []):
            if "id" in call:
                sent.append("")
            sent[call["index"]] += call["function"].get("arguments", "")
    return Answer(text, *_readable(sent), reason)


def responses(server: Server, asked: Asked, *, stream: bool) -> Answer:
    function = {"type": "function", "name": NAME, "parameters": STRICT if asked.forced else SCHEMA}
    body = {
        "model": MODEL,
        "input": asked.prompt,
        "stream": stream,
        **(
            {"text": {"format": {"type": "json_schema", "name": "x", "schema": STRICT, "strict": True}}}
            if asked.form
            else {"tools": [function]}
        ),
        **({"tool_choice": "required"} if asked.forced else {}),
        **({"max_output_tokens": asked.limit} if asked.limit else {}),
    }
    reply = server.post("/v1/responses", body)
    assert reply.status_code == 200, reply.text
    events = [] if not stream else list(_lines(reply.content))
    response = events[-1]["response"] if stream else reply.json()
    called = [item for item in response["output"] if item["type"] == "function_call"]
    finished, half = _readable([item["arguments"] for item in called])
    assert [item["status"] for item in called] == ["completed"] * len(finished) + ["incomplete"] * len(half)
    done = [event["arguments"] for event in events if event["type"] == "response.function_call_arguments.done"]
    assert [json.loads(one) for one in done] == (finished if stream else [])
    text = "".join(part["text"] for item in response["output"] if item["type"] == "message" for part in item["content"])
    cut = response["incomplete_details"]
    reason = {"max_output_tokens": "length"}[cut["reason"]] if cut else "tool_calls" if called else "stop"
    return Answer(text, finished, half, reason)


def messages(server: Server, asked: Asked, *, stream: bool) -> Answer:
    tool = {"name": NAME, "input_schema": STRICT if asked.forced else SCHEMA}
    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": asked.prompt}],
        "stream": stream,
        "max_tokens": asked.limit or 500,
        **(
            {"output_config": {"format": {"type": "json_schema", "schema": STRICT}}}
            if asked.form
            else {"tools": [tool]}
        ),
        **({"tool_choice": {"type": "any"}} if asked.forced else {}),
        **({"stop_sequences": [asked.stop]} if asked.stop else {}),
    }
    reply = server.post("/v1/messages", body)
    assert reply.status_code == 200, reply.text
    if not stream:
        content, end = reply.json()["content"], reply.json()
        calls = [block["input"] for block in content if block["type"] == "tool_use"]
        text = "".join(block["text"] for block in content if block["type"] == "text")
        sent = [json.dumps(one) for one in calls]
    else:
        text, sent, end = "", [], {}
        for event in _lines(reply.content):
            match event:
                case {"type": "content_block_start", "content_block": {"type": "tool_use"}}:
                    sent.append("")
                case {"type": "content_block_delta", "delta": {"type": "input_json_delta", "partial_json": more}}:
                    sent[-1] += more
                case {"type": "content_block_delta", "delta": {"type": "text_delta", "text": more}}:
                    text += more
                case {"type": "message_delta", "delta": delta}:
                    end = delta
    named = {"end_turn": "stop", "stop_sequence": "stop", "max_tokens": "length", "tool_use": "tool_calls"}
    assert end["stop_sequence"] == (asked.stop if end["stop_reason"] == "stop_sequence" else None)
    return Answer(text, *_readable(sent), named[end["stop_reason"]])


def ollama(server: Server, asked: Asked, *, stream: bool) -> Answer:
    options = {"num_predict": asked.limit} if asked.limit else {}
    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": asked.prompt}],
        "stream": stream,
        "options": options | ({"stop": [asked.stop]} if asked.stop else {}),
        **(
            {"format": STRICT}
            if asked.form
            else {"tools": [{"type": "function", "function": {"name": NAME, "parameters": SCHEMA}}]}
        ),
    }
    reply = server.post("/api/chat", body)
    assert reply.status_code == 200, reply.text
    lines = list(_lines(reply.content))
    calls = [one["function"]["arguments"] for line in lines for one in line["message"].get("tool_calls", [])]
    text = "".join(line["message"]["content"] for line in lines)
    reason = lines[-1]["done_reason"]
    return Answer(text, calls, [], "tool_calls" if calls and reason == "stop" and not asked.stop else reason)


def completions(server: Server, asked: Asked, *, stream: bool) -> Answer:
    body = {"model": MODEL, "prompt": asked.prompt, "stream": stream, "max_tokens": asked.limit}
    reply = server.post("/v1/completions", body)
    choices = [chunk["choices"][0] for chunk in (_lines(reply.content) if stream else [reply.json()])]
    return Answer("".join(choice["text"] for choice in choices), [], [], choices[-1]["finish_reason"])


def generate(server: Server, asked: Asked, *, stream: bool) -> Answer:
    body = {"model": MODEL, "prompt": asked.prompt, "stream": stream, "options": {"num_predict": asked.limit}}
    lines = list(_lines(server.post("/api/generate", body).content))
    return Answer("".join(line["response"] for line in lines), [], [], lines[-1]["done_reason"])


def _readable(sent: list[str]) -> tuple[list[dict[str, Any]], list[str]]:
    """The arguments that can be read, and those that can't."""
    calls, half = [], []
    for one in sent:
        try:
            calls.append(json.loads(one))
        except ValueError:
            half.append(one)
    return calls, half


TEXT_APIS: dict[str, Callable[..., Answer]] = {"completions": completions, "generate": generate}
APIS: dict[str, Callable[..., Answer]] = {
    "chat": chat,
    "responses": responses,
    "messages": messages,
    "ollama": ollama,
}
