"""A run of the scripted runtime: what it says, how long it takes, what it reuses, what it writes down."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from tests.native.driver import FINISH, HIDDEN, NORMAL, Runtime
from tests.native.journal import Entry

Entries = Callable[..., list[Entry]]


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("text=%c3%84pfel%20und%20Birnen", "Äpfel und Birnen"),
        ("tokens=4", "w0 w1 w2 w3"),
        ("tokens=0", ""),
        ("tokens=2 repeat=3", "w0 w1 w0 w1 w0 w1"),
        ("echo=1", "what I asked"),
    ],
)
def test_the_script_is_what_is_said(runtime: Runtime, script: str, said: str) -> None:
    assert runtime.run(f"not [[this]] but [[what I asked]] <<script {script}>>") == 0
    assert runtime.text == said


def test_the_last_directive_counts(runtime: Runtime) -> None:
    runtime.run("<<script tokens=1>> hello <<script text=last>> <<scr")
    assert runtime.text == "last"


def test_an_empty_directive_goes_back_to_the_default_answer(runtime: Runtime) -> None:
    runtime.run("<<script tokens=1>> hello <<script>>")
    assert runtime.text.startswith("Prompt ")


@pytest.mark.parametrize("script", ["tokns=3", "segv=nowhere", "split=some", "tokens=3"])
def test_a_misspelt_script_fails_instead_of_saying_something_else(
    runtime: Runtime, printed: Callable[[], str], script: str
) -> None:
    good = script == "tokens=3"
    assert runtime.run(f"<<script {script}>>") == (0 if good else -1)
    assert ("E rkllm: the script" in printed()) is not good


def test_the_default_answer_depends_on_the_prompt_alone(runtime: Runtime) -> None:
    answers = []
    for prompt in ("one", "two", "one"):
        runtime.run(prompt)
        answers.append(runtime.text)
    assert answers[0] == answers[2] != answers[1]


def test_the_models_file_overrides_the_environment_and_the_prompt_both(
    fresh: Callable[[], Runtime], model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RKLLM_SCRIPT_TEXT", "environment")
    monkeypatch.setenv("RKLLM_SCRIPT_REPEAT", "2")
    model.write_text("# a model\nthis line says nothing\ntext = spaces are kept\n".replace(" = ", "="))
    runtime = fresh()
    assert runtime.init(model) == 0
    runtime.run("hello")
    assert runtime.text == "spaces are kept spaces are kept"
    runtime.run("<<script text=prompt>>")
    assert runtime.text == "prompt prompt"


def test_a_binary_file_is_a_model_without_a_script(fresh: Callable[[], Runtime], model: Path) -> None:
    model.write_bytes(b"tokens=3\n\0\xff")
    runtime = fresh()
    assert runtime.init(model) == 0


@pytest.mark.parametrize(("limit", "context", "tokens"), [(3, 4096, 3), (-1, 64, 56), (100, 64, 56), (-1, 4096, 90)])
def test_a_run_ends_at_the_text_the_limit_or_the_context(
    fresh: Callable[[], Runtime], model: Path, limit: int, context: int, tokens: int
) -> None:
    runtime = fresh()
    assert runtime.init(model, max_new_tokens=limit, max_context_len=context) == 0
    assert runtime.plain().run("five tokens come " + "before " * 3 + "<<script tokens=90>>") == 0
    assert [call.state for call in runtime.calls] == [NORMAL] * tokens + [FINISH]
    assert runtime.perf["generate_tokens"] == tokens


def test_from_1_3_on_each_run_has_its_own_limit_and_sampling(runtime: Runtime, entries: Entries, family: str) -> None:
    if family == "1.2":
        runtime.run("<<script tokens=9>>")
        assert entries("run")[0].number("temperature") == pytest.approx(0.8)
        return
    names = ("top_k", "top_p", "temperature", "repeat_penalty", "frequency_penalty", "presence_penalty", "mirostat")
    sampling = {"top_k": 7, "top_p": 0.5, "temperature": 0.25, "repeat_penalty": 1.5, "frequency_penalty": 0.125}
    runtime.run("<<script tokens=9>>", sampling=sampling, max_new_tokens=2)
    assert runtime.text == "w0 w1"
    seen = entries("run")[0]
    assert [seen.number(name) for name in names] == [7, 0.5, 0.25, 1.5, 0.125, 0, 0]
    assert seen["max_new_tokens"] == "2"


def test_a_prompt_that_is_too_long_is_counted_and_refused_without_a_callback(
    fresh: Callable[[], Runtime], model: Path, printed: Callable[[], str]
) -> None:
    runtime = fresh()
    runtime.init(model, max_context_len=32)
    runtime.plain()
    assert runtime.run(" word" * 28) == 0
    assert runtime.run(" word" * 29) == -1
    assert runtime.calls == []
    line = "E rkllm: the length of prompt is greater than max context (prompt: 29 tokens, max context: 28)"
    assert line in printed()


def test_the_stored_template_wraps_a_prompt_until_it_is_switched_off(
    fresh: Callable[[], Runtime], model: Path, entries: Entries
) -> None:
    runtime = fresh()
    runtime.init(model)
    runtime.run("hello")
    runtime.plain().run("hello")
    wrapped, plain = (entry["prompt"] or "" for entry in entries("run"))
    assert wrapped.startswith("<|im_start|>system\n")
    assert plain == "hello"


def test_only_what_differs_from_the_cache_is_computed(runtime: Runtime) -> None:
    computed = []
    for prompt in ("a b c d", "a b c d", "a b x", "a b x y"):
        runtime.run(prompt)
        computed.append(runtime.perf["prefill_tokens"])
        assert runtime.kv_size() == len(prompt.split())
    assert computed == [4, 0, 1, 1]
    assert runtime.clear() == 0
    assert runtime.kv_size() == 0
    runtime.run("a b x y")
    assert runtime.perf["prefill_tokens"] == 4


def test_some_tokens_can_be_computed_again_each_time(runtime: Runtime) -> None:
    runtime.run("a b c <<script residue=2>>")
    runtime.run("a b c <<script residue=2>>")
    assert runtime.perf["prefill_tokens"] == 2


@pytest.mark.parametrize(("reuse", "computed"), [("all", (0, 0)), ("text", (0, 9)), ("none", (4, 9))])
def test_reuse_can_be_limited_to_text_or_switched_off(
    fresh: Callable[[], Runtime], model: Path, reuse: str, computed: tuple[int, int]
) -> None:
    model.write_text(f"reuse={reuse}")
    runtime = fresh()
    runtime.init(model)
    runtime.plain()
    seen = []
    for prompt in ("a b c d", list(range(5000, 5009))):
        runtime.run(prompt)
        runtime.run(prompt)
        seen.append(runtime.perf["prefill_tokens"])
    assert tuple(seen) == computed


@pytest.mark.parametrize(("kept", "computed"), [("0", 5), ("1", 2)])
def test_own_tokens_are_kept_for_reuse_or_not(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch, kept: str, computed: int
) -> None:
    monkeypatch.setenv("RKLLM_GUESS_KEEP_OWN_TOKENS", kept)
    runtime.run("<<script text=%20I%20know%20it>>")
    runtime.run("<<script text=%20I%20know%20it>> I know it and more")
    assert runtime.perf["prefill_tokens"] == computed


def test_with_history_only_the_new_turn_is_sent_and_everything_stays(runtime: Runtime) -> None:
    runtime.run("a b c <<script tokens=2>>", keep_history=1)
    assert runtime.kv_size() == 5 + 2
    runtime.run(" d e <<script tokens=2>>", keep_history=1)
    assert (runtime.perf["prefill_tokens"], runtime.kv_size()) == (4, 13)


def test_ids_from_256_on_spell_bytes_so_tokens_can_carry_a_directive(runtime: Runtime) -> None:
    ids = [256 + byte for byte in b"<<script text=by%20id>>"]
    runtime.run([3, 70000, *ids])
    assert (runtime.text, runtime.kv_size()) == ("by id", len(ids) + 2)


def test_the_byte_tokenizer_beside_these_tests_speaks_those_ids(runtime: Runtime, entries: Entries) -> None:
    tokenizer = Tokenizer.from_file(str(Path(__file__).parent / "byte_tokenizer.json"))
    prompt = "<|im_start|>user\nMoin, schön <<script text=hier>><|im_end|>\n"
    runtime.run(tokenizer.encode(prompt).ids)
    assert runtime.text == "hier"
    assert entries("run")[0]["prompt"] == "user\nMoin, schön <<script text=hier>>\n"


def test_times_are_kept(runtime: Runtime, entries: Entries) -> None:
    runtime.run("a b c <<script prefill_ms=10 prefill_us_per_token=2000 tokens=5 decode_ms=4>>")
    assert runtime.perf["prefill_time_ms"] >= 10 + 2 * 7
    assert runtime.perf["generate_time_ms"] >= 5 * 4
    begun, last = entries("run")[0].ns, entries("callback")[4].ns
    assert last - begun >= (10 + 2 * 7 + 5 * 4) * 1e6


def test_hidden_states_come_one_row_per_token_and_only_from_the_tokens(runtime: Runtime) -> None:
    rows = []
    for prompt in ("a b c", "a b c", "a b x"):
        runtime.clear()
        assert runtime.run(prompt, mode=HIDDEN) == 0
        assert [call.state for call in runtime.calls] == [NORMAL, FINISH]
        assert runtime.calls[0].text is None
        rows.append(runtime.calls[0].hidden)
    assert [(len(each), len(each[0])) for each in rows] == [(3, 64)] * 3
    assert rows[0] == rows[1]
    assert rows[0][:2] == rows[2][:2]
    assert rows[0][2] != rows[2][2]


def test_hidden_states_of_a_reused_prefix_are_missing(runtime: Runtime) -> None:
    runtime.run("a b c", mode=HIDDEN)
    runtime.run("a b d", mode=HIDDEN)
    assert len(runtime.calls[0].hidden) == 1


def test_an_adapter_acts_only_when_it_is_chosen_by_name(
    runtime: Runtime, tmp_path: Path, printed: Callable[[], str], entries: Entries
) -> None:
    adapter = tmp_path / "lora.rkllm"
    assert runtime.load_lora(adapter, "mine") == -1
    adapter.touch()
    assert runtime.load_lora(adapter, "mine") == 0
    assert runtime.load_lora(adapter, "mine") == -1
    answers = []
    for lora in (None, "mine"):
        assert runtime.run("hello", lora=lora) == 0
        answers.append(runtime.text)
    assert answers[0] != answers[1]
    assert runtime.run("hello", lora="other") == -1
    lines = printed()
    for line in ("path does not exist!", "'mine' is already initialized!", "Not Found Lora adapter named: other"):
        assert line in lines
    assert [entry["other_lora"] for entry in entries("prefill")] == ["0", "1"]


def test_the_log_tells_of_the_model_and_of_the_runs_end(
    fresh: Callable[[], Runtime], model: Path, printed: Callable[[], str], family: str
) -> None:
    model.write_text("context_limit=16384\nnpu_cores=2\nplatform=RK3576\ndtype=W4A16")
    runtime = fresh()
    runtime.init(model)
    version = {"1.2": "1.2.3", "1.3": "1.3.0"}[family]
    lines = printed().splitlines()
    assert f"I rkllm: rkllm-runtime version: {version}, rknpu driver version: 0.9.8, platform: RK3576" in lines
    assert f"I rkllm: loading rkllm model from {model}" in lines
    assert (
        f"I rkllm: rkllm-toolkit version: {version}, max_context_limit: 16384, npu_core_num: 2, "
        "target_platform: RK3576, model_dtype: W4A16" in lines
    )
    assert "I rkllm: Enabled cpus num: 4" in lines
    runtime.run("hello")
    assert "I rkllm: rkllm_run ended" in printed().splitlines()


def test_the_journal_says_what_the_runtime_saw_and_on_which_thread(runtime: Runtime, entries: Entries) -> None:
    runtime.run("über <<script tokens=1>>")
    assert [entry.what for entry in entries()] == [
        *("init", "init_end", "set_chat_template"),
        *("run", "prefill", "callback", "callback", "run_end"),
    ]
    assert entries("run")[0]["prompt"] == "über <<script tokens=1>>"
    assert [(entry["state"], entry["text"]) for entry in entries("callback")] == [("NORMAL", "w0"), ("FINISH", None)]
    assert {entry.thread for entry in entries()} == {threading.get_native_id()}
    times = [entry.ns for entry in entries()]
    assert times == sorted(times)
