"""The official `openai` client drives the whole server, on the scripted runtime of each family."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import openai
import pydantic
import pytest

from tests.contract.openai_spec import check
from tests.serving import Server


@pytest.fixture
def client(scripted: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{scripted.url}/v1", api_key="any", max_retries=0) as client:
        yield client


def script(**keys: Any) -> str:
    """A prompt that tells the scripted runtime what to do."""
    return f"<<script {' '.join(f'{key}={quote(str(value))}' for key, value in keys.items())}>>"


def saying(prompt: str) -> Any:
    return [{"role": "user", "content": prompt}]


def read(stream: Any) -> tuple[str, list[dict[str, Any]]]:
    """The text of a stream, and its chunks, each checked."""
    with stream:
        chunks = [chunk.model_dump(exclude_unset=True) for chunk in stream]
    for chunk in chunks:
        check(chunk, "CreateChatCompletionStreamResponse")
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    return "".join(choice["delta"].get("content") or "" for choice in choices), chunks


TEXTS = ["Hello world!", "日本語 と Ünïcode 😀👩‍👩‍👧", '{"a": "b\\n"}', "line\nline\r\n\r\nline", "  spaces  "]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("split", ["no", "bytes", "waiting", "partial"])
def test_streamed_and_whole_say_the_same(client: openai.OpenAI, text: str, split: str) -> None:
    messages = saying(script(text=text, split=split) if split != "no" else script(text=text))
    whole = client.chat.completions.create(model="scripted", messages=messages)
    check(whole.model_dump(exclude_unset=True), "CreateChatCompletionResponse")
    streamed, chunks = read(
        client.chat.completions.create(
            model="scripted", messages=messages, stream=True, stream_options={"include_usage": True}
        )
    )
    assert whole.choices[0].message.content == streamed == text
    assert whole.usage is not None
    usage = chunks[-1]["usage"]
    assert usage["prompt_tokens"] == whole.usage.prompt_tokens
    assert usage["completion_tokens"] == whole.usage.completion_tokens


def test_usage_is_the_runtimes_own_count(client: openai.OpenAI) -> None:
    completion = client.chat.completions.create(model="scripted", messages=saying(script(tokens=12)))
    assert completion.usage is not None
    assert completion.usage.completion_tokens == 12
    assert completion.choices[0].finish_reason == "stop"


def test_a_token_limit_ends_by_length(client: openai.OpenAI) -> None:
    completion = client.chat.completions.create(
        model="scripted", messages=saying(script(tokens=12)), max_completion_tokens=5
    )
    assert completion.usage is not None
    assert (completion.usage.completion_tokens, completion.choices[0].finish_reason) == (5, "length")


@pytest.mark.parametrize("stop", ["w5", ["x", "w5"], "5"])
def test_a_stop_string_never_leaks(client: openai.OpenAI, stop: Any) -> None:
    messages = saying(script(tokens=12))
    text, chunks = read(client.chat.completions.create(model="scripted", messages=messages, stop=stop, stream=True))
    assert text == ("w0 w1 w2 w3 w4 w" if stop == "5" else "w0 w1 w2 w3 w4 ")
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"


def test_several_choices(client: openai.OpenAI) -> None:
    messages = saying(script(tokens=3))
    completion = client.chat.completions.create(model="scripted", messages=messages, n=3)
    assert [choice.message.content for choice in completion.choices] == ["w0 w1 w2"] * 3
    _, chunks = read(client.chat.completions.create(model="scripted", messages=messages, n=2, stream=True))
    assert {choice["index"] for chunk in chunks for choice in chunk["choices"]} == {0, 1}


class weather(pydantic.BaseModel):
    """The weather in a city."""

    city: str


def test_a_call_is_parsed_and_its_result_goes_back(client: openai.OpenAI) -> None:
    call = '<tool_call>\n{"name": "weather", "arguments": {"city": "Köln"}}\n</tool_call>'
    tools: Any = [openai.pydantic_function_tool(weather)]
    asked = saying(script(text=f"Let me look.\n{call}"))
    parsed = client.chat.completions.parse(model="scripted", messages=asked, tools=tools).choices[0].message
    with client.chat.completions.stream(model="scripted", messages=asked, tools=tools) as stream:
        streamed = stream.get_final_completion().choices[0].message
    for message in (parsed, streamed):
        assert (message.content or "").strip() == "Let me look."
        assert message.tool_calls is not None
        assert message.tool_calls[0].function.parsed_arguments == weather(city="Köln")
    result = {"role": "tool", "tool_call_id": parsed.tool_calls[0].id, "content": script(text="It rains.")}  # type: ignore[index]
    told = [*asked, parsed.model_dump(exclude_none=True), result]
    answer = client.chat.completions.create(model="scripted", messages=told, tools=tools)
    assert answer.choices[0].message.content == "It rains."


def test_completions(client: openai.OpenAI) -> None:
    completion = client.completions.create(model="scripted", prompt=[script(tokens=2), script(text="x")], echo=True)
    check(completion.model_dump(exclude_unset=True), "CreateCompletionResponse")
    assert [choice.text for choice in completion.choices] == [script(tokens=2) + "w0 w1", script(text="x") + "x"]
    with client.completions.create(model="scripted", prompt=script(tokens=3), stream=True) as stream:
        assert "".join(chunk.choices[0].text for chunk in stream) == "w0 w1 w2"


class Forecast(pydantic.BaseModel):
    city: str
    rain: bool


def test_an_agent_calls_and_then_answers_in_its_format(client: openai.OpenAI) -> None:
    fields: Any = {"model": "scripted", "tools": [openai.pydantic_function_tool(weather)], "response_format": Forecast}
    call = '<tool_call>\n{"name": "weather", "arguments": {"city": "Köln"}}\n</tool_call>'
    asked = saying(script(text=call))
    message = client.chat.completions.parse(messages=asked, **fields).choices[0].message
    assert message.tool_calls is not None
    assert message.tool_calls[0].function.parsed_arguments == weather(city="Köln")
    result = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": script(text="true")}
    told = [*asked, message.model_dump(exclude_none=True), result]
    answer = client.chat.completions.parse(messages=told, **fields).choices[0].message
    assert answer.tool_calls is None
    assert isinstance(answer.parsed, Forecast)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("last", ["", [1] * 5000])
def test_a_wrong_prompt_among_several_is_refused_before_the_first_is_answered(
    client: openai.OpenAI, last: Any, stream: bool
) -> None:
    with pytest.raises(openai.BadRequestError) as refusal:
        client.completions.create(model="scripted", prompt=[[5, 6], last], stream=stream)
    assert refusal.value.param == "prompt"


def test_token_ids_are_a_prompt(client: openai.OpenAI) -> None:
    completion = client.completions.create(model="scripted", prompt=[5, 6, 7])
    assert completion.usage is not None
    assert completion.usage.prompt_tokens == 3


def test_models(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["scripted"]
    assert client.models.retrieve("scripted:latest").id == "scripted:latest"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-9")


def test_an_unknown_model_is_answered_by_no_other(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as refusal:
        client.chat.completions.create(model="gpt-9", messages=saying("Hi"))
    assert refusal.value.code == "model_not_found"


@pytest.mark.parametrize("stream", [False, True])
def test_a_prompt_that_is_too_long_is_refused_with_both_counts(client: openai.OpenAI, stream: bool) -> None:
    messages = saying("word " * 5000)
    with pytest.raises(openai.BadRequestError) as refusal:
        client.chat.completions.create(model="scripted", messages=messages, stream=stream)
    assert refusal.value.code == "context_length_exceeded"
    assert isinstance(refusal.value.body, dict)
    assert refusal.value.body["n_prompt_tokens"] > refusal.value.body["n_ctx"] > 4000


def test_a_run_that_fails_at_once_is_an_error_with_its_status(client: openai.OpenAI) -> None:
    with pytest.raises(openai.InternalServerError) as failure:
        client.chat.completions.create(model="scripted", messages=saying(script(fail="prefill")), stream=True)
    assert failure.value.response.headers["x-should-retry"] == "false"


def test_a_run_that_fails_later_is_an_error_in_the_stream(client: openai.OpenAI) -> None:
    messages = saying(script(tokens=9, fail=5))
    with client.chat.completions.create(model="scripted", messages=messages, stream=True) as stream:
        assert next(iter(stream))
        with pytest.raises(openai.APIError):
            list(stream)


def test_what_the_runtime_cannot_honour_is_named(client: openai.OpenAI) -> None:
    response = client.chat.completions.with_raw_response.create(
        model="scripted", messages=saying("Hi"), seed=1, logit_bias={"5": 1}
    )
    assert set(response.headers["x-unapplied-parameters"].split(", ")) == {"seed", "logit_bias"}


@pytest.mark.parametrize("stream", [False, True])
def test_sampling_that_an_older_runtime_takes_only_at_load_is_named(
    client: openai.OpenAI, family: str, stream: bool
) -> None:
    client.chat.completions.create(model="scripted", messages=saying("Hi"), temperature=0.8)
    response = client.chat.completions.with_raw_response.create(
        model="scripted", messages=saying("Hi"), temperature=0.123, stream=stream
    )
    named = response.headers.get("x-unapplied-parameters", "")
    assert named == ("" if family == "1.3" else "temperature")
    response.http_response.read()
