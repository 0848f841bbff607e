"""Reads the runtime's log lines: return codes say only that something failed, the lines say what and why.

The texts are those the library is known to print. None of the patterns takes up text of a user: what they match may be
shown even where the library prints prompts.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from rkllama_flask.errors import (
    ContextLengthExceeded,
    ContextTooLarge,
    ModelUnusable,
    RkllamaError,
    RuntimeFailed,
    StorageFull,
    UnsupportedRequest,
)


@dataclass(frozen=True)
class ModelFacts:
    """What the library says about a loaded model; None where it did not.

    `context_limit` is the largest context in tokens the model was converted for, `dtype` its quantisation, `cpus` the
    cores that help the NPU. This is the only place where the library tells these things.
    """

    context_limit: int | None = None
    npu_cores: int | None = None
    platform: str | None = None
    dtype: str | None = None
    toolkit_version: str | None = None
    runtime_version: str | None = None
    driver_version: str | None = None
    cpus: tuple[int, ...] | None = None


_FACTS = tuple(
    re.compile(pattern)
    for pattern in (
        r"rkllm-runtime version: (?P<runtime_version>[^,]+), rknpu driver version: (?P<driver_version>[^,]+)"
        r", platform: (?P<platform>\S+)",
        r"rkllm-toolkit version: (?P<toolkit_version>[^,]+), max_context_limit: (?P<context_limit>\d+)"
        r", npu_core_num: (?P<npu_cores>\d+)(?:, target_platform: (?P<platform>[^,\s]+))?"
        r"(?:, model_dtype: (?P<dtype>\S+))?",
        r"Enabled cpus: \[(?P<cpus>[\d, ]*)\]",
    )
)
_NUMBERS = ("context_limit", "npu_cores")


def read_facts(lines: Sequence[str]) -> ModelFacts:
    """The facts in the lines of an init; a later line wins."""
    found: dict[str, str] = {}
    for line in lines:
        for pattern in _FACTS:
            if match := pattern.search(line):
                found |= {name: value for name, value in match.groupdict().items() if value is not None}
    cpus = found.pop("cpus", None)
    numbers: dict[str, Any] = {name: int(found.pop(name)) for name in _NUMBERS if name in found}
    texts: dict[str, Any] = {name: text for name, text in found.items() if text not in ("unknown", "none")}
    return ModelFacts(
        **texts,
        **numbers,
        cpus=None if cpus is None else tuple(int(cpu) for cpu in re.findall(r"\d+", cpus)),
    )


class Known(NamedTuple):
    """A line that tells why a call failed, and what to say of it; `{0}` is the pattern's first group."""

    pattern: re.Pattern[str]
    kind: Callable[[str], RkllamaError]
    sentence: str


def _known(pattern: str, kind: Callable[[str], RkllamaError], sentence: str) -> Known:
    return Known(re.compile(pattern, re.IGNORECASE), kind, sentence)


_REASONS = (
    _known(
        r"rkllm-runtime version is lower than the rkllm-toolkit version.*?to (\d[\w.]*) or higher",
        ModelUnusable,
        "The model was converted for a newer runtime: update librkllmrt.so to {0} or higher.",
    ),
    _known(
        r"rkllm-runtime version is lower than the rkllm-toolkit version",
        ModelUnusable,
        "The model was converted for a newer runtime: update librkllmrt.so.",
    ),
    _known(
        r"(?:model's )?target_platform does not match the real platform",
        ModelUnusable,
        "The model was converted for another Rockchip chip: take the file for this board's.",
    ),
    _known(
        r"(?:model architecture (?:'?([\w.-]+)'? )?is not supported|unsupported model architecture)",
        ModelUnusable,
        "The model's architecture is not supported by this runtime: update librkllmrt.so.",
    ),
    _known(
        r"invalid (?:rknn llm model magic|magic char)",
        ModelUnusable,
        "The file is no model of this runtime (RKLLM 1.0 files must be converted again with a current toolkit).",
    ),
    # What the machine lacks, before what the same call says of the file.
    _known(
        r"platform error\W+must be",
        RuntimeFailed,
        "This machine has no NPU that the library knows (RK3588, RK3576, RK3562, RV1126B).",
    ),
    _known(
        r"failed to open rknpu module|/dev/(?:dri|rknpu|dma_heap)\S*.*(?:permission denied|operation not permitted)",
        RuntimeFailed,
        "The NPU's driver does not answer: load the rknpu module, and let this user open /dev/dri, /dev/rknpu and "
        "/dev/dma_heap.",
    ),
    _known(
        r"failed to (?:malloc|alloc\w*) npu memory|failed to allocate handle|failed to convert (?:fd|handle)"
        r"|cannot allocate memory",
        RuntimeFailed,
        "The NPU's memory is full: unload other models, or load this one with a smaller context.",
    ),
    _known(
        r"failed to open '|invalid rkllm model|failed to read (?:header|key-value|tensor)",
        ModelUnusable,
        "The model file is damaged or incomplete: download it again.",
    ),
    _known(
        r"(?-i:enabled CPUs)|CPUs 0 to 3 can be set",
        ModelUnusable,
        "These CPU cores can't be used: there must be as many as the model has NPU cores or more, and they must exist.",
    ),
    _known(
        r"(?:prompt cache file .*(?:does not exist|is empty)|failed to load prompt cache)",
        RuntimeFailed,
        "The prompt cache file can't be read: create it again.",
    ),
    _known(
        r"does not support saving/loading prompt cache",
        UnsupportedRequest,
        "Models of this kind keep no KV cache, so there is nothing to save or load.",
    ),
    _known(
        r"failed to save prompt cache.*(?:No space left|Disk quota exceeded|File too large)",
        StorageFull,
        "The disk is full: free some space, or delete other caches.",
    ),
    _known(
        r"failed to save prompt cache",
        RuntimeFailed,
        "The prompt cache can't be written: check the folder CACHE_DIR.",
    ),
    _known(
        r"the prompt do(?:se|es) not match the current model",
        RuntimeFailed,
        "The prompt cache was made with another model: create it again.",
    ),
    _known(
        r"[Ll]ora adapter|Not Found Lora",
        ModelUnusable,
        "The LoRA adapter can't be used: it is missing, or was not converted for this model.",
    ),
    _known(
        r"the context is not enough",
        RuntimeFailed,
        "The context was full and could not be shortened: send a shorter prompt.",
    ),
    _known(
        r"matmul\S* run failed|failed to submit",
        RuntimeFailed,
        "A job failed on the NPU: check the driver (0.9.8 or newer) and the memory, then load the model again.",
    ),
    _known(
        r"overflow detected at input",
        RuntimeFailed,
        "A number overflowed on the NPU: this model's conversion does not suit this chip.",
    ),
    _known(  # only a warning, so it is the reason where there is no other
        r"the model version is too old",
        ModelUnusable,
        "The model was converted with a toolkit that is too old: convert it again.",
    ),
)

_NOT_SAVED = re.compile(r"failed to save prompt cache|does not support saving/loading prompt cache")
_TOO_LARGE = re.compile(r"max_context\s*\[(\d+)\] must be less than the model's max_context_limit\s*\[(\d+)\]")
_TOO_LONG = re.compile(r"the length of prompt is greater than max context \(prompt: (\d+) tokens, max context: (\d+)\)")
_MATCHED = re.compile(r"kv cache matches (\d+) / (\d+) tokens of prompt")
_OTHERS = tuple(
    re.compile(pattern)
    for pattern in (
        r"loading rkllm model from",
        r"Enabled cpus num: \d+",
        r"rknpu driver version is too low",
        r"context to be full\[",
        r"rkllm_run (?:ended|was aborted)",
        r"GGML_ASSERT\(",
    )
)
_ERROR = re.compile(r"E (?:rkllm|RKNN|rknn)\b[^:]*: *(.+)")
_FOLDERS = re.compile(r"/(?:[^\s/'\"]+/)+")


def failure(lines: Sequence[str], otherwise: RkllamaError, *, about: str = "") -> RkllamaError:
    """The error that the lines of a failed call explain; `otherwise` where they don't.

    `about` names the thing in question, in front of the sentence. Folders never appear in it.
    """
    for line in reversed(lines):
        if match := _TOO_LONG.search(line):
            return ContextLengthExceeded(int(match[1]), int(match[2]))
    front = f"{about}: " if about else ""
    for line in lines:
        if match := _TOO_LARGE.search(line):
            asked, limit = int(match[1]), int(match[2])
            return ContextTooLarge(
                f"{front}A context of {asked} tokens was asked for, but the model was converted for {limit} at most: "
                "ask for less.",
                limit,
            )
    for known in _REASONS:
        for line in lines:
            if match := known.pattern.search(line):
                return known.kind(front + known.sentence.format(*match.groups()))
    for line in reversed(lines):
        if match := _ERROR.match(line):
            return type(otherwise)(f"{front}the runtime says: {_FOLDERS.sub('', match[1])}")
    return otherwise


def saved(lines: Sequence[str]) -> bool:
    """Whether a run's lines say nothing against its prompt cache having been written."""
    return not any(_NOT_SAVED.search(line) for line in lines)


def prompt_tokens(lines: Sequence[str]) -> int | None:
    """The length of the prompt in tokens, from the line about what of it was in the cache."""
    for line in reversed(lines):
        if match := _MATCHED.search(line):
            return int(match[2])
    return None


_SEVERITY = re.compile(r"(?:[DIWE] \w+: )?(?:Warning: )?(?:[Tt]he |Your )?")
_HARMLESS = (*_FACTS, _TOO_LARGE, _TOO_LONG, _MATCHED, *_OTHERS, *(known.pattern for known in _REASONS))


def known_part(line: str) -> str:
    """What of a line may be shown where the library prints prompts: its beginning, as far as a pattern knows it."""
    front = _SEVERITY.match(line)
    start = front.end() if front else 0
    for pattern in _HARMLESS:
        if match := pattern.match(line, start):
            return line[: match.end()]
    return ""
