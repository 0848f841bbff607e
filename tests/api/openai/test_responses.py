"""The Responses API: items in, items out, and the events that tell of them."""

from typing import Any

import pytest

from rkllama_flask.errors import (
    ContextLengthExceeded,
    InvalidRequest,
    QueueFull,
    RuntimeFailed,
    TemplateFailed,
    TimedOut,
)
from rkllama_flask.generation.events import (
    Reasoning,
    Text,
    ToolArguments,
    ToolCallCut,
    ToolCallFinished,
    ToolCallStarted,
    Waiting,
)
from rkllama_flask.generation.request import GenerationRequest, JsonFormat, Message, Tool, ToolCall, ToolChoice
from tests.api.conftest import Api
from tests.api.openai.reading import read_response_events
from tests.api.stub import Script, finished, say
from tests.contract.openai_spec import check

BODY = {"model": "tiny", "input": "Hi"}
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}}
WEATHER = {"type": "function", "name": "weather", "description": "In a city", "parameters": PARAMETERS}
EVERYTHING: Script = (
    Waiting(0.5),
    Reasoning("Let me "),
    Reasoning("think."),
    Text("\n\n"),
    Text("I "),
    Text("look."),
    ToolCallStarted(0, "call_1", "weather"),
    ToolArguments(0, '{"city":'),
    ToolArguments(0, ' "Köln"}'),
    ToolCallFinished(0),
    Text("\n"),
    ToolCallStarted(1, "call_2", "weather"),
    ToolArguments(1, "{}"),
    ToolCallFinished(1),
    finished("tool_calls", prompt=9, completion=7, cached_tokens=4, reasoning_tokens=2),
)


def respond(api: Api, **fields: Any) -> dict[str, Any]:
    """The response to a body, checked."""
    response = api.post("/v1/responses", BODY | fields)
    assert response.status_code == 200, response.text
    assert response.json is not None
    check(response.json, "Response")
    return dict(response.json)


def stream(api: Api, **fields: Any) -> list[dict[str, Any]]:
    """The events of a stream, each named as it says, numbered and valid."""
    response = api.post("/v1/responses", BODY | fields | {"stream": True})
    assert response.status_code == 200, response.text
    assert response.content_type.startswith("text/event-stream")
    return read_response_events(response.data)


def request_for(api: Api, **fields: Any) -> GenerationRequest:
    respond(api, **fields)
    return api.inference.requests[-1]


def refusal(api: Api, **fields: Any) -> tuple[int, str | None]:
    response = api.post("/v1/responses", BODY | fields)
    check(response.json, "ErrorResponse")
    assert response.json is not None
    return response.status_code, response.json["error"]["param"]


# What is asked


def test_a_string_is_a_users_message_after_the_instructions(api: Api) -> None:
    assert request_for(api).messages == (Message("user", "Hi"),)
    assert request_for(api, instructions="Be brief.").messages == (
        Message("system", "Be brief."),
        Message("user", "Hi"),
    )


def test_items_are_turns_and_what_an_assistant_did_together_is_one(api: Api) -> None:
    items = [
        {"role": "developer", "content": "Be brief."},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Weather?"}], "id": "msg_1"},
        {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "Two cities."}]},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "I look."}]},
        {"type": "function_call", "call_id": "call_1", "name": "weather", "arguments": '{"city": "Köln"}'},
        {"type": "function_call", "call_id": "call_2", "name": "weather", "arguments": ""},
        {"type": "web_search_call", "id": "ws_1", "status": "completed"},
        {"type": "function_call_output", "call_id": "call_1", "output": "rain"},
        {"type": "function_call_output", "call_id": "call_2", "output": [{"type": "input_text", "text": "sun"}]},
        {"role": "assistant", "content": "Rain."},
        {"role": "user", "content": "Thanks"},
    ]
    calls = (ToolCall("weather", '{"city": "Köln"}', "call_1"), ToolCall("weather", "{}", "call_2"))
    assert request_for(api, input=items).messages == (
        Message("system", "Be brief."),
        Message("user", "Weather?"),
        Message("assistant", "I look.", reasoning="Two cities.", tool_calls=calls),
        Message("tool", "rain", tool_call_id="call_1", name="weather"),
        Message("tool", "sun", tool_call_id="call_2", name="weather"),
        Message("assistant", "Rain."),
        Message("user", "Thanks"),
    )


def test_its_own_output_is_an_input(api: Api) -> None:
    api.inference.script = EVERYTHING
    output = respond(api)["output"]
    answers = [{"type": "function_call_output", "call_id": f"call_{n}", "output": "sun"} for n in (1, 2)]
    messages = request_for(api, input=[{"role": "user", "content": "Hi"}, *output, *answers]).messages
    assert messages is not None
    assert [message.role for message in messages] == ["user", "assistant", "tool", "tool"]
    assert messages[1].content == "\n\nI look."
    assert messages[1].reasoning == "Let me think."
    assert [call.id for call in messages[1].tool_calls] == ["call_1", "call_2"]


@pytest.mark.parametrize(
    ("wrong", "param"),
    [
        (5, "input"),
        ([5], "input.0"),
        ([{}], "input.0"),
        ([{"role": "user"}], "input.0.content"),
        ([{"role": "tool", "content": "x"}], "input.0.role"),
        ([{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}], "input.0.content.0"),
        ([{"role": "user", "content": [{"type": "input_file", "file_id": "x"}]}], "input.0.content.0"),
        ([{"type": "function_call", "call_id": "c", "arguments": "{}"}], "input.0.name"),
        ([{"type": "function_call_output", "call_id": 5, "output": "x"}], "input.0.call_id"),
        ([{"type": "local_shell_call", "call_id": "c", "action": "ls"}], "input.0.action"),
        ([{"type": "item_reference", "id": "msg_1"}], "input.0"),
    ],
)
def test_what_is_no_input_is_refused_by_its_place(api: Api, wrong: Any, param: str) -> None:
    assert refusal(api, input=wrong) == (400, param)


@pytest.mark.parametrize("stored", [{"previous_response_id": "resp_1"}, {"conversation": "c"}, {"prompt": {"id": "p"}}])
def test_what_is_stored_elsewhere_is_refused_plainly(api: Api, stored: dict[str, Any]) -> None:
    assert refusal(api, **stored) == (400, next(iter(stored)))


def test_tools_lie_flat_and_those_that_are_no_functions_are_skipped_and_named(api: Api) -> None:
    tools = [WEATHER, {"type": "web_search"}, {"type": "namespace", "name": "n", "tools": []}]
    response = api.post(
        "/v1/responses", BODY | {"tools": tools, "tool_choice": {"type": "function", "name": "weather"}}
    )
    assert response.headers["X-Unapplied-Parameters"] == "tools"
    request = api.inference.requests[-1]
    assert request.tools == (Tool("weather", "In a city", PARAMETERS),)
    assert request.tool_choice == ToolChoice("named", "weather")
    assert response.json is not None
    check(response.json, "Response")
    assert response.json["tools"] == [WEATHER | {"strict": False}]
    assert response.json["tool_choice"] == {"type": "function", "name": "weather"}


def test_functions_of_a_namespace_are_offered_by_their_full_name_and_called_by_both(api: Api) -> None:
    space = {"type": "namespace", "name": "sky", "description": "", "tools": [WEATHER]}
    told = [
        {"role": "user", "content": "Hi"},
        {"type": "function_call", "call_id": "c", "namespace": "sky", "name": "weather", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "Rain."},
    ]
    whole = (ToolCallStarted(0, "call_1", "sky.weather"), ToolArguments(0, "{}"), ToolCallFinished(0))
    api.inference.script = (*whole, finished("tool_calls"))
    [call] = respond(api, tools=[space], input=told)["output"]
    assert (call["namespace"], call["name"]) == ("sky", "weather")
    request = api.inference.requests[-1]
    assert [tool.name for tool in request.tools] == ["sky.weather"]
    assert request.messages[1].tool_calls == (ToolCall("sky.weather", "{}", "c"),)
    assert stream(api, tools=[space])[-1]["response"]["output"][0]["namespace"] == "sky"


def test_allowed_tools_lie_flat_too(api: Api) -> None:
    other = WEATHER | {"name": "other"}
    allowed = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "other"}]}
    request = request_for(api, tools=[WEATHER, other], tool_choice=allowed)
    assert [tool.name for tool in request.tools] == ["other"]
    assert request.tool_choice == ToolChoice("required")


@pytest.mark.parametrize("wrong", ["maybe", {"type": "function"}, {"type": "web_search"}, 5])
def test_a_choice_of_what_there_is_not_is_refused(api: Api, wrong: Any) -> None:
    assert refusal(api, tools=[WEATHER], tool_choice=wrong) == (400, "tool_choice")


@pytest.mark.parametrize(
    ("format", "read"),
    [
        ({"type": "text"}, None),
        ({"type": "json_object"}, JsonFormat()),
        (
            {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": True},
            JsonFormat({"type": "object"}),
        ),
    ],
)
def test_formats(api: Api, format: dict[str, Any], read: JsonFormat | None) -> None:
    assert request_for(api, text={"format": format}).format == read
    assert respond(api, text={"format": format})["text"] == {"format": format}


@pytest.mark.parametrize(
    ("error", "param"),
    [
        (TemplateFailed("no", param="messages"), "input"),
        (InvalidRequest("no", param="response_format"), "text.format"),
        (InvalidRequest("no", param="tools"), "tools"),
        (InvalidRequest("no"), None),
    ],
)
def test_errors_of_the_floors_below_name_this_endpoints_fields(api: Api, error: Exception, param: str | None) -> None:
    api.inference.early = error
    for stream in (False, True):
        response = api.post("/v1/responses", BODY | {"stream": stream})
        assert response.json is not None
        assert (response.status_code, response.json["error"]["param"]) == (400, param)


def test_a_wrong_format_is_refused_by_its_place(api: Api) -> None:
    assert refusal(api, text={"format": {"type": "xml"}}) == (400, "text.format.type")
    assert refusal(api, text={"format": {"type": "json_schema", "schema": 5}}) == (400, "text.format.schema")


def test_limits_sampling_and_reasoning(api: Api) -> None:
    request = request_for(api, max_output_tokens=20, temperature=0.5, top_p=0.25, reasoning={"effort": "low"})
    assert (request.max_tokens, request.thinking) == (20, "low")
    assert (request.sampling.temperature, request.sampling.top_p) == (0.5, 0.25)
    assert request_for(api, max_output_tokens=0).max_tokens is None
    assert request_for(api, reasoning={"effort": "none", "summary": "auto"}).thinking is False


def test_what_cannot_be_honoured_is_named(api: Api) -> None:
    response = api.post(
        "/v1/responses",
        BODY | {"top_logprobs": 3, "truncation": "auto", "text": {"verbosity": "low"}, "store": True, "include": ["x"]},
    )
    assert response.headers["X-Unapplied-Parameters"] == "top_logprobs, truncation, text.verbosity"


# What is answered


def test_a_response_repeats_what_was_asked_and_stores_nothing(api: Api) -> None:
    response = respond(api, instructions="Be brief.", metadata={"a": "b"}, max_output_tokens=99, temperature=0.5)
    assert response["id"].startswith("resp_")
    assert response["status"] == "completed"
    assert response["store"] is False
    assert response["previous_response_id"] is None
    said = {key: response[key] for key in ("instructions", "metadata", "max_output_tokens", "temperature", "top_p")}
    assert said == {
        "instructions": "Be brief.",
        "metadata": {"a": "b"},
        "max_output_tokens": 99,
        "temperature": 0.5,
        "top_p": None,
    }


def test_thoughts_text_and_calls_are_items_in_order(api: Api) -> None:
    api.inference.script = EVERYTHING
    response = respond(api)
    reasoning, message, first, second = response["output"]
    assert reasoning["summary"] == [{"type": "summary_text", "text": "Let me think."}]
    assert message["content"][0]["text"] == "\n\nI look."
    assert (first["call_id"], first["name"], first["arguments"]) == ("call_1", "weather", '{"city": "Köln"}')
    assert (second["call_id"], second["arguments"]) == ("call_2", "{}")
    assert {item["status"] for item in response["output"]} == {"completed"}
    usage = response["usage"]
    assert (usage["input_tokens"], usage["output_tokens"], usage["total_tokens"]) == (9, 7, 16)
    assert usage["input_tokens_details"]["cached_tokens"] == 4
    assert usage["output_tokens_details"]["reasoning_tokens"] == 2


def test_white_space_between_calls_is_no_message_but_an_empty_answer_is_one(api: Api) -> None:
    whole = (ToolCallStarted(0, "call_1", "weather"), ToolArguments(0, "{}"), ToolCallFinished(0))
    api.inference.script = (Text("\n"), *whole, Text(" "), finished("tool_calls"))
    assert [item["type"] for item in respond(api)["output"]] == ["function_call"]
    for script, text in ((say(), ""), (say("\n"), "\n")):
        api.inference.script = script
        [message] = respond(api)["output"]
        assert message["content"][0]["text"] == text
        assert [event["type"] for event in stream(api)][-1] == "response.completed"


WHOLE = (ToolCallStarted(0, "call_1", "weather"), ToolArguments(0, "{}"), ToolCallFinished(0))
HALF = (ToolCallStarted(1, "call_2", "weather"), ToolArguments(1, '{"city":'), ToolArguments(1, ' "Kö'))


def test_a_call_that_was_cut_is_never_done_and_in_one_piece_it_is_text(api: Api) -> None:
    api.inference.script = (*WHOLE, *HALF, ToolCallCut(1, '<call>{"city": "Kö'), finished("length"))
    response = respond(api)
    assert [item["type"] for item in response["output"]] == ["function_call", "message"]
    assert response["output"][1]["content"][0]["text"] == '<call>{"city": "Kö'
    assert response["status"] == "incomplete"
    events = stream(api)
    done = [event for event in events if event["type"] == "response.function_call_arguments.done"]
    assert [event["arguments"] for event in done] == ["{}"]
    first, second = events[-1]["response"]["output"]
    assert (first["status"], second["status"], second["arguments"]) == ("completed", "incomplete", '{"city": "Kö')


def test_of_a_call_that_an_error_broke_off_nothing_is_done(api: Api) -> None:
    api.inference.script = (*WHOLE, *HALF, TimedOut("Too long."))
    events = stream(api)
    done = [event for event in events if event["type"] == "response.function_call_arguments.done"]
    assert [event["arguments"] for event in done] == ["{}"]
    [failed] = [event for event in events if event["type"] == "response.failed"]
    assert [item["status"] for item in failed["response"]["output"]] == ["completed", "incomplete"]


def test_the_events_of_every_kind_of_item_come_in_order(api: Api) -> None:
    api.inference.script = EVERYTHING
    events = stream(api)
    assert [event["type"].removeprefix("response.") for event in events] == [
        "created",
        "in_progress",
        "output_item.added",
        "reasoning_summary_part.added",
        "reasoning_summary_text.delta",
        "reasoning_summary_text.delta",
        "reasoning_summary_text.done",
        "reasoning_summary_part.done",
        "output_item.done",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
        "completed",
    ]
    begun, end = events[0]["response"], events[-1]["response"]
    assert (begun["status"], begun["output"]) == ("in_progress", [])
    assert begun["id"] == events[1]["response"]["id"] == end["id"]
    added = [event["item"] for event in events if event["type"] == "response.output_item.added"]
    done = [event["item"] for event in events if event["type"] == "response.output_item.done"]
    assert [item["id"] for item in added] == [item["id"] for item in done]
    assert {item["status"] for item in added} == {"in_progress"}
    assert done == end["output"]
    places = {event["item_id"]: event["output_index"] for event in events if "item_id" in event}
    assert list(places.items()) == [(item["id"], index) for index, item in enumerate(done)]


def test_a_stream_says_the_same_as_a_whole_response(api: Api) -> None:
    api.inference.script = EVERYTHING
    whole, streamed = respond(api), stream(api)[-1]["response"]
    for item in [*whole["output"], *streamed["output"]]:
        del item["id"]
    assert whole["output"] == streamed["output"]
    assert whole["usage"] == streamed["usage"]


def test_a_length_cut_is_told_in_the_event_that_clients_wait_for(api: Api) -> None:
    api.inference.script = (Text("Once"), finished("length"))
    for response in (respond(api), stream(api)[-1]["response"]):
        assert response["status"] == response["output"][0]["status"] == "incomplete"
        assert response["incomplete_details"] == {"reason": "max_output_tokens"}
        assert response["completed_at"] is None
    assert stream(api)[-1]["type"] == "response.completed"


def test_an_error_found_early_keeps_its_status(api: Api) -> None:
    api.inference.early = ContextLengthExceeded(5000, 4092)
    assert refusal(api) == refusal(api, stream=True) == (400, "input")
    api.inference.early = None
    api.inference.script = (QueueFull("Full.", retry_after=3),)
    assert api.post("/v1/responses", BODY | {"stream": True}).status_code == 503


def test_an_error_in_mid_stream_fails_the_response_and_then_raises(api: Api) -> None:
    api.inference.script = (Text("Once"), RuntimeFailed("It broke."))
    *_, done, failed, error = stream(api)
    assert (done["type"], done["item"]["status"]) == ("response.output_item.done", "incomplete")
    assert (failed["type"], failed["response"]["status"]) == ("response.failed", "failed")
    assert failed["response"]["error"] == {"code": "server_error", "message": "It broke."}
    assert failed["response"]["output"] == [done["item"]]
    assert (error["type"], error["message"], error["error"]["message"]) == ("error", "It broke.", "It broke.")


# Counting


def test_input_tokens_are_counted(api: Api) -> None:
    body = {"model": "org/big:7b", "input": "Hi", "instructions": "Be brief."}
    response = api.post("/v1/responses/input_tokens", body)
    check(response.json, "TokenCountsResource")
    assert response.json == {"object": "response.input_tokens", "input_tokens": 11}
    assert api.post("/v1/responses/input_tokens", BODY).status_code == 400


def test_the_routes_are_there_without_v1(api: Api) -> None:
    assert api.post("/responses", BODY).status_code == 200
    assert api.post("/responses/input_tokens", BODY | {"model": "org/big:7b"}).status_code == 200
