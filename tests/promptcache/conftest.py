"""An engine with a cache folder on the scripted runtime, in this process; and whole servers to ask over HTTP."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rkllama_flask.engine.engine import Engine
from rkllama_flask.engine.jobs import ModelSpec
from rkllama_flask.promptcache.store import CacheStore
from tests.conftest import scripted_library
from tests.native import journal


@pytest.fixture
def store(tmp_path: Path) -> CacheStore:
    return CacheStore(tmp_path / "cache", max_bytes=1 << 20)


@pytest.fixture
def make_engine(family: str, tmp_path: Path, store: CacheStore) -> Iterator[Callable[..., Engine]]:
    engines: list[Engine] = []

    def make(**options: Any) -> Engine:
        values = {
            "lock_path": tmp_path / "npu.lock",
            "libraries": {"rkllm": scripted_library(family), "gguf": None},
            "cache_store": store,
        }
        engine = Engine(**(values | options))
        engines.append(engine)
        return engine

    yield make
    for engine in engines:
        assert engine.close(), "the engine thread did not end"


@pytest.fixture
def entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[journal.Entry]]:
    """What the runtime was asked: `entries("run")`."""
    path = tmp_path / "calls.log"
    monkeypatch.setenv("RKLLM_SCRIPT_LOG", str(path))
    return lambda what: [entry for entry in journal.read(path) if entry.what == what]


@pytest.fixture
def engine(make_engine: Callable[..., Engine], entries: object) -> Engine:
    return make_engine()


@pytest.fixture
def model(tmp_path: Path) -> Callable[..., ModelSpec]:
    """A model file whose content is a script: `model("load_ms=50")`."""

    def make(script: str = "load_ms=0", name: str = "tiny", **values: Any) -> ModelSpec:
        path = tmp_path / f"{name}.rkllm"
        path.write_text(script)
        return ModelSpec(
            name, path, "rkllm", **({"identity": f"{name}:{script}", "context_length": 4096, "size": 1} | values)
        )

    return make
