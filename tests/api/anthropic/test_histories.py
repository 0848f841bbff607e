"""What came into a conversation doesn't end it: it is read, told as text, or left out and named."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rkllama_flask.api.web.streaming import UNAPPLIED_HEADER
from rkllama_flask.generation.request import Message, ToolCall
from tests.api.anthropic.reading import refuse
from tests.api.conftest import Api

IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA=="}}
PDF = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "AA=="}}
SEEN = "[Here was an image, but this model reads only text.]"
USE = {"type": "tool_use", "id": "toolu_1", "name": "Read", "input": {"path": "red.png"}}
RESULT: dict[str, Any] = {"type": "tool_result", "tool_use_id": "toolu_1", "content": [IMAGE]}
ASK: dict[str, Any] = {"role": "user", "content": "And now?"}
ANSWER: dict[str, Any] = {"role": "assistant", "content": "Red."}


def says(role: str, *blocks: dict[str, Any]) -> dict[str, Any]:
    return {"role": role, "content": list(blocks)}


def text(said: str) -> dict[str, Any]:
    return {"type": "text", "text": said}


def ask(api: Api, *messages: dict[str, Any], path: str = "/v1/messages", **fields: Any) -> Any:
    response = api.post(path, {"model": "org/big:7b", "max_tokens": 9, "messages": list(messages)} | fields)
    assert response.status_code == 200, response.text
    return response


def read(api: Api, *messages: dict[str, Any], **fields: Any) -> tuple[Message, ...]:
    """The conversation as it was understood."""
    ask(api, *messages, **fields)
    found = api.inference.requests[-1].messages
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("given", "arguments"),
    [
        ("{", "{"),
        ("not json", "not json"),
        (None, "{}"),
        ([1], "[1]"),
        (5, "5"),
        (r'{"a": "\ud83d"}', '{"a": "\ufffd"}'),
    ],
)
def test_an_old_calls_input_is_handed_on_whatever_it_is(api: Api, given: Any, arguments: str) -> None:
    _, turn, *_ = read(api, ASK, says("assistant", USE | {"input": given}), says("user", RESULT))
    assert turn.tool_calls == (ToolCall("Read", arguments, "toolu_1"),)


def test_calls_and_results_without_ids_are_read(api: Api) -> None:
    use = {"type": "tool_use", "name": "Read", "input": {}}
    result = {"type": "tool_result", "content": "Rain."}
    assert read(api, ASK, says("assistant", use), says("user", result))[1:] == (
        Message("assistant", tool_calls=(ToolCall("Read", "{}"),)),
        Message("tool", "Rain."),
    )


@pytest.mark.parametrize("later", [(), (ANSWER, ASK)])
@pytest.mark.parametrize("beside", [(), (text("It is small."), IMAGE)])
@pytest.mark.parametrize("streamed", [False, True])
def test_a_picture_that_a_tool_gave_does_not_end_the_conversation(
    api: Api, beside: Any, later: Any, streamed: bool
) -> None:
    history = [ASK, says("assistant", USE), says("user", RESULT, *beside), *later]
    names = ask(api, *history, stream=streamed).headers[UNAPPLIED_HEADER].split(", ")
    assert names == ["messages.2.content.0.content.0", *(["messages.2.content.2"] if beside else [])]
    messages = api.inference.requests[-1].messages
    assert messages is not None
    assert messages[2] == Message("tool", SEEN, tool_call_id="toolu_1", name="Read")
    if beside:
        assert messages[3].content == f"It is small.\n{SEEN}"
    assert ask(api, *history, path="/v1/messages/count_tokens").json["input_tokens"]


@pytest.mark.parametrize(("block", "what"), [(IMAGE, "an image"), (PDF, "a document that is not plain text")])
def test_a_picture_of_the_users_is_a_line_further_back_and_refused_in_the_last_turn(
    api: Api, block: Any, what: str
) -> None:
    shown = says("user", text("See:"), block)
    response = ask(api, shown, ANSWER, ASK)
    assert response.headers[UNAPPLIED_HEADER] == "messages.0.content.1"
    assert read(api, shown, ANSWER, ASK)[0].content == f"See:\n[Here was {what}, but this model reads only text.]"
    assert read(api, ASK, system=[text("Be brief."), block])[0].content.startswith("Be brief.\n[Here was")
    api.inference.requests.clear()
    sentence = f"'messages.2.content.1' is {what}, but the models here read only text."
    assert refuse(api, messages=[ASK, ANSWER, shown]) == sentence
    assert refuse(api, messages=[ASK, ANSWER, shown, says("assistant", USE), says("user", RESULT)]) == sentence


def test_blocks_that_are_not_known_are_left_out_and_named(api: Api) -> None:
    blocks = [{"type": "redacted_thinking", "data": "x"}, {"type": "server_tool_use", "id": "s"}, text("Red.")]
    response = ask(api, ASK, says("assistant", *blocks), ASK)
    assert response.headers[UNAPPLIED_HEADER] == "messages.1.content.1"
    assert api.inference.requests[-1].messages[1] == Message("assistant", "Red.")  # type: ignore[index]


def test_half_an_emoji_is_replaced_but_in_the_users_last_turn_and_in_names(api: Api) -> None:
    half = says("user", text("a\ud83d"))
    assert read(api, half, ANSWER, ASK)[0].content == "a\ufffd"
    result = RESULT | {"content": "\udc00b"}
    messages = read(api, ASK, says("assistant", USE | {"input": {"name": "\ud83d"}}), says("user", result))
    assert json.loads(messages[1].tool_calls[0].arguments) == {"name": "\ufffd"}
    assert messages[2].content == "\ufffdb"
    api.inference.requests.clear()
    assert refuse(api, messages=[ASK, ANSWER, half]).startswith("'messages.2.content.0.text' holds half of a")
    assert refuse(api, messages=[ASK, says("assistant", USE | {"name": "\ud83d"}), ASK]).startswith(
        "'messages.1.content.0.name' holds half of a"
    )


TEXT = st.builds(text, st.sampled_from(["a", "a\ud83d"]))
SEEN_BLOCK = st.sampled_from([IMAGE, PDF, {"type": "container_upload"}, {"type": "what", "text": 5}])
INPUT = st.sampled_from([{}, "{", "", None, [], {"name": "\ud83d"}, r'{"a": "\ud83d"}'])
CALL = st.builds(lambda given, name: {"type": "tool_use", "name": name, "input": given}, INPUT, st.sampled_from("ab"))
GIVEN = st.builds(
    lambda content, call_id: {"type": "tool_result", "tool_use_id": call_id, "content": content},
    st.none() | st.just("a\ud83d") | st.lists(TEXT | SEEN_BLOCK, max_size=2),
    st.sampled_from([None, "nobody's", "toolu_1"]),
)
HISTORY = st.lists(
    st.one_of(
        st.builds(lambda blocks: says("user", *blocks), st.lists(TEXT | SEEN_BLOCK | GIVEN, max_size=3)),
        st.builds(lambda blocks: says("assistant", *blocks), st.lists(TEXT | SEEN_BLOCK | CALL, max_size=3)),
    ),
    max_size=5,
)


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(history=HISTORY)
def test_any_history_is_taken(api: Api, history: list[Any]) -> None:
    ask(api, *history, ASK)
