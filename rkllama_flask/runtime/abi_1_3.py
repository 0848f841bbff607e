"""The C interface of the libraries 1.3.x: callbacks in a struct, sampling and token limit for each run."""

from ctypes import (
    CFUNCTYPE,
    POINTER,
    Structure,
    Union,
    c_bool,
    c_char_p,
    c_float,
    c_int,
    c_int32,
    c_size_t,
    c_uint64,
    c_void_p,
    pointer,
)

from rkllama_flask.runtime.abi import (
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

RELEASE_OUTPUT = 2
"""Returned by a callback that has copied hidden states: the library frees them at once."""

LLMTokenizerCallback = CFUNCTYPE(c_int, c_void_p, c_char_p, c_int32, POINTER(c_int32), c_int32)
LLMGetEmbedCallback = CFUNCTYPE(c_int, c_void_p, POINTER(c_int32), c_uint64, c_void_p, c_uint64)


class RKLLMParam(Structure):
    _fields_ = (
        *PARAM_HEAD,
        ("ignore_eos_token", c_bool),
        ("is_async", c_bool),
        ("extend_param", RKLLMExtendParam),
    )


class _Image(Structure):
    _fields_ = (
        ("image_embed", POINTER(c_float)),
        ("n_image_tokens", c_size_t),
        ("n_image", c_size_t),
        ("image_start", c_char_p),
        ("image_end", c_char_p),
        ("image_content", c_char_p),
        ("image_width", c_size_t),
        ("image_height", c_size_t),
    )


class _Video(Structure):
    _fields_ = (
        ("video_embed", POINTER(c_float)),
        ("n_frame_tokens", c_size_t),
        ("n_frame_per_video", c_size_t),
        ("n_video", c_size_t),
        ("video_start", c_char_p),
        ("video_end", c_char_p),
        ("video_content", c_char_p),
        ("frame_width", c_size_t),
        ("frame_height", c_size_t),
    )


class _Audio(Structure):
    _fields_ = (
        ("audio_embed", POINTER(c_float)),
        ("n_audio_tokens", c_size_t),
        ("n_audio", c_size_t),
        ("audio_start", c_char_p),
        ("audio_end", c_char_p),
        ("audio_content", c_char_p),
    )


class RKLLMMultiModalInput(Structure):
    """1.3.1 added `audio`, and copies the whole input; 1.3.0 reads no further than `video`, so both get this one."""

    _anonymous_ = ("image", "video", "audio")
    _fields_ = (("prompt", c_char_p), ("image", _Image), ("video", _Video), ("audio", _Audio))


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


class RKLLMSamplingParam(Structure):
    _fields_ = (
        ("top_k", c_int32),
        ("top_p", c_float),
        ("temperature", c_float),
        ("repeat_penalty", c_float),
        ("frequency_penalty", c_float),
        ("presence_penalty", c_float),
        ("mirostat", c_int32),
        ("mirostat_tau", c_float),
        ("mirostat_eta", c_float),
    )


class RKLLMInferParam(Structure):
    _fields_ = (
        ("mode", c_int),
        ("lora_params", POINTER(RKLLMLoraParam)),
        ("prompt_cache_params", POINTER(RKLLMPromptCacheParam)),
        ("sampling_params", POINTER(RKLLMSamplingParam)),
        ("keep_history", c_int),
        ("max_new_tokens", c_int32),
    )


class RKLLMCallback(Structure):
    _fields_ = (
        ("result_callback", LLMResultCallback),
        ("result_userdata", c_void_p),
        ("tokenizer_callback", LLMTokenizerCallback),
        ("tokenizer_userdata", c_void_p),
        ("embed_callback", LLMGetEmbedCallback),
        ("embed_userdata", c_void_p),
    )


def _callback_argument(callback: object) -> object:
    return pointer(RKLLMCallback(result_callback=callback))


def _complete(param: RKLLMParam) -> None:
    """No field of this layout must be set besides the defaults."""


def _limit_run(infer: RKLLMInferParam, sampling: Sampling, max_new_tokens: int | None) -> None:
    """All nine values override those of init, so `sampling` has to be complete; no limit is init's limit."""
    infer.sampling_params = pointer(RKLLMSamplingParam(**sampling.said()))
    infer.max_new_tokens = max_new_tokens or 0


ABI = Abi(
    family="1.3",
    param=RKLLMParam,
    input=RKLLMInput,
    infer_param=RKLLMInferParam,
    init_callback=POINTER(RKLLMCallback),
    callback_argument=_callback_argument,
    complete=_complete,
    limit_run=_limit_run,
    per_run_sampling=True,
    after_hidden_states=RELEASE_OUTPUT,
)
