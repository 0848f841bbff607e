"""Which model answers to a name, and how long an answer may be when nobody says."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rkllama_flask.catalog.catalog import Catalog
from rkllama_flask.engine.engine import Engine
from rkllama_flask.errors import ContextLengthExceeded, InvalidRequest, ModelNotFound
from rkllama_flask.generation.events import Finished
from rkllama_flask.generation.inference import Inference
from rkllama_flask.generation.request import UNLIMITED, GenerationRequest
from rkllama_flask.inference_config import DEFAULT_MAX_NEW_TOKENS, LiveConfig
from tests.catalog.gguf_files import gguf_bytes
from tests.conftest import scripted_library

Make = Callable[..., Inference]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """An inference with the models `one` and `two-16k`."""
    engines = []

    def made(config: str = "", modelfile: str = "", **options: Any) -> Inference:
        for name in ("one", "two-16k"):
            folder = tmp_path / "models" / name
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{name}.rkllm").write_text("load_ms=0\ncontext_limit=16384")
            (folder / "Modelfile").write_text(f"FROM {name}.rkllm\n{modelfile}")
        if config:
            (tmp_path / "config.json").write_text(config)
        libraries = {"rkllm": scripted_library("1.3"), "gguf": None}
        engines.append(Engine(libraries=libraries, lock_path=tmp_path / "npu.lock"))
        return Inference(engines[-1], Catalog(tmp_path / "models"), LiveConfig(tmp_path / "config.json"), **options)

    yield made
    for engine in engines:
        assert engine.close()


def answer(inference: Inference, prompt: str, **fields: Any) -> Finished:
    request = GenerationRequest(model=inference.find("two-16k"), prompt=prompt, **fields)
    events = list(inference.generate(request))
    assert isinstance(events[-1], Finished)
    return events[-1]


def test_an_unknown_name_is_answered_by_no_other_model(make: Make) -> None:
    inference = make()
    for find in (inference.find, inference.choose):
        with pytest.raises(ModelNotFound, match="gpt-4o-mini"):
            find("gpt-4o-mini")


def test_without_a_name_text_is_not_asked_of_a_model_that_only_makes_embeddings(make: Make, tmp_path: Path) -> None:
    inference = make()
    shutil.rmtree(tmp_path / "models" / "two-16k")
    encoder = gguf_bytes({"general.architecture": "bert", "bert.context_length": 512})
    (tmp_path / "models" / "minilm.gguf").write_bytes(encoder)
    assert inference.choose(None, writes=True).name == "one"
    with pytest.raises(InvalidRequest, match="Name a model"):
        inference.choose(None)


def test_an_alias_is_a_further_name(make: Make) -> None:
    inference = make(model_aliases={"gpt-4o-mini": "two-16k", "gone": "three"})
    assert inference.choose("gpt-4o-mini").name == "two-16k"
    assert {name: model.name for name, model in inference.names().items()} == {
        "one": "one",
        "two-16k": "two-16k",
        "gpt-4o-mini": "two-16k",
    }
    with pytest.raises(ModelNotFound, match="three"):
        inference.choose("gone")


def test_unknown_names_have_a_model_of_their_own_where_the_operator_says_so(make: Make) -> None:
    inference = make(fallback_model="one")
    assert inference.choose("gpt-5").name == "one"
    assert inference.choose("two-16k").name == "two-16k"


def test_an_answer_without_a_limit_ends_at_the_default_and_says_so(make: Make) -> None:
    finished = answer(make(), "<<script tokens=6000>>")
    assert (finished.usage.completion_tokens, finished.reason) == (DEFAULT_MAX_NEW_TOKENS, "length")


@pytest.mark.parametrize(
    ("made", "asked"),
    [
        ({}, UNLIMITED),
        ({"config": '{"inference_params": {"max_new_tokens": 0}}'}, None),
        ({"modelfile": "PARAMETER num_predict -1"}, None),
    ],
)
def test_who_wants_no_limit_gets_none(make: Make, made: dict[str, str], asked: int | None) -> None:
    finished = answer(make(**made), "<<script tokens=4500>>", max_tokens=asked)
    assert (finished.usage.completion_tokens, finished.reason) == (4500, "stop")


def test_a_larger_context_is_advised_only_where_there_is_one(make: Make) -> None:
    long: Any = tuple(range(1, 20_000))
    for options, advised in (({}, False), ({"max_context_length": 2048}, True)):
        inference = make(**options)
        with pytest.raises(ContextLengthExceeded) as refusal:
            answer(inference, long)
        assert ("up to 16384" in refusal.value.message) == advised
