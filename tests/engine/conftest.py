"""An engine on the scripted runtime, in this process, read by plain threads."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rkllama_flask.engine.engine import Engine
from rkllama_flask.engine.jobs import Done, Failed, Generate, Job, ModelSpec, Piece, RunResult, Started
from tests.conftest import scripted_library


@pytest.fixture
def make_engine(family: str, tmp_path: Path) -> Iterator[Callable[..., Engine]]:
    engines: list[Engine] = []

    def make(**options: Any) -> Engine:
        values = {"lock_path": tmp_path / "npu.lock", "libraries": {"rkllm": scripted_library(family), "gguf": None}}
        engine = Engine(**(values | options))
        engines.append(engine)
        return engine

    yield make
    for engine in engines:
        assert engine.close(), "the engine thread did not end"


@pytest.fixture
def engine(make_engine: Callable[..., Engine]) -> Engine:
    return make_engine()


@pytest.fixture
def model(tmp_path: Path) -> Callable[..., ModelSpec]:
    """A model file whose content is a script: `model("name", "load_ms=50")`."""

    def make(name: str = "model", script: str = "load_ms=0", context_length: int = 4096, **values: Any) -> ModelSpec:
        path = tmp_path / f"{name}.rkllm"
        path.write_text(script)
        return ModelSpec(name, path, "rkllm", f"{name}:{script}", context_length, size=1, **values)

    return make


def wait(job: Job, timeout: float = 10) -> Any:
    """The job's result; raises its error."""
    while True:
        event = job.mailbox.get(timeout)
        if isinstance(event, Failed):
            raise event.error
        if isinstance(event, Done):
            return event.result


def read(job: Generate, timeout: float = 10) -> tuple[str, RunResult]:
    """The whole text of an answer and how it ended; raises its error."""
    text = ""
    while True:
        event = job.mailbox.get(timeout)
        if isinstance(event, Failed):
            raise event.error
        if isinstance(event, Piece):
            text += event.text
        if isinstance(event, Done):
            assert isinstance(event.result, RunResult)
            return text, event.result
        assert isinstance(event, Piece | Started | Done)
