"""What came into a conversation doesn't end it: it is read, or told as text and named."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rkllama_flask.api.web.streaming import UNAPPLIED_HEADER
from rkllama_flask.generation.request import Message, ToolCall
from tests.api.ollama.conftest import OllamaApi

SEEN = "[Here was an image, but this model reads only text.]"
ASK: dict[str, Any] = {"role": "user", "content": "And now?"}


def chat(api: OllamaApi, *messages: dict[str, Any]) -> Any:
    return api.post("/api/chat", {"model": "tiny", "messages": list(messages), "stream": False})


def read(api: OllamaApi, *messages: dict[str, Any]) -> tuple[Message, ...]:
    """The conversation as it was understood."""
    response = chat(api, *messages)
    assert response.status_code == 200, response.text
    found = api.inference.requests[-1].messages
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("given", "arguments"),
    [("{", "{"), ("", "{}"), (None, "{}"), ([1], "[1]"), ('{"a": 1}', '{"a": 1}'), (r'["\ud83d"]', '["\ufffd"]')],
)
def test_an_old_calls_arguments_are_handed_on_whatever_they_are(api: OllamaApi, given: Any, arguments: str) -> None:
    call = {"function": {"name": "look", "arguments": given}}
    assert read(api, ASK, {"role": "assistant", "tool_calls": [call]}, ASK)[1].tool_calls == (
        ToolCall("look", arguments),
    )


@pytest.mark.parametrize("role", ["user", "tool", "assistant", "system"])
def test_pictures_are_lines_of_text_and_named_but_in_the_users_last_message(api: OllamaApi, role: str) -> None:
    pictures = {"role": role, "content": "See:", "images": ["AA=="]}
    assert read(api, pictures, ASK)[0].content == f"See:\n{SEEN}"
    assert read(api, {"role": role, "images": ["AA=="] * 9}, ASK)[0].content == SEEN.replace("an image", "9 images")
    assert chat(api, pictures, ASK).headers[UNAPPLIED_HEADER] == "messages.0.images"
    refused = chat(api, ASK, pictures)
    assert refused.status_code == (400 if role == "user" else 200)
    assert role != "user" or refused.json["error"] == '"tiny" reads no images, only text'


def test_half_an_emoji_is_replaced_in_texts_and_refused_in_names(api: OllamaApi) -> None:
    call = {"function": {"name": "look", "arguments": {"name": "\ud83d"}}}
    _, asked, last = read(api, ASK, {"role": "assistant", "tool_calls": [call]}, {"role": "user", "content": "a\udc00"})
    assert asked.tool_calls[0].arguments == '{"name": "\ufffd"}'
    assert last.content == "a\ufffd"
    call["function"]["name"] = "\ud83d"
    refused = chat(api, {"role": "assistant", "tool_calls": [call]}, ASK)
    assert refused.status_code == 400
    assert "'messages.0.tool_calls.0.function.name'" in refused.json["error"]


ARGUMENTS = st.sampled_from([{}, "{", "", None, [], 5, {"name": "\ud83d"}, r'{"a": "\ud83d"}'])
CALL = st.builds(lambda given: {"function": {"name": "look", "arguments": given}}, ARGUMENTS)
MESSAGE = st.builds(
    lambda *said: dict(zip(("role", "content", "images", "tool_calls", "tool_call_id"), said, strict=True)),
    st.sampled_from(["user", "assistant", "tool", "system"]),
    st.sampled_from([None, "", "a", "a\ud83d"]),
    st.sampled_from([None, [], ["AA=="], ["", ""]]),
    st.none() | st.lists(CALL, max_size=2),
    st.sampled_from([None, "nobody's"]),
)


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(history=st.lists(MESSAGE, max_size=5))
def test_any_history_is_taken(api: OllamaApi, history: list[Any]) -> None:
    assert chat(api, *history, ASK).status_code == 200
