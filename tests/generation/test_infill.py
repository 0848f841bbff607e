"""What stands before and behind a gap, as models that fill it in want it."""

from pathlib import Path
from typing import Any

import pytest

from rkllama_flask.catalog.model import Model
from rkllama_flask.errors import UnsupportedRequest
from rkllama_flask.generation.prompt.infill import fills_gaps, infill
from rkllama_flask.generation.prompts import Prompts
from rkllama_flask.generation.request import GenerationRequest
from tests.generation.data.cases import byte_tokenizer, make_model

MARKS = ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>")


@pytest.mark.parametrize(
    ("special", "prompt"),
    [
        (MARKS, "<|fim_prefix|>a<|fim_suffix|>b<|fim_middle|>"),
        (("<fim_middle>", "<fim_prefix>", "<fim_suffix>", "<s>"), "<fim_prefix>a<fim_suffix>b<fim_middle>"),
        (("<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"), "<｜fim▁begin｜>a<｜fim▁hole｜>b<｜fim▁end｜>"),
        (("[PREFIX]", "[SUFFIX]"), "[SUFFIX]b[PREFIX]a"),
        (("<s>", "<|fim_prefix|>"), None),
        ((), None),
    ],
)
def test_each_family_has_its_own_marks(special: tuple[str, ...], prompt: str | None) -> None:
    found = infill("a", "b", special)
    assert (found and found.text) == prompt


@pytest.fixture
def coder(tmp_path: Path) -> Model:
    """A model whose tokenizer has the marks, and a token for each byte."""
    (tmp_path / "tokenizer.json").write_text(byte_tokenizer().to_str())
    return make_model(tokenizer_path=tmp_path / "tokenizer.json")


def built(model: Model, prompt: Any) -> Any:
    return Prompts().build(GenerationRequest(model=model, prompt=prompt, suffix=" end")).content


def test_the_marks_are_the_models_own_tokens(coder: Model) -> None:
    assert len(built(coder, "begin ")) == len("begin  end") + len(MARKS)
    assert len(built(coder, "")) == len(" end") + len(MARKS)


def test_a_model_that_knows_no_gaps_refuses() -> None:
    with pytest.raises(UnsupportedRequest) as refusal:
        built(make_model(), "begin ")
    assert refusal.value.param == "suffix"


def test_token_ids_have_no_suffix(coder: Model) -> None:
    with pytest.raises(UnsupportedRequest, match="text"):
        built(coder, (1, 2))


def test_what_a_models_files_say_of_it() -> None:
    assert fills_gaps(make_model(special_tokens=MARKS))
    for names in (("fim_pre", "fim_suf", "fim_mid"), ("prefix", "suffix", "middle")):
        ids = {f"tokenizer.ggml.{name}_token_id": number for number, name in enumerate(names)}
        assert fills_gaps(make_model(metadata=ids))
        ids.popitem()
        assert not fills_gaps(make_model(metadata=ids))
    assert not fills_gaps(make_model())
