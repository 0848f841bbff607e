"""What came into a conversation ends it in neither of OpenAI's APIs: it is read, told as text, or named."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rkllama_flask.api.web.streaming import MOST_NAMED, UNAPPLIED_HEADER
from rkllama_flask.generation.request import Message, ToolCall
from tests.api.conftest import Api
from tests.contract.openai_spec import check

IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
SEEN = "[Here was an image, but this model reads only text.]"
ASK: dict[str, Any] = {"role": "user", "content": "And now?"}
SAMPLE = settings(
    max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def chat(api: Api, *messages: dict[str, Any], **fields: Any) -> Any:
    return api.post("/v1/chat/completions", {"model": "tiny", "messages": list(messages)} | fields)


def respond(api: Api, *items: Any, **fields: Any) -> Any:
    return api.post("/v1/responses", {"model": "tiny", "input": list(items)} | fields)


def read(api: Api, response: Any) -> tuple[Message, ...]:
    """The conversation as it was understood."""
    assert response.status_code == 200, response.text
    messages = api.inference.requests[-1].messages
    assert messages is not None
    return messages


def named(response: Any) -> list[str]:
    assert response.status_code == 200, response.text
    header = response.headers.get(UNAPPLIED_HEADER, "")
    return header.split(", ") if header else []


def refused(response: Any) -> str:
    assert response.status_code == 400, response.text
    check(response.json, "ErrorResponse")
    param: str = response.json["error"]["param"]
    return param


# Calls


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ("{", "{"),
        ('{"path":"a"}{"path":"b"}', '{"path":"a"}{"path":"b"}'),
        ("not json", "not json"),
        ("[1]", "[1]"),
        ("", "{}"),
        (None, "{}"),
        ({"city": "Köln"}, '{"city": "Köln"}'),
        ([1], "[1]"),
        (r'{"a": "\ud83d"}', '{"a": "\ufffd"}'),
        (r'{"a": "\ud83d', r'{"a": "\ud83d'),
    ],
)
def test_an_old_calls_arguments_are_handed_on_whatever_they_are(api: Api, arguments: Any, text: str) -> None:
    function = {"name": "f", "arguments": arguments}
    for call in ({"tool_calls": [{"id": "c", "type": "function", "function": function}]}, {"function_call": function}):
        messages = read(api, chat(api, ASK, {"role": "assistant"} | call, ASK))
        assert [one.arguments for one in messages[1].tool_calls] == [text]
    messages = read(api, respond(api, {"type": "function_call", "call_id": "c"} | function, ASK))
    assert messages[0].tool_calls == (ToolCall("f", text, "c"),)


def test_calls_without_ids_results_of_unknown_calls_and_null_contents_are_read(api: Api) -> None:
    call = {"type": "function", "function": {"name": "f", "arguments": "{}"}}
    messages = read(
        api,
        chat(
            api,
            {"role": "user", "content": None},
            {"role": "assistant", "content": [], "tool_calls": [call]},
            {"role": "tool", "content": None, "tool_call_id": "nobody's"},
            ASK,
        ),
    )
    assert [message.content for message in messages] == ["", "", "", "And now?"]
    assert messages[1].tool_calls == (ToolCall("f", "{}"),)
    items = [{"type": "function_call", "name": "f"}, {"type": "function_call_output", "output": []}, ASK]
    assert read(api, respond(api, *items))[:2] == (
        Message("assistant", tool_calls=(ToolCall("f", "{}"),)),
        Message("tool"),
    )


def test_custom_calls_of_a_chat_have_their_text_as_argument_and_unknown_ones_are_named(api: Api) -> None:
    calls = [
        {"id": "a", "type": "custom", "custom": {"name": "patch", "input": "*** Begin"}},
        {"id": "b", "type": "teleport", "teleport": {}},
    ]
    response = chat(api, ASK, {"role": "assistant", "tool_calls": calls}, ASK)
    assert read(api, response)[1].tool_calls == (ToolCall("patch", '{"input": "*** Begin"}', "a"),)
    assert named(response) == ["messages.1.tool_calls.1"]
    assert refused(chat(api, {"role": "assistant", "tool_calls": [{"type": "custom"}]})) == (
        "messages.0.tool_calls.0.custom"
    )


@pytest.mark.parametrize(
    ("call", "output", "name", "arguments", "said"),
    [
        (
            {"type": "custom_tool_call", "name": "apply_patch", "input": "*** Begin"},
            {"type": "custom_tool_call_output", "output": "Done"},
            "apply_patch",
            {"input": "*** Begin"},
            "Done",
        ),
        (
            {"type": "local_shell_call", "status": "completed", "action": {"type": "exec", "command": ["ls"]}},
            {"type": "local_shell_call_output", "output": "a.txt"},
            "local_shell",
            {"type": "exec", "command": ["ls"]},
            "a.txt",
        ),
        (
            {"type": "shell_call", "action": {"commands": ["ls"]}},
            {"type": "shell_call_output", "output": [{"stdout": "a.txt", "stderr": ""}]},
            "shell",
            {"commands": ["ls"]},
            '[{"stdout": "a.txt", "stderr": ""}]',
        ),
        (
            {"type": "apply_patch_call", "operation": {"type": "delete_file", "path": "a"}},
            {"type": "apply_patch_call_output", "status": "completed"},
            "apply_patch",
            {"type": "delete_file", "path": "a"},
            "",
        ),
    ],
)
def test_calls_of_the_apis_own_tools_and_their_outputs_are_calls_and_results(
    api: Api, call: Any, output: Any, name: str, arguments: Any, said: str
) -> None:
    response = respond(api, ASK, call | {"call_id": "c"}, output | {"call_id": "c"}, ASK)
    _, asked, result, _ = read(api, response)
    assert [(one.name, json.loads(one.arguments), one.id) for one in asked.tool_calls] == [(name, arguments, "c")]
    assert result == Message("tool", said, tool_call_id="c", name=name)
    assert named(response) == []


@pytest.mark.parametrize(
    ("outcome", "said"),
    [
        ({"output": "42"}, "42"),
        ({"error": {"code": 1}}, 'Error: {"code": 1}'),
        ({"error": "No"}, "Error: No"),
        ({}, ""),
    ],
)
def test_a_tool_servers_call_is_a_call_and_its_result(api: Api, outcome: Any, said: str) -> None:
    item = {"type": "mcp_call", "id": "m", "server_label": "wiki", "name": "look", "arguments": "{"} | outcome
    _, asked, result, _ = read(api, respond(api, ASK, item, ASK))
    assert asked.tool_calls == (ToolCall("wiki.look", "{", "m"),)
    assert result == Message("tool", said, tool_call_id="m", name="wiki.look")


def test_items_that_are_not_known_are_left_out_and_named(api: Api) -> None:
    response = respond(api, ASK, {"type": "mcp_approval_request", "id": "a"}, {"type": "teapot"}, ASK)
    assert len(read(api, response)) == 2
    assert named(response) == ["input.1", "input.2"]


@pytest.mark.parametrize("nothing", [{}, {"input": None}, {"input": []}, {"input": ""}, {"input": [{"type": "x"}]}])
@pytest.mark.parametrize("path", ["/v1/responses", "/v1/responses/input_tokens"])
def test_without_an_input_an_empty_text_is_asked(api: Api, path: str, nothing: Any) -> None:
    body = {"model": "org/big:7b", "max_output_tokens": 1} | nothing
    assert api.post(path, body | {"instructions": "Be brief."}).status_code == 200
    response = api.post(path, body)
    assert response.status_code == 200, response.text
    if path == "/v1/responses":
        assert read(api, response) == (Message("user", ""),)


# Pictures and other parts


def test_a_picture_further_back_is_a_line_of_text_and_named(api: Api) -> None:
    pictures = [{"type": "text", "text": "See:"}, IMAGE]
    answer = {"role": "assistant", "content": "Blue."}
    response = chat(api, {"role": "user", "content": pictures}, answer, ASK)
    assert read(api, response)[0].content == f"See:\n{SEEN}"
    assert named(response) == ["messages.0.content.1"]
    assert refused(chat(api, ASK, answer, {"role": "user", "content": pictures})) == "messages.2.content.1"


@pytest.mark.parametrize("streamed", [False, True])
def test_a_picture_that_a_tool_gave_does_not_end_the_conversation(api: Api, streamed: bool) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    result = {"role": "tool", "tool_call_id": "c", "content": [IMAGE]}
    response = chat(api, ASK, {"role": "assistant", "tool_calls": [call]}, result, stream=streamed)
    assert named(response) == ["messages.2.content.0"]
    assert read(api, response)[2].content == SEEN
    output = {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_image", "image_url": "x"}]}
    items = [ASK, {"type": "function_call", "call_id": "c", "name": "look", "arguments": "{}"}, output]
    for later in ([], [{"role": "assistant", "content": "Red."}, ASK]):
        response = respond(api, *items, *later, stream=streamed)
        assert named(response) == ["input.2.output.0"]
        assert read(api, response)[2].content == SEEN


@pytest.mark.parametrize("kind", ["input_audio", "file", "input_file", "video"])
def test_parts_of_other_kinds_are_told_further_back_and_refused_in_the_last_turn(api: Api, kind: str) -> None:
    old = {"role": "user", "content": [{"type": kind}]}
    for ask, place in ((chat, "messages"), (respond, "input")):
        assert named(ask(api, old, ASK)) == [f"{place}.0.content.0"]
        assert refused(ask(api, ASK, old)).startswith(f"{place}.1.content.0")


def test_many_pictures_leave_the_header_of_a_length_that_clients_take(api: Api) -> None:
    old = {"role": "user", "content": [IMAGE] * 3000}
    names = named(chat(api, old, ASK, seed=5))
    assert names[0] == "seed"
    assert names[-1] == f"{3001 - MOST_NAMED} more"
    assert len(names) == MOST_NAMED + 1


# Half an emoji


def test_half_an_emoji_is_replaced_but_in_the_users_last_turn(api: Api) -> None:
    half = {"role": "user", "content": "a\ud83d"}
    for ask, place in ((chat, "messages.1.content"), (respond, "input.1.content")):
        assert read(api, ask(api, half, ASK))[0].content == "a\ufffd"
        assert read(api, ask(api, {"role": "system", "content": "\udc00b"}, ASK))[0].content == "\ufffdb"
        assert refused(ask(api, ASK, half)) == place
    assert refused(api.post("/v1/responses", {"model": "tiny", "input": "a\ud83d"})) == "input"
    assert refused(api.post("/v1/completions", {"model": "tiny", "prompt": ["a", "\ud83d"]})) == "prompt.1"
    assert refused(api.post("/v1/embeddings", {"model": "tiny", "input": "\ud83d"})) == "input"


def test_half_an_emoji_in_a_name_is_refused_everywhere(api: Api) -> None:
    call = {"id": "c", "function": {"name": "f\ud83d", "arguments": "{}"}}
    assert refused(chat(api, {"role": "assistant", "tool_calls": [call]}, ASK)) == (
        "messages.0.tool_calls.0.function.name"
    )
    tool = {"type": "function", "function": {"name": "f", "parameters": {"properties": {"\ud83d": {}}}}}
    assert refused(chat(api, ASK, tools=[tool])) == "tools.0.function.parameters.properties"


# Any history

TEXT = st.sampled_from(["", "a", "a\ud83d", "\ufffd"])
ARGUMENTS = st.sampled_from(["{", "{}", "", None, "not json", {"a": 1}, {"name": "\ud83d"}, r'{"a": "\ud83d"}', 5, [1]])
PART = st.sampled_from(
    [IMAGE, {"type": "input_audio"}, {"type": "file"}, {"type": "what"}, {"type": "text", "text": "b"}]
)
CONTENT = TEXT | st.none() | st.lists(PART, max_size=2)
CALL = st.one_of(
    st.builds(lambda arguments: {"function": {"name": "f", "arguments": arguments}}, ARGUMENTS),
    st.sampled_from([{"type": "custom", "custom": {"name": "f", "input": "x"}}, {"id": "b", "type": "what"}]),
)
MESSAGE = st.one_of(
    st.builds(
        lambda role, content: {"role": role, "content": content}, st.sampled_from(["user", "system", "tool"]), CONTENT
    ),
    st.builds(
        lambda content, calls: {"role": "assistant", "content": content, "tool_calls": calls},
        CONTENT,
        st.lists(CALL, max_size=2) | st.none(),
    ),
)
KINDS = [
    *("function_call", "custom_tool_call", "local_shell_call", "shell_call", "apply_patch_call", "mcp_call"),
    *("function_call_output", "custom_tool_call_output", "local_shell_call_output", "apply_patch_call_output"),
    *("reasoning", "web_search_call", "mcp_approval_request", "computer_call", "compaction", "what"),
]
ITEM = st.one_of(
    MESSAGE.filter(lambda message: message["role"] != "tool"),
    st.builds(
        lambda kind, arguments, call_id: {"type": kind, "name": "f", "arguments": arguments, "call_id": call_id},
        st.sampled_from(KINDS),
        ARGUMENTS,
        st.sampled_from([None, "a"]),
    ),
    st.builds(lambda output: {"type": "function_call_output", "output": output}, CONTENT),
)


@SAMPLE
@given(history=st.lists(MESSAGE, max_size=5))
def test_any_history_of_a_chat_is_taken(api: Api, history: list[Any]) -> None:
    assert chat(api, *history, ASK).status_code == 200


@SAMPLE
@given(history=st.lists(ITEM, max_size=5))
def test_any_history_of_items_is_taken(api: Api, history: list[Any]) -> None:
    assert respond(api, *history, ASK).status_code == 200


# Beside the conversation


@pytest.mark.parametrize(("sent", "seconds"), [(30, 30.0), ("5m", 300.0), (-1, float("inf")), (0, 0.0), (None, None)])
def test_how_long_the_model_stays_is_asked_as_in_ollama(api: Api, sent: Any, seconds: float | None) -> None:
    for path, asked in (("chat/completions", {"messages": [ASK]}), ("completions", {"prompt": "a"}), ("responses", {})):
        response = api.post(f"/v1/{path}", {"model": "tiny", "keep_alive": sent} | asked)
        assert named(response) == []
        assert api.inference.requests[-1].keep_alive == seconds
    api.post("/v1/embeddings", {"model": "tiny", "input": "a", "keep_alive": sent})
    assert api.inference.embedded[-1][2]["keep_alive"] == seconds
    assert refused(chat(api, ASK, keep_alive="soon")) == "keep_alive"


@pytest.mark.parametrize(
    ("fields", "thinking"),
    [
        ({"think": True}, True),
        ({"think": False}, False),
        ({"think": "low"}, "low"),
        ({"think": None}, None),
        ({"think": True, "reasoning_effort": "high"}, "high"),
        ({"think": False, "reasoning_effort": "high"}, False),
    ],
)
def test_thinking_is_asked_as_in_ollama(api: Api, fields: Any, thinking: Any) -> None:
    asked = {name: value for name, value in fields.items() if name != "reasoning_effort"}
    effort = {"reasoning": {"effort": fields["reasoning_effort"]}} if "reasoning_effort" in fields else {}
    for response in (chat(api, ASK, **fields), respond(api, ASK, **asked, **effort)):
        assert named(response) == []
        assert api.inference.requests[-1].thinking == thinking
    assert refused(chat(api, ASK, think="hard")) == "think"


def test_what_is_ollamas_and_can_not_be_applied_is_named(api: Api) -> None:
    options = {"num_ctx": 8192, "options": {"num_ctx": 8192}}
    assert named(chat(api, ASK, **options)) == named(respond(api, ASK, **options)) == ["num_ctx", "options"]
    asked = {"model": "tiny", "prompt": "a", "input": "a", "think": True} | options
    assert set(named(api.post("/v1/completions", asked))) == {"num_ctx", "options", "think"}
    assert named(api.post("/v1/embeddings", asked)) == ["num_ctx", "options"]


def test_an_answer_says_that_token_ids_were_taken_as_the_models_own(api: Api) -> None:
    for path, field in (("completions", "prompt"), ("embeddings", "input")):
        for ids, told in (([15339, 1917], True), ([[5], [6]], True), (["a"], False), ("a", False)):
            response = api.post(f"/v1/{path}", {"model": "org/big:7b", field: ids})
            assert response.status_code == 200, response.text
            assert response.headers.get("X-Token-Ids") == (f"{field} (taken as the model's own)" if told else None)
