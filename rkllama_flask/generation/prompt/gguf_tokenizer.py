"""A tokenizer out of a GGUF file's metadata, with the same cuts llama.cpp makes.

Byte-pair vocabularies (`gpt2`) cut the text by the regular expressions that `tokenizer.ggml.pre` names before pairs are
merged; SentencePiece vocabularies (`llama`) merge by score. Source of names and rules: llama.cpp's llama-vocab.cpp.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE

from rkllama_flask.generation.prompt.special_text import is_markup

_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED = 1, 2, 3, 4
"""Token types of GGUF; byte tokens have 6."""

_ENDINGS = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
_SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)"
_UPPER, _LOWER = r"((?=[\p{L}])([^a-z]))", r"((?=[\p{L}])([^A-Z]))"


def _words(digits: str, marks: str = "") -> str:
    """Words with one character before them, digits apart, runs of signs with the line ends after them."""
    return (
        rf"{_ENDINGS}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}{marks}]+|{digits}"
        rf"| ?[^\s\p{{L}}{marks}\p{{N}}]+[\r\n]*|{_SPACES}"
    )


def _cased_words(digits: str, endings: str) -> str:
    """Words cut where capitals follow small letters."""
    head = r"[^\r\n\p{L}\p{N}]?"
    return (
        rf"{head}{_UPPER}*{_LOWER}+{endings}|{head}{_UPPER}+{_LOWER}*{endings}|{digits}"
        rf"| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_SPACES}"
    )


_DEEPSEEK_V3 = (
    r"\p{N}{1,3}",
    "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+",
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
    rf"| ?[\p{{P}}\p{{S}}]+[\r\n]*|{_SPACES}",
)
_LLAMA3 = frozenset(("llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"))
_CUTS: dict[str, tuple[str, ...]] = {
    "default": (r"[\p{P}\$\+<=>\^~\|]+", _GPT2, r"\p{N}+", "[0-9][0-9][0-9]"),
    "falcon": (r"[\p{P}\$\+<=>\^~\|`]+", _GPT2, "[0-9][0-9][0-9]"),
    "deepseek-coder": (
        *(r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+"),
        r"(?:(?!\s)[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff])+",
        r"\p{N}",
    ),
    "tekken": (_cased_words(r"\p{N}", ""),),
    "qwen35": (_words(r"\p{N}", r"\p{M}"),),
    **dict.fromkeys(("deepseek-v3", "hunyuan-dense", "joyai-llm"), _DEEPSEEK_V3),
    **dict.fromkeys(("gpt-4o", "llama4", "kanana2", "minimax-m2"), (_cased_words(r"\p{N}{1,3}", f"{_ENDINGS}?"),)),
    **dict.fromkeys(
        (*_LLAMA3, "smaug-bpe", "dbrx", "chatglm-bpe", "glm4", "glm5"),
        (_words(r"\p{N}{1,3}"),),
    ),
    **dict.fromkeys(
        ("qwen2", "deepseek-r1-qwen", "megrez", "hunyuan", "stablelm2", "kormo", "f2llmv2", "solar-open", "grok-2"),
        (_words(r"\p{N}"),),
    ),
    **dict.fromkeys(
        ("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b", "mellum2"),
        (r"\p{N}", _GPT2),
    ),
    **dict.fromkeys(
        (
            *("gpt-2", "phi-2", "mpt", "olmo", "jais", "trillion", "granite-docling", "exaone4", "gigachat"),
            *("a.x-4.0", "mellum", "modern-bert", "jina-v2-code", "roberta-bpe"),
        ),
        (_GPT2,),
    ),
}
_WHOLE_WORDS = _LLAMA3 | {"tekken", "glm4", "glm5"}
"""A cut piece that is a token by itself is not merged from its parts."""
_BOS_BY_DEFAULT = _LLAMA3 | {"tekken"}


@dataclass(frozen=True)
class BuiltTokenizer:
    """`bos` is the id of the token that opens a text, whether or not `adds_bos`."""

    library: Tokenizer
    bos: int | None
    adds_bos: bool


def build_tokenizer(metadata: Mapping[str, Any]) -> BuiltTokenizer | None:
    """From complete metadata, long arrays too; None for a vocabulary whose rules aren't known here."""
    tokens = metadata.get("tokenizer.ggml.tokens")
    kind = metadata.get("tokenizer.ggml.model")
    if not isinstance(tokens, list) or not tokens:
        return None
    types = metadata.get("tokenizer.ggml.token_type") or [_NORMAL] * len(tokens)
    pre = metadata.get("tokenizer.ggml.pre") or "default"
    if kind == "gpt2" and pre in _CUTS:
        library = _byte_pairs(tokens, metadata.get("tokenizer.ggml.merges") or [], pre)
        adds_bos = pre in _BOS_BY_DEFAULT
    elif kind == "llama":
        scores = metadata.get("tokenizer.ggml.scores") or [0.0] * len(tokens)
        prefix = metadata.get("tokenizer.ggml.add_space_prefix", True)
        library = _sentence_pieces(tokens, types, scores, prefix=bool(prefix))
        adds_bos = True
    else:
        return None
    template = str(metadata.get("tokenizer.chat_template", ""))
    library.add_tokens(
        [
            AddedToken(token, special=kind != _USER_DEFINED or is_markup(token, template), normalized=False)
            for token, kind in zip(tokens, types, strict=False)
            if kind in (_UNKNOWN, _CONTROL, _USER_DEFINED)
        ]
    )
    bos = metadata.get("tokenizer.ggml.bos_token_id", 1 if kind == "llama" else None)
    adds_bos = bool(metadata.get("tokenizer.ggml.add_bos_token", adds_bos))
    return BuiltTokenizer(library, bos if isinstance(bos, int) else None, adds_bos)


def _byte_pairs(tokens: list[str], merges: list[str], pre: str) -> Tokenizer:
    vocabulary = {token: index for index, token in enumerate(tokens)}
    pairs = [(left, right) for left, _, right in (merge[1:].partition(" ") for merge in merges)]
    pairs = [(merge[0] + left, right) for merge, (left, right) in zip(merges, pairs, strict=True)]
    known = [pair for pair in pairs if {*pair, "".join(pair)} <= vocabulary.keys()]
    library = Tokenizer(BPE(vocab=vocabulary, merges=known, ignore_merges=pre in _WHOLE_WORDS))
    cuts = [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in _CUTS[pre]]
    library.pre_tokenizer = pre_tokenizers.Sequence(
        [*cuts, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    library.decoder = decoders.ByteLevel()
    return library


def _sentence_pieces(tokens: list[str], types: list[int], scores: list[float], *, prefix: bool) -> Tokenizer:
    vocabulary = {token: index for index, token in enumerate(tokens)}
    mergeable = {token: index for token, index in vocabulary.items() if types[index] not in (_UNKNOWN, _CONTROL)}
    pairs = [
        (-scores[index], cut, token[:cut], token[cut:])
        for token, index in mergeable.items()
        for cut in range(1, len(token))
        if token[:cut] in mergeable and token[cut:] in mergeable
    ]
    pairs.sort()
    unknown = next((token for token, kind in zip(tokens, types, strict=False) if kind == _UNKNOWN), None)
    library = Tokenizer(
        BPE(
            vocab=vocabulary,
            merges=[(left, right) for _, _, left, right in pairs],
            unk_token=unknown,
            byte_fallback=True,
            fuse_unk=True,
        )
    )
    spaces = normalizers.Replace(" ", "▁")
    library.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), spaces]) if prefix else spaces
    strip = [decoders.Strip(" ", 1, 0)] if prefix else []
    library.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *strip])
    return library
