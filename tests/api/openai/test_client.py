"""The official `openai` client over a real socket finds everything where it looks for it."""

import json
import threading
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from pydantic import BaseModel
from werkzeug.serving import make_server

from rkllama_flask.errors import QueueFull, RuntimeFailed
from rkllama_flask.generation.events import Reasoning, Text, ToolArguments, ToolCallFinished, ToolCallStarted
from tests.api.conftest import Api
from tests.api.stub import finished, say

HI: Any = [{"role": "user", "content": "Hi"}]
WEATHER: Any = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


@pytest.fixture
def client(api: Api) -> Iterator[openai.OpenAI]:
    server = make_server("127.0.0.1", 0, api.app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    with openai.OpenAI(base_url=f"http://127.0.0.1:{server.server_port}/v1", api_key="any") as client:
        yield client
    server.shutdown()
    thread.join()
    server.server_close()


def test_create(client: openai.OpenAI) -> None:
    completion = client.chat.completions.create(model="tiny", messages=HI, max_completion_tokens=0)
    assert completion.choices[0].message.content == "Hello world"
    assert completion.usage is not None
    assert completion.usage.total_tokens == 7
    assert completion._request_id


def test_stream(client: openai.OpenAI) -> None:
    with client.chat.completions.create(model="tiny", messages=HI, stream=True) as stream:
        chunks = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "Hello world"
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_the_stream_helper_accumulates_thoughts_text_and_calls(api: Api, client: openai.OpenAI) -> None:
    api.inference.script = (
        Reasoning("Hm."),
        Text("Let me look."),
        ToolCallStarted(0, "call_a", "weather"),
        ToolArguments(0, '{"city": '),
        ToolArguments(0, '"Köln"}'),
        ToolCallFinished(0),
        ToolCallStarted(1, "call_b", "weather"),
        ToolArguments(1, "{}"),
        ToolCallFinished(1),
        finished("tool_calls"),
    )
    with client.chat.completions.stream(
        model="tiny", messages=HI, tools=[WEATHER], stream_options={"include_usage": True}
    ) as stream:
        stream.until_done()
        choice = stream.get_final_completion().choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content == "Let me look."
    assert choice.message.tool_calls is not None
    calls = [(call.id, call.function.name, json.loads(call.function.arguments)) for call in choice.message.tool_calls]
    assert calls == [("call_a", "weather", {"city": "Köln"}), ("call_b", "weather", {})]


class City(BaseModel):
    name: str
    people: int


def test_parse_into_a_pydantic_model(api: Api, client: openai.OpenAI) -> None:
    api.inference.script = say('{"name": "Köln", ', '"people": 1000000}')
    completion = client.chat.completions.parse(model="tiny", messages=HI, response_format=City)
    assert completion.choices[0].message.parsed == City(name="Köln", people=1_000_000)
    assert api.inference.requests[0].format is not None


def test_completions(client: openai.OpenAI) -> None:
    assert client.completions.create(model="tiny", prompt=["a", "b"], n=2).choices[3].text == "Hello world"
    with client.completions.create(model="tiny", prompt="a", stream=True) as stream:
        assert "".join(chunk.choices[0].text for chunk in stream) == "Hello world"


def test_models(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["tiny", "org/big:7b"]
    assert client.models.retrieve("org/big:7b").id == "org/big:7b"


def test_a_full_queue_is_tried_again_by_the_client_itself(api: Api, client: openai.OpenAI) -> None:
    generate = api.inference.generate
    answers = iter([QueueFull("full", retry_after=1), None])

    def fail_once(request: Any) -> Any:
        error = next(answers)
        if error:
            raise error
        return generate(request)

    api.inference.generate = fail_once  # type: ignore[method-assign]
    assert client.chat.completions.create(model="tiny", messages=HI).choices[0].message.content == "Hello world"


def test_a_failure_that_would_come_again_is_not_tried_again(api: Api, client: openai.OpenAI) -> None:
    api.inference.scripts = [(RuntimeFailed("broken"),)]
    with pytest.raises(openai.InternalServerError, match="broken"):
        client.chat.completions.create(model="tiny", messages=HI)
    assert len(api.inference.requests) == 1


def test_errors_have_the_types_that_programs_catch(api: Api, client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as not_found:
        client.chat.completions.create(model="gpt-9", messages=HI)
    assert (not_found.value.code, not_found.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.BadRequestError) as bad:
        client.chat.completions.create(model="tiny", messages=HI, temperature=9)
    assert (bad.value.param, bad.value.type) == ("temperature", "invalid_request_error")
    api.configure(api_keys=("secret",))
    with pytest.raises(openai.AuthenticationError):
        client.models.list()


def test_an_error_amid_a_stream_is_raised(api: Api, client: openai.OpenAI) -> None:
    api.inference.script = (Text("a"), RuntimeFailed("The runtime failed."))
    with client.chat.completions.create(model="tiny", messages=HI, stream=True) as stream:
        assert next(iter(stream))
        with pytest.raises(openai.APIError, match="The runtime failed"):
            list(stream)
