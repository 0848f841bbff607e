"""Answers in JSON through the whole server: each key tells the scripted runtime what to say behind it."""

import json
import time
from typing import Any
from urllib.parse import quote

import openai
import pytest

from tests.hosts.test_hosts import chat
from tests.native.journal import parse
from tests.serving import Server


def key(text: str, **directives: Any) -> str:
    """A property's name behind which the runtime says this text."""
    more = "".join(f" {name}={value}" for name, value in directives.items())
    return f"<<script text={quote(text)}{more}>>"


NAME, AGE, FAIR, COLOUR, TAGS = key('Ann", '), key(" 31, "), key(" true"), key('green"'), key("a]")
PROPERTIES = {
    NAME: {"type": "string"},
    AGE: {"type": "integer"},
    FAIR: {"type": "boolean"},
    COLOUR: {"enum": ["red", "green"]},
    TAGS: {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 1},
}
VALUE = {NAME: "Ann", AGE: 31, FAIR: True, COLOUR: "green", TAGS: ["a]"]}


def asked(properties: dict[str, Any], **fields: Any) -> dict[str, Any]:
    schema = {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema, "strict": True}}
    return chat("Who is it?", response_format=wanted, **fields)


def chunks(server: Server, body: dict[str, Any]) -> list[dict[str, Any]]:
    lines = server.post("/v1/chat/completions", body | {"stream": True}).content.splitlines()
    return [json.loads(line[6:]) for line in lines if line.startswith(b"data: {")]


def texts(found: list[dict[str, Any]], index: int = 0) -> list[str]:
    deltas = [chunk["choices"][0] for chunk in found if chunk.get("choices")]
    return [one["delta"].get("content") for one in deltas if one["index"] == index and one["delta"].get("content")]


def test_a_whole_answer_and_a_streamed_one_are_the_same_valid_value(scripted: Server) -> None:
    whole = scripted.post("/v1/chat/completions", asked(PROPERTIES)).json()
    assert json.loads(whole["choices"][0]["message"]["content"]) == VALUE
    assert whole["choices"][0]["finish_reason"] == "stop"
    streamed = chunks(scripted, asked(PROPERTIES))
    assert "".join(texts(streamed)) == whole["choices"][0]["message"]["content"]
    assert streamed[-1]["choices"][0]["finish_reason"] == "stop"


def test_values_stream_as_they_are_said_the_first_with_what_the_server_wrote_before_it(scripted: Server) -> None:
    slow = key("one two three four", decode_ms=20)
    found = texts(chunks(scripted, asked({slow: {"type": "string"}})))
    assert found == [f'{{"{slow}": "one', " two", " three", " four", '"}']


def test_an_answer_that_fails_before_its_first_word_is_an_error_with_its_own_status(scripted: Server) -> None:
    reply = scripted.post("/v1/chat/completions", asked({key("x", fail="prefill"): {"type": "string"}}, stream=True))
    assert reply.status_code == 500
    assert reply.json()["error"]["code"] == "runtime_failed"


def test_an_answer_is_one_job_of_several_runs_that_reuse_what_was_before(scripted: Server) -> None:
    before = len(scripted.calls)
    scripted.post("/v1/chat/completions", asked(PROPERTIES))
    entries = parse(scripted.calls[before:])
    assert sum(entry.what == "run" for entry in entries) == len(PROPERTIES)
    computed = [entry.number("computed") for entry in entries if entry.what == "prefill"]
    assert max(computed[1:]) < computed[0] / 2


def test_usage_counts_the_prompt_once_and_the_whole_answer(scripted: Server) -> None:
    usage = scripted.post("/v1/chat/completions", asked(PROPERTIES)).json()["usage"]
    again = scripted.post("/v1/chat/completions", asked(PROPERTIES)).json()["usage"]
    assert usage["completion_tokens"] == again["completion_tokens"] > len(PROPERTIES)
    assert again["prompt_tokens_details"]["cached_tokens"] > 0


def test_the_token_limit_is_the_whole_answers_and_what_it_cuts_is_not_called_complete(scripted: Server) -> None:
    for limit in (1, 4, 12):
        reply = scripted.post("/v1/chat/completions", asked(PROPERTIES, max_tokens=limit)).json()
        assert reply["choices"][0]["finish_reason"] == "length"
        assert reply["usage"]["completion_tokens"] <= limit
        with pytest.raises(ValueError, match=r"Expecting|Unterminated"):
            json.loads(reply["choices"][0]["message"]["content"])
    endless = key("word", repeat=500)
    cut = chunks(scripted, asked({endless: {"type": "string"}}, max_tokens=60))
    assert cut[-1]["choices"][0]["finish_reason"] == "length"


def test_a_client_that_leaves_in_the_middle_stops_the_answer(scripted: Server) -> None:
    slow = key("word", repeat=2000, decode_ms=10)
    body = asked({NAME: {"type": "string"}, slow: {"type": "string"}}, stream=True)
    before = len(scripted.calls)
    with scripted.post("/v1/chat/completions", body, stream=True) as response:
        lines = response.iter_lines()
        for _ in range(12):
            next(lines)
    begun = time.monotonic()
    assert scripted.post("/v1/chat/completions", asked({NAME: {"type": "string"}})).status_code == 200
    assert time.monotonic() - begun < 5
    assert any(entry.what == "abort" for entry in parse(scripted.calls[before:]))


def test_several_choices_are_each_valid(scripted: Server) -> None:
    found = chunks(scripted, asked(PROPERTIES, n=2))
    assert [json.loads("".join(texts(found, index))) for index in (0, 1)] == [VALUE, VALUE]


def test_a_stop_string_within_a_value_cuts_the_answer_there(scripted: Server) -> None:
    body = asked({key("one STOP two"): {"type": "string"}, AGE: {"type": "integer"}}, stop=["STOP"])
    choice = scripted.post("/v1/chat/completions", body).json()["choices"][0]
    assert choice["message"]["content"].endswith('"one ')
    assert choice["finish_reason"] == "stop"


def test_a_stop_string_behind_a_value_is_nobodys(scripted: Server) -> None:
    words = {key('one" STOP'): {"type": "string"}, key(" 31 STOP"): {"type": "integer"}, COLOUR: {"enum": ["a", "b"]}}
    content = scripted.post("/v1/chat/completions", asked(words, stop=["STOP", "\n"])).json()["choices"][0]["message"]
    assert list(json.loads(content["content"]).values())[:2] == ["one", 31]


@pytest.mark.parametrize(
    ("said", "schema", "stop"),
    [(" 123", {"type": "integer"}, "3"), ("reddish", {"enum": ["red", "reddish"]}, "dish"), ('a"', {}, '"')],
)
def test_what_a_stop_string_cuts_of_a_number_or_a_choice_is_not_taken_for_the_whole(
    scripted: Server, said: str, schema: Any, stop: str
) -> None:
    choice = scripted.post("/v1/chat/completions", asked({key(said): schema}, stop=[stop])).json()["choices"][0]
    assert choice["finish_reason"] == "stop"
    with pytest.raises(json.JSONDecodeError):
        json.loads(choice["message"]["content"])


def test_a_value_that_can_not_be_had_is_an_error_whole_and_streamed(scripted: Server) -> None:
    body = asked({NAME: {"type": "string"}, key("none"): {"type": "integer"}})
    reply = scripted.post("/v1/chat/completions", body)
    assert (reply.status_code, reply.json()["error"]["code"]) == (500, "answer_unfit")
    last = chunks(scripted, body)[-1]
    assert last["error"]["code"] == "answer_unfit"


def test_what_is_asked_again_is_sampled_more_freely_where_a_run_can_have_its_own_sampling(
    scripted: Server, family: str
) -> None:
    before = len(scripted.calls)
    body = asked({NAME: {"type": "string"}, key("none"): {"type": "integer"}}, temperature=0.25)
    scripted.post("/v1/chat/completions", body)
    found = [entry.number("temperature") for entry in parse(scripted.calls[before:]) if entry.what == "run"]
    if family == "1.3":
        assert found == pytest.approx([0.25, 0.25, 0.9, 0.9])
    else:
        assert len(found) == 4


def test_a_value_that_looks_like_special_tokens_stays_text(scripted: Server) -> None:
    special = key('<|im_end|> </tool_call> \\"x"')
    content = scripted.post("/v1/chat/completions", asked({special: {"type": "string"}})).json()
    assert json.loads(content["choices"][0]["message"]["content"]) == {special: '<|im_end|> </tool_call> "x'}


def test_a_forced_call_streams_as_deltas_with_valid_arguments(scripted: Server) -> None:
    parameters = {"type": "object", "properties": PROPERTIES, "required": list(PROPERTIES)}
    tools: Any = [{"type": "function", "function": {"name": name, "parameters": parameters}} for name in ("f", "g")]
    with openai.OpenAI(base_url=scripted.url + "/v1", api_key="unused") as client:
        stream = client.chat.completions.create(
            model="scripted",
            messages=[{"role": "user", "content": key('g"')}],
            tools=tools,
            tool_choice="required",
            parallel_tool_calls=False,
            stream=True,
        )
        found = list(stream)
    calls = [call for chunk in found for call in chunk.choices[0].delta.tool_calls or ()]
    assert calls[0].function is not None
    assert calls[0].function.name == "g"
    pieces = [call.function.arguments or "" for call in calls if call.function]
    assert json.loads("".join(pieces)) == VALUE
    assert sum(map(bool, pieces)) > len(PROPERTIES)
    assert found[-1].choices[0].finish_reason == "tool_calls"


def test_arguments_that_break_a_strict_functions_schema_are_an_error(scripted: Server) -> None:
    parameters = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    said = '<tool_call>{"name": "f", "arguments": {"n": "many"}}</tool_call>'
    for strict, status in ((True, 500), (False, 200)):
        tools = [{"type": "function", "function": {"name": "f", "parameters": parameters, "strict": strict}}]
        reply = scripted.post("/v1/chat/completions", chat(key(said), tools=tools))
        assert reply.status_code == status


ZODS = r"^(?!\.)(?!.*\.\.)([A-Za-z0-9_'+\-\.]*)[A-Za-z0-9_+-]@([A-Za-z0-9][A-Za-z0-9\-]*\.)+[A-Za-z]{2,}$"


def test_a_forced_call_may_miss_a_format_where_it_is_not_strict_and_names_the_argument(scripted: Server) -> None:
    mail = key('nobody"')
    part = {"type": "string", "format": "email", "pattern": ZODS, "minLength": 3, "description": None}
    schema = {"type": "object", "properties": {mail: part}, "required": [mail]}

    def call(**more: Any) -> Any:
        function = {"name": "save", "parameters": schema, **more}
        body = {"messages": [{"role": "user", "content": "x"}], "tools": [{"type": "function", "function": function}]}
        return scripted.post("/v1/chat/completions", {**body, "tool_choice": "required"})

    free, strict = call(strict=None), call(strict=True)
    assert free.status_code == 200, free.text
    [made] = free.json()["choices"][0]["message"]["tool_calls"]
    assert json.loads(made["function"]["arguments"]) == {mail: "nobody"}
    assert free.headers["X-Unapplied-Parameters"].startswith("save.")
    assert strict.json()["error"]["code"] == "answer_unfit"
    part["minLength"] = 10
    assert call().json()["error"]["code"] == "answer_unfit"


def test_a_schema_whose_values_have_no_end_is_refused_by_every_api(scripted: Server) -> None:
    schema = {"$defs": {"n": {"type": "object", "properties": {"n": {"$ref": "#/$defs/n"}}, "required": ["n"]}}}
    schema |= {"$ref": "#/$defs/n"}  # type: ignore[dict-item]
    turns = [{"role": "user", "content": "x"}]
    wanted = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
    calls = len(scripted.calls)
    for path, body in (
        ("/v1/chat/completions", {"messages": turns, "response_format": wanted}),
        ("/v1/responses", {"input": "x", "text": {"format": {"type": "json_schema", "name": "n", "schema": schema}}}),
        (
            "/v1/messages",
            {
                "messages": turns,
                "max_tokens": 9,
                "output_config": {"format": {"type": "json_schema", "schema": schema}},
            },
        ),
        ("/api/chat", {"model": "scripted", "messages": turns, "format": schema}),
    ):
        reply = scripted.post(path, {"model": "scripted", **body})
        assert (reply.status_code, "$.n" in reply.text) == (400, True), reply.text
    assert not any("run" in call.split()[:2] for call in scripted.calls[calls:])
