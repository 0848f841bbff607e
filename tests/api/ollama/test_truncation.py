"""A conversation that has outgrown the context loses its oldest turns, and nothing else."""

from typing import Any

import pytest

from rkllama_flask.errors import ContextLengthExceeded, RuntimeFailed
from rkllama_flask.generation.events import Text, Waiting
from rkllama_flask.generation.request import GenerationRequest, Message
from tests.api.ollama.conftest import OllamaApi, OllamaInference
from tests.api.ollama.reading import read_answer
from tests.api.stub import finished

SYSTEM = {"role": "system", "content": "Be brief."}


def conversation(turns: int, length: int = 10) -> list[dict[str, Any]]:
    """A system message, then questions and answers, of which the last is a question."""
    said = [{"role": ("user", "assistant")[n % 2], "content": f"{n}".rjust(length)} for n in range(2 * turns - 1)]
    return [SYSTEM, *said]


class CountingInference(OllamaInference):
    """Has room for `limit` tokens, of which each character is one; says so early, or only from the runtime."""

    limit = 100
    late = False

    def generate(self, request: GenerationRequest) -> Any:
        tokens = sum(len(message.content) for message in request.messages or ())
        tokens += len(request.prompt or "") + len(request.context)
        error = ContextLengthExceeded(tokens, self.limit) if tokens > self.limit else None
        self.requests.append(request)
        if error and not self.late:
            raise error
        self.scripts = [(Waiting(0.5), error)] if error else []
        self.requests.pop()
        return super().generate(request)


@pytest.fixture(params=[False, True], ids=["early", "late"])
def counting(request: pytest.FixtureRequest, api: OllamaApi) -> CountingInference:
    inference = CountingInference(api.catalog)  # type: ignore[arg-type]
    inference.late = request.param
    services = api.app.extensions["rkllama"]
    services.inference = api.inference = inference
    return inference


def post(api: OllamaApi, messages: list[dict[str, Any]], **fields: Any) -> Any:
    return api.post("/api/chat", {"model": "tiny", "messages": messages} | fields)


def kept(inference: CountingInference) -> list[str]:
    return [message.content.strip() for message in inference.requests[-1].messages or ()]


@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize("stream", [True, False])
def test_of_a_plain_prompt_the_beginning_goes(
    api: OllamaApi, counting: CountingInference, stream: bool, raw: bool
) -> None:
    prompt = "".join(map(str, range(500)))
    response = api.post("/api/generate", {"model": "tiny", "prompt": prompt, "stream": stream, "raw": raw})
    assert response.status_code == 200, response.text
    request = counting.requests[-1]
    left = request.prompt if raw else (request.messages or ())[-1].content
    assert isinstance(left, str)
    assert prompt.endswith(left)
    assert 70 < len(left) <= 75


def test_a_system_prompt_stays_and_a_context_goes_first(api: OllamaApi, counting: CountingInference) -> None:
    body = {"model": "tiny", "prompt": "x" * 40, "system": "Be brief.", "context": [*range(90)], "stream": False}
    assert api.post("/api/generate", body).status_code == 200
    request = counting.requests[-1]
    assert [message.content for message in request.messages or ()] == ["Be brief.", "x" * 40]
    assert request.context == tuple(range(64, 90))
    body = {"model": "tiny", "prompt": "Hi", "system": "x" * 200, "stream": False}
    assert api.post("/api/generate", body).status_code == 400


@pytest.mark.parametrize("stream", [True, False])
def test_the_oldest_turns_go(api: OllamaApi, counting: CountingInference, stream: bool) -> None:
    response = post(api, conversation(20), stream=stream)
    assert response.status_code == 200
    assert kept(counting) == ["Be brief.", "34", "35", "36", "37", "38"]
    assert len(counting.requests) == 2
    if stream:
        assert read_answer(response.data, "Chat")[-1]["done"] is True


def test_a_conversation_that_fits_is_left_alone(api: OllamaApi, counting: CountingInference) -> None:
    post(api, conversation(3), stream=False)
    assert kept(counting) == ["Be brief.", "0", "1", "2", "3", "4"]
    assert len(counting.requests) == 1


def test_what_is_kept_begins_with_a_question(api: OllamaApi, counting: CountingInference) -> None:
    for turns in range(5, 40):
        post(api, conversation(turns, length=12), stream=False)
        messages = counting.requests[-1].messages or ()
        assert [message.role for message in messages[:2]] == ["system", "user"]


def test_every_system_message_the_last_question_and_the_last_message_stay(
    api: OllamaApi, counting: CountingInference
) -> None:
    late = {"role": "system", "content": "In English."}
    messages = [*conversation(10), late, *conversation(10)[1:-1], {"role": "tool", "content": "7" * 60}]
    post(api, messages, stream=False)
    assert kept(counting) == ["Be brief.", "In English.", "16", "7" * 60]


def test_a_last_message_that_is_too_long_by_itself_is_refused(api: OllamaApi, counting: CountingInference) -> None:
    for messages in (
        [{"role": "user", "content": "x" * 200}],
        [*conversation(9), {"role": "user", "content": "x" * 200}],
    ):
        response = post(api, messages)
        assert response.status_code == 400
        assert response.json["error"].startswith("the prompt is longer than the context length")


def test_nothing_is_left_out_of_what_may_not_be_shortened(api: OllamaApi, counting: CountingInference) -> None:
    response = post(api, conversation(20), truncate=False)
    assert response.status_code == 400
    assert len(counting.requests) == 1


def test_a_thousand_turns_take_few_attempts(api: OllamaApi, counting: CountingInference) -> None:
    uneven = conversation(1000)
    uneven[1]["content"] = "x" * 100_000
    assert post(api, uneven, stream=False).status_code == 200
    assert len(counting.requests) < 10


def test_a_refusal_amid_an_answer_is_not_tried_again(api: OllamaApi) -> None:
    api.inference.script = (Text("a"), ContextLengthExceeded(101, 100))
    response = post(api, conversation(20))
    assert response.status_code == 200
    assert b'{"error":"the prompt is longer' in response.data
    assert len(api.inference.requests) == 1


def test_every_attempt_is_closed(api: OllamaApi, counting: CountingInference) -> None:
    post(api, conversation(20), stream=False)
    counting.script = (Text("a"), RuntimeFailed("Broken."))
    post(api, conversation(20), stream=False)
    assert all(generation.closed for generation in counting.generations)


def test_calls_count_as_text(api: OllamaApi) -> None:
    call = {"function": {"name": "f", "arguments": {"text": "x" * 500}}}
    messages = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "content": "b"},
        {"role": "user", "content": "c"},
    ]
    api.inference.scripts = [(ContextLengthExceeded(520, 100),), (finished(),)]
    assert post(api, messages, stream=False).status_code == 200
    assert api.inference.requests[-1].messages == (Message("user", "c"),)


def test_of_a_long_agents_run_the_question_stays_and_the_newest_calls_with_their_results(
    api: OllamaApi, counting: CountingInference
) -> None:
    def step(number: int) -> list[dict[str, Any]]:
        calls = [{"function": {"name": "f", "arguments": {"n": f"{number}{call}"}}} for call in "ab"]
        return [
            {"role": "assistant", "content": f"step {number}", "tool_calls": calls},
            *({"role": "tool", "content": f"{number}{call}".rjust(10)} for call in "ab"),
        ]

    asked = {"role": "user", "content": "Find it."}
    for steps in range(4, 12):
        run = [step_message for number in range(steps) for step_message in step(number)]
        assert post(api, [*conversation(2), *conversation(2)[2:3], asked, *run], stream=False).status_code == 200
        messages = counting.requests[-1].messages or ()
        assert kept(counting)[:2] == ["Be brief.", "Find it."]
        assert [message.role for message in messages[2:]] == ["assistant", "tool", "tool"] * (len(messages[2:]) // 3)
        assert messages[2:], "nothing of the run is left"
        assert kept(counting)[-1] == f"{steps - 1}b"


def test_results_without_a_question_keep_their_call(api: OllamaApi, counting: CountingInference) -> None:
    call = {"function": {"name": "f", "arguments": {}}}
    pair = [
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "r" * 40},
    ]
    assert post(api, [SYSTEM, *pair, *pair, *pair], stream=False).status_code == 200
    assert [message.role for message in counting.requests[-1].messages or ()] == ["system", "assistant", "tool"]
