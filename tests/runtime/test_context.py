"""One handle of the scripted runtime, in both families of the interface."""

import math
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rkllama_flask.errors import (
    ContextLengthExceeded,
    InvalidRequest,
    ModelUnusable,
    RuntimeFailed,
    StorageFull,
    UnsupportedRequest,
)
from rkllama_flask.runtime.context import Context, RunStatistics
from rkllama_flask.runtime.log import RuntimeLog
from rkllama_flask.sampling import Sampling
from tests.runtime.conftest import Collected

SAMPLING = Sampling(
    top_k=7,
    top_p=0.5,
    temperature=0.25,
    repeat_penalty=1.5,
    frequency_penalty=0.125,
    presence_penalty=0.75,
    mirostat=2,
    mirostat_tau=4.0,
    mirostat_eta=0.5,
)
Entries = Callable[[str], list[Any]]
OpenContext = Callable[..., Context]


def said_sampling(entry: Any) -> dict[str, float]:
    return {name: entry.number(name) for name in SAMPLING.said()}


# Opening


def test_the_librarys_lines_are_the_contexts_facts(context: Context, family: str) -> None:
    assert context.facts.context_limit == 4096
    assert context.facts.npu_cores == 3
    assert context.facts.platform == "RK3588"
    assert context.facts.dtype == "W8A8"
    assert (context.facts.runtime_version or "").startswith(family)
    assert context.facts.toolkit_version


def test_unsaid_sampling_is_the_runtimes_own(context: Context) -> None:
    assert context.sampling == Sampling(
        top_k=40,
        top_p=0.9,
        temperature=0.8,
        repeat_penalty=1.1,
        frequency_penalty=0.0,
        presence_penalty=0.0,
        mirostat=0,
        mirostat_tau=5.0,
        mirostat_eta=0.1,
    )


def test_said_sampling_reaches_init(open_context: OpenContext, entries: Entries) -> None:
    context = open_context(sampling=SAMPLING)
    assert context.sampling == SAMPLING
    assert said_sampling(entries("init")[0]) == SAMPLING.said()


def test_init_gets_what_it_needs_to_live(open_context: OpenContext, entries: Entries) -> None:
    open_context(context_length=1000, cpus=(4, 5, 6), base_domain_id=1, embed_flash=False, max_new_tokens=5)
    (init,) = entries("init")
    assert init.number("context") == 992
    assert int(init["cpus"], 16) == 0b1110000
    assert (init["domain"], init["embed_flash"]) == ("1", "0")
    assert init["max_new_tokens"] == "5"


def test_the_built_in_template_is_switched_off_once(context: Context, entries: Entries, answer: Collected) -> None:
    context.run("plain text", answer)
    context.run("plain text", answer)
    (template,) = entries("set_chat_template")
    assert (template["system"], template["prefix"], template["postfix"]) == ("", "", "")
    assert [run["prompt"] for run in entries("run")] == ["plain text", "plain text"]


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("fail_init=invalid%20rkllm%20model!", "damaged or incomplete"),
        ("context_limit=512", "converted for 512 at most"),
        ("npu_cores=8", "CPU cores"),
        ("fail_init=it%20rains", "the runtime says: it rains"),
    ],
)
def test_a_refused_model_says_why(open_context: OpenContext, model: Path, script: str, reason: str) -> None:
    model.write_text(script.replace(" ", "\n"))
    with pytest.raises(ModelUnusable, match=reason) as caught:
        open_context()
    assert caught.value.message.startswith("model.rkllm: ")


def test_a_full_npu_is_no_fault_of_the_model(open_context: OpenContext, model: Path) -> None:
    model.write_text("fail_init_from=1")
    with pytest.raises(RuntimeFailed, match="The NPU's memory is full"):
        open_context()


def test_a_failed_init_is_remembered(open_context: OpenContext, model: Path) -> None:
    context = open_context()
    assert context.library.failed_init is False
    model.write_text("context_limit=512")
    with pytest.raises(ModelUnusable):
        open_context()
    assert context.library.failed_init is True


def test_a_missing_model_spends_no_init(open_context: OpenContext, model: Path, entries: Entries) -> None:
    model.unlink()
    with pytest.raises(ModelUnusable, match=r"model\.rkllm can't be read"):
        open_context()
    assert entries("init") == []


def test_without_the_log_a_refusal_is_still_a_sentence(open_context: OpenContext, model: Path, log: RuntimeLog) -> None:
    log.release()
    model.write_text("context_limit=512")
    with pytest.raises(ModelUnusable, match="does not say why"):
        open_context()


# Running


def test_each_token_comes_once_with_its_id(context: Context, entries: Entries, answer: Collected) -> None:
    context.run("count <<script tokens=3>>", answer)
    assert [text for text, _ in answer.tokens] == [b"w0", b" w1", b" w2"]
    assert [token_id for _, token_id in answer.tokens] == [
        int(call["id"]) for call in entries("callback") if call["state"] == "NORMAL"
    ]


def test_the_statistics_are_the_runtimes_own(context: Context, answer: Collected) -> None:
    statistics = context.run("one two three <<script tokens=3 prefill_ms=20 decode_ms=2>>", answer)
    assert statistics.prefill_tokens == statistics.prompt_tokens
    assert statistics.generate_tokens == 3
    assert statistics.prefill_ms is not None
    assert statistics.prefill_ms >= 20
    assert statistics.generate_ms is not None
    assert statistics.generate_ms >= 6
    assert statistics.memory_mb


def test_only_new_tokens_are_prefilled_but_all_are_counted(context: Context, answer: Collected) -> None:
    first = context.run("a b c d e f", answer)
    again = context.run("a b c d e f g", answer)
    assert (first.prefill_tokens, first.prompt_tokens) == (6, 6)
    assert (again.prefill_tokens, again.prompt_tokens) == (1, 7)


@pytest.mark.parametrize("kept", ["0", "1"])
def test_without_the_log_the_prompts_length_is_right_or_unknown(
    context: Context, log: RuntimeLog, monkeypatch: pytest.MonkeyPatch, kept: str
) -> None:
    """Whether generated tokens stay in the KV cache is not known of a board, so its size alone tells nothing."""
    log.release()
    monkeypatch.setenv("RKLLM_GUESS_KEEP_OWN_TOKENS", kept)
    saying = "<<script text=d%20e%20f>>"

    def length(prompt: str) -> int | None:
        return context.run(f"{saying} {prompt}", lambda *_: None).prompt_tokens

    assert length("a b c") == 5
    assert length("a b c d e f g") is None
    context.clear()
    assert length("a b c d e f g") == 9
    context.embed("a b c d e f g")
    assert length("x") in (None, 3)


@pytest.mark.parametrize("kept", ["0", "1"])
def test_the_log_tells_the_prompts_length_whatever_was_reused(
    context: Context, monkeypatch: pytest.MonkeyPatch, answer: Collected, kept: str
) -> None:
    monkeypatch.setenv("RKLLM_GUESS_KEEP_OWN_TOKENS", kept)
    context.run("a b c <<script text=%20d%20e%20f>>", answer)
    again = context.run("a b c <<script text=%20d%20e%20f>> d e f g", answer)
    assert (again.prompt_tokens, again.prefill_tokens) == (10, 4 if kept == "0" else 1)


def test_token_ids_are_passed_on_as_they_are(context: Context, entries: Entries, answer: Collected) -> None:
    statistics = context.run([5000, 6000, 7000], answer)
    (run,) = entries("run")
    assert run["input"] == "1"
    assert statistics.prompt_tokens == 3
    assert context.run([5000, 6000, 7001], answer).prefill_tokens == 1


def test_each_run_is_a_users_and_leaves_no_history(context: Context, entries: Entries, answer: Collected) -> None:
    context.run("hello", answer)
    (run,) = entries("run")
    assert (run["role"], run["keep_history"], run["thinking"], run["mode"]) == ("user", "0", "0", "0")


def test_a_runs_own_sampling_is_applied_where_the_library_can(
    context: Context, entries: Entries, answer: Collected, family: str
) -> None:
    context.run("hello", answer, sampling=SAMPLING)
    context.run("hello", answer)
    own, usual = entries("run")
    assert said_sampling(own) == (SAMPLING.said() if family == "1.3" else pytest.approx(context.sampling.said()))
    assert said_sampling(usual) == pytest.approx(context.sampling.said())


def test_sampling_that_is_only_partly_said_is_completed(
    context: Context, entries: Entries, answer: Collected, family: str
) -> None:
    context.run("hello", answer, sampling=Sampling(top_k=3))
    expected = context.sampling.said() | ({"top_k": 3} if family == "1.3" else {})
    assert said_sampling(entries("run")[0]) == pytest.approx(expected)


def test_a_runs_token_limit_is_kept_where_the_library_can(context: Context, answer: Collected, family: str) -> None:
    context.run("count <<script tokens=10>>", answer, max_new_tokens=4)
    assert len(answer.tokens) == (4 if family == "1.3" else 10)


def test_characters_that_are_not_complete_come_without_text(context: Context, answer: Collected) -> None:
    context.run("<<script text=%C3%A4%20b split=waiting>>", answer)
    assert [text for text, _ in answer.tokens] == [b"", "ä".encode(), b" b"]


def test_text_in_waiting_is_not_looked_at(context: Context, answer: Collected) -> None:
    context.run("<<script text=%C3%A4 split=partial>>", answer)
    assert answer.text == "ä".encode()


@pytest.mark.parametrize("fault", ["null_at=2", "empty_at=2", "waiting_at=2"])
def test_tokens_without_text_are_tokens(context: Context, answer: Collected, fault: str) -> None:
    context.run(f"<<script tokens=3 {fault}>>", answer)
    assert [text for text, _ in answer.tokens] == [b"w0", b"", b" w1", b" w2"]


def test_bytes_that_are_no_text_are_passed_on(context: Context, answer: Collected) -> None:
    context.run("<<script tokens=2 invalid_at=1>>", answer)
    with pytest.raises(UnicodeDecodeError):
        answer.text.decode()


def test_without_finish_the_run_still_ends(context: Context, answer: Collected) -> None:
    statistics = context.run("a b <<script tokens=3 finish=0>>", answer)
    assert len(answer.tokens) == 3
    assert statistics == RunStatistics(prompt_tokens=statistics.prompt_tokens)
    assert context.run("a b", answer).generate_tokens


def test_what_comes_after_finish_is_not_read(context: Context, answer: Collected) -> None:
    context.run("<<script tokens=2 after_finish=3>>", answer)
    assert len(answer.tokens) == 2


def test_figures_that_can_not_be_are_left_out(context: Context, answer: Collected) -> None:
    statistics = context.run("a <<script tokens=2 wrong_perf=1>>", answer)
    assert (statistics.prefill_ms, statistics.prefill_tokens, statistics.memory_mb) == (None, None, None)
    assert not any(isinstance(value, float) and math.isnan(value) for value in vars(statistics).values())


# Failing


def test_a_prompt_that_is_too_long_is_counted_exactly(context: Context, entries: Entries, answer: Collected) -> None:
    with pytest.raises(ContextLengthExceeded) as caught:
        context.run([1000] * 1021, answer)
    assert (caught.value.prompt_tokens, caught.value.limit) == (1021, 1020)
    assert entries("callback") == []
    assert context.run([1000] * 1020, answer).prompt_tokens == 1020


@pytest.mark.parametrize("place", ["prefill", "2"])
@pytest.mark.parametrize("kind", ["fail", "error"])
def test_a_run_that_fails_says_why(context: Context, answer: Collected, kind: str, place: str) -> None:
    with pytest.raises(RuntimeFailed, match=r"model\.rkllm: A job failed on the NPU"):
        context.run(f"<<script tokens=3 {kind}={place} reason=matmul(w8a8)%20run%20failed>>", answer)
    assert len(answer.tokens) == (1 if place == "2" else 0)


def test_a_context_answers_again_after_a_failed_run(context: Context, answer: Collected) -> None:
    with pytest.raises(RuntimeFailed):
        context.run("<<script tokens=3 fail=2>>", answer)
    answer.tokens.clear()
    context.run("<<script tokens=2>>", answer)
    assert answer.text == b"w0 w1"


def test_a_reason_is_not_carried_over_to_the_next_failure(context: Context, answer: Collected) -> None:
    with pytest.raises(ContextLengthExceeded):
        context.run([1000] * 1021, answer)
    with pytest.raises(RuntimeFailed) as caught:
        context.run("<<script tokens=3 fail=2 reason=it%20rains>>", answer)
    assert caught.value.message == "model.rkllm: the runtime says: it rains"


def test_what_on_token_raises_ends_the_run_and_comes_out(context: Context, entries: Entries) -> None:
    seen = []

    def on_token(text: bytes, token_id: int) -> None:
        seen.append(text)
        if len(seen) == 3:
            raise KeyError("from the callback")

    with pytest.raises(KeyError, match="from the callback"):
        context.run("<<script tokens=100>>", on_token)
    assert len(seen) == 3
    assert entries("run_end")[0]["aborted"] == "1"


def test_a_lost_abort_after_an_exception_is_repeated(context: Context, entries: Entries) -> None:
    def on_token(text: bytes, token_id: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        context.run("<<script tokens=100 lose_aborts=2>>", on_token)
    assert entries("run_end")[0].number("tokens") == 3


def test_a_prompt_with_a_nul_is_refused_before_anything_runs(
    context: Context, entries: Entries, answer: Collected
) -> None:
    for prompt in ("a\0b", "", [], [-1]):
        with pytest.raises(InvalidRequest):
            context.run(prompt, answer)
    assert entries("run") == []


# Aborting


def test_another_thread_may_abort(context: Context, entries: Entries, answer: Collected) -> None:
    begun = threading.Event()

    def on_token(text: bytes, token_id: int) -> None:
        answer(text, token_id)
        begun.set()

    def abort() -> None:
        begun.wait()
        context.abort()

    thread = threading.Thread(target=abort)
    thread.start()
    context.run("<<script tokens=900 decode_ms=10>>", on_token)
    thread.join()
    assert 1 <= len(answer.tokens) < 900
    assert entries("run_end")[0]["aborted"] == "1"


def test_on_token_may_abort(context: Context, answer: Collected) -> None:
    def on_token(text: bytes, token_id: int) -> None:
        answer(text, token_id)
        if len(answer.tokens) == 3:
            context.abort()

    statistics = context.run("<<script tokens=100>>", on_token)
    assert len(answer.tokens) == 3
    assert statistics.generate_tokens == 3


@pytest.mark.parametrize("finish", [0, 1])
@pytest.mark.parametrize("returned", [0, -1])
def test_what_an_aborted_run_returns_is_not_judged(
    context: Context, answer: Collected, returned: int, finish: int
) -> None:
    def on_token(text: bytes, token_id: int) -> None:
        context.abort()

    context.run(f"<<script tokens=9 abort_returns={returned} finish={finish}>>", on_token)
    context.run("<<script tokens=2>>", answer)
    assert answer.text == b"w0 w1"


def test_an_abort_while_nothing_runs_reaches_nobody(context: Context, entries: Entries, answer: Collected) -> None:
    context.abort()
    context.run("<<script tokens=2 remember_abort=1>>", answer)
    assert answer.text == b"w0 w1"
    assert entries("abort") == []


# Cache


def test_a_saved_cache_saves_the_prefill(open_context: OpenContext, tmp_path: Path, answer: Collected) -> None:
    path = tmp_path / "system.bin"
    first = open_context()
    first.run("a b c d e f", answer, save_cache=path)
    first.close()
    second = open_context()
    second.load_prompt_cache(path)
    assert second.kv_size() == 6
    assert second.run("a b c d e f g h", answer).prefill_tokens == 2


def test_another_cache_takes_the_place_of_the_first(
    context: Context, tmp_path: Path, entries: Entries, answer: Collected
) -> None:
    for name in ("one", "two"):
        context.run(f"a b {name}", answer, save_cache=tmp_path / name)
    context.load_prompt_cache(tmp_path / "one")
    context.load_prompt_cache(tmp_path / "two")
    context.release_prompt_cache()
    context.release_prompt_cache()
    assert len(entries("release_prompt_cache")) == 2


def test_a_cache_file_that_is_damaged_says_so(context: Context, tmp_path: Path) -> None:
    path = tmp_path / "broken.bin"
    path.write_bytes(b"nonsense")
    with pytest.raises(RuntimeFailed, match="create it again"):
        context.load_prompt_cache(path)


def test_after_an_abort_a_cache_is_loaded_only_where_that_is_safe(
    context: Context, tmp_path: Path, answer: Collected, family: str
) -> None:
    path = tmp_path / "cache.bin"
    context.run("a b c", answer, save_cache=path)
    assert context.can_load_prompt_cache
    context.run("<<script tokens=9>>", lambda *_: context.abort())
    assert context.can_load_prompt_cache is (family == "1.3")
    if family == "1.2":
        with pytest.raises(RuntimeFailed, match="end by itself first"):
            context.load_prompt_cache(path)
    else:
        context.load_prompt_cache(path)
    context.run("<<script tokens=2>>", answer)
    context.load_prompt_cache(path)


@pytest.mark.parametrize(
    ("script", "kind", "sentence"),
    [
        ({"fail": "save"}, StorageFull, "disk is full"),
        ({"arch": "rwkv7"}, UnsupportedRequest, "keep no KV cache"),
    ],
)
def test_a_prompt_cache_that_could_not_be_written_says_why(
    open_context: Callable[..., Context],
    model: Path,
    tmp_path: Path,
    answer: Collected,
    script: dict[str, str],
    kind: type[Exception],
    sentence: str,
) -> None:
    model.write_text("".join(f"{key}={value}\n" for key, value in script.items()))
    with pytest.raises(kind, match=sentence):
        open_context().run("a b c", answer, save_cache=tmp_path / "cache.bin")


def test_clearing_forgets_the_prefix(context: Context, answer: Collected) -> None:
    context.run("a b c d", answer)
    assert context.kv_size() == 4
    context.clear()
    assert context.kv_size() == 0
    assert context.run("a b c d", answer).prefill_tokens == 4


# Embeddings


def test_hidden_states_are_rows_of_floats(context: Context) -> None:
    result = context.embed("one two three")
    assert result.prompt_tokens == 3
    assert [len(row) for row in result.rows] == [64, 64, 64]
    assert all(row.typecode == "f" for row in result.rows)


def test_embeddings_do_not_depend_on_what_came_before(context: Context) -> None:
    alone = context.embed("one two three")
    context.embed("one two four")
    assert context.embed("one two three") == alone
    assert context.embed([7, 8]).prompt_tokens == 2


def test_a_text_too_long_to_embed_is_counted(context: Context) -> None:
    with pytest.raises(ContextLengthExceeded) as caught:
        context.embed([1000] * 2000)
    assert caught.value.prompt_tokens == 2000


# Adapters, end


def test_an_adapter_is_loaded_and_named_by_every_run(
    open_context: OpenContext, tmp_path: Path, entries: Entries, answer: Collected
) -> None:
    path = tmp_path / "adapter.rkllm"
    path.touch()
    context = open_context(adapters=((path, 0.5),))
    context.run("hello", answer)
    context.embed("hello")
    (loaded,) = entries("load_lora")
    assert (loaded["path"], loaded.number("scale")) == (str(path), 0.5)
    assert [run["lora"] for run in entries("run")] == [loaded["name"], loaded["name"]]


def test_without_an_adapter_no_run_names_one(context: Context, entries: Entries, answer: Collected) -> None:
    context.run("hello", answer)
    assert entries("run")[0]["lora"] == ""


def test_closing_releases_the_model_once(context: Context, entries: Entries) -> None:
    context.close()
    context.close()
    assert len(entries("destroy")) == 1


def test_a_closed_context_fails_with_a_sentence(context: Context, answer: Collected) -> None:
    context.close()
    context.abort()
    with pytest.raises(RuntimeFailed):
        context.run("hello", answer)
    with pytest.raises(RuntimeFailed, match="the size of the KV cache"):
        context.kv_size()


def test_several_contexts_live_side_by_side(open_context: OpenContext, answer: Collected) -> None:
    one, two = open_context(), open_context()
    one.run("a b", answer)
    two.run("a b c", answer)
    assert (one.kv_size(), two.kv_size()) == (2, 3)


def test_a_thousand_runs_leave_nothing_behind(context: Context, entries: Entries) -> None:
    counts = []
    for number in range(1000):
        answer = Collected()
        context.run(f"<<script tokens={number % 7 + 1}>>", answer)
        counts.append(len(answer.tokens))
    assert counts == [number % 7 + 1 for number in range(1000)]
