"""The C interface of the libraries 1.2.1 to 1.2.3: sampling and token limit are fixed at init."""

from ctypes import POINTER, Structure, Union, c_bool, c_char_p, c_float, c_int, c_size_t

from rkllama_flask.runtime.abi import (
    GO_ON,
    PARAM_HEAD,
    Abi,
    LLMResultCallback,
    RKLLMEmbedInput,
    RKLLMExtendParam,
    RKLLMLoraParam,
    RKLLMPromptCacheParam,
    RKLLMTokenInput,
)
from rkllama_flask.sampling import Sampling


class RKLLMParam(Structure):
    _fields_ = (
        *PARAM_HEAD,
        ("is_async", c_bool),
        ("img_start", c_char_p),
        ("img_end", c_char_p),
        ("img_content", c_char_p),
        ("extend_param", RKLLMExtendParam),
    )


class RKLLMMultiModalInput(Structure):
    _fields_ = (
        ("prompt", c_char_p),
        ("image_embed", POINTER(c_float)),
        ("n_image_tokens", c_size_t),
        ("n_image", c_size_t),
        ("image_width", c_size_t),
        ("image_height", c_size_t),
    )


class _Payload(Union):
    _fields_ = (
        ("prompt_input", c_char_p),
        ("embed_input", RKLLMEmbedInput),
        ("token_input", RKLLMTokenInput),
        ("multimodal_input", RKLLMMultiModalInput),
    )


class RKLLMInput(Structure):
    _anonymous_ = ("payload",)
    _fields_ = (("role", c_char_p), ("enable_thinking", c_bool), ("input_type", c_int), ("payload", _Payload))


class RKLLMInferParam(Structure):
    _fields_ = (
        ("mode", c_int),
        ("lora_params", POINTER(RKLLMLoraParam)),
        ("prompt_cache_params", POINTER(RKLLMPromptCacheParam)),
        ("keep_history", c_int),
    )


def _complete(param: RKLLMParam) -> None:
    """Image tags that are NULL crash init; empty strings are the library's own default."""
    for tag in ("img_start", "img_end", "img_content"):
        if getattr(param, tag) is None:
            setattr(param, tag, b"")


def _limit_run(infer: RKLLMInferParam, sampling: Sampling, max_new_tokens: int | None) -> None:
    """Nothing can be set for one run here: the engine keeps the limit by aborting."""


ABI = Abi(
    family="1.2",
    param=RKLLMParam,
    input=RKLLMInput,
    infer_param=RKLLMInferParam,
    init_callback=LLMResultCallback,
    callback_argument=lambda callback: callback,
    complete=_complete,
    limit_run=_limit_run,
    per_run_sampling=False,
    after_hidden_states=GO_ON,
)
