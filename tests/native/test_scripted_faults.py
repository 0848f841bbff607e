"""Everything that can go wrong on purpose, seen from below: what the server's tests of trouble stand on."""

import math
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.native.driver import ERROR, FINISH, NORMAL, WAITING, Runtime
from tests.native.journal import Entry
from tests.serving import ROOT

Entries = Callable[..., list[Entry]]


def states(runtime: Runtime) -> list[int]:
    return [call.state for call in runtime.calls]


def texts(runtime: Runtime) -> list[bytes | None]:
    return [call.text for call in runtime.calls if call.state in (NORMAL, WAITING)]


@pytest.mark.parametrize(
    ("script", "seen"),
    [
        ("fail=prefill", []),
        ("fail=3", [NORMAL, NORMAL]),
        ("error=prefill", [ERROR]),
        ("error=3", [NORMAL, NORMAL, ERROR]),
    ],
)
def test_a_run_fails_before_or_after_tokens_and_the_next_is_whole(
    runtime: Runtime, printed: Callable[[], str], script: str, seen: list[int]
) -> None:
    assert runtime.run(f"<<script tokens=5 {script} reason=failed%20to%20submit!>>") == -1
    assert states(runtime) == seen
    assert "E rkllm: failed to submit!" in printed()
    assert runtime.run("<<script tokens=5>>") == 0
    assert runtime.text == "w0 w1 w2 w3 w4"


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("null_at=2", [b"w0", None, b" w1"]),
        ("empty_at=1", [b"", b"w0", b" w1"]),
        ("waiting_at=2", [b"w0", None, b" w1"]),
        ("invalid_at=3", [b"w0", b" w1", b"\xff\xfe"]),
    ],
)
def test_a_strange_token_comes_between_the_others(runtime: Runtime, script: str, expected: list[bytes | None]) -> None:
    assert runtime.run(f"<<script tokens=2 {script}>>") == 0
    assert texts(runtime) == expected
    assert states(runtime)[-1] == FINISH
    assert (WAITING in states(runtime)) is script.startswith("waiting")


@pytest.mark.parametrize(
    ("split", "expected"),
    [
        ("no", ["aä🍐".encode(), " é!".encode()]),
        ("bytes", [b"a\xc3", b"\xa4\xf0", b"\x9f\x8d\x90", b" \xc3", b"\xa9!"]),
        ("waiting", [b"a", None, "ä".encode(), None, "🍐".encode(), b" ", None, "é!".encode()]),
        ("partial", [b"a", b"\xc3", "ä".encode(), b"\xf0", "🍐".encode(), b" ", b"\xc3", "é!".encode()]),
    ],
)
def test_characters_are_split_over_tokens(runtime: Runtime, split: str, expected: list[bytes | None]) -> None:
    runtime.run(f"<<script split={split} echo=1>> [[aä🍐 é!]]")
    assert texts(runtime) == expected
    assert runtime.text == "aä🍐 é!"


def test_without_a_split_a_long_word_is_cut_between_characters(runtime: Runtime) -> None:
    runtime.run("<<script echo=1>> [[" + "äöü🍐" * 5 + "]]")
    pieces = texts(runtime)
    assert [len(piece or b"") for piece in pieces] == [16, 16, 14, 4]
    assert b"".join(piece or b"" for piece in pieces).decode() == "äöü🍐" * 5


def test_finish_can_be_missing_late_or_followed_by_tokens(runtime: Runtime, entries: Entries) -> None:
    runtime.run("<<script tokens=2 finish=0>>")
    assert states(runtime) == [NORMAL, NORMAL]
    runtime.run("<<script tokens=1 after_finish=2>>")
    assert states(runtime) == [NORMAL, FINISH, NORMAL, NORMAL]
    runtime.run("<<script tokens=1 finish_ms=20 return_ms=20>>")
    token, finish = entries("callback")[-2:]
    assert finish.ns - token.ns >= 20e6
    assert entries("run_end")[-1].ns - finish.ns >= 20e6


def test_figures_can_be_nonsense(runtime: Runtime) -> None:
    runtime.run("<<script tokens=1 wrong_perf=1>>")
    assert math.isnan(runtime.perf["prefill_time_ms"])
    assert runtime.perf["prefill_tokens"] < 0


def test_a_missed_end_of_text_comes_as_a_token_and_the_answer_runs_on(
    fresh: Callable[[], Runtime], model: Path
) -> None:
    model.write_text("eos=7\nmiss_eos=1")
    runtime = fresh()
    runtime.init(model, max_new_tokens=6)
    runtime.run("<<script tokens=2>>")
    assert [call.token_id == 7 for call in runtime.calls] == [False, False, True, False, False, False, False]
    assert texts(runtime) == [b"w0", b" w1", b"", b" on", b" on", b" on"]


def test_special_tokens_have_text_only_if_they_are_not_skipped(fresh: Callable[[], Runtime], model: Path) -> None:
    runtime = fresh()
    runtime.init(model, max_new_tokens=3, skip_special_token=0)
    runtime.run("<<script tokens=1 miss_eos=1>>")
    assert texts(runtime) == [b"w0", b"</s>", b" on"]


def test_pausing_ends_the_run_without_finish(runtime: Runtime) -> None:
    runtime.answer = lambda call: 1
    assert runtime.run("<<script tokens=5>>") == 0
    assert states(runtime) == [NORMAL]


def abort_at(runtime: Runtime, *tokens: int) -> None:
    runtime.answer = lambda call: runtime.abort() if len(runtime.calls) in tokens else 0


@pytest.mark.parametrize(
    ("script", "aborts", "tokens"),
    [("", [2], 2), ("late_abort=3", [2], 5), ("lose_aborts=1", [2], 9), ("lose_aborts=1", [2, 4], 4)],
)
def test_an_abort_takes_effect_between_decode_steps_late_or_never(
    runtime: Runtime, printed: Callable[[], str], script: str, aborts: list[int], tokens: int
) -> None:
    abort_at(runtime, *aborts)
    assert runtime.run(f"<<script tokens=9 {script}>>") == 0
    assert states(runtime) == [NORMAL] * tokens + [FINISH]
    assert ("rkllm_run was aborted" in printed()) is (tokens < 9)


def test_an_aborted_run_can_answer_failure(runtime: Runtime) -> None:
    abort_at(runtime, 1)
    assert runtime.run("<<script tokens=9 abort_returns=-1>>") == -1


@pytest.mark.parametrize("remembered", [0, 1])
def test_an_abort_while_nothing_runs_is_forgotten_or_remembered(
    fresh: Callable[[], Runtime], model: Path, remembered: int
) -> None:
    model.write_text(f"remember_abort={remembered}")
    runtime = fresh()
    runtime.init(model)
    runtime.abort()
    tokens = []
    for _ in range(2):
        runtime.run("<<script tokens=3>>")
        tokens.append(states(runtime).count(NORMAL))
    assert tokens == [0 if remembered else 3, 3]


@pytest.mark.parametrize(("during", "cut"), [("0", False), ("1", True)])
def test_an_abort_during_prefill_waits_for_its_end_or_not(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch, entries: Entries, during: str, cut: bool
) -> None:
    monkeypatch.setenv("RKLLM_GUESS_ABORT_IN_PREFILL", during)
    ran = threading.Thread(target=runtime.run, args=("a b c d <<script tokens=9 prefill_ms=300>>",))
    ran.start()
    while not entries("prefill"):
        time.sleep(0.001)
    runtime.abort()
    ran.join()
    assert states(runtime) == [FINISH]
    took = entries("run_end")[0].ns - entries("run")[0].ns
    assert (took < 250e6) is cut
    assert (runtime.kv_size() < 6) is cut


def test_calls_that_must_not_be_made_during_a_run_are_refused_and_written_down(
    runtime: Runtime, entries: Entries
) -> None:
    answers: list[int] = []

    def misbehave(call: object) -> None:
        if not answers:
            runtime.answer = lambda call: 0
            answers.extend([runtime.clear(), runtime.load_cache(Path("x")), runtime.release_cache()])
            calls = runtime.calls
            answers.append(runtime.run("again"))
            runtime.calls = calls

    runtime.answer = misbehave
    assert runtime.run("<<script tokens=1>>") == 0
    assert answers == [-1, -1, -1, -1]
    assert [(entry["what"] or "").split()[-1] for entry in entries("misuse")] == ["run"] * 4


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"max_context_len": 8192}, "max_context[8192] must be less than the model's max_context_limit[4096]"),
        ({"n_keep": 4096}, "The n_keep must be less than the max_context_len"),
        ({"cpus_num": 3}, "Mismatch between enabled CPUs mask and expected count"),
        ({"cpus_num": 9}, "Expected The number of enabled CPUs between"),
    ],
)
def test_init_refuses_what_the_library_refuses(
    fresh: Callable[[], Runtime], model: Path, printed: Callable[[], str], values: dict[str, int], sentence: str
) -> None:
    runtime = fresh()
    arguments: dict[str, object] = dict(values)
    assert runtime.init(model, **arguments) == -1
    assert not runtime.handle
    assert "E rkllm: " + sentence in printed()


def test_init_fails_without_the_file_and_for_the_reason_the_script_gives(
    fresh: Callable[[], Runtime], model: Path, printed: Callable[[], str]
) -> None:
    assert fresh().init(model.with_name("none.rkllm")) == -1
    assert f"E rkllm: failed to open '{model.with_name('none.rkllm')}': 'No such file or directory'" in printed()
    model.write_text("fail_init=invalid rkllm model!")
    assert fresh().init(model) == -1
    assert "E rkllm: invalid rkllm model!" in printed()


SECOND = """
    assert runtime.init(model) == 0
    second = Runtime(library, family)
    assert second.init(model) == -1 and not second.handle
    assert runtime.run("hello") == 0
"""


def test_a_second_init_that_fails_leaves_the_first_alone(child: Callable[..., int]) -> None:
    assert child(SECOND, RKLLM_SCRIPT_FAIL_INIT_FROM="2") == 0


def test_or_it_crashes_as_seen_on_1_3_0(child: Callable[..., int]) -> None:
    env = {"RKLLM_SCRIPT_FAIL_INIT_FROM": "2", "RKLLM_GUESS_SECOND_INIT_CRASHES": "1"}
    assert child(SECOND, **env) == -signal.SIGSEGV


def test_an_init_after_a_failed_one_crashes_if_that_is_guessed(child: Callable[..., int]) -> None:
    code = """
        assert runtime.init(Path("/none.rkllm")) == -1
        assert runtime.init(model) == 0
    """
    assert child(code) == 0
    assert child(code, RKLLM_GUESS_SECOND_INIT_CRASHES="1") == -signal.SIGSEGV


LOAD_AFTER_ABORT = """
    assert runtime.init(model) == 0
    runtime.run("hello", save=Path("{path}"))
    runtime.answer = lambda call: runtime.abort()
    runtime.run("hello again")
    {between}
    assert runtime.load_cache(Path("{path}")) == 0
"""


def test_loading_a_cache_directly_after_an_abort_crashes_on_1_2(
    child: Callable[..., int], family: str, tmp_path: Path
) -> None:
    crashed = {"1.2": -signal.SIGSEGV, "1.3": 0}[family]
    code = LOAD_AFTER_ABORT.format(path=tmp_path / "cache", between="")
    assert child(code) == crashed
    assert child(code, RKLLM_GUESS_LOAD_AFTER_ABORT_CRASHES="0") == 0
    assert child(code, RKLLM_GUESS_LOAD_AFTER_ABORT_CRASHES="1") == -signal.SIGSEGV
    cured = LOAD_AFTER_ABORT.format(path=tmp_path / "cache", between="runtime.clear()")
    assert child(cured, RKLLM_GUESS_LOAD_AFTER_ABORT_CRASHES="1") == 0


WHOLE_LIFE = """
    runtime.init(model)
    runtime.run("hello")
    runtime.load_cache(Path("none"))
    runtime.destroy()
"""


@pytest.mark.parametrize("place", ["init", "prefill", "2", "load", "destroy"])
@pytest.mark.parametrize(("key", "number"), [("SEGV", signal.SIGSEGV), ("ABRT", signal.SIGABRT)])
def test_it_crashes_where_it_is_told(
    child: Callable[..., int], tmp_path: Path, key: str, number: int, place: str
) -> None:
    assert child(WHOLE_LIFE, **{f"RKLLM_SCRIPT_{key}": place}) == -number


def test_a_fault_meant_once_happens_once(child: Callable[..., int], tmp_path: Path) -> None:
    env = {"RKLLM_SCRIPT_SEGV": "init", "RKLLM_SCRIPT_ONCE": str(tmp_path / "happened")}
    assert [child(WHOLE_LIFE, **env) for _ in range(2)] == [-signal.SIGSEGV, 0]


@pytest.mark.parametrize(
    ("code", "what"),
    [
        ("runtime.init(model, n_batch=8); runtime.run('hello')", "a batch that is not one"),
        ("runtime.init(model); runtime.answer = lambda call: runtime.destroy(); runtime.run('x')", "destroy in a run"),
    ],
)
def test_what_kills_the_real_library_kills_this_one(child: Callable[..., int], code: str, what: str) -> None:
    assert child(code) == -signal.SIGSEGV, what


def test_missing_image_tags_kill_the_1_2_family(child: Callable[..., int], family: str) -> None:
    if family == "1.2":
        assert child("runtime.init(model, img_start=0)") == -signal.SIGSEGV


@pytest.mark.parametrize("place", ["init", "prefill", "3"])
def test_a_hang_ignores_aborts(library: Path, family: str, model: Path, tmp_path: Path, place: str) -> None:
    journal = tmp_path / "calls.log"
    code = (
        "import sys, threading, time; from pathlib import Path; from tests.native.driver import Runtime\n"
        f"runtime = Runtime(Path({str(library)!r}), {family!r})\n"
        f"ran = lambda: (runtime.init(Path({str(model)!r})), runtime.run('<<script tokens=9>>'))\n"
        "thread = threading.Thread(target=ran, daemon=True); thread.start()\n"
        "while True: time.sleep(0.005); runtime.handle and runtime.abort()\n"
    )
    env = {"RKLLM_SCRIPT_HANG": place, "RKLLM_SCRIPT_LOG": str(journal), "RKLLM_SCRIPT_LOSE_ABORTS": "1000000"}
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=env) as process:
        try:
            while "kind=hang" not in (journal.read_text() if journal.exists() else ""):
                assert process.poll() is None
                time.sleep(0.005)
            if place != "init":
                aborts = journal.read_text().count(" abort ")
                while journal.read_text().count(" abort ") < aborts + 5:
                    time.sleep(0.005)
            assert process.poll() is None
            assert " run_end " not in journal.read_text()
        finally:
            process.kill()
