"""Prompt caches of the scripted runtime are real files, with the library's refusals."""

import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.native.driver import Runtime
from tests.native.journal import Entry

PROMPT = "one two three four"


@pytest.fixture
def saved(runtime: Runtime, tmp_path: Path) -> Path:
    path = tmp_path / "saved.cache"
    assert runtime.run(PROMPT, save=path) == 0
    runtime.clear()
    return path


def test_a_saved_prefix_needs_no_prefill_after_a_load(runtime: Runtime, saved: Path) -> None:
    assert runtime.load_cache(saved) == 0
    assert runtime.kv_size() == 4
    runtime.run(PROMPT + " five")
    assert runtime.perf["prefill_tokens"] == 1


def test_the_file_begins_with_the_prompts_tokens_and_grows_with_them(
    runtime: Runtime, saved: Path, tmp_path: Path
) -> None:
    content = saved.read_bytes()
    assert struct.unpack_from("<3i", content) == (0, 8, 4)
    assert len(set(struct.unpack_from("<4i", content, 12))) == 4
    longer = tmp_path / "longer.cache"
    runtime.run(PROMPT * 3, save=longer)
    assert longer.stat().st_size > 2 * len(content)


def test_the_file_is_there_when_the_run_has_returned_and_not_before(runtime: Runtime, tmp_path: Path) -> None:
    path = tmp_path / "late.cache"
    seen = []
    runtime.answer = lambda call: seen.append(path.exists())
    runtime.run(PROMPT, save=path)
    assert not any(seen)
    assert path.exists()


def test_a_cache_has_to_be_released_before_the_next_is_loaded(
    runtime: Runtime, saved: Path, entries: Callable[..., list[Entry]]
) -> None:
    assert [runtime.load_cache(saved), runtime.load_cache(saved)] == [0, -1]
    assert entries("misuse")
    assert [runtime.release_cache(), runtime.load_cache(saved)] == [0, 0]
    runtime.release_cache()
    assert runtime.kv_size() == 0


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "prompt cache file '{path}' does not exist"),
        (lambda whole: b"", "prompt cache file '{path}' is empty"),
        (lambda whole: whole[:-1], "failed to load prompt cache from {path}"),
        (lambda whole: whole[:14], "failed to load prompt cache from {path}"),
        (lambda whole: whole[:12] + b"\x01" + whole[13:], "failed to load prompt cache from {path}"),
        (lambda whole: b"not a cache at all", "failed to load prompt cache from {path}"),
    ],
)
def test_a_damaged_file_is_refused_with_the_librarys_sentence(
    runtime: Runtime,
    saved: Path,
    printed: Callable[[], str],
    content: Callable[[bytes], bytes] | None,
    sentence: str,
) -> None:
    path = saved.with_name("damaged.cache")
    if content:
        path.write_bytes(content(saved.read_bytes()))
    assert runtime.load_cache(path) == -1
    assert "E rkllm: " + sentence.format(path=path) in printed().splitlines()
    assert runtime.run(PROMPT) == 0


def test_a_cache_of_another_model_is_refused(
    runtime: Runtime, saved: Path, fresh: Callable[[], Runtime], model: Path, printed: Callable[[], str]
) -> None:
    model.write_text("arch=another")
    other = fresh()
    assert other.init(model) == 0
    assert other.load_cache(saved) == -1
    assert "E rkllm: the prompt dose not match the current model[another]" in printed()


def test_rwkv_models_have_no_cache_files(
    fresh: Callable[[], Runtime], model: Path, tmp_path: Path, printed: Callable[[], str]
) -> None:
    model.write_text("arch=rwkv7")
    runtime = fresh()
    runtime.init(model)
    assert runtime.run(PROMPT, save=tmp_path / "none") == 0
    assert not (tmp_path / "none").exists()
    assert "W rkllm: The rwkv model does not support saving/loading prompt cache!" in printed()


def test_a_cache_that_cannot_be_written_costs_nothing_but_the_cache(
    runtime: Runtime, tmp_path: Path, printed: Callable[[], str]
) -> None:
    assert runtime.run("<<script tokens=2>>", save=tmp_path / "missing" / "file") == 0
    assert runtime.run("<<script tokens=2 fail=save>>", save=tmp_path / "full") == 0
    assert (runtime.text, (tmp_path / "full").exists()) == ("w0 w1", False)
    assert printed().count("failed to save prompt cache") == 2


@pytest.mark.parametrize("written", ["0", "1"])
def test_an_aborted_run_writes_its_cache_or_not(
    runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: str
) -> None:
    monkeypatch.setenv("RKLLM_GUESS_CACHE_ON_ABORT", written)
    runtime.answer = lambda call: runtime.abort()
    runtime.run("<<script tokens=9>>", save=tmp_path / "aborted")
    assert runtime.text == "w0"
    assert (tmp_path / "aborted").exists() is (written == "1")


def test_clearing_keeps_the_templates_system_text_if_asked(fresh: Callable[[], Runtime], model: Path) -> None:
    runtime = fresh()
    runtime.init(model)
    runtime.run("hello")
    whole = runtime.kv_size()
    runtime.clear(keep=1)
    assert 0 < runtime.kv_size() < whole
    runtime.plain()
    assert runtime.kv_size() == 0
