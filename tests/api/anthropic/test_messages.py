"""`POST /v1/messages`: what comes back, whole and streamed."""

from typing import Any

import pytest

from rkllama_flask.errors import ContextLengthExceeded, RuntimeFailed, TimedOut
from rkllama_flask.generation.events import (
    Reasoning,
    Text,
    ToolArguments,
    ToolCallCut,
    ToolCallFinished,
    ToolCallStarted,
    Waiting,
)
from tests.api.anthropic.reading import HI, THINK, WEATHER, ask, ask_streamed, joined, read_events
from tests.api.conftest import Api
from tests.api.stub import finished, make_model, say
from tests.contract.anthropic_spec import check

CALLS: Any = (
    Reasoning("Hm"),
    Reasoning("."),
    Text("\n\n"),
    Text("Let me"),
    Text(" look."),
    ToolCallStarted(0, "call_a", "weather"),
    ToolArguments(0, '{"city": '),
    ToolArguments(0, '"Köln"}'),
    ToolCallFinished(0),
    Text("\n"),
    ToolCallStarted(1, "call_b", "weather"),
    ToolArguments(1, "{}"),
    ToolCallFinished(1),
    Text("\n"),
    finished("tool_calls"),
)


def test_a_whole_answer(api: Api) -> None:
    body = ask(api)
    assert body.pop("id").startswith("msg_")
    assert body == {
        "type": "message",
        "role": "assistant",
        "model": "tiny",
        "content": [{"type": "text", "text": "Hello world"}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 5,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": 2,
            "output_tokens_details": {"thinking_tokens": 0},
        },
    }


def test_a_stream_has_all_its_events_in_order(api: Api) -> None:
    assert [event["type"] for event in ask_streamed(api)] == [
        "message_start",
        "ping",
        "content_block_start",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]


@pytest.mark.parametrize(
    "script",
    [
        say("Hello", " world"),
        say(),
        say(" ", "\n", "a", " ", "b "),
        say("a", " "),
        CALLS,
        CALLS[5:7] + CALLS[7:8] + CALLS[-1:],
        (Reasoning("endless"), finished("length")),
        (Reasoning("brief"), Text("é\u2028😀"), finished(cached_tokens=3, reasoning_tokens=1)),
    ],
)
def test_streamed_and_whole_say_the_same(api: Api, script: Any) -> None:
    api.inference.script = script
    whole = ask(api, thinking=THINK, tools=[WEATHER])
    streamed = joined(ask_streamed(api, thinking=THINK, tools=[WEATHER]))
    assert whole | {"id": ""} == streamed | {"id": ""}


def test_thoughts_text_and_calls_are_blocks_in_their_order(api: Api) -> None:
    api.inference.script = CALLS
    body = ask(api, thinking=THINK, tools=[WEATHER])
    assert body["content"] == [
        {"type": "thinking", "thinking": "Hm.", "signature": ""},
        {"type": "text", "text": "\n\nLet me look."},
        {"type": "tool_use", "id": "toolu_a", "name": "weather", "input": {"city": "Köln"}},
        {"type": "tool_use", "id": "toolu_b", "name": "weather", "input": {}},
    ]
    assert body["stop_reason"] == "tool_use"


def test_each_kind_of_block_begins_empty_and_thoughts_end_with_a_signature(api: Api) -> None:
    api.inference.script = CALLS
    events = ask_streamed(api, thinking=THINK, tools=[WEATHER])
    assert [event["content_block"] for event in events if event["type"] == "content_block_start"] == [
        {"type": "thinking", "thinking": "", "signature": ""},
        {"type": "text", "text": ""},
        {"type": "tool_use", "id": "toolu_a", "name": "weather", "input": {}},
        {"type": "tool_use", "id": "toolu_b", "name": "weather", "input": {}},
    ]
    kinds = [event["delta"]["type"] for event in events if event["type"] == "content_block_delta"]
    assert kinds == ["thinking_delta"] * 2 + ["signature_delta"] + ["text_delta"] * 2 + ["input_json_delta"] * 2


def test_white_space_alone_is_no_block(api: Api) -> None:
    api.inference.script = say("\n", "\n")
    assert ask(api)["content"] == []


@pytest.mark.parametrize("thinking", [None, {"type": "disabled"}, {"type": "adaptive", "display": "omitted"}])
def test_who_does_not_ask_for_thoughts_gets_none(api: Api, thinking: Any) -> None:
    api.inference.script = (Reasoning("Hm."), Text("Yes"), finished(completion=9, reasoning_tokens=4))
    body = ask(api, thinking=thinking)
    assert body["content"] == [{"type": "text", "text": "Yes"}]
    assert body["usage"]["output_tokens_details"] == {"thinking_tokens": 4}
    assert joined(ask_streamed(api, thinking=thinking))["content"] == body["content"]


def test_a_call_without_arguments_has_an_empty_input(api: Api) -> None:
    call = (ToolCallStarted(0, "call_a", "weather"), ToolArguments(0, "{}"), ToolCallFinished(0))
    api.inference.script = (*call, finished("tool_calls"))
    assert ask(api, tools=[WEATHER])["content"][0]["input"] == {}


def test_a_call_that_was_cut_is_text_and_the_whole_one_before_it_stays(api: Api) -> None:
    whole = (ToolCallStarted(0, "call_a", "weather"), ToolArguments(0, "{}"), ToolCallFinished(0))
    half = (ToolCallStarted(1, "call_b", "weather"), ToolArguments(1, '{"a'), ToolCallCut(1, '<call>{"a'))
    api.inference.script = (*whole, *half, finished("length"))
    body = ask(api, tools=[WEATHER])
    assert [block["type"] for block in body["content"]] == ["tool_use", "text"]
    assert body["content"][1]["text"] == '<call>{"a'
    assert body["stop_reason"] == "max_tokens"
    assert joined(ask_streamed(api, tools=[WEATHER]))["content"] == body["content"]


def test_a_call_that_an_error_broke_off_was_never_begun(api: Api) -> None:
    half = (ToolCallStarted(0, "call_a", "weather"), ToolArguments(0, '{"a'))
    api.inference.script = (Text("Let me see."), *half, TimedOut("Too long."))
    body = {"model": "tiny", "max_tokens": 99, "messages": HI, "stream": True, "tools": [WEATHER]}
    events = read_events(api.post("/v1/messages", body).data)
    assert events[-1]["type"] == "error"
    assert "tool_use" not in str(events)


@pytest.mark.parametrize(("reason", "named"), [("stop", "end_turn"), ("length", "max_tokens")])
def test_why_it_ended(api: Api, reason: Any, named: str) -> None:
    api.inference.script = (Text("a"), finished(reason))
    assert ask(api)["stop_reason"] == named
    assert joined(ask_streamed(api))["stop_reason"] == named


def test_a_stop_sequence_is_told(api: Api) -> None:
    api.inference.script = (Text("a"), finished()._replace(stop_string="END"))
    for body in (ask(api, stop_sequences=["END"]), joined(ask_streamed(api, stop_sequences=["x", "END"]))):
        assert (body["stop_reason"], body["stop_sequence"]) == ("stop_sequence", "END")


def test_a_stop_string_of_the_models_own_ends_a_turn(api: Api) -> None:
    api.inference.script = (Text("a"), finished()._replace(stop_string="END"))
    body = ask(api)
    assert (body["stop_reason"], body["stop_sequence"]) == ("end_turn", None)


def test_cached_tokens_are_counted_apart(api: Api) -> None:
    api.inference.script = (Text("a"), finished(prompt=50, completion=7, cached_tokens=32, reasoning_tokens=3))
    for body in (ask(api), joined(ask_streamed(api))):
        usage = body["usage"]
        assert (usage["input_tokens"], usage["cache_read_input_tokens"], usage["output_tokens"]) == (18, 32, 7)


def test_a_guessed_count_says_so(api: Api) -> None:
    api.inference.script = (finished(estimated=True),)
    assert ask(api)["usage"]["estimated"] is True


def test_a_named_cache_is_answered_in_usage(api: Api) -> None:
    api.inference.script = (finished(cache_hit=False, cache_miss_reason="It is another model's."),)
    usage = ask(api, use_cache="rules")["usage"]
    assert api.inference.requests[0].use_cache == "rules"
    assert (usage["cache_hit"], usage["cached_prompts"]) == (False, [])
    assert usage["cache_miss_reason"] == "It is another model's."


@pytest.mark.parametrize(("model", "count"), [("org/big:7b", 42), ("tiny", 0)])
def test_a_stream_begins_with_the_prompts_count_where_it_can_be_had(api: Api, model: str, count: int) -> None:
    start = ask_streamed(api, model=model)[0]["message"]
    assert (start["usage"]["input_tokens"], start["content"], start["stop_reason"]) == (count, [], None)


def test_a_model_that_cannot_think_is_not_said_to(api: Api) -> None:
    api.inference.catalog.models.append(make_model("plain"))
    body = {"model": "plain", "max_tokens": 9, "messages": HI}
    asking = api.post("/v1/messages", body | {"thinking": THINK})
    assert (asking.status_code, asking.headers["X-Unapplied-Parameters"]) == (200, "thinking")
    for thinking in (None, {"type": "disabled"}):
        assert "X-Unapplied-Parameters" not in api.post("/v1/messages", body | {"thinking": thinking}).headers


def test_what_is_not_applied_is_named(api: Api) -> None:
    api.inference.unapplied = ("temperature",)
    search = {"type": "web_search_20250305", "name": "web_search"}
    body = {
        "model": "tiny",
        "max_tokens": 9,
        "messages": HI,
        "tools": [WEATHER, search],
        "thinking": THINK,
        "top_k": 0,
        "mcp_servers": [{"name": "x"}],
        "container": None,
    }
    for stream in (False, True):
        response = api.post("/v1/messages", body | {"stream": stream})
        named = set(response.headers["X-Unapplied-Parameters"].split(", "))
        assert named == {"tools.1", "thinking.budget_tokens", "top_k", "mcp_servers", "temperature"}


def test_in_a_long_silence_the_message_begins_and_pings_follow(api: Api) -> None:
    api.configure(heartbeat=1e-9)
    api.inference.script = (Waiting(0.5), Waiting(1.0), Text("a"), Waiting(0.5), finished())
    raw = api.post("/v1/messages", {"model": "tiny", "max_tokens": 9, "messages": HI, "stream": True}).data
    names = [event["type"] for event in read_events(raw)]
    assert names == [
        "message_start",
        "ping",
        "ping",
        "content_block_start",
        "content_block_delta",
        "ping",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]


def test_an_error_before_the_first_event_keeps_its_status(api: Api) -> None:
    api.inference.early = ContextLengthExceeded(5000, 4092)
    for stream in (False, True):
        response = api.post("/v1/messages", {"model": "tiny", "max_tokens": 9, "messages": HI, "stream": stream})
        assert response.status_code == 400
        check(response.json, "ErrorResponse")
        assert response.json["error"]["message"] == "prompt is too long: 5000 tokens > 4092 maximum"


def test_an_error_amid_a_stream_is_an_event_and_the_end(api: Api) -> None:
    api.inference.script = (Text("a"), RuntimeFailed("The runtime failed."))
    raw = api.post("/v1/messages", {"model": "tiny", "max_tokens": 9, "messages": HI, "stream": True}).data
    last = read_events(raw)[-1]
    check(last, "ErrorResponse")
    assert last["error"] == {"type": "api_error", "message": "The runtime failed."}
    assert last["request_id"].startswith("req_")


def test_every_stream_is_closed_at_its_end(api: Api) -> None:
    ask(api)
    ask_streamed(api)
    assert [generation.closed for generation in api.inference.generations] == [True, True]


def test_an_id_belongs_to_one_message(api: Api) -> None:
    assert ask(api)["id"] != ask(api)["id"]


def test_the_routes_are_also_there_without_a_prefix(api: Api) -> None:
    response = api.post("/messages?beta=true", {"model": "tiny", "max_tokens": 9, "messages": HI})
    check(response.json, "Message")


def test_a_stop_string_that_is_empty_means_nothing(api: Api) -> None:
    ask(api, stop_sequences=["", "x"])
    assert api.inference.requests[0].stop == ("x",)
