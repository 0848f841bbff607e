"""`POST /v1/chat/completions`, whole and streamed, as OpenAI describes it."""

from typing import Any

import pytest

from rkllama_flask.errors import ContextLengthExceeded, RuntimeFailed
from rkllama_flask.generation.events import (
    Reasoning,
    Text,
    ToolArguments,
    ToolCallCut,
    ToolCallFinished,
    ToolCallStarted,
    Waiting,
)
from rkllama_flask.generation.request import UNLIMITED, JsonFormat, Message, ToolCall, ToolChoice
from rkllama_flask.sampling import Sampling
from tests.api.conftest import Api
from tests.api.openai.reading import read_chunks, read_events
from tests.api.stub import finished, make_model, say
from tests.contract.openai_spec import check

HI = [{"role": "user", "content": "Hi"}]
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
TIME = {"type": "function", "function": {"name": "time", "description": "The time.", "strict": True}}


def ask(api: Api, **fields: Any) -> Any:
    response = api.post("/v1/chat/completions", {"model": "tiny", "messages": HI} | fields)
    assert response.status_code == 200, response.text
    check(response.json, "CreateChatCompletionResponse")
    return response.json


def ask_streamed(api: Api, **fields: Any) -> list[dict[str, Any]]:
    response = api.post("/v1/chat/completions", {"model": "tiny", "messages": HI, "stream": True} | fields)
    assert response.status_code == 200, response.text
    assert response.content_type.startswith("text/event-stream")
    return read_chunks(response.data)


def refuse(api: Api, **fields: Any) -> Any:
    response = api.post("/v1/chat/completions", {"model": "tiny", "messages": HI} | fields)
    assert response.status_code == 400, response.text
    check(response.json, "ErrorResponse")
    assert api.inference.requests == []
    return response.json["error"]


def deltas(chunks: list[dict[str, Any]], index: int = 0) -> list[dict[str, Any]]:
    return [choice["delta"] for chunk in chunks for choice in chunk["choices"] if choice["index"] == index]


# What comes back


def test_a_whole_answer(api: Api) -> None:
    body = ask(api)
    assert body["object"] == "chat.completion"
    assert body["id"].startswith("chatcmpl-")
    assert body["model"] == "tiny"
    assert body["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Hello world", "refusal": None},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ]


def test_usage_is_what_the_runtime_counted(api: Api) -> None:
    api.inference.script = (Text("a"), finished(prompt=50, completion=7, cached_tokens=32, reasoning_tokens=3))
    usage = ask(api)["usage"]
    assert usage == {
        "prompt_tokens": 50,
        "completion_tokens": 7,
        "total_tokens": 57,
        "prompt_tokens_details": {"cached_tokens": 32},
        "completion_tokens_details": {"reasoning_tokens": 3},
    }


def test_an_estimated_prompt_count_says_so(api: Api) -> None:
    api.inference.script = (finished(estimated=True),)
    assert ask(api)["usage"]["estimated"] is True


def test_a_named_cache_tells_whether_it_was_used(api: Api) -> None:
    api.inference.script = (Text("a"), finished(cache_hit=True, cached_prompts=("system",)))
    usage = ask(api, use_cache="system")["usage"]
    assert usage["cache_hit"] is True
    assert usage["cached_prompts"] == ["system"]
    assert api.inference.requests[0].use_cache == "system"


def test_a_cache_that_was_not_used_says_why(api: Api) -> None:
    api.inference.script = (finished(cache_hit=False, cache_miss_reason="The model's file has changed."),)
    usage = ask(api, use_cache="system")["usage"]
    assert usage["cache_hit"] is False
    assert usage["cache_miss_reason"] == "The model's file has changed."


def test_timings_stand_beside_usage(api: Api) -> None:
    timings = ask(api)["timings"]
    assert timings["prompt_ms"] == 2.0
    assert timings["predicted_per_second"] == 500.0


@pytest.mark.parametrize("reason", ["stop", "length"])
def test_the_reason_for_the_end(api: Api, reason: str) -> None:
    api.inference.script = (Text("a"), finished(reason))
    assert ask(api)["choices"][0]["finish_reason"] == reason
    assert ask_streamed(api)[-1]["choices"][0]["finish_reason"] == reason


def test_an_empty_answer_is_an_empty_text(api: Api) -> None:
    api.inference.script = (finished(completion=0),)
    assert ask(api)["choices"][0]["message"]["content"] == ""
    assert deltas(ask_streamed(api)) == [{"role": "assistant", "content": ""}, {}]


def test_thoughts_stand_apart_from_the_answer(api: Api) -> None:
    api.inference.script = (Reasoning("Let me "), Reasoning("see."), Text("Hi"), finished())
    message = ask(api)["choices"][0]["message"]
    assert (message["reasoning_content"], message["content"]) == ("Let me see.", "Hi")
    assert deltas(ask_streamed(api))[1:] == [
        {"reasoning_content": "Let me "},
        {"reasoning_content": "see."},
        {"content": "Hi"},
        {},
    ]


CALLS = (
    Text("Let me look. "),
    ToolCallStarted(0, "call_a", "weather"),
    ToolArguments(0, '{"city":'),
    ToolArguments(0, ' "Köln"}'),
    ToolCallFinished(0),
    ToolCallStarted(1, "call_b", "time"),
    ToolArguments(1, "{}"),
    ToolCallFinished(1),
    finished("tool_calls"),
)


def test_tool_calls_of_a_whole_answer(api: Api) -> None:
    api.inference.script = CALLS
    choice = ask(api, tools=[WEATHER, TIME])["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] == "Let me look. "
    assert choice["message"]["tool_calls"] == [
        {"id": "call_a", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Köln"}'}},
        {"id": "call_b", "type": "function", "function": {"name": "time", "arguments": "{}"}},
    ]


def test_an_answer_of_calls_alone_has_no_content(api: Api) -> None:
    api.inference.script = CALLS[1:]
    assert ask(api, tools=[WEATHER, TIME])["choices"][0]["message"]["content"] is None


def test_streamed_tool_calls_tell_id_and_name_once(api: Api) -> None:
    api.inference.script = CALLS
    calls = [call for delta in deltas(ask_streamed(api, tools=[WEATHER, TIME])) for call in delta.get("tool_calls", [])]
    assert calls == [
        {"index": 0, "id": "call_a", "type": "function", "function": {"name": "weather", "arguments": ""}},
        {"index": 0, "function": {"arguments": '{"city":'}},
        {"index": 0, "function": {"arguments": ' "Köln"}'}},
        {"index": 1, "id": "call_b", "type": "function", "function": {"name": "time", "arguments": ""}},
        {"index": 1, "function": {"arguments": "{}"}},
    ]


HALF = (ToolCallStarted(1, "call_b", "time"), ToolArguments(1, '{"zone": "C'), ToolCallCut(1, '<call>{"zone": "C'))


@pytest.mark.parametrize("reason", ["length", "stop"])
def test_a_call_that_was_cut_is_text_or_what_nobody_can_read(api: Api, reason: Any) -> None:
    api.inference.script = (*CALLS[1:5], *HALF, finished(reason))
    for choice in ask(api, tools=[WEATHER, TIME], n=2)["choices"]:
        assert [call["function"]["name"] for call in choice["message"]["tool_calls"]] == ["weather"]
        assert choice["message"]["content"] == '<call>{"zone": "C'
        assert choice["finish_reason"] == reason
    chunks = ask_streamed(api, tools=[WEATHER, TIME], n=2)
    for index in (0, 1):
        choices = [chunk["choices"][0] for chunk in chunks if chunk["choices"][0]["index"] == index]
        calls = [call for choice in choices for call in choice["delta"].get("tool_calls", [])]
        assert "".join(call["function"]["arguments"] for call in calls if call["index"] == 1) == '{"zone": "C'
        assert "".join(choice["delta"].get("content", "") for choice in choices) == ""
        assert choices[-1]["finish_reason"] == reason


def test_the_older_functions_are_answered_in_their_own_form(api: Api) -> None:
    call = (
        ToolCallStarted(0, "call_a", "time"),
        ToolArguments(0, '{"zone":'),
        ToolArguments(0, ' "CET"}'),
        ToolCallFinished(0),
    )
    api.inference.script = (*call, finished("tool_calls"))
    fields: Any = {"functions": [TIME["function"]], "function_call": {"name": "time"}}
    choice = ask(api, **fields)["choices"][0]
    assert choice["message"]["function_call"] == {"name": "time", "arguments": '{"zone": "CET"}'}
    assert "tool_calls" not in choice["message"]
    assert choice["finish_reason"] == "function_call"
    chunks = ask_streamed(api, **fields)
    calls = [delta["function_call"] for delta in deltas(chunks) if "function_call" in delta]
    assert calls == [{"name": "time", "arguments": ""}, {"arguments": '{"zone":'}, {"arguments": ' "CET"}'}]
    assert chunks[-1]["choices"][0]["finish_reason"] == "function_call"
    request = api.inference.requests[-1]
    assert (request.tool_choice, request.parallel_tool_calls) == (ToolChoice("named", "time"), False)


# Streams


def test_a_stream_begins_with_the_role_and_ends_with_the_reason_alone(api: Api) -> None:
    chunks = ask_streamed(api)
    assert chunks[0]["object"] == "chat.completion.chunk"
    assert deltas(chunks) == [{"role": "assistant", "content": ""}, {"content": "Hello"}, {"content": " world"}, {}]
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None, None, None, "stop"]


@pytest.mark.parametrize(
    "text", ['"quoted" \\ back', "line\nbreak\r\n\r\ndata: x\n\n", "\0text\0", "日本語 😀", "\u2028\x7f"]
)
def test_any_text_arrives_as_it_is(api: Api, text: str) -> None:
    api.inference.script = say(text, text)
    assert "".join(delta.get("content", "") for delta in deltas(ask_streamed(api))) == text * 2
    assert ask(api)["choices"][0]["message"]["content"] == text * 2


def test_without_being_asked_no_chunk_holds_usage_or_lacks_a_choice(api: Api) -> None:
    for chunk in ask_streamed(api):
        assert "usage" not in chunk
        assert len(chunk["choices"]) == 1


def test_usage_comes_on_a_chunk_of_its_own(api: Api) -> None:
    *chunks, last = ask_streamed(api, stream_options={"include_usage": True})
    assert last["choices"] == []
    assert last["usage"]["total_tokens"] == 7
    assert all(chunk["usage"] is None for chunk in chunks)


def test_an_error_amid_a_stream_is_its_last_event(api: Api) -> None:
    api.inference.script = (Text("a"), RuntimeFailed("The runtime failed."))
    response = api.post("/v1/chat/completions", {"model": "tiny", "messages": HI, "stream": True})
    assert response.status_code == 200
    last = read_events(response.data)[-1]
    check(last, "ErrorResponse")
    assert last["error"]["message"] == "The runtime failed."


def test_an_error_before_the_first_event_has_its_status(api: Api) -> None:
    api.inference.script = (Waiting(0.5), ContextLengthExceeded(5000, 4000))
    response = api.post("/v1/chat/completions", {"model": "tiny", "messages": HI, "stream": True})
    assert response.status_code == 400
    assert response.json["error"]["code"] == "context_length_exceeded"


# Several choices


def test_several_choices_are_generated_one_after_another(api: Api) -> None:
    api.inference.scripts = [say("a"), say("b", "c"), say("d")]
    body = ask(api, n=3)
    assert [(one["index"], one["message"]["content"]) for one in body["choices"]] == [(0, "a"), (1, "bc"), (2, "d")]
    assert body["usage"]["prompt_tokens"] == 5
    assert body["usage"]["completion_tokens"] == 4
    assert all(generation.closed for generation in api.inference.generations)


def test_several_streamed_choices_each_begin_and_end(api: Api) -> None:
    api.inference.scripts = [say("a"), say("b")]
    chunks = ask_streamed(api, n=2, stream_options={"include_usage": True})
    for index, text in enumerate("ab"):
        assert deltas(chunks, index) == [{"role": "assistant", "content": ""}, {"content": text}, {}]
    assert chunks[-1]["usage"]["completion_tokens"] == 2
    assert sum(chunk["choices"] == [] for chunk in chunks) == 1


def test_a_failing_later_choice_ends_the_stream_with_its_error(api: Api) -> None:
    api.inference.scripts = [say("a"), (RuntimeFailed("broken"),)]
    response = api.post("/v1/chat/completions", {"model": "tiny", "messages": HI, "stream": True, "n": 2})
    assert "error" in read_events(response.data)[-1]


# What goes in


def test_the_conversation_in_neutral_words(api: Api) -> None:
    ask(
        api,
        messages=[
            {"role": "developer", "content": "Be kind."},
            {"role": "user", "content": [{"type": "text", "text": "What's the"}, {"type": "text", "text": "weather?"}]},
            {
                "role": "assistant",
                "content": None,
                "reasoning_content": "Hm.",
                "tool_calls": [
                    {
                        "id": "call_a",
                        "type": "function",
                        "function": {"name": "weather", "arguments": '{"city": "Köln"}'},
                    }
                ],
            },
            {"role": "tool", "tool_call_id": "call_a", "content": [{"type": "text", "text": "Rain"}]},
            {"role": "assistant", "refusal": "No."},
            {"role": "user", "content": "Thanks", "name": "Ann"},
        ],
    )
    call = ToolCall("weather", '{"city": "Köln"}', "call_a")
    assert api.inference.requests[0].messages == (
        Message("system", "Be kind."),
        Message("user", "What's the\nweather?"),
        Message("assistant", "", reasoning="Hm.", tool_calls=(call,)),
        Message("tool", "Rain", tool_call_id="call_a", name="weather"),
        Message("assistant", "No."),
        Message("user", "Thanks", name="Ann"),
    )


def test_the_older_function_messages_are_understood(api: Api) -> None:
    ask(
        api,
        messages=[
            *HI,
            {"role": "assistant", "content": None, "function_call": {"name": "time", "arguments": ""}},
            {"role": "function", "name": "time", "content": "Noon"},
        ],
    )
    assert api.inference.requests[0].messages[1:] == (
        Message("assistant", tool_calls=(ToolCall("time", "{}"),)),
        Message("tool", "Noon", name="time"),
    )


def test_sampling_limits_and_stops(api: Api) -> None:
    ask(
        api,
        temperature=0,
        top_p=0.5,
        top_k=20,
        frequency_penalty=-1,
        presence_penalty=1,
        repetition_penalty=1.1,
        mirostat=2,
        mirostat_tau=5,
        mirostat_eta=0.1,
        max_tokens=10,
        max_completion_tokens=20,
        stop=["END", ""],
    )
    request = api.inference.requests[0]
    assert request.sampling == Sampling(20, 0.5, 0.0, 1.1, -1.0, 1.0, 2, 5.0, 0.1)
    assert request.max_tokens == 20
    assert request.stop == ("END",)


@pytest.mark.parametrize(
    "fields",
    [{}, {"max_tokens": 0}, {"max_tokens": None}, {"max_completion_tokens": 0}, {"max_completion_tokens": None}],
)
def test_no_limit_nulls_and_zeros_mean_unset(api: Api, fields: dict[str, Any]) -> None:
    ask(api, stop=None, temperature=None, tools=[], tool_choice=None, response_format=None, n=None, **fields)
    request = api.inference.requests[0]
    assert request.max_tokens is None
    assert request.sampling == Sampling()
    assert request.stop == ()
    assert request.format is None


def test_minus_one_asks_for_no_limit(api: Api) -> None:
    ask(api, max_tokens=-1)
    assert api.inference.requests[0].max_tokens == UNLIMITED


@pytest.mark.parametrize(
    ("fields", "thinking"),
    [
        ({}, None),
        ({"enable_thinking": True}, True),
        ({"enable_thinking": False, "reasoning_effort": "high"}, False),
        ({"chat_template_kwargs": {"enable_thinking": False}}, False),
        ({"reasoning_effort": "none"}, False),
        ({"reasoning_effort": "low", "enable_thinking": True}, "low"),
        ({"reasoning": {"effort": "high"}, "reasoning_effort": "low"}, "high"),
    ],
)
def test_the_thinking_switch_in_its_many_forms(api: Api, fields: dict[str, Any], thinking: Any) -> None:
    ask(api, **fields)
    assert api.inference.requests[0].thinking == thinking


def test_other_template_arguments_reach_the_template(api: Api) -> None:
    ask(api, chat_template_kwargs={"enable_thinking": True, "date": "today"})
    assert api.inference.requests[0].template_arguments == {"date": "today"}


@pytest.mark.parametrize(
    ("choice", "neutral", "names"),
    [
        (None, ToolChoice("auto"), {"weather", "time"}),
        ("none", ToolChoice("none"), {"weather", "time"}),
        ("required", ToolChoice("required"), {"weather", "time"}),
        ({"type": "function", "function": {"name": "time"}}, ToolChoice("named", "time"), {"weather", "time"}),
        (
            {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [TIME]}},
            ToolChoice("required"),
            {"time"},
        ),
    ],
)
def test_tools_and_the_choice_among_them(api: Api, choice: Any, neutral: ToolChoice, names: set[str]) -> None:
    ask(api, tools=[WEATHER, TIME], tool_choice=choice, parallel_tool_calls=False)
    request = api.inference.requests[0]
    assert request.tool_choice == neutral
    assert {tool.name for tool in request.tools} == names
    assert request.parallel_tool_calls is False
    assert next(tool for tool in request.tools if tool.name == "time").strict


@pytest.mark.parametrize(
    ("response_format", "neutral"),
    [
        ({"type": "text"}, None),
        ({"type": "json_object"}, JsonFormat()),
        ({"type": "json_object", "schema": {"type": "object"}}, JsonFormat({"type": "object"})),
        (
            {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "array"}}},
            JsonFormat({"type": "array"}),
        ),
        ({"type": "json_schema", "json_schema": {"name": "x"}}, JsonFormat()),
    ],
)
def test_response_formats(api: Api, response_format: Any, neutral: JsonFormat | None) -> None:
    ask(api, response_format=response_format)
    assert api.inference.requests[0].format == neutral


def test_without_a_model_the_loaded_one_answers(api: Api) -> None:
    api.inference.loaded = [api.inference.catalog.find("tiny")]
    assert ask(api, model=None)["model"] == "tiny"


def test_an_unknown_model_is_not_found(api: Api) -> None:
    response = api.post("/v1/chat/completions", {"model": "gpt-9", "messages": HI})
    assert response.status_code == 404
    assert response.json["error"] == {
        "message": "model 'gpt-9' not found",
        "type": "invalid_request_error",
        "param": "model",
        "code": "model_not_found",
    }


@pytest.mark.parametrize("path", ["/chat/completions", "/v1/chat/completions", "/v1/chat/completions?beta=true"])
def test_the_route_with_and_without_its_prefix(api: Api, path: str) -> None:
    assert api.post(path, {"model": "tiny", "messages": HI}).status_code == 200


# What can't be honoured


def test_what_cannot_be_honoured_is_named_in_a_header(api: Api) -> None:
    api.inference.unapplied = ("mirostat",)
    fields = {"seed": 1, "min_p": 0.1, "logprobs": True, "top_logprobs": 2, "logit_bias": {"1": 2}, "top_k": 0}
    for stream in (False, True):
        response = api.post("/v1/chat/completions", {"model": "tiny", "messages": HI, "stream": stream, **fields})
        named = response.headers["X-Unapplied-Parameters"].split(", ")
        assert set(named) == {*fields, "mirostat"}


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"reasoning_effort": "high"}, "reasoning_effort"),
        ({"reasoning": {"effort": "low"}, "enable_thinking": True}, "reasoning.effort, enable_thinking"),
        ({"chat_template_kwargs": {"enable_thinking": True}}, "chat_template_kwargs.enable_thinking"),
        ({"reasoning_effort": "none"}, None),
        ({"enable_thinking": False}, None),
        ({}, None),
    ],
)
def test_a_model_that_cannot_think_is_not_said_to(api: Api, fields: dict[str, Any], named: str | None) -> None:
    api.inference.catalog.models.append(make_model("plain"))
    body = {"messages": HI, **fields}
    assert api.post("/v1/chat/completions", body | {"model": "plain"}).headers.get("X-Unapplied-Parameters") == named
    assert "X-Unapplied-Parameters" not in api.post("/v1/chat/completions", body | {"model": "tiny"}).headers


def test_custom_tools_are_not_offered_and_named(api: Api) -> None:
    tools = [WEATHER, {"type": "custom", "custom": {"name": "sql"}}]
    response = api.post("/v1/chat/completions", {"model": "tiny", "messages": HI, "tools": tools})
    assert response.headers["X-Unapplied-Parameters"] == "tools.1"
    assert [tool.name for tool in api.inference.requests[-1].tools] == ["weather"]


def test_fields_that_change_nothing_are_taken_without_a_word(api: Api) -> None:
    fields = {
        "user": "u",
        "metadata": {"a": "b"},
        "store": True,
        "service_tier": "auto",
        "safety_identifier": "s",
        "prompt_cache_key": "k",
        "prompt_cache_options": {"ttl": "24h"},
        "prediction": {"type": "content", "content": "x"},
        "modalities": ["text"],
        "logprobs": False,
        "unheard_of": {"deep": [1]},
        "logit_bias": {},
        "min_p": 0,
    }
    response = api.post("/v1/chat/completions", {"model": "tiny", "messages": HI, **fields})
    assert response.status_code == 200
    assert "X-Unapplied-Parameters" not in response.headers


# What is refused


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": "Hi"}, "messages"),
        ({"messages": ["Hi"]}, "messages.0"),
        ({"messages": [{"content": "Hi"}]}, "messages.0.role"),
        ({"messages": [{"role": "wizard", "content": "Hi"}]}, "messages.0.role"),
        ({"messages": [*HI, {"role": "user"}]}, "messages.1.content"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": ["Hi"]}]}, "messages.0.content.0"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages.0.content.0.text"),
        ({"messages": [{"role": "user", "content": [{"type": "video"}]}]}, "messages.0.content.0.type"),
        ({"model": 5}, "model"),
        ({"stream": "yes"}, "stream"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": 2.1}, "temperature"),
        ({"top_p": -0.1}, "top_p"),
        ({"n": 0}, "n"),
        ({"n": 129}, "n"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"stop": {"a": 1}}, "stop"),
        ({"stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
        ({"tools": [{"type": "wand", "function": {"name": "x"}}]}, "tools.0.type"),
        ({"tools": [{"type": "custom"}]}, "tools.0.custom"),
        ({"functions": [{"name": "f"}], "function_call": {"name": "g"}}, "function_call"),
        ({"tools": [{"type": "function"}]}, "tools.0.function"),
        ({"tools": [{"type": "function", "function": {"name": ""}}]}, "tools.0.function.name"),
        ({"tools": [{"type": "function", "function": {"name": "f", "parameters": []}}]}, "tools.0.function.parameters"),
        ({"tool_choice": "perhaps"}, "tool_choice"),
        ({"tool_choice": ["auto"]}, "tool_choice"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "time"}}}, "tool_choice"),
        ({"tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto"}}}, "tool_choice"),
        ({"response_format": "json"}, "response_format"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": 1}}},
            "response_format.json_schema.schema",
        ),
        ({"reasoning_effort": "huge"}, "reasoning_effort"),
        ({"enable_thinking": "no"}, "enable_thinking"),
        ({"chat_template_kwargs": {"enable_thinking": "no"}}, "chat_template_kwargs.enable_thinking"),
        ({"modalities": ["text", "audio"]}, "modalities.1"),
        ({"use_cache": True}, "use_cache"),
    ],
)
def test_what_is_wrong_is_refused_by_its_name(api: Api, fields: dict[str, Any], param: str) -> None:
    error = refuse(api, **fields)
    assert error["param"] == param
    assert f"'{param}'" in error["message"]
    assert error["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("part", "what"),
    [
        ({"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}, "an image"),
        ({"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}}, "audio"),
        ({"type": "file", "file": {"file_id": "x"}}, "a file"),
    ],
)
def test_what_is_no_text_is_refused_plainly(api: Api, part: dict[str, Any], what: str) -> None:
    error = refuse(api, messages=[{"role": "user", "content": [{"type": "text", "text": "Look:"}, part]}])
    assert error["message"] == f"'messages.0.content.1' is {what}, but the models here read only text."
