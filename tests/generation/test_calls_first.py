"""Tools and a format in one request: the model may call, and what it answers otherwise is of the format."""

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from rkllama_flask.generation.calls_first import CallsFirst
from rkllama_flask.generation.events import Reasoning, Text, ToolArguments, ToolCallStarted, Waiting
from rkllama_flask.generation.request import GenerationRequest, JsonFormat, Tool
from tests.api.stub import StubGeneration, finished, make_model

ASKED = GenerationRequest(model=make_model("tiny"), messages=(), tools=(Tool("f"),), format=JsonFormat())
CALL = (ToolCallStarted(0, "call_a", "f"), ToolArguments(0, "{}"), finished("tool_calls"))
JSON = (Text('{"a"'), Text(": 1}"), finished())


class Model:
    """Plays one script after another, and remembers the requests."""

    def __init__(self, *scripts: Sequence[Any]) -> None:
        self._scripts: Iterator[Sequence[Any]] = iter(scripts)
        self.requests: list[GenerationRequest] = []
        self.runs: list[StubGeneration] = []

    def __call__(self, request: GenerationRequest) -> Any:
        self.requests.append(request)
        self.runs.append(StubGeneration(next(self._scripts), ()))
        return self.runs[-1]

    def answer(self) -> list[Any]:
        return [event for event in CallsFirst(self, ASKED) if not isinstance(event, Waiting)]


def test_a_call_is_the_answer() -> None:
    model = Model((Waiting(0.5), *CALL))
    assert model.answer() == list(CALL)
    assert [request.calls_first for request in model.requests] == [True]


def test_text_before_a_call_stays() -> None:
    model = Model((Text("Let me "), Text("look."), *CALL))
    assert model.answer() == [Text("Let me "), Text("look."), *CALL]


@pytest.mark.parametrize("free", [(Text('{"b'), Text('": 2}')), (Text(" \n"), Text("```json")), (Text("["),)])
def test_json_is_asked_for_once_more_as_it_begins(free: Any) -> None:
    model = Model((*free, finished()), JSON)
    assert model.answer() == list(JSON)
    assert [run.closed for run in model.runs] == [True, False]
    assert model.requests[1] == ASKED


@pytest.mark.parametrize("free", [(), (Text("Well, "), Text("no."))])
def test_an_answer_without_a_call_is_asked_for_in_the_format(free: Any) -> None:
    assert Model((*free, finished()), JSON).answer() == list(JSON)


def test_a_reader_may_look_for_its_client_while_text_is_held() -> None:
    events = list(CallsFirst(Model((Text("a"), Text("b"), finished()), JSON), ASKED))
    assert events == [Waiting(0), Waiting(0), *JSON]


def test_nobody_thinks_twice() -> None:
    model = Model((Reasoning("Hm."), Text("No."), finished()), JSON)
    assert model.answer() == [Reasoning("Hm."), *JSON]
    assert model.requests[1].thinking is False
