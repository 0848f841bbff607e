"""What becomes of a body's fields on their way down, and what is refused."""

import json
from typing import Any

import pytest

from rkllama_flask.generation.request import JsonFormat, Message, Tool, ToolCall, ToolChoice
from rkllama_flask.sampling import Sampling
from tests.api.anthropic.reading import HI, WEATHER, ask, refuse
from tests.api.conftest import Api


def received(api: Api, **fields: Any) -> Any:
    ask(api, **fields)
    return api.inference.requests[-1]


def turns(api: Api, *messages: dict[str, Any], **fields: Any) -> tuple[Message, ...]:
    return tuple(received(api, messages=list(messages), **fields).messages)


def user(*blocks: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(blocks)}


def text(said: str) -> dict[str, Any]:
    return {"type": "text", "text": said, "cache_control": {"type": "ephemeral"}}


USE = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Köln"}}
RESULT = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "Rain."}


# Messages


def test_a_string_and_blocks_are_the_same(api: Api) -> None:
    assert turns(api, {"role": "user", "content": "a\nb"}) == turns(api, user(text("a"), text("b")))


@pytest.mark.parametrize("system", ["Be brief.", [text("Be brief.")]])
def test_the_system_prompt_comes_first(api: Api, system: Any) -> None:
    assert turns(api, user(text("Hi")), system=system) == (Message("system", "Be brief."), Message("user", "Hi"))


def test_a_system_message_may_stand_amid_the_conversation(api: Api) -> None:
    roles = [turn.role for turn in turns(api, user(text("a")), {"role": "system", "content": "b"}, user(text("c")))]
    assert roles == ["user", "system", "user"]


def test_messages_of_one_role_in_a_row_are_one_turn(api: Api) -> None:
    assistant = {"role": "assistant", "content": "c"}
    assert turns(api, user(text("a")), user(text("b")), assistant, assistant, user(text("d"))) == (
        Message("user", "a\nb"),
        Message("assistant", "c\nc"),
        Message("user", "d"),
    )


def test_a_round_of_tool_use(api: Api) -> None:
    thought = {"type": "thinking", "thinking": "Hm.", "signature": "x"}
    hidden = {"type": "redacted_thinking", "data": "x"}
    assert turns(
        api,
        user(text("Weather?")),
        {"role": "assistant", "content": [thought, hidden, text("Let me look."), USE]},
        user(text("Please."), RESULT),
    ) == (
        Message("user", "Weather?"),
        Message(
            "assistant",
            "Let me look.",
            reasoning="Hm.",
            tool_calls=(ToolCall("weather", '{"city": "Köln"}', "toolu_1"),),
        ),
        Message("tool", "Rain.", tool_call_id="toolu_1", name="weather"),
        Message("user", "Please."),
    )


def test_results_in_several_messages_answer_each_their_call(api: Api) -> None:
    second = USE | {"id": "toolu_2", "name": "time"}
    found = turns(
        api,
        {"role": "assistant", "content": [USE, second]},
        user(RESULT),
        user({"type": "tool_result", "tool_use_id": "toolu_2"}),
    )
    assert [(turn.role, turn.name, turn.content) for turn in found[1:]] == [
        ("tool", "weather", "Rain."),
        ("tool", "time", ""),
    ]


@pytest.mark.parametrize(
    ("content", "is_error", "said"),
    [
        ([text("a"), text("b")], False, "a\nb"),
        ("No such city.", True, "Error: No such city."),
        ([], None, ""),
        (None, None, ""),
    ],
)
def test_what_a_tool_gave(api: Api, content: Any, is_error: Any, said: str) -> None:
    found = turns(
        api, {"role": "assistant", "content": [USE]}, user(RESULT | {"content": content, "is_error": is_error})
    )
    assert found[-1].content == said


@pytest.mark.parametrize(
    ("block", "said"),
    [
        (
            {"type": "document", "title": "T", "source": {"type": "text", "media_type": "text/plain", "data": "d"}},
            "T\nd",
        ),
        ({"type": "document", "source": {"type": "content", "content": [text("d"), text("e")]}}, "d\ne"),
        ({"type": "search_result", "title": "T", "source": "S", "content": [text("d")]}, "T\nS\nd"),
    ],
)
def test_documents_and_search_results_of_text_are_text(api: Api, block: Any, said: str) -> None:
    assert turns(api, user(block)) == (Message("user", said),)


def test_a_block_of_an_unknown_kind_is_left_out(api: Api) -> None:
    assert turns(api, user({"type": "container_upload", "file_id": "f"}, text("a"))) == (Message("user", "a"),)


def test_a_billing_stamp_does_not_defeat_the_prefix(api: Api) -> None:
    stamps = [f"x-anthropic-billing-header: cc_version=2.1; cch={stamp};" for stamp in ("a1b2c", "00f00")]
    systems = [turns(api, *HI, system=[text(stamp), text("You code.")])[0].content for stamp in stamps]
    assert systems[0] == systems[1]
    assert systems[0].endswith("You code.")


def test_a_stamp_elsewhere_is_the_clients_own_text(api: Api) -> None:
    said = "About x-anthropic-billing-header: cch=a1b2c;"
    assert turns(api, *HI, system=said)[0].content == said


def test_an_answer_that_the_client_began_stays_the_last_turn(api: Api) -> None:
    assert turns(api, *HI, {"role": "assistant", "content": [text("{")]})[-1] == Message("assistant", "{")


# Everything else


def test_without_a_model_the_loaded_one_answers(api: Api) -> None:
    api.inference.loaded = [api.inference.catalog.models[1]]
    assert received(api, model=None).model.name == "org/big:7b"


def test_sampling_limit_and_stop_strings(api: Api) -> None:
    request = received(api, temperature=0.5, top_p=0.9, top_k=5, stop_sequences=["a", "b"], max_tokens=7)
    assert request.sampling == Sampling(temperature=0.5, top_p=0.9, top_k=5)
    assert (request.max_tokens, request.stop) == (7, ("a", "b"))


def test_what_is_not_sent_is_left_to_the_model(api: Api) -> None:
    request = received(api)
    assert (request.sampling, request.tools, request.format) == (Sampling(), (), None)
    assert request.parallel_tool_calls


def test_tools(api: Api) -> None:
    request = received(api, tools=[WEATHER | {"type": "custom", "strict": True}])
    assert request.tools == (Tool("weather", "The weather.", {"type": "object"}, strict=True),)


def test_tools_of_anthropics_own_are_not_offered(api: Api) -> None:
    request = received(api, tools=[{"type": "web_search_20250305", "name": "web_search"}, WEATHER])
    assert [tool.name for tool in request.tools] == ["weather"]


@pytest.mark.parametrize(
    ("said", "choice"),
    [
        ({"type": "auto"}, ToolChoice("auto")),
        ({"type": "any"}, ToolChoice("required")),
        ({"type": "none"}, ToolChoice("none")),
        ({"type": "tool", "name": "weather"}, ToolChoice("named", "weather")),
    ],
)
def test_tool_choice(api: Api, said: Any, choice: ToolChoice) -> None:
    request = received(api, tools=[WEATHER], tool_choice=said | {"disable_parallel_tool_use": True})
    assert request.tool_choice == choice
    assert not request.parallel_tool_calls


@pytest.mark.parametrize(
    ("thinking", "effort", "asked"),
    [
        (None, None, False),
        (None, "high", False),
        ({"type": "disabled"}, "high", False),
        ({"type": "enabled", "budget_tokens": 1024}, None, True),
        ({"type": "enabled", "budget_tokens": 1024}, "low", "low"),
        ({"type": "adaptive"}, None, None),
        ({"type": "adaptive"}, "high", "high"),
    ],
)
def test_thinking(api: Api, thinking: Any, effort: Any, asked: Any) -> None:
    assert received(api, thinking=thinking, output_config={"effort": effort}).thinking == asked


@pytest.mark.parametrize("place", ["output_config", "output_format"])
def test_a_format(api: Api, place: str) -> None:
    said = {"type": "json_schema", "schema": {"type": "object"}}
    request = received(api, **{place: {"format": said} if place == "output_config" else said})
    assert request.format == JsonFormat({"type": "object"})


def test_what_coding_clients_send_is_taken(api: Api) -> None:
    ask(
        api,
        max_tokens=32000,
        thinking={"type": "adaptive"},
        output_config={"effort": "high"},
        context_management={"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        metadata={"user_id": "x"},
        service_tier="auto",
        cache_control={"type": "ephemeral"},
        betas=["x"],
        inference_geo=None,
        speed="standard",
        tools=[WEATHER | {"cache_control": {"type": "ephemeral"}, "eager_input_streaming": True}],
    )


# Refusals


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"max_tokens": None}, "'max_tokens' is required."),
        ({"max_tokens": 0}, "'max_tokens' must be"),
        ({"max_tokens": "9"}, "'max_tokens' must be an integer."),
        ({"messages": []}, "'messages' must not be empty."),
        ({"messages": None}, "'messages' is required."),
        ({"messages": [{"role": "tool", "content": "a"}]}, "'messages.0.role' must be one of"),
        ({"messages": [{"role": "user"}]}, "'messages.0.content' is required."),
        ({"messages": [user({"text": "a"})]}, "'messages.0.content.0' must be an object with a type."),
        ({"messages": [user({"type": "text"})]}, "'messages.0.content.0.text' must be a string."),
        ({"messages": [user(USE)]}, "'messages.0.content.0.type' must not be 'tool_use'"),
        ({"messages": [{"role": "assistant", "content": [RESULT]}]}, "'messages.0.content.0.type' must not be"),
        ({"messages": [{"role": "assistant", "content": [USE | {"name": ""}]}]}, "'messages.0.content.0.name' must"),
        ({"messages": [user(RESULT | {"content": [{"type": "text"}]})]}, "'messages.0.content.0.content.0.text' must"),
        ({"system": [{"type": "text"}]}, "'system.0.text' must be a string."),
        ({"temperature": 3}, "'temperature' must be"),
        ({"stop_sequences": "a"}, "'stop_sequences' must be a list."),
        ({"tools": [{"name": "a"}]}, "'tools.0.input_schema' is required."),
        ({"tools": [{"input_schema": {}}]}, "'tools.0.name' is required."),
        ({"tool_choice": {"type": "tool"}}, "'tool_choice.name' is required."),
        ({"tool_choice": {"type": "tool", "name": "x"}, "tools": [WEATHER]}, "'tool_choice' names 'x'"),
        ({"tool_choice": {"type": "any"}}, "'tool_choice' is any, but there are no tools."),
        ({"tool_choice": "any"}, "'tool_choice' must be an object."),
        ({"thinking": {}}, "'thinking.type' is required."),
        ({"thinking": {"type": "enabled", "budget_tokens": "x"}}, "'thinking.budget_tokens' must be an integer."),
        ({"output_config": {"effort": "hard"}}, "'output_config.effort' must be one of"),
        ({"output_config": {"format": {"type": "json_object"}}}, "'output_config.format.type' must be json_schema."),
        ({"output_format": {"type": "json_schema"}}, "'output_format.schema' must be a JSON Schema"),
        ({"use_cache": ""}, "'use_cache' must not be empty."),
    ],
)
def test_a_wrong_field_is_refused_by_its_name(api: Api, fields: dict[str, Any], sentence: str) -> None:
    assert refuse(api, **fields).startswith(sentence)


@pytest.mark.parametrize(
    "block",
    [
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA=="}},
        {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "AA=="}},
    ],
)
def test_what_is_not_text_is_refused_plainly(api: Api, block: Any) -> None:
    assert "read only text" in refuse(api, messages=[user(text("See:"), block)])


def test_a_body_that_is_no_object_is_refused_in_this_apis_shape(api: Api) -> None:
    response = api.client.post("/v1/messages", data=json.dumps([1]))
    assert (response.status_code, response.json["type"]) == (400, "error")  # type: ignore[index]
