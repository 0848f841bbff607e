"""Tools and JSON through the whole server: the scripted runtime plays what a model would write."""

import json
from typing import Any
from urllib.parse import quote

import pytest

from tests.generation.data.cases import HERE
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


class TestConversationsThatATemplateRefuses:
    """On each API, with templates in the shapes of published ones."""

    @pytest.fixture(params=["one_call", "by_turns_but_calls", "wants_a_query", "alternating"])
    def model(self, scripted: Server, request: pytest.FixtureRequest) -> str:
        return self.created(scripted, (HERE / "templates" / f"{request.param}.jinja").read_text(encoding="utf-8"))

    @staticmethod
    def created(server: Server, template: str, **fields: Any) -> str:
        body = {"model": "fitted", "from": "scripted", "template": template, "stream": False, **fields}
        assert server.post("/api/create", body).status_code == 200
        return "fitted"

    def test_what_the_server_answered_is_accepted_back(self, scripted: Server, model: str) -> None:
        calls = [{"type": "function", "id": f"call_{place}", "function": {"name": "get_weather", "arguments": place}}
                 for place in ('{"place": "Bonn"}', '{"place": "Rome"}')]  # fmt: skip
        history = [
            {"role": "assistant", "content": "So:", "tool_calls": calls},
            *({"role": "tool", "tool_call_id": call["id"], "content": "21"} for call in calls),
        ]
        asked = chat("Weather?", tools=TOOLS, model=model)
        for messages in (history, [*asked["messages"], *history], [*asked["messages"], *history, *asked["messages"]]):
            reply = scripted.post("/v1/chat/completions", asked | {"messages": messages})
            assert reply.status_code == 200, reply.text
            prompt = scripted.post("/apply-template", asked | {"messages": messages}).json()["prompt"]
            assert all(text in prompt for text in ("So:", "Bonn", "Rome", "21"))

    def test_only_results_of_tools_are_enough_for_anthropics_route(self, scripted: Server, model: str) -> None:
        blocks = [{"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {"place": "Bonn"}}]
        result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "21"}
        body = {
            "model": model,
            "max_tokens": 9,
            "system": "Be brief.",
            "messages": [{"role": "assistant", "content": blocks}, {"role": "user", "content": [result]}],
        }
        reply = scripted.post("/v1/messages", body)
        assert reply.status_code == 200, reply.text

    def test_a_modelfile_may_begin_with_the_models_own_words(self, scripted: Server, model: str) -> None:
        template = (HERE / "templates" / "alternating.jinja").read_text(encoding="utf-8")
        self.created(scripted, template, messages=[{"role": "assistant", "content": "Welcome!"}])
        body = {"model": model, "stream": False, "messages": [{"role": "user", "content": "Hi"}] * 2}
        assert scripted.post("/api/chat", body).status_code == 200

    def test_a_message_that_a_template_drops_is_named(self, scripted: Server) -> None:
        deaf = "{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}"
        messages = [{"role": role, "content": f"said by {role}"} for role in ("user", "assistant", "user")]
        body = {"model": self.created(scripted, deaf), "messages": messages}
        assert scripted.post("/v1/chat/completions", body).headers["X-Unapplied-Parameters"] == "messages[1]"
