"""Filling in the middle: what stands before a gap and what stands behind it, as a model was trained to read them."""

# ruff: noqa: RUF001 - DeepSeek's markers are written with a full-width bar

from collections.abc import Collection
from typing import NamedTuple

from rkllama_flask.catalog.model import Model
from rkllama_flask.generation.prompt.segments import Prompt, Segment


class _Form(NamedTuple):
    """The special tokens around the two parts; with `suffix_first` the part behind the gap comes first."""

    first: str
    second: str
    end: str
    suffix_first: bool = False


_FORMS = (
    _Form("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),  # Qwen2.5-Coder, CodeGemma
    _Form("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),  # StarCoder, Granite
    _Form("<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"),  # DeepSeek-Coder
    _Form("[SUFFIX]", "[PREFIX]", "", suffix_first=True),  # Codestral
)


_GGUF_IDS = (("fim_pre", "fim_suf", "fim_mid"), ("prefix", "suffix", "middle"))


def fills_gaps(model: Model) -> bool:
    """Whether a model's files name tokens for this: known without its tokenizer, so some that could are left out."""
    if infill("", "", model.special_tokens) is not None:
        return True
    keys = ([f"tokenizer.ggml.{name}_token_id" for name in names] for names in _GGUF_IDS)
    return any(all(key in model.metadata for key in group) for group in keys)


def infill(prefix: str, suffix: str, special_strings: Collection[str]) -> Prompt | None:
    """The prompt, for a model that has these special strings; None for one that knows no gaps."""
    for form in _FORMS:
        if {form.first, form.second, form.end} - {""} <= set(special_strings):
            before, behind = (suffix, prefix) if form.suffix_first else (prefix, suffix)
            return Prompt((Segment(f"{form.first}{before}{form.second}{behind}{form.end}", trusted=True),))
    return None
