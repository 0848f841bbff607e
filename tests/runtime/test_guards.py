"""Each input that would kill the process meets a sentence instead."""

from pathlib import Path

import pytest

from rkllama_flask.errors import InvalidRequest, ModelUnusable, ProcessSpent, RuntimeFailed
from rkllama_flask.runtime import guards
from rkllama_flask.runtime.library import Library

RKLLM, GGUF = Path("model.rkllm"), Path("model.gguf")


@pytest.mark.parametrize(("wanted", "given"), [(32, 32), (33, 32), (1000, 992), (4096, 4096), (16384, 16384)])
def test_a_context_is_rounded_down_to_a_multiple_of_32(wanted: int, given: int) -> None:
    assert guards.context_length(wanted, path=RKLLM) == given


@pytest.mark.parametrize("wanted", [-1, 0, 31, 16416, 1 << 40])
def test_a_context_out_of_range_is_refused(wanted: int) -> None:
    with pytest.raises(InvalidRequest, match=f"A context of {wanted} tokens is too") as caught:
        guards.context_length(wanted, path=RKLLM)
    assert caught.value.param == "context_length"


def test_other_formats_may_have_larger_contexts() -> None:
    assert guards.context_length(131072, path=GGUF) == 131072


def test_mask_and_number_of_cpus_agree() -> None:
    assert guards.cpu_set((4, 5, 6, 7)) == (0xF0, 4)
    assert guards.cpu_set((0, 0, 2)) == (0b101, 2)


@pytest.mark.parametrize("cpus", [(), (8,), (-1, 2)])
def test_cpus_that_do_not_exist_are_refused(cpus: tuple[int, ...]) -> None:
    with pytest.raises(ModelUnusable, match="CPU cores"):
        guards.cpu_set(cpus)


def test_a_negative_memory_domain_is_refused() -> None:
    assert guards.domain(1) == 1
    with pytest.raises(ModelUnusable, match="-1"):
        guards.domain(-1)


@pytest.mark.parametrize("name", ["missing.rkllm", "nul\0.rkllm"])
def test_a_model_that_can_not_be_read_never_reaches_init(tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelUnusable, match="can't be read") as caught:
        guards.model_file(tmp_path / name)
    assert str(tmp_path) not in caught.value.message


def test_a_folder_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelUnusable, match="Is a directory"):
        guards.model_file(tmp_path)


def test_one_lora_adapter_is_taken_and_two_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.rkllm"
    path.touch()
    assert guards.adapter(()) is None
    assert guards.adapter(((path, 0.5),)) == (bytes(path), 0.5)
    with pytest.raises(ModelUnusable, match="2 LoRA adapters"):
        guards.adapter(((path, 1.0), (path, 1.0)))


def test_text_is_passed_on_as_utf8() -> None:
    assert guards.prompt_text("Grüße") == "Grüße".encode()
    assert guards.prompt_text("half \ud83d pair") == b"half ? pair"


@pytest.mark.parametrize("text", ["", "a\0b"])
def test_text_the_runtime_can_not_take_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest):
        guards.prompt_text(text)


def test_token_ids_are_passed_on_as_32_bit_numbers() -> None:
    ids = guards.prompt_ids([0, 1, 2147483647])
    assert ids.itemsize == 4
    assert list(ids) == [0, 1, 2147483647]


@pytest.mark.parametrize("ids", [[], [-1], [1 << 31], [1.5], ["a"], [None]])
def test_what_is_no_token_id_is_refused(ids: list[int]) -> None:
    with pytest.raises(InvalidRequest):
        guards.prompt_ids(ids)


def test_a_cache_file_has_to_be_there_and_not_empty(tmp_path: Path, library: Library) -> None:
    path = tmp_path / "cache.bin"
    with pytest.raises(RuntimeFailed, match=r"There is no prompt cache file cache\.bin"):
        guards.cache_file(path, library=library, aborted=False)
    path.touch()
    with pytest.raises(RuntimeFailed, match="is empty"):
        guards.cache_file(path, library=library, aborted=False)
    path.write_bytes(b"x")
    assert guards.cache_file(path, library=library, aborted=False) == bytes(path)


def test_a_cache_is_not_loaded_after_an_aborted_run_where_that_crashes(tmp_path: Path, library: Library) -> None:
    path = tmp_path / "cache.bin"
    path.write_bytes(b"x")
    if library.family == "1.2":
        with pytest.raises(RuntimeFailed, match="end by itself first"):
            guards.cache_file(path, library=library, aborted=True)
    else:
        assert guards.cache_file(path, library=library, aborted=True) == bytes(path)


def test_a_cache_is_not_written_into_a_folder_that_is_missing(tmp_path: Path) -> None:
    assert guards.cache_target(tmp_path / "new.bin") == bytes(tmp_path / "new.bin")
    for path in (tmp_path / "none" / "new.bin", tmp_path / "nul\0.bin"):
        with pytest.raises(RuntimeFailed, match="folder"):
            guards.cache_target(path)


def test_a_process_in_which_an_init_failed_is_spent_on_1_3_only(library: Library) -> None:
    guards.usable_process(library)
    library.failed_init = True
    if library.family == "1.3":
        with pytest.raises(ProcessSpent) as caught:
            guards.usable_process(library)
        assert caught.value.retry_after == 5
    else:
        guards.usable_process(library)


def test_the_cpu_runtime_survives_a_failed_init(library: Library) -> None:
    library.failed_init, library.build = True, "cpu"
    guards.usable_process(library)
