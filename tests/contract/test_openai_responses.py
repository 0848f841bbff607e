"""The official `openai` client uses the Responses API of the whole server, on the scripted runtime of each family."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import openai
import pydantic
import pytest
from openai.types.responses import Response

from tests.contract.openai_spec import RESPONSE_EVENTS, check
from tests.serving import Server

TEXTS = ["Hello world!", "日本語 と Ünïcode 😀👩‍👩‍👧", "line\nline\r\n\r\nline", "  spaces  "]
THOUGHT = "<think>\nLet me see.\n</think>\n\nDone."
WEATHER: Any = {
    "type": "function",
    "name": "weather",
    "description": "The weather in a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    "strict": False,
}
CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Köln"}}\n</tool_call>'


@pytest.fixture
def client(scripted: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{scripted.url}/v1", api_key="any", max_retries=0) as client:
        yield client


def script(**keys: Any) -> str:
    """A prompt that tells the scripted runtime what to do."""
    return f"<<script {' '.join(f'{key}={quote(str(value))}' for key, value in keys.items())}>>"


def whole(client: openai.OpenAI, prompt: Any, **fields: Any) -> Response:
    response: Response = client.responses.create(model="scripted", input=prompt, **fields)
    check(response.model_dump(mode="json", exclude_unset=True), "Response")
    return response


def streamed(client: openai.OpenAI, prompt: Any, **fields: Any) -> Response:
    """The response that the client's own helper makes of a stream; each event is checked."""
    with client.responses.create(model="scripted", input=prompt, stream=True, **fields) as stream:
        for number, event in enumerate(stream):
            assert event.sequence_number == number
            check(event.model_dump(mode="json", exclude_unset=True), RESPONSE_EVENTS[event.type])
    with client.responses.stream(model="scripted", input=prompt, **fields) as helper:
        return helper.get_final_response()


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("split", ["no", "bytes"])
def test_streamed_and_whole_say_the_same(client: openai.OpenAI, text: str, split: str) -> None:
    prompt = script(text=text, split=split) if split != "no" else script(text=text)
    one, other = whole(client, prompt), streamed(client, prompt)
    assert one.output_text == other.output_text == text
    assert one.status == other.status == "completed"
    assert one.usage is not None
    assert other.usage is not None
    assert (one.usage.input_tokens, one.usage.output_tokens) == (other.usage.input_tokens, other.usage.output_tokens)


def test_thoughts_are_an_item_of_their_own(client: openai.OpenAI) -> None:
    for response in (whole(client, script(text=THOUGHT)), streamed(client, script(text=THOUGHT))):
        reasoning, message = response.output
        assert reasoning.type == "reasoning"
        assert reasoning.summary[0].text.strip() == "Let me see."
        assert message.type == "message"
        assert response.output_text.strip() == "Done."
        assert response.usage is not None
        assert response.usage.output_tokens_details.reasoning_tokens > 0


def test_a_call_is_made_and_its_result_goes_back(client: openai.OpenAI) -> None:
    asked: Any = [{"role": "user", "content": script(text=CALL)}]
    for response in (whole(client, asked, tools=[WEATHER]), streamed(client, asked, tools=[WEATHER])):
        [call] = response.output
        assert call.type == "function_call"
        assert (call.name, call.status) == ("weather", "completed")
        assert pydantic.TypeAdapter(dict[str, str]).validate_json(call.arguments) == {"city": "Köln"}
        result = {"type": "function_call_output", "call_id": call.call_id, "output": "rain"}
        told = [*asked, call.model_dump(), result, {"role": "user", "content": script(text="It rains.")}]
        assert whole(client, told, tools=[WEATHER]).output_text == "It rains."


def test_what_it_parses_is_a_model(client: openai.OpenAI) -> None:
    class City(pydantic.BaseModel):
        name: str
        people: int

    prompt = script(text='5", and more')  # said for each of the values
    response = client.responses.parse(model="scripted", input=prompt, text_format=City)
    assert response.output_parsed == City(name="5", people=5)


def test_a_length_cut_is_a_response_that_the_helper_reads(client: openai.OpenAI) -> None:
    fields = {"max_output_tokens": 5}
    for response in (whole(client, script(tokens=12), **fields), streamed(client, script(tokens=12), **fields)):
        assert response.status == "incomplete"
        assert response.incomplete_details is not None
        assert response.incomplete_details.reason == "max_output_tokens"
        assert response.output_text == "w0 w1 w2 w3 w4"


@pytest.mark.parametrize("stream", [False, True])
def test_a_prompt_that_is_too_long_is_refused_before_anything_is_sent(client: openai.OpenAI, stream: bool) -> None:
    with pytest.raises(openai.BadRequestError) as refusal:
        client.responses.create(model="scripted", input="word " * 5000, stream=stream)
    assert (refusal.value.code, refusal.value.param) == ("context_length_exceeded", "input")


def test_a_run_that_fails_in_mid_stream_raises_after_its_last_words(client: openai.OpenAI) -> None:
    events: list[str] = []
    with (
        client.responses.create(model="scripted", input=script(tokens=9, fail=5), stream=True) as stream,
        pytest.raises(openai.APIError),
    ):
        events.extend(event.type for event in stream)
    assert events[-1] == "response.failed"


def test_nothing_stored_can_be_continued(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="stored") as refusal:
        client.responses.create(model="scripted", input="Hi", previous_response_id="resp_1")
    assert refusal.value.param == "previous_response_id"


def test_tokens_that_only_the_runtime_can_count_are_not_guessed(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="tokenizer"):
        client.responses.input_tokens.count(model="scripted", input="Hi")
