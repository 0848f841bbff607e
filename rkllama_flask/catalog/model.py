"""A model on disk, as everything above the engine knows it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from rkllama_flask.sampling import Sampling

Format = Literal["rkllm", "gguf"]


@dataclass(frozen=True)
class Modelfile:
    """What the side file beside the weights says; None or empty means "not said".

    `max_tokens` from 0 down means that answers have no limit but the context's. `parameters` holds PARAMETER lines by
    name (`stop` a list of strings). `input` is how prompts are handed to the runtime: `auto`, `text` or `tokens`.
    `adapters` are (path, scale) pairs.
    """

    system: str | None = None
    template: str | None = None
    sampling: Sampling = Sampling()
    stop: tuple[str, ...] = ()
    max_tokens: int | None = None
    context_length: int | None = None
    pooling: Literal["mean", "last"] | None = None
    input: Literal["auto", "text", "tokens"] = "auto"
    eos_token_ids: tuple[int, ...] = ()
    adapters: tuple[tuple[Path, float], ...] = ()
    messages: tuple[tuple[str, str], ...] = ()
    license: tuple[str, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Model:
    """One name for weights on disk; several names may share one file.

    `name` is the friendly name without a tag unless it has one of its own (`qwen3-0.6b`), `identity` changes whenever
    the file's content can have (size, inode, times of change). `size` is in bytes, `modified_at` in Unix seconds,
    `context_length` in tokens. Facts that are not known are None: nothing is invented. `digest` is 64 hex digits.
    `chat_template` is the one in force, the Modelfile's before any other; where tools are on offer, `tool_template` is,
    if there is one. `recommended_sampling` is what the model's makers advise in generation_config.json;
    `modelfile.sampling` goes before it. `special_tokens` are those that tokenizer_config.json lists.
    """

    name: str
    path: Path
    format: Format
    identity: str
    size: int
    modified_at: float
    digest: str
    context_length: int
    family: str | None = None
    parameter_count: int | None = None
    parameter_size: str | None = None
    quantization: str | None = None
    embedding_length: int | None = None
    block_count: int | None = None
    chat_template: str | None = None
    tool_template: str | None = None
    bos_token: str | None = None
    eos_token: str | None = None
    eos_token_ids: tuple[int, ...] = ()
    tokenizer_path: Path | None = None
    recommended_sampling: Sampling = Sampling()
    special_tokens: tuple[str, ...] = ()
    modelfile: Modelfile = Modelfile()
    metadata: Mapping[str, Any] = field(default_factory=dict)
