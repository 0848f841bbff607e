"""What both families of the C interface share: structures, states, and the table of functions.

Layouts are those of a 64-bit machine with natural alignment; the tests compare every size and offset with the published
numbers. The names are the C header's. What differs between the families lies in `abi_1_2` and `abi_1_3`.
"""

from collections.abc import Callable
from ctypes import (
    CFUNCTYPE,
    POINTER,
    Structure,
    c_bool,
    c_char_p,
    c_float,
    c_int,
    c_int8,
    c_int32,
    c_size_t,
    c_uint8,
    c_uint32,
    c_void_p,
)
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from rkllama_flask.sampling import Sampling

Family = Literal["1.2", "1.3"]

NORMAL, WAITING, FINISH, ERROR = range(4)
"""States of a callback. WAITING: a token that leaves a character unfinished. FINISH: only now `perf` is valid."""

INPUT_PROMPT, INPUT_TOKEN = 0, 1
GENERATE, LAST_HIDDEN_LAYER = 0, 1

GO_ON = 0
"""What a callback returns so that the run goes on."""


class RKLLMExtendParam(Structure):
    _fields_ = (
        ("base_domain_id", c_int32),
        ("embed_flash", c_int8),
        ("enabled_cpus_num", c_int8),
        ("enabled_cpus_mask", c_uint32),
        ("n_batch", c_uint8),
        ("use_cross_attn", c_int8),
        ("reserved", c_uint8 * 104),
    )


class RKLLMEmbedInput(Structure):
    _fields_ = (("embed", POINTER(c_float)), ("n_tokens", c_size_t))


class RKLLMTokenInput(Structure):
    _fields_ = (("input_ids", POINTER(c_int32)), ("n_tokens", c_size_t))


class RKLLMLoraAdapter(Structure):
    _fields_ = (("lora_adapter_path", c_char_p), ("lora_adapter_name", c_char_p), ("scale", c_float))


class RKLLMLoraParam(Structure):
    _fields_ = (("lora_adapter_name", c_char_p),)


class RKLLMPromptCacheParam(Structure):
    _fields_ = (("save_prompt_cache", c_int), ("prompt_cache_path", c_char_p))


class RKLLMResultLastHiddenLayer(Structure):
    _fields_ = (("hidden_states", POINTER(c_float)), ("embd_size", c_int), ("num_tokens", c_int))


class RKLLMResultLogits(Structure):
    _fields_ = (("logits", POINTER(c_float)), ("vocab_size", c_int), ("num_tokens", c_int))


class RKLLMPerfStat(Structure):
    _fields_ = (
        ("prefill_time_ms", c_float),
        ("prefill_tokens", c_int),
        ("generate_time_ms", c_float),
        ("generate_tokens", c_int),
        ("memory_usage_mb", c_float),
    )


class RKLLMResult(Structure):
    """What a callback receives. All pointers in it die when the callback returns; `text` may be NULL."""

    _fields_ = (
        ("text", c_char_p),
        ("token_id", c_int32),
        ("last_hidden_layer", RKLLMResultLastHiddenLayer),
        ("logits", RKLLMResultLogits),
        ("perf", RKLLMPerfStat),
    )


LLMResultCallback = CFUNCTYPE(c_int, POINTER(RKLLMResult), c_void_p, c_int)


class CallFailed(Exception):
    """A C function answered -1. The reason is only in the log, so whoever called turns this into a sentence."""


def check_success(code: int, function: Any, _arguments: tuple[Any, ...]) -> int:
    """The `errcheck` of all functions that answer 0 for success."""
    if code != 0:
        raise CallFailed(f"{function.__name__} returned {code}")
    return code


class Function(NamedTuple):
    """One C function: the name it has in Python, then what ctypes must know of it."""

    name: str
    symbol: str
    argtypes: tuple[Any, ...]
    restype: Any
    errcheck: Callable[..., Any] | None


@dataclass(frozen=True)
class Abi:
    """What differs between the families.

    `callback_argument` makes init's third argument of a callback, `complete` sets what defaults must not leave NULL,
    `limit_run` writes a run's own sampling and token limit into the infer parameters (does nothing where a run has
    none). `after_hidden_states` is what a callback returns once it has copied hidden states.
    """

    family: Family
    param: type[Structure]
    input: type[Structure]
    infer_param: type[Structure]
    init_callback: Any
    callback_argument: Callable[[Any], Any]
    complete: Callable[[Any], None]
    limit_run: Callable[[Any, Sampling, int | None], None]
    per_run_sampling: bool
    after_hidden_states: int

    @property
    def functions(self) -> tuple[Function, ...]:
        """The C functions this package calls."""
        handle, text = c_void_p, c_char_p
        ints = POINTER(c_int)
        check = check_success
        run = (handle, POINTER(self.input), POINTER(self.infer_param), c_void_p)
        init = (POINTER(handle), POINTER(self.param), self.init_callback)
        return (
            Function("default_param", "rkllm_createDefaultParam", (), self.param, None),
            Function("init", "rkllm_init", init, c_int, check),
            Function("destroy", "rkllm_destroy", (handle,), c_int, None),
            Function("run", "rkllm_run", run, c_int, check),
            Function("abort", "rkllm_abort", (handle,), c_int, None),
            Function("load_lora", "rkllm_load_lora", (handle, POINTER(RKLLMLoraAdapter)), c_int, check),
            Function("load_prompt_cache", "rkllm_load_prompt_cache", (handle, text), c_int, check),
            Function("release_prompt_cache", "rkllm_release_prompt_cache", (handle,), c_int, check),
            Function("clear_kv_cache", "rkllm_clear_kv_cache", (handle, c_int, ints, ints), c_int, check),
            Function("get_kv_cache_size", "rkllm_get_kv_cache_size", (handle, ints), c_int, check),
            Function("set_chat_template", "rkllm_set_chat_template", (handle, text, text, text), c_int, check),
        )


PARAM_HEAD = (
    ("model_path", c_char_p),
    ("max_context_len", c_int32),
    ("max_new_tokens", c_int32),
    ("top_k", c_int32),
    ("n_keep", c_int32),
    ("top_p", c_float),
    ("temperature", c_float),
    ("repeat_penalty", c_float),
    ("frequency_penalty", c_float),
    ("presence_penalty", c_float),
    ("mirostat", c_int32),
    ("mirostat_tau", c_float),
    ("mirostat_eta", c_float),
    ("skip_special_token", c_bool),
)
"""The fields with which RKLLMParam begins in both families."""
