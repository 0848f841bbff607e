"""The official `anthropic` client over a real socket finds everything where it looks for it."""

import threading
from collections.abc import Iterator
from typing import Any

import anthropic
import pytest
from pydantic import BaseModel
from werkzeug.serving import make_server

from rkllama_flask.errors import ContextLengthExceeded, QueueFull, RuntimeFailed
from rkllama_flask.generation.events import Reasoning, Text, ToolArguments, ToolCallFinished, ToolCallStarted
from tests.api.anthropic.reading import THINK, WEATHER
from tests.api.conftest import Api
from tests.api.stub import finished, make_model, say

HI: Any = [{"role": "user", "content": "Hi"}]


@pytest.fixture
def client(api: Api) -> Iterator[anthropic.Anthropic]:
    server = make_server("127.0.0.1", 0, api.app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    with anthropic.Anthropic(base_url=f"http://127.0.0.1:{server.server_port}", api_key="any") as client:
        yield client
    server.shutdown()
    thread.join()
    server.server_close()


def test_create(client: anthropic.Anthropic) -> None:
    message = client.messages.create(model="tiny", max_tokens=99, messages=HI, system="Be brief.")
    assert message.content[0].type == "text"
    assert message.content[0].text == "Hello world"
    assert (message.stop_reason, message.usage.output_tokens) == ("end_turn", 2)
    assert message._request_id


def test_the_stream_helper_accumulates_thoughts_text_and_calls(api: Api, client: anthropic.Anthropic) -> None:
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
        finished("tool_calls", prompt=50, cached_tokens=32),
    )
    with client.messages.stream(
        model="org/big:7b", max_tokens=2000, messages=HI, tools=[WEATHER], thinking=THINK
    ) as stream:
        assert "".join(stream.text_stream) == "Let me look."
        message = stream.get_final_message()
    kinds = [block.type for block in message.content]
    assert kinds == ["thinking", "text", "tool_use", "tool_use"]
    uses = [(block.id, block.name, block.input) for block in message.content if block.type == "tool_use"]
    assert uses == [("toolu_a", "weather", {"city": "Köln"}), ("toolu_b", "weather", {})]
    assert message.stop_reason == "tool_use"
    assert (message.usage.input_tokens, message.usage.cache_read_input_tokens) == (18, 32)


def test_a_message_can_be_sent_back_as_it_came(api: Api, client: anthropic.Anthropic) -> None:
    api.inference.scripts = [
        (
            Reasoning("Hm."),
            ToolCallStarted(0, "call_a", "weather"),
            ToolArguments(0, "{}"),
            ToolCallFinished(0),
            finished("tool_calls"),
        )
    ]
    message = client.messages.create(model="tiny", max_tokens=2000, messages=HI, tools=[WEATHER], thinking=THINK)
    result: Any = {"type": "tool_result", "tool_use_id": message.content[1].id, "content": "Rain."}  # type: ignore[union-attr]
    turns: Any = [*HI, {"role": "assistant", "content": message.content}, {"role": "user", "content": [result]}]
    client.messages.create(model="tiny", max_tokens=99, messages=turns, tools=[WEATHER])
    sent = api.inference.requests[1].messages
    assert sent is not None
    assert [(turn.role, turn.content, turn.reasoning) for turn in sent] == [
        ("user", "Hi", None),
        ("assistant", "", "Hm."),
        ("tool", "Rain.", None),
    ]
    assert sent[1].tool_calls[0].id == sent[2].tool_call_id == "toolu_a"


class City(BaseModel):
    name: str
    people: int


def test_parse_into_a_pydantic_model(api: Api, client: anthropic.Anthropic) -> None:
    api.inference.script = say('{"name": "Köln", ', '"people": 1000000}')
    message = client.messages.parse(model="tiny", max_tokens=99, messages=HI, output_format=City)
    assert message.parsed_output == City(name="Köln", people=1_000_000)
    assert api.inference.requests[0].format is not None


def test_count_tokens(client: anthropic.Anthropic) -> None:
    assert client.messages.count_tokens(model="org/big:7b", messages=HI).input_tokens == 42


def test_models_come_page_by_page(api: Api, client: anthropic.Anthropic) -> None:
    api.inference.catalog.models[:] = [make_model(name) for name in "abcde"]
    assert [model.id for model in client.models.list(limit=2)] == list("abcde")
    assert client.models.retrieve("c").max_input_tokens == 4096


def test_a_full_queue_is_tried_again_by_the_client_itself(api: Api, client: anthropic.Anthropic) -> None:
    generate = api.inference.generate
    answers = iter([QueueFull("full", retry_after=1), None])

    def fail_once(request: Any) -> Any:
        error = next(answers)
        if error:
            raise error
        return generate(request)

    api.inference.generate = fail_once  # type: ignore[method-assign]
    assert client.messages.create(model="tiny", max_tokens=99, messages=HI).content


def test_errors_have_the_types_that_programs_catch(api: Api, client: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.NotFoundError):
        client.messages.create(model="claude-9", max_tokens=99, messages=HI)
    with pytest.raises(anthropic.NotFoundError):
        client.models.retrieve("claude-9")
    api.inference.early = ContextLengthExceeded(5000, 4092)
    with pytest.raises(anthropic.BadRequestError, match="prompt is too long: 5000 tokens > 4092 maximum"):
        client.messages.create(model="tiny", max_tokens=99, messages=HI)
    api.configure(api_keys=("secret",))
    with pytest.raises(anthropic.AuthenticationError):
        client.models.list()


def test_a_failure_that_would_come_again_is_not_tried_again(api: Api, client: anthropic.Anthropic) -> None:
    api.inference.scripts = [(RuntimeFailed("broken"),)]
    with pytest.raises(anthropic.InternalServerError, match="broken"):
        client.messages.create(model="tiny", max_tokens=99, messages=HI)
    assert len(api.inference.requests) == 1


def test_an_error_amid_a_stream_is_raised(api: Api, client: anthropic.Anthropic) -> None:
    api.inference.script = (Text("a"), RuntimeFailed("The runtime failed."))
    with (
        pytest.raises(anthropic.APIError, match="The runtime failed"),
        client.messages.stream(model="tiny", max_tokens=99, messages=HI) as stream,
    ):
        stream.until_done()
