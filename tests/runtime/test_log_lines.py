"""What the library prints becomes facts about the model and errors with a sentence."""

import pytest

from rkllama_flask.errors import ContextLengthExceeded, ContextTooLarge, ModelUnusable, RkllamaError, RuntimeFailed
from rkllama_flask.runtime.log_lines import ModelFacts, failure, known_part, prompt_tokens, read_facts

SILENT = RuntimeFailed("no reason given")

INIT = [
    "I rkllm: rkllm-runtime version: 1.2.3, rknpu driver version: 0.9.8, platform: RK3588",
    "I rkllm: loading rkllm model from /models/qwen3.rkllm",
    "I rkllm: rkllm-toolkit version: 1.2.2, max_context_limit: 4096, npu_core_num: 3, target_platform: RK3588, "
    "model_dtype: W8A8",
    "I rkllm: Enabled cpus: [4, 5, 6, 7]",
    "I rkllm: Enabled cpus num: 4",
]


def test_the_lines_of_an_init_are_the_models_facts() -> None:
    assert read_facts(INIT) == ModelFacts(
        context_limit=4096,
        npu_cores=3,
        platform="RK3588",
        dtype="W8A8",
        toolkit_version="1.2.2",
        runtime_version="1.2.3",
        driver_version="0.9.8",
        cpus=(4, 5, 6, 7),
    )


def test_what_is_not_printed_is_not_known() -> None:
    assert read_facts([]) == ModelFacts()


def test_older_models_have_no_version_and_no_dtype() -> None:
    facts = read_facts(
        [
            "I rkllm: rkllm-toolkit version: unknown, max_context_limit: 4096, npu_core_num: 3, target_platform: CPU",
            "I rkllm: rkllm-runtime version: 1.3.0, rknpu driver version: none, platform: CPU",
        ]
    )
    assert facts.toolkit_version is None
    assert facts.driver_version is None
    assert facts.dtype is None
    assert facts.context_limit == 4096


@pytest.mark.parametrize(
    ("line", "kind", "said"),
    [
        (
            "E rkllm: The rkllm-runtime version is lower than the rkllm-toolkit version. Please update rkllm-runtime "
            "to 1.3.0 or higher.",
            ModelUnusable,
            "update librkllmrt.so to 1.3.0 or higher",
        ),
        (
            "E rkllm: max_context[16384] must be less than the model's max_context_limit[4096]",
            ContextTooLarge,
            "A context of 16384 tokens was asked for, but the model was converted for 4096 at most",
        ),
        (
            "E rkllm: the model's target_platform does not match the real platform",
            ModelUnusable,
            "another Rockchip chip",
        ),
        ("E rkllm: the model architecture qwen9 is not supported by rkllm", ModelUnusable, "architecture"),
        ("unsupported model architecture", ModelUnusable, "architecture"),
        (": invalid magic characters 'xyz'", ModelUnusable, "no model of this runtime"),
        ("invalid rknn llm model magic", ModelUnusable, "no model of this runtime"),
        ("W rkllm: the model version is too old, please use the latest toolkit", ModelUnusable, "convert it again"),
        ("E rkllm: failed to open '/srv/models/a.rkllm': 'No such file'", ModelUnusable, "damaged or incomplete"),
        ("E rkllm: invalid rkllm model!", ModelUnusable, "damaged or incomplete"),
        ("E rkllm: failed to read key-value pairs", ModelUnusable, "damaged or incomplete"),
        (
            "Platform error, must be either RK3588, RK3576, RV1126B or RK3562. Your platform is x",
            RuntimeFailed,
            "no NPU",
        ),
        (
            "Platform error: must be either RK3588, RK3576, RV1126B or RK3562. Your platform is lite.",
            RuntimeFailed,
            "no NPU",
        ),
        ("E RKNN: failed to open /dev/dri/card1: Permission denied", RuntimeFailed, "let this user open"),
        ("open /dev/dma_heap/system failed, ret: -1, errstr: Permission denied", RuntimeFailed, "let this user open"),
        ("E RKNN: failed to convert fd 27, errno: 12, Cannot allocate memory", RuntimeFailed, "memory is full"),
        ("E rkllm: Failed to alloc NPU memory", RuntimeFailed, "memory is full"),
        ("failed to open rknpu module, need to insmod rknpu dirver!", RuntimeFailed, "/dev/dri"),
        (
            "E rkllm: The number of enabled CPUs must be greater than or equal to the number of NPU cores.",
            ModelUnusable,
            "CPU cores",
        ),
        ("E rkllm: Mismatch between enabled CPUs mask and expected count", ModelUnusable, "CPU cores"),
        ("failed to malloc npu memory, size: 1073741824, flags: 0x2", RuntimeFailed, "The NPU's memory is full"),
        ("failed to allocate handle, ret: -1, errno: 14, errstr: Bad address", RuntimeFailed, "memory is full"),
        ("E rkllm: prompt cache file '/srv/cache/x' does not exist", RuntimeFailed, "can't be read"),
        ("E rkllm: failed to load prompt cache from /srv/cache/x", RuntimeFailed, "can't be read"),
        ("E rkllm: the prompt dose not match the current model[llama]", RuntimeFailed, "with another model"),
        ("E rkllm: Lora adapter path does not exist!", ModelUnusable, "LoRA"),
        ("E rkllm: the context is not enough! history_s: 1", RuntimeFailed, "context was full"),
        ("E rkllm: matmul(w8a8) run failed", RuntimeFailed, "failed on the NPU"),
        ("E RKNN: failed to submit!, op id: 12", RuntimeFailed, "failed on the NPU"),
        ("E rkllm: overflow detected at input", RuntimeFailed, "overflowed"),
    ],
)
def test_each_known_line_has_its_sentence(line: str, kind: type[RkllamaError], said: str) -> None:
    error = failure([*INIT, line, "rkllm_init failed"], SILENT, about="qwen3.rkllm")
    assert type(error) is kind
    assert said in error.message
    assert error.message.startswith("qwen3.rkllm: ")
    assert "/srv" not in error.message


def test_a_prompt_that_is_too_long_is_counted_exactly() -> None:
    line = "E rkllm: the length of prompt is greater than max context (prompt: 5000 tokens, max context: 1020)"
    error = failure([line], SILENT)
    assert isinstance(error, ContextLengthExceeded)
    assert (error.prompt_tokens, error.limit) == (5000, 1020)


def test_an_unknown_error_line_is_told_without_folders() -> None:
    error = failure(["E rkllm: broken rope at /srv/secret/models/a.rkllm", "rkllm_run failed"], SILENT)
    assert type(error) is RuntimeFailed
    assert error.message == "the runtime says: broken rope at a.rkllm"


def test_without_any_reason_the_callers_own_sentence_stays() -> None:
    assert failure(INIT, SILENT) is SILENT


def test_the_last_error_line_counts() -> None:
    assert "second" in failure(["E rkllm: first", "E rkllm: second"], SILENT).message


def test_the_prompts_length_is_in_the_line_about_the_cache() -> None:
    assert prompt_tokens(["I rkllm: kv cache matches 12 / 40 tokens of prompt"]) == 40
    assert prompt_tokens(INIT) is None


@pytest.mark.parametrize("line", [*INIT, "W rkllm: Warning: Your rknpu driver version is too low, please upgrade"])
def test_known_lines_may_be_shown(line: str) -> None:
    assert known_part(line)


@pytest.mark.parametrize(
    "line",
    [
        "I rkllm: prompt: my password is 1234",
        "my password is 1234; rkllm_run ended",
        "1234 Enabled cpus num: 4",
        "",
    ],
)
def test_lines_that_may_be_a_users_are_not_shown(line: str) -> None:
    assert known_part(line) == ""


def test_only_the_known_part_of_a_line_is_shown() -> None:
    assert known_part("I rkllm: rkllm_run ended, my password is 1234") == "I rkllm: rkllm_run ended"
