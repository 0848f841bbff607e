"""The official `anthropic` client drives the whole server, on the scripted runtime of each family."""

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import anthropic
import pytest

from tests.contract.anthropic_spec import STREAM_EVENTS, check
from tests.serving import Server

WEATHER: Any = {
    "name": "weather",
    "description": "The weather in a city.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
}
CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Köln"}}\n</tool_call>'


@pytest.fixture
def client(scripted: Server) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=scripted.url, api_key="any", max_retries=0) as client:
        yield client


def script(**keys: Any) -> str:
    """A prompt that tells the scripted runtime what to do."""
    return f"<<script {' '.join(f'{key}={quote(str(value))}' for key, value in keys.items())}>>"


def asking(prompt: str, **fields: Any) -> Any:
    return {"model": "scripted", "max_tokens": 500, "messages": [{"role": "user", "content": prompt}]} | fields


def whole(client: anthropic.Anthropic, prompt: str, **fields: Any) -> anthropic.types.Message:
    message = client.messages.create(**asking(prompt, **fields))
    check(message.model_dump(mode="json", exclude_unset=True), "Message")
    return message


def streamed(client: anthropic.Anthropic, prompt: str, **fields: Any) -> anthropic.types.Message:
    """The message that the client's own helper makes of a stream; each event is checked."""
    with client.messages.create(**asking(prompt, **fields), stream=True) as stream:
        for event in stream:
            check(event.model_dump(mode="json", exclude_unset=True), STREAM_EVENTS[event.type])
    with client.messages.stream(**asking(prompt, **fields)) as helper:
        return helper.get_final_message()


def content(message: anthropic.types.Message) -> list[Any]:
    """The blocks as plain values, but for the ids of calls."""
    return [block.model_dump(include={"type", "text", "thinking", "name", "input"}) for block in message.content]


TEXTS = [
    "Hello world!",
    "日本語 と Ünïcode 😀👩‍👩‍👧",
    '{"a": "b\\n"}',
    "line\nline\r\n\r\nline",
    "  spaces  ",
    "a\u2028b\x85c",
]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("split", ["no", "bytes", "waiting", "partial"])
def test_streamed_and_whole_say_the_same(client: anthropic.Anthropic, text: str, split: str) -> None:
    prompt = script(text=text, split=split) if split != "no" else script(text=text)
    first, second = whole(client, prompt), streamed(client, prompt)
    assert content(first) == content(second) == [{"type": "text", "text": text}]
    assert first.usage.output_tokens == second.usage.output_tokens
    assert first.stop_reason == second.stop_reason == "end_turn"


def test_the_whole_prompt_is_the_sum_of_both_counts(client: anthropic.Anthropic) -> None:
    first = whole(client, script(tokens=3), system="You are a counter.").usage
    again = whole(client, script(tokens=3), system="You are a counter.").usage
    assert again.cache_read_input_tokens
    assert again.input_tokens < first.input_tokens + (first.cache_read_input_tokens or 0)
    assert sum((first.input_tokens, first.cache_read_input_tokens or 0)) == sum(
        (again.input_tokens, again.cache_read_input_tokens)
    )


def test_a_token_limit_ends_by_length(client: anthropic.Anthropic) -> None:
    for read in (whole, streamed):
        message = read(client, script(tokens=12), max_tokens=5)
        assert (message.usage.output_tokens, message.stop_reason) == (5, "max_tokens")


def test_a_stop_sequence_is_told_and_never_leaks(client: anthropic.Anthropic) -> None:
    for read in (whole, streamed):
        message = read(client, script(tokens=12), stop_sequences=["x", "w5"])
        assert content(message) == [{"type": "text", "text": "w0 w1 w2 w3 w4 "}]
        assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", "w5")


def test_thoughts_are_blocks_where_they_are_asked_for(client: anthropic.Anthropic) -> None:
    prompt = script(text="<think>\nHm. Well.\n</think>\n\nYes.")
    for read in (whole, streamed):
        asked = read(client, prompt, thinking={"type": "adaptive"})
        assert content(asked) == [{"type": "thinking", "thinking": "Hm. Well."}, {"type": "text", "text": "Yes."}]
        assert content(read(client, prompt)) == [{"type": "text", "text": "Yes."}]


@pytest.mark.parametrize("before", ["", "Let me look."])
def test_a_call_streamed_and_whole(client: anthropic.Anthropic, before: str) -> None:
    prompt = script(text=f"{before}\n{CALL}" if before else CALL)
    for read in (whole, streamed):
        message = read(client, prompt, tools=[WEATHER])
        text, use = content(message) if before else [None, *content(message)]
        assert use == {"type": "tool_use", "name": "weather", "input": {"city": "Köln"}}
        assert text is None or text["text"].strip() == before
        assert message.stop_reason == "tool_use"


def test_several_calls_are_several_blocks(client: anthropic.Anthropic) -> None:
    message = streamed(client, script(text=f"{CALL}\n{CALL}"), tools=[WEATHER])
    ids = {block.id for block in message.content if block.type == "tool_use"}
    assert len(ids) == 2


def test_one_call_where_parallel_ones_are_disabled(client: anthropic.Anthropic) -> None:
    choice = {"type": "auto", "disable_parallel_tool_use": True}
    message = whole(client, script(text=f"{CALL}\n{CALL}"), tools=[WEATHER], tool_choice=choice)
    assert [block.type for block in message.content] == ["tool_use"]


def test_a_call_of_what_is_not_offered_is_text(client: anthropic.Anthropic) -> None:
    message = whole(client, script(text=CALL), tools=[WEATHER | {"name": "time"}])
    assert content(message) == [{"type": "text", "text": CALL}]
    assert message.stop_reason == "end_turn"


def test_a_round_of_tool_use(client: anthropic.Anthropic) -> None:
    question = {"role": "user", "content": script(text=CALL)}
    call = client.messages.create(model="scripted", max_tokens=99, messages=[question], tools=[WEATHER])  # type: ignore[list-item]
    use = call.content[0]
    assert use.type == "tool_use"
    result = {"type": "tool_result", "tool_use_id": use.id, "content": "Rain. " + script(text="It rains.")}
    answer = client.messages.create(
        model="scripted",
        max_tokens=99,
        messages=[question, {"role": "assistant", "content": call.content}, {"role": "user", "content": [result]}],  # type: ignore[list-item]
        tools=[WEATHER],
    )
    assert content(answer) == [{"type": "text", "text": "It rains."}]


def test_an_answer_by_a_schema(client: anthropic.Anthropic) -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    for read in (whole, streamed):
        message = read(
            client,
            script(text='Köln"} and more'),
            output_config={"format": {"type": "json_schema", "schema": schema}},
        )
        assert json.loads(content(message)[0]["text"]) == {"city": "Köln"}


def test_a_model_without_a_tokenizer_counts_nothing(client: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.BadRequestError, match="no tokenizer"):
        client.messages.count_tokens(model="scripted", messages=[{"role": "user", "content": "Hi"}])


def test_tokens_are_counted_by_the_models_own_tokenizer(real: Server) -> None:
    with anthropic.Anthropic(base_url=real.url, api_key="any") as client:
        asked: Any = {"model": "smollm2-135m-instruct", "messages": [{"role": "user", "content": "Say hello."}]}
        count = client.messages.count_tokens(**asked).input_tokens
        with client.messages.create(**asked, max_tokens=3, stream=True) as stream:
            start = next(iter(stream))
            assert start.type == "message_start"
            assert start.message.usage.input_tokens == count
        usage = client.messages.create(**asked, max_tokens=3).usage
        assert usage.input_tokens + (usage.cache_read_input_tokens or 0) == count > 5


def test_models(client: anthropic.Anthropic) -> None:
    models = list(client.models.list())
    assert [model.id for model in models] == ["scripted"]
    check(models[0].model_dump(mode="json", exclude_unset=True), "ModelInfo")
    assert client.models.retrieve("scripted:latest").id == "scripted:latest"
    with pytest.raises(anthropic.NotFoundError):
        client.models.retrieve("claude-9")


@pytest.mark.parametrize("stream", [False, True])
def test_a_prompt_that_is_too_long_is_refused_with_both_counts(client: anthropic.Anthropic, stream: bool) -> None:
    with pytest.raises(anthropic.BadRequestError, match=r"prompt is too long: \d+ tokens > \d+ maximum"):
        client.messages.create(**asking("word " * 5000), stream=stream)


def test_a_run_that_fails_at_once_is_an_error_with_its_status(client: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.InternalServerError) as failure:
        client.messages.create(**asking(script(fail="prefill")), stream=True)
    assert failure.value.response.headers["x-should-retry"] == "false"


def test_a_run_that_fails_later_is_an_error_in_the_stream(client: anthropic.Anthropic) -> None:
    with client.messages.create(**asking(script(tokens=9, fail=5)), stream=True) as stream:
        assert next(iter(stream)).type == "message_start"
        with pytest.raises(anthropic.APIError):
            list(stream)


def test_what_cannot_be_honoured_is_named(client: anthropic.Anthropic) -> None:
    response = client.messages.with_raw_response.create(
        **asking("Hi"), thinking={"type": "enabled", "budget_tokens": 1024}
    )
    assert response.headers["x-unapplied-parameters"] == "thinking"


def test_an_answer_that_the_client_began_is_continued(real: Server) -> None:
    with anthropic.Anthropic(base_url=real.url, api_key="any") as client:
        question: Any = {"role": "user", "content": "Count to nine."}
        begun: Any = {"role": "assistant", "content": "1, 2, 3, 4,"}
        message = client.messages.create(
            model="smollm2-135m-instruct",
            max_tokens=6,
            messages=[question, begun],
            extra_body={"temperature": 0},
        )
        assert message.content[0].type == "text"
        assert message.content[0].text.startswith(" 5, 6")
