"""Tools and JSON through the whole server: the scripted runtime plays what a model would write."""

import json
from typing import Any
from urllib.parse import quote

import pytest

from tests.hosts.test_hosts import chat
from tests.serving import Server

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "The weather of a place.",
            "parameters": {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]},
        },
    }
]
CALL = 'Let me look.\n<tool_call>\n{"name": "get_weather", "arguments": {"place": "Łódź"}}\n</tool_call>'
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}


def played(text: str) -> str:
    return f"<<script text={quote(text)}>>"


def deltas(server: Server, body: dict[str, Any]) -> list[dict[str, Any]]:
    lines = server.post("/v1/chat/completions", body | {"stream": True}).content.splitlines()
    chunks = [json.loads(line[6:]) for line in lines if line.startswith(b"data: {")]
    return [chunk["choices"][0] for chunk in chunks]


def test_a_call_arrives_whole_and_streamed(scripted: Server) -> None:
    body = chat(played(CALL), tools=TOOLS)
    choice = scripted.post("/v1/chat/completions", body).json()["choices"][0]
    call = choice["message"]["tool_calls"][0]["function"]
    assert (call["name"], json.loads(call["arguments"])) == ("get_weather", {"place": "Łódź"})
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"].strip() == "Let me look."
    pieces = deltas(scripted, body)
    parts = [part for piece in pieces for part in piece["delta"].get("tool_calls", [])]
    assert {part["index"] for part in parts} == {0}
    assert [part["id"] for part in parts if "id" in part] != []
    assert json.loads("".join(part["function"].get("arguments", "") for part in parts)) == {"place": "Łódź"}
    assert "<tool_call>" not in "".join(piece["delta"].get("content") or "" for piece in pieces)
    assert pieces[-1]["finish_reason"] == "tool_calls"


def test_a_named_function_is_called_whatever_the_model_would_say_first(scripted: Server) -> None:
    choice = {"type": "function", "function": {"name": "get_weather"}}
    body = chat(played('Rome"}}\n</tool_call>'), tools=TOOLS, tool_choice=choice)
    message = scripted.post("/v1/chat/completions", body).json()["choices"][0]["message"]
    assert message["tool_calls"][0]["function"]["name"] == "get_weather"
    assert json.loads(message["tool_calls"][0]["function"]["arguments"]) == {"place": "Rome"}


def test_a_format_of_ollamas_gives_json_alone(scripted: Server) -> None:
    reply = scripted.post(
        "/api/chat",
        {
            "model": "scripted",
            "stream": False,
            "format": SCHEMA,
            "messages": [{"role": "user", "content": played('"a": 1} as asked.')}],
        },
    ).json()
    assert json.loads(reply["message"]["content"]) == {"a": 1}


def test_an_answer_that_is_not_what_the_schema_asks_for_is_an_error_and_no_success(scripted: Server) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}
    body = chat(played("no number"), response_format=wanted)
    reply = scripted.post("/v1/chat/completions", body)
    assert reply.status_code == 500
    assert reply.json()["error"]["code"] == "answer_unfit"


@pytest.mark.parametrize(
    "said",
    [
        f"<think>\nI need the weather.\n{CALL.partition(chr(10))[2]}",
        f"◁think▷I need the weather.◁/think▷{CALL.partition(chr(10))[2]}",
        '<think>\nI need the weather.\n</think>\n\nget_weather(place="Łódź")',
    ],
)
def test_a_call_is_found_behind_thoughts_however_they_end(scripted: Server, said: str) -> None:
    choice = scripted.post("/v1/chat/completions", chat(played(said), tools=TOOLS)).json()["choices"][0]
    assert choice["message"]["reasoning_content"] == "I need the weather."
    assert choice["message"]["content"] is None
    [call] = choice["message"]["tool_calls"]
    assert json.loads(call["function"]["arguments"]) == {"place": "Łódź"}
    assert choice["finish_reason"] == "tool_calls"


def test_a_call_of_a_function_that_is_not_on_offer_stays_text(scripted: Server) -> None:
    said = CALL.replace("get_weather", "get_wether")
    choice = scripted.post("/v1/chat/completions", chat(played(said), tools=TOOLS)).json()["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == (said, "stop")
