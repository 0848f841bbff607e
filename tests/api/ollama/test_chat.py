"""`POST /api/chat`, whole and streamed, as Ollama's clients use it."""

from typing import Any

import pytest

from rkllama_flask.errors import (
    ContextLengthExceeded,
    ModelUnusable,
    QueueFull,
    RkllamaError,
    RuntimeFailed,
    TemplateFailed,
)
from rkllama_flask.generation.events import (
    Finished,
    Reasoning,
    Text,
    Timings,
    ToolArguments,
    ToolCallCut,
    ToolCallFinished,
    ToolCallStarted,
    Usage,
    Waiting,
)
from rkllama_flask.generation.request import JsonFormat, Message, Tool, ToolCall
from rkllama_flask.sampling import Sampling
from tests.api.ollama.conftest import OllamaApi
from tests.api.ollama.reading import check_answer, read_answer, read_lines
from tests.api.stub import finished, say

HI = [{"role": "user", "content": "Hi"}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather.",
        "parameters": {"type": "object", "properties": {"b": {"type": "string"}, "a": {"type": "number"}}},
    },
}


def post(api: OllamaApi, **fields: Any) -> Any:
    return api.post("/api/chat", {"model": "tiny", "messages": HI} | fields)


def ask(api: OllamaApi, **fields: Any) -> Any:
    response = post(api, stream=False, **fields)
    assert response.status_code == 200, response.text
    assert response.content_type.startswith("application/json")
    check_answer(response.json, "Chat")
    assert response.json["done"] is True
    return response.json


def ask_streamed(api: OllamaApi, **fields: Any) -> list[dict[str, Any]]:
    response = post(api, **fields)
    assert response.status_code == 200, response.text
    assert response.content_type == "application/x-ndjson"
    return read_answer(response.data, "Chat")


def refuse(api: OllamaApi, status: int = 400, **fields: Any) -> str:
    response = post(api, **fields)
    assert response.status_code == status, response.text
    assert response.content_type.startswith("application/json")
    assert set(response.json) == {"error"}
    assert api.inference.requests == []
    return str(response.json["error"])


def requested(api: OllamaApi, **fields: Any) -> Any:
    ask(api, **fields)
    return api.inference.requests[-1]


# What comes back


def test_an_answer_is_streamed_unless_it_is_asked_for_whole(api: OllamaApi) -> None:
    lines = ask_streamed(api)
    assert [line["message"]["content"] for line in lines] == ["Hello", " world", ""]
    assert ask(api)["message"] == {"role": "assistant", "content": "Hello world"}


def test_the_model_is_called_what_the_client_called_it(api: OllamaApi) -> None:
    for name in ("tiny", "TINY:latest", "library/tiny"):
        assert ask(api, model=name)["model"] == name
        assert {line["model"] for line in ask_streamed(api, model=name)} == {name}


def test_name_is_accepted_beside_model(api: OllamaApi) -> None:
    response = api.post("/api/chat", {"name": "tiny", "messages": HI, "stream": False})
    assert response.json["model"] == "tiny"


def test_the_figures_are_the_runtimes_own_and_add_up(api: OllamaApi) -> None:
    timings = Timings(total=9, queue=10_000_000_000, load=5_000_000_000, prefill=2_000_000_000, decode=4_000_000_000)
    api.inference.script = (Text("a"), Finished("stop", Usage(50, 7, cached_tokens=32), timings))
    for body in (ask(api), ask_streamed(api)[-1]):
        assert body["load_duration"] == 15_000_000_000
        assert body["prompt_eval_duration"] == 2_000_000_000
        assert body["eval_duration"] == 4_000_000_000
        assert body["total_duration"] == 21_000_000_000
        assert body["prompt_eval_count"] == 50
        assert body["prompt_eval_cached_count"] == 32
        assert body["eval_count"] == 7


def test_no_duration_of_a_run_is_zero(api: OllamaApi) -> None:
    api.inference.script = (Finished("stop", Usage(1, 0), Timings(0, 0, 0, 0, 0)),)
    ask(api)


@pytest.mark.parametrize(("reason", "told"), [("stop", "stop"), ("length", "length"), ("tool_calls", "stop")])
def test_the_reason_of_the_end(api: OllamaApi, reason: str, told: str) -> None:
    api.inference.script = (Text("a"), finished(reason))
    assert ask(api)["done_reason"] == told
    assert ask_streamed(api)[-1]["done_reason"] == told


def test_thoughts_have_a_field_of_their_own(api: OllamaApi) -> None:
    api.inference.script = (Reasoning("Hm"), Reasoning("."), Text("Yes"), finished())
    assert ask(api)["message"] == {"role": "assistant", "content": "Yes", "thinking": "Hm."}
    messages = [line["message"] for line in ask_streamed(api)]
    assert [message.get("thinking") for message in messages] == ["Hm", ".", None, None]
    assert [message["content"] for message in messages] == ["", "", "Yes", ""]


CALLS = (
    Text("Let me look."),
    ToolCallStarted(0, "call_a", "weather"),
    ToolArguments(0, '{"b": '),
    ToolArguments(0, '"Köln", "a": 1}'),
    ToolCallFinished(0),
    ToolCallStarted(1, "call_b", "time"),
    ToolArguments(1, "{}"),
    ToolCallFinished(1),
    finished("tool_calls"),
)
RENDERED = [
    {"id": "call_a", "function": {"index": 0, "name": "weather", "arguments": {"b": "Köln", "a": 1}}},
    {"id": "call_b", "function": {"index": 1, "name": "time", "arguments": {}}},
]


def test_calls_come_whole_with_arguments_as_objects_in_their_order(api: OllamaApi) -> None:
    api.inference.script = CALLS
    assert ask(api, tools=[WEATHER])["message"]["tool_calls"] == RENDERED
    response = post(api, tools=[WEATHER], stream=False)
    assert '{"b":"K\\u00f6ln","a":1}' in response.text.replace(" ", "").replace("\n", "")


def test_a_streamed_call_stands_whole_in_one_line_before_the_last(api: OllamaApi) -> None:
    api.inference.script = CALLS
    lines = ask_streamed(api, tools=[WEATHER])
    assert [line["message"]["content"] for line in lines] == ["Let me look.", "", "", ""]
    assert [line["message"].get("tool_calls") for line in lines] == [None, RENDERED[:1], RENDERED[1:], None]


def test_a_call_without_arguments_has_an_empty_object(api: OllamaApi) -> None:
    call = (ToolCallStarted(0, "call_a", "time"), ToolArguments(0, "{}"), ToolCallFinished(0))
    api.inference.script = (*call, finished("tool_calls"))
    assert ask(api)["message"]["tool_calls"][0]["function"]["arguments"] == {}


def test_a_call_that_a_limit_cut_in_two_is_text(api: OllamaApi) -> None:
    half = (ToolCallStarted(0, "call_a", "weather"), ToolArguments(0, '{"city": "Kö'))
    api.inference.script = (Text("a"), *half, ToolCallCut(0, '<call>{"city": "Kö'), finished("length"))
    assert ask(api)["message"] == {"role": "assistant", "content": 'a<call>{"city": "Kö'}
    lines = ask_streamed(api)
    assert all("tool_calls" not in line["message"] for line in lines)
    assert "".join(line["message"]["content"] for line in lines) == 'a<call>{"city": "Kö'


def test_no_character_of_an_answer_breaks_a_line(api: OllamaApi) -> None:
    text = 'a\nb\r\u2028\u0085\u000b"\\😀\0'
    api.inference.script = say(text)
    assert ask_streamed(api)[0]["message"]["content"] == text
    assert ask(api)["message"]["content"] == text


def test_silence_sends_nothing(api: OllamaApi) -> None:
    api.inference.script = (Waiting(0.5), Text("a"), Waiting(0.5), finished())
    assert len(ask_streamed(api)) == 2


def test_a_heartbeat_is_a_line_that_says_nothing(api: OllamaApi) -> None:
    api.configure(ndjson_heartbeat=True, heartbeat=1e-9)
    api.inference.script = (Waiting(0.5), Text("a"), Waiting(0.5), finished())
    assert [line["message"]["content"] for line in ask_streamed(api)] == ["", "a", "", ""]


# What is asked


def test_messages_reach_the_model(api: OllamaApi) -> None:
    request = requested(
        api,
        messages=[
            {"role": "SYSTEM", "content": "Be brief."},
            {"role": "user", "content": "Hi", "images": []},
            {"role": "assistant", "thinking": "Hm.", "content": None},
            {"role": "assistant"},
        ],
    )
    assert request.messages == (
        Message("system", "Be brief."),
        Message("user", "Hi"),
        Message("assistant", "", reasoning="Hm."),
        Message("assistant", ""),
    )


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ([{"tool_call_id": "b"}, {"tool_call_id": "a"}], [("b", "time"), ("a", "weather")]),
        ([{"tool_name": "time"}, {"tool_name": "weather"}], [("b", "time"), ("a", "weather")]),
        ([{}, {}], [("a", "weather"), ("b", "time")]),
        ([{"tool_call_id": "x", "tool_name": "time"}, {}], [("x", "time"), ("a", "weather")]),
        ([{"tool_name": "other"}, {}, {}, {}], [(None, "other"), ("a", "weather"), ("b", "time"), (None, None)]),
    ],
)
def test_a_tools_answer_belongs_to_the_call_of_its_id_or_name_or_place(
    api: OllamaApi, answers: list[dict[str, str]], expected: list[tuple[Any, Any]]
) -> None:
    calls = [
        {"id": "a", "function": {"name": "weather", "arguments": {"city": "Köln"}}},
        {"id": "b", "type": "function", "function": {"index": 1, "name": "time"}},
    ]
    messages = [{"role": "assistant", "tool_calls": calls}, *({"role": "tool", "content": "1"} | a for a in answers)]
    request = requested(api, messages=messages)
    assert request.messages[0].tool_calls == (
        ToolCall("weather", '{"city": "Köln"}', "a"),
        ToolCall("time", "{}", "b"),
    )
    assert [(message.tool_call_id, message.name) for message in request.messages[1:]] == expected


def test_tools_are_offered(api: OllamaApi) -> None:
    request = requested(api, tools=[WEATHER, {"function": {"name": "time"}}])
    assert request.tools == (
        Tool("weather", "The weather.", WEATHER["function"]["parameters"]),  # type: ignore[index]
        Tool("time"),
    )
    assert list(request.tools[0].parameters["properties"]) == ["b", "a"]


def test_an_empty_list_of_tools_is_none(api: OllamaApi) -> None:
    api.inference.abilities = ("completion",)
    assert requested(api, tools=[]).tools == ()


@pytest.mark.parametrize(
    ("said", "read"),
    [("json", JsonFormat()), ("", None), (None, None), ({"type": "object"}, JsonFormat({"type": "object"}))],
)
def test_format(api: OllamaApi, said: Any, read: JsonFormat | None) -> None:
    assert requested(api, format=said).format == read


@pytest.mark.parametrize("level", [True, False, "low", "medium", "high", "max"])
def test_how_hard_to_think(api: OllamaApi, level: bool | str) -> None:
    assert requested(api, think=level).thinking == level


def test_a_model_that_can_think_thinks_unless_its_modelfile_says_otherwise(api: OllamaApi) -> None:
    assert requested(api).thinking is True
    api.post("/api/create", {"model": "quick", "from": "tiny", "parameters": {"think": False}})
    assert requested(api, model="quick").thinking is None
    api.inference.abilities = ("completion",)
    assert requested(api).thinking is None
    assert requested(api, think=False).thinking is False


def test_options_reach_the_model(api: OllamaApi) -> None:
    request = requested(
        api,
        options={"temperature": 0, "top_k": 5.9, "num_predict": 9, "num_ctx": 2048, "stop": ["a", ""], "seed": None},
        keep_alive="1h",
        use_cache="system",
    )
    assert request.sampling == Sampling(temperature=0, top_k=5)
    assert (request.max_tokens, request.context_length, request.stop) == (9, 2048, ("a",))
    assert (request.keep_alive, request.use_cache) == (3600, "system")


def test_what_the_runtime_cannot_honour_is_named(api: OllamaApi) -> None:
    api.inference.unapplied = ("temperature",)
    fields = {"options": {"seed": 1, "min_p": 0.1, "top_k": 0}, "logprobs": True, "shift": True}
    for stream in (True, False):
        response = post(api, stream=stream, **fields)
        named = response.headers["X-Unapplied-Parameters"].split(", ")
        assert sorted(named) == ["logprobs", "min_p", "seed", "shift", "temperature", "top_k"]


def test_what_asks_for_nothing_is_not_named(api: OllamaApi) -> None:
    neutral = {"seed": -1, "min_p": 0, "typical_p": 1.0, "num_gpu": -1, "num_thread": 0, "numa": False, "unknown": 1}
    response = post(api, options=neutral, logprobs=False, top_logprobs=0, shift=False, truncate=True)
    assert "X-Unapplied-Parameters" not in response.headers


def test_fields_match_in_any_case_and_unknown_ones_are_ignored(api: OllamaApi) -> None:
    body = {"Model": "tiny", "MESSAGES": [{"Role": "User", "Content": "Hi", "x": 1}], "Stream": False, "x": [1]}
    assert api.post("/api/chat", body).json["done"] is True
    assert api.inference.requests[0].messages == (Message("user", "Hi"),)


def test_the_content_type_does_not_matter(api: OllamaApi) -> None:
    raw = b'{"model": "tiny", "messages": [{"role": "user", "content": "Hi"}], "stream": false}'
    for content_type in ("application/x-www-form-urlencoded", "text/plain", None):
        assert api.client.post("/api/chat", data=raw, content_type=content_type).status_code == 200


# What is refused


def test_names_that_lead_nowhere(api: OllamaApi) -> None:
    assert refuse(api, 404, model="nope") == "model 'nope' not found"
    assert refuse(api, model=None) == "model is required"
    assert refuse(api, model=" ") == "model is required"
    for impossible in ("../x", "/etc/passwd", "a\0b", "x" * 300, "ｔｉｎｙ", "a:b:c", "tiny/"):
        assert refuse(api, model=impossible) == "invalid model name"


def test_no_body_and_no_json(api: OllamaApi) -> None:
    response = api.client.post("/api/chat", data=b"")
    assert (response.status_code, response.json) == (400, {"error": "missing request body"})
    assert api.client.post("/api/chat", data=b'{"model": ').status_code == 400


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"think": "hard"}, 'invalid think value: "hard" (must be "high", "medium", "low", "max", true, or false)'),
        ({"think": 1}, 'think must be a boolean or string ("high", "medium", "low", "max", true, or false)'),
        ({"keep_alive": "10"}, 'time: missing unit in duration "10"'),
        ({"keep_alive": "5 parsecs"}, 'time: unknown unit " parsecs" in duration "5 parsecs"'),
        ({"keep_alive": "soon"}, 'time: invalid duration "soon"'),
        ({"keep_alive": ""}, 'time: invalid duration ""'),
        ({"keep_alive": True}, "Unsupported type: 'bool'"),
        ({"top_logprobs": 21}, "top_logprobs must be between 0 and 20"),
        ({"format": "xml"}, 'invalid format: "xml"; expected "json" or a valid JSON Schema object'),
        ({"options": {"num_ctx": "4096"}}, 'option "num_ctx" must be of type integer'),
        ({"options": {"temperature": "hot"}}, 'option "temperature" must be of type float32'),
        ({"options": {"use_mmap": 1}}, 'option "use_mmap" must be of type boolean'),
        ({"options": {"seed": True}}, 'option "seed" must be of type integer'),
        ({"options": {"stop": 1}}, 'option "stop" must be of type array'),
        ({"options": {"stop": [1]}}, 'option "stop" must be of an array of strings'),
    ],
)
def test_wrong_values_are_refused_in_ollamas_words(api: OllamaApi, fields: dict[str, Any], text: str) -> None:
    assert refuse(api, **fields) == text


@pytest.mark.parametrize(
    "fields",
    [
        {"stream": "yes"},
        {"messages": {}},
        {"messages": [{"content": "no role"}]},
        {"messages": [{"role": "robot", "content": "x"}]},
        {"messages": [{"role": "user", "content": ["parts"]}]},
        {"messages": [{"role": "assistant", "tool_calls": [{"function": {"arguments": {}}}]}]},
        {"tools": [{"function": {}}]},
        {"options": []},
        {"options": {"top_p": 2}},
        {"options": {"repeat_penalty": 0}},
        {"options": {"top_k": 10**400}},
    ],
)
def test_wrong_types_are_refused(api: OllamaApi, fields: dict[str, Any]) -> None:
    refuse(api, **fields)


def test_what_the_model_cannot_do_is_refused_in_ollamas_words(api: OllamaApi) -> None:
    api.inference.abilities = ("completion",)
    assert refuse(api, tools=[WEATHER]) == "registry.ollama.ai/library/tiny:latest does not support tools"
    assert refuse(api, think=True) == '"tiny" does not support thinking'
    assert refuse(api, think="high", model="TINY") == '"TINY" does not support thinking'
    api.catalog.copy("tiny", "org/big:7b")
    assert refuse(api, tools=[WEATHER], model="org/big:7b").startswith("registry.ollama.ai/org/big:7b does")
    api.inference.abilities = ("embedding",)
    assert refuse(api) == '"tiny" does not support chat'


def test_images_are_refused_plainly(api: OllamaApi) -> None:
    text = refuse(api, messages=[{"role": "user", "content": "What is this?", "images": ["aGk="]}])
    assert text == '"tiny" reads no images, only text'


# What goes wrong


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (QueueFull("full"), 503, "server busy, please try again.  maximum pending requests exceeded"),
        (ModelUnusable("Too new."), 422, "Too new."),
        (TemplateFailed("Roles must alternate."), 400, "Roles must alternate."),
        (RuntimeFailed("Broken."), 500, "Broken."),
        (
            ContextLengthExceeded(5000, 4092),
            400,
            "the prompt is longer than the context length currently available to the model; it has 5000 tokens, and "
            "the context takes at most 4092",
        ),
    ],
)
def test_an_error_before_the_first_line_keeps_its_status(
    api: OllamaApi, error: RkllamaError, status: int, text: str, stream: bool
) -> None:
    api.inference.early = error
    response = post(api, stream=stream, truncate=False)
    assert (response.status_code, response.json) == (status, {"error": text})
    api.inference.early = None
    api.inference.script = (error,)
    response = post(api, stream=stream, truncate=False)
    assert (response.status_code, response.json) == (status, {"error": text})


def test_an_error_later_is_the_last_line(api: OllamaApi) -> None:
    api.inference.script = (Text("a"), RuntimeFailed("Broken."))
    response = post(api)
    assert response.status_code == 200
    first, last = read_lines(response.data)
    assert first["done"] is False
    assert last == {"error": "Broken."}


def test_the_generation_is_closed_however_it_ends(api: OllamaApi) -> None:
    ask(api)
    ask_streamed(api)
    api.inference.script = (Text("a"), RuntimeFailed("Broken."))
    post(api).get_data()
    assert len(api.inference.generations) == 3
    assert all(generation.closed for generation in api.inference.generations)
