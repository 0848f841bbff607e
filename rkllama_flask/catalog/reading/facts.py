"""What is known about a model, from its metadata, side files and names. What isn't known stays None."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from rkllama_flask.catalog.model import Format, Model, Modelfile
from rkllama_flask.catalog.reading.names import FileName
from rkllama_flask.catalog.reading.side_files import SideFacts

DEFAULT_CONTEXT = 4096
MAX_RKLLM_CONTEXT = 16384
"""The toolkit compiles no larger context into a file; `-128k` in a name is then part of the model's own name."""

# llama.cpp's `llama_ftype`; 4 to 6 and 33 to 35 are layouts that no longer exist.
_FILE_TYPES = {0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K"} | {
    11: "Q3_K_S", 12: "Q3_K_M", 13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K",
    19: "IQ2_XXS", 20: "IQ2_XS", 21: "Q2_K_S", 22: "IQ3_XS", 23: "IQ3_XXS", 24: "IQ1_S", 25: "IQ4_NL", 26: "IQ3_S",
    27: "IQ3_M", 28: "IQ2_S", 29: "IQ2_M", 30: "IQ4_XS", 31: "IQ1_M", 32: "BF16", 36: "TQ1_0", 37: "TQ2_0",
    38: "MXFP4_MOE",
}  # fmt: skip

# How a name gives the architecture away; the first that fits counts.
_FAMILIES = {
    r"distill-?qwen|deepseek-?r1-(1\.5|7|14|32)b|qwen-?(1|1\.5|2|2\.5)(?![\d.])": "qwen2",
    r"qwen-?3[._]5": "qwen35",
    r"qwen-?3": "qwen3",
    r"qwen": "qwen2",
    r"gemma-?3n": "gemma3n",
    r"gemma-?4": "gemma4",
    r"gemma-?3": "gemma3",
    r"gemma-?2": "gemma2",
    r"gemma": "gemma",
    r"smollm-?3": "smollm3",
    r"distill-?llama|deepseek-?r1-(8|70)b|llama|smollm|vicuna": "llama",
    r"phi-?[34]": "phi3",
    r"phi-?2": "phi2",
    r"minicpm-?3": "minicpm3",
    r"minicpm": "minicpm",
    r"internlm-?[23]": "internlm2",
    r"chatglm": "chatglm",
    r"telechat": "telechat",
    r"rwkv": "rwkv",
    r"mi[sx]tral|ministral": "mistral",
}
_EMBEDDING_FAMILIES = ("bert", "nomic-bert", "jina-bert-v2", "modern-bert", "gemma-embedding", "t5encoder")
_EMBEDDING_NAMES = re.compile(r"(?:^|[-_.])(?:embed(?:ding)?s?|bge|gte|e5|minilm)(?=$|[-_.\d])")
_THOUSANDS = re.compile(r"(?:^|(?<=[-_.]))(\d{1,4})k(?=$|[-_.])")
_SIZE = re.compile(r"(?:^|(?<=[-_.]))((?:\d{1,2}x)?\d{1,4}(?:[._]\d{1,3})?[bm])(?=$|[-_.])")


@dataclass(frozen=True)
class Facts:
    """The part of a Model that is found out."""

    context_length: int
    family: str | None
    parameter_count: int | None
    parameter_size: str | None
    quantization: str | None
    embedding_length: int | None
    block_count: int | None


def gather(
    *,
    format: Format,
    names: tuple[FileName, ...],
    side: SideFacts,
    modelfile: Modelfile,
    metadata: Mapping[str, Any],
    parameter_count: int | None,
) -> Facts:
    """Put together what the sources say; `names` are the file's and its folder's, the more telling first."""
    family = _text(metadata.get("general.architecture"))
    trained = _count(metadata.get(f"{family}.context_length"))
    quantizations = [name.packaging.quantization for name in names if name.packaging.quantization]
    sizes = [match.group(1) for name in names if (match := _SIZE.search(name.friendly))]
    file_type = metadata.get("general.file_type")
    return Facts(
        context_length=context_length(format, names, modelfile, trained),
        family=family
        or (side.model_type and (_family_in(side.model_type) or side.model_type))
        or next((found for name in names if (found := _family_in(name.friendly))), None),
        parameter_count=parameter_count,
        parameter_size=human_count(parameter_count)
        if parameter_count
        else next((size.upper().replace("_", ".").replace("X", "x") for size in sizes), None),
        quantization=(_FILE_TYPES.get(file_type) if isinstance(file_type, int) else None)
        or next((text.upper() for text in quantizations), None),
        embedding_length=_count(metadata.get(f"{family}.embedding_length")) or side.embedding_length,
        block_count=_count(metadata.get(f"{family}.block_count")) or side.block_count,
    )


def context_length(
    format: Format, names: tuple[FileName, ...], modelfile: Modelfile, trained: int | None = None
) -> int:
    """In tokens: the Modelfile's within what the model was trained for, else that, else the file name's, else 4096."""
    if modelfile.context_length is not None:
        return min(modelfile.context_length, trained or modelfile.context_length)
    if trained is not None:
        return trained
    for name in names:
        said = _context_in(name)
        if said is not None and (format == "gguf" or said <= MAX_RKLLM_CONTEXT):
            return said
    return DEFAULT_CONTEXT


def human_count(count: int) -> str:
    """As Ollama writes sizes: `134.52M`, `7.6B`."""
    for unit, letter, digits in ((10**9, "B", 1), (10**6, "M", 2), (10**3, "K", 0)):
        if count >= unit:
            return f"{count // unit}{letter}" if count % unit == 0 else f"{count / unit:.{digits}f}{letter}"
    return str(count)


def pooling(model: Model) -> Literal["mean", "cls", "last"] | None:
    """How this model's embeddings are made of its hidden states; None where nothing says so."""
    if model.modelfile.pooling is not None:
        return model.modelfile.pooling
    kinds: dict[Any, Literal["mean", "cls", "last"]] = {1: "mean", 2: "cls", 3: "last"}
    return kinds.get(model.metadata.get(f"{model.family}.pooling_type"))


def capabilities(model: Model) -> tuple[str, ...]:
    """`embedding` alone for an embedding model, else `completion`, with `embedding` where the Modelfile says how.

    What a chat template offers (tools, thinking) is not known here.
    """
    if model.family in _EMBEDDING_FAMILIES or _EMBEDDING_NAMES.search(model.path.stem.lower()):
        return ("embedding",)
    if f"{model.family}.pooling_type" in model.metadata:
        return ("embedding",)
    return ("completion", "embedding") if model.modelfile.pooling is not None else ("completion",)


def _context_in(name: FileName) -> int | None:
    text = name.packaging.context
    if text is None:
        match = _THOUSANDS.search(name.friendly)
        return int(match.group(1)) * 1024 if match else None
    return int(text.removesuffix("k")) * (1024 if text.endswith("k") else 1)


def _family_in(text: str) -> str | None:
    return next((family for sign, family in _FAMILIES.items() if re.search(sign, text)), None)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None
