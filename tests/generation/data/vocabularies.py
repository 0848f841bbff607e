"""Small vocabularies in GGUF's words, learned from the test texts."""

import json
from functools import cache
from typing import Any

from tokenizers import Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer

from tests.generation.data.texts import TEXTS

_HEAD: dict[str, Any] = {
    "general.architecture": "llama",
    "general.name": "test",
    "llama.block_count": 1,
    "llama.context_length": 512,
    "llama.embedding_length": 64,
    "llama.feed_forward_length": 64,
    "llama.attention.head_count": 1,
    "llama.attention.layer_norm_rms_epsilon": 1e-5,
    "llama.rope.dimension_count": 64,
}
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, BYTE = 1, 2, 3, 4, 6
SPECIAL = {"<s>": CONTROL, "</s>": CONTROL, "<|im_start|>": CONTROL, "<|im_end|>": CONTROL, "<think>": USER_DEFINED}


@cache
def byte_pairs() -> dict[str, Any]:
    """A byte-pair vocabulary whose pairs reach over words, digits and line ends, so that every cut shows."""
    library = Tokenizer(BPE())
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    trainer = BpeTrainer(
        vocab_size=6000,
        min_frequency=1,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    library.train_from_iterator(TEXTS, trainer)
    tokens, merges = _learned(library)
    added = {**SPECIAL, "     ": USER_DEFINED}
    return {
        **_HEAD,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.tokens": [*tokens, *added],
        "tokenizer.ggml.token_type": [NORMAL] * len(tokens) + list(added.values()),
        "tokenizer.ggml.merges": merges,
        "tokenizer.ggml.bos_token_id": len(tokens),
        "tokenizer.ggml.eos_token_id": len(tokens) + 1,
    }


@cache
def sentence_pieces() -> dict[str, Any]:
    """A SentencePiece vocabulary with bytes for what it does not know."""
    library = Tokenizer(BPE())
    library.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    library.pre_tokenizer = pre_tokenizers.Split("\n", "isolated")
    trainer = BpeTrainer(vocab_size=2500, min_frequency=2, limit_alphabet=300, show_progress=False)
    library.train_from_iterator(TEXTS, trainer)
    learned, merges = _learned(library)
    merged = {"".join(merge.split(" ")): -float(rank) for rank, merge in enumerate(merges)}
    head = {"<unk>": UNKNOWN, **SPECIAL}
    tokens = [token for token in learned if token not in head and token != "\n"]
    types = [*head.values(), *[BYTE] * 256, *[NORMAL] * len(tokens)]
    return {
        **_HEAD,
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": [*head, *(f"<0x{byte:02X}>" for byte in range(256)), *tokens],
        "tokenizer.ggml.token_type": types,
        "tokenizer.ggml.scores": [0.0] * (len(head) + 256)
        + [merged.get(token, -1e5 - i) for i, token in enumerate(tokens)],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
    }


def _learned(library: Tokenizer) -> tuple[list[str], list[str]]:
    model = json.loads(library.to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].__getitem__)
    return tokens, [" ".join(merge) for merge in model["merges"]]
