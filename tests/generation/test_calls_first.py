"""Tools and a format in one request: the model may call, and what it answers otherwise is of the format."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from rkllama_flask.generation.calls_first import CallsFirst
from rkllama_flask.generation.events import (
    Reasoning,
    Text,
    Timings,
    ToolArguments,
    ToolCallFinished,
    ToolCallStarted,
    Usage,
    Waiting,
)
from rkllama_flask.generation.request import GenerationRequest, JsonFormat, Tool
from tests.api.stub import StubGeneration, finished, make_model

ASKED = GenerationRequest(model=make_model("tiny"), messages=(), tools=(Tool("f"),), format=JsonFormat())
CALL = (ToolCallStarted(0, "call_a", "f"), ToolArguments(0, "{}"), ToolCallFinished(0), finished("tool_calls"))
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
    assert model.answer()[:-1] == list(JSON[:-1])
    assert [run.ending for run in model.runs] == [True, False]
    assert model.requests[1] == ASKED


def test_each_run_is_told_to_those_who_count() -> None:
    model = Model((Text("{"), finished()), JSON)
    answer = CallsFirst(model, ASKED)
    list(answer)
    answer.close()
    assert [run.closed for run in model.runs] == [True, True]


def test_a_call_that_follows_json_comes_too_late() -> None:
    assert Model((Text("{"), *CALL), JSON).answer()[:-1] == list(JSON[:-1])


@pytest.mark.parametrize("free", [(), (Text("Well, "), Text("no."))])
def test_an_answer_without_a_call_is_asked_for_in_the_format(free: Any) -> None:
    assert Model((*free, finished()), JSON).answer()[:-1] == list(JSON[:-1])


def test_nobody_thinks_twice() -> None:
    model = Model((Reasoning("Hm."), Text("No."), finished()), JSON)
    assert model.answer()[:-1] == [Reasoning("Hm."), *JSON[:-1]]
    assert model.requests[1].thinking is False


def test_what_it_has_cost_is_that_of_both_runs() -> None:
    first = finished(prompt=50, completion=7, cached_tokens=20, reasoning_tokens=5)
    second = (*JSON[:-1], finished(prompt=50, completion=9, cached_tokens=48))
    end = Model((Reasoning("Hm."), Text("{"), first), second).answer()[-1]
    assert end.usage == Usage(50, 16, cached_tokens=18, reasoning_tokens=5)
    assert end.timings == Timings(*(2 * time for time in first.timings))


def test_the_limit_is_that_of_both_runs() -> None:
    model = Model((Text("Well."), finished(completion=7)), JSON)
    list(CallsFirst(model, replace(ASKED, max_tokens=20)))
    assert [request.max_tokens for request in model.requests] == [20, 13]
    cut = Model((Text("Well, "), finished("length")))
    assert cut.answer() == [Text("Well, "), finished("length")]


def test_a_reader_may_look_for_its_client_while_text_is_held() -> None:
    model = Model((Text("a"), Text("b"), finished()), JSON)
    assert list(CallsFirst(model, ASKED))[:3] == [Waiting(0)] * 3
