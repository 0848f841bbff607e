"""The engine on the scripted runtime: order, ends, cancelling, switching."""

import math
import time
from _queue import SimpleQueue
from collections.abc import Callable
from pathlib import Path

import pytest

from rkllama_flask.engine.engine import Engine
from rkllama_flask.engine.jobs import Generate, JobState, Load, ModelSpec, Piece, Started, Unload
from rkllama_flask.errors import Draining, ModelUnusable, QueueFull, RuntimeBusy, RuntimeFailed, TimedOut
from rkllama_flask.sampling import Sampling
from tests.engine.conftest import read, wait

Model = Callable[..., ModelSpec]
SLOW = "<<script tokens=500 decode_ms=5>>"


def test_an_answer_arrives_whole_with_the_runtimes_own_figures(engine: Engine, model: Model) -> None:
    job = Generate(spec=model(), prompt="Hello <<script text=%c3%84pfel%20und%20%f0%9f%8d%90>>")
    engine.submit(job)
    text, result = read(job)
    assert text == "Äpfel und 🍐"
    assert result.reason == "stop"
    assert result.prompt_tokens == result.prefill_tokens
    assert result.generated_tokens == 3


def test_a_character_split_over_tokens_arrives_whole(engine: Engine, model: Model) -> None:
    job = Generate(spec=model(), prompt="<<script text=%f0%9f%8d%90%f0%9f%8d%90 split=bytes>>")
    engine.submit(job)
    assert read(job)[0] == "🍐🍐"


@pytest.mark.parametrize("stop", ["w3", " w3", "3 w4"])
def test_a_stop_string_ends_the_answer_and_none_of_it_leaks(engine: Engine, model: Model, stop: str) -> None:
    job = Generate(spec=model(), prompt="<<script tokens=50>>", stop=("nothing", stop))
    engine.submit(job)
    text, result = read(job)
    whole = " ".join(f"w{n}" for n in range(50))
    assert text == whole[: whole.index(stop)]
    assert (result.reason, result.stop_string) == ("stop", stop)


def test_the_token_limit_ends_the_answer_on_runtimes_with_and_without_one(engine: Engine, model: Model) -> None:
    job = Generate(spec=model(), prompt="<<script tokens=50>>", max_tokens=3)
    engine.submit(job)
    text, result = read(job)
    assert (text.split(), result.reason) == (["w0", "w1", "w2"], "length")


def test_an_end_of_text_id_that_the_runtime_misses_ends_the_answer(engine: Engine, model: Model) -> None:
    spec = model(eos_token_ids=frozenset({2}))
    job = Generate(spec=spec, prompt="<<script tokens=3 miss_eos=1>>", max_tokens=40)
    engine.submit(job)
    text, result = read(job)
    assert (text.split(), result.reason) == (["w0", "w1", "w2"], "stop")


def test_lost_aborts_are_repeated(engine: Engine, model: Model) -> None:
    job = Generate(spec=model(), prompt="<<script tokens=400 decode_ms=1 lose_aborts=3>>", stop=("w5",))
    engine.submit(job)
    text, result = read(job)
    assert (text.split(), result.reason) == (["w0", "w1", "w2", "w3", "w4"], "stop")


def test_jobs_run_one_after_another_and_each_gets_its_own_answer(engine: Engine, model: Model) -> None:
    spec = model()
    jobs = [Generate(spec=spec, prompt=f"<<script text=answer%20{n} decode_ms=1>>") for n in range(20)]
    for job in jobs:
        engine.submit(job)
    assert [read(job)[0] for job in jobs] == [f"answer {n}" for n in range(20)]


def test_a_cancelled_answer_stops_within_a_few_tokens_and_the_next_is_whole(engine: Engine, model: Model) -> None:
    spec = model()
    first, second = Generate(spec=spec, prompt=SLOW), Generate(spec=spec, prompt="<<script tokens=5>>")
    engine.submit(first)
    engine.submit(second)
    seen = 0
    while seen < 5:
        seen += isinstance(first.mailbox.get(10), Piece)
    engine.cancel(first)
    text, _ = read(second)
    assert text.split() == ["w0", "w1", "w2", "w3", "w4"]
    assert len(read(first)[0].split()) < 10


def test_a_job_cancelled_while_it_waits_never_runs(engine: Engine, model: Model) -> None:
    spec = model()
    running, waiting = Generate(spec=spec, prompt=SLOW), Generate(spec=spec, prompt="<<script tokens=5>>")
    engine.submit(running)
    engine.submit(waiting)
    while not isinstance(running.mailbox.get(10), Started):
        pass
    engine.cancel(waiting)
    assert engine.status().waiting == 0
    engine.cancel(running)
    after = Generate(spec=spec, prompt="<<script tokens=1>>")
    engine.submit(after)
    read(after)
    assert waiting.state is JobState.CANCELLED


def test_cancelling_a_finished_job_leaves_the_running_one_alone(engine: Engine, model: Model) -> None:
    spec = model()
    done = Generate(spec=spec, prompt="<<script tokens=1>>")
    engine.submit(done)
    read(done)
    running = Generate(spec=spec, prompt="<<script tokens=30 decode_ms=1>>")
    engine.submit(running)
    while not isinstance(running.mailbox.get(10), Started):
        pass
    engine.cancel(done)
    assert len(read(running)[0].split()) == 30


def test_a_full_queue_refuses_at_once_and_says_when_to_come_back(
    make_engine: Callable[..., Engine], model: Model
) -> None:
    engine, spec = make_engine(max_queue=2), model()
    jobs = [Generate(spec=spec, prompt=SLOW) for _ in range(3)]
    engine.submit(jobs[0])
    while not isinstance(jobs[0].mailbox.get(10), Started):
        pass
    engine.submit(jobs[1])
    engine.submit(jobs[2])
    with pytest.raises(QueueFull) as refused:
        engine.submit(Generate(spec=spec, prompt=SLOW))
    assert refused.value.retry_after is not None
    for job in jobs:
        engine.cancel(job)


def test_unloading_waits_for_the_answer_that_runs(engine: Engine, model: Model) -> None:
    spec = model()
    running, unload = Generate(spec=spec, prompt="<<script tokens=40 decode_ms=2>>"), Unload()
    engine.submit(running)
    engine.submit(unload)
    assert len(read(running)[0].split()) == 40
    assert wait(unload) == [spec.path]
    assert engine.status().resident == ()


def test_after_a_failed_load_the_model_that_made_room_answers_again(
    make_engine: Callable[..., Engine], model: Model, family: str, tmp_path: Path
) -> None:
    """Runtimes 1.3 crash at an init after a failed one: there the process is replaced, and its successor loads it."""
    good, bad = model("good"), model("bad", "fail_init=invalid%20rkllm%20model!")
    engine = make_engine(journal_path=tmp_path / "journal")
    replaced: SimpleQueue[bool] = SimpleQueue()
    engine.start(replace_process=lambda: replaced.put(True))
    engine.submit(first := Load(spec=good))
    wait(first)
    engine.submit(second := Load(spec=bad))
    with pytest.raises(ModelUnusable, match="damaged"):
        wait(second)
    done, failed, taken = engine.status().loads
    assert (done, failed) == ((1, 2) if family == "1.3" else (2, 1))  # bringing the good one back fails there
    assert taken > 0
    if family == "1.3":
        assert replaced.get(timeout=5)
        assert engine.close()
        engine = make_engine(journal_path=tmp_path / "journal")
        engine.start()
    engine.submit(third := Generate(spec=good, prompt="<<script tokens=2>>"))
    assert read(third)[0] == "w0 w1"


@pytest.mark.parametrize(
    "left", ['{"crashes": ["a"]}', '{"model": {"name": "a"}, "keep_alive": null}', "[]", "no JSON"]
)
def test_a_journal_that_another_version_has_left_keeps_nobody_from_an_answer(
    make_engine: Callable[..., Engine], model: Model, tmp_path: Path, left: str
) -> None:
    (tmp_path / "journal").write_text(left)
    engine = make_engine(journal_path=tmp_path / "journal")
    engine.submit(job := Generate(spec=model(), prompt="<<script tokens=2>>"))
    assert read(job)[0] == "w0 w1"


def test_a_model_without_keep_alive_leaves_after_its_answer(engine: Engine, model: Model) -> None:
    job = Generate(spec=model(), prompt="<<script tokens=2>>", keep_alive=0)
    engine.submit(job)
    read(job)
    assert engine.status().resident == ()


def test_a_keep_alive_that_ends_unloads_without_any_request(engine: Engine, model: Model) -> None:
    job = Generate(spec=model(), prompt="<<script tokens=2>>", keep_alive=0.05)
    engine.submit(job)
    read(job)
    deadline = time.monotonic() + 5
    while engine.status().resident and time.monotonic() < deadline:
        time.sleep(0.01)
    assert engine.status().resident == ()


def test_sampling_that_a_handle_has_fixed_is_named(engine: Engine, model: Model, family: str) -> None:
    asked = Sampling(temperature=0.123, top_k=40)
    job = Generate(spec=model(), prompt="<<script tokens=1>>", sampling=asked, requested=asked)
    engine.submit(job)
    started = job.mailbox.get(10)
    assert started.unapplied == (() if family == "1.3" else ("temperature",))
    read(job)


def test_a_deadline_ends_a_run_and_nothing_else(engine: Engine, model: Model) -> None:
    spec = model()
    late = Generate(spec=spec, prompt=SLOW, timeout=0.1)
    engine.submit(late)
    with pytest.raises(TimedOut):
        read(late)
    engine.submit(after := Generate(spec=spec, prompt="<<script tokens=2>>"))
    assert read(after)[0] == "w0 w1"


@pytest.mark.parametrize("fault", ["fail=prefill", "error=prefill", "error=3"])
def test_a_run_that_fails_is_one_error_to_its_own_client(engine: Engine, model: Model, fault: str) -> None:
    spec = model()
    engine.submit(bad := Generate(spec=spec, prompt=f"<<script tokens=9 {fault}>>"))
    with pytest.raises(RuntimeFailed):
        read(bad)
    engine.submit(good := Generate(spec=spec, prompt="<<script tokens=2>>"))
    assert read(good)[0] == "w0 w1"


def test_a_missing_finish_does_not_hold_the_answer(engine: Engine, model: Model) -> None:
    engine.submit(job := Generate(spec=model(), prompt="<<script tokens=4 finish=0>>"))
    text, result = read(job)
    assert (text, result.generated_tokens) == ("w0 w1 w2 w3", 4)


def test_while_draining_waiting_jobs_are_refused_and_the_running_one_ends(engine: Engine, model: Model) -> None:
    spec = model()
    engine.submit(running := Generate(spec=spec, prompt="<<script tokens=30 decode_ms=2>>"))
    engine.submit(waiting := Generate(spec=spec, prompt="<<script tokens=2>>"))
    while not isinstance(running.mailbox.get(10), Started):
        pass
    engine.drain(5)
    with pytest.raises(Draining):
        engine.submit(Generate(spec=spec, prompt="<<script tokens=2>>"))
    assert len(read(running)[0].split()) == 30
    with pytest.raises(Draining):
        read(waiting)


def test_another_process_that_holds_the_npu_is_named(
    make_engine: Callable[..., Engine], model: Model, tmp_path: Path
) -> None:
    import fcntl

    with (tmp_path / "npu.lock").open("w") as holder:
        holder.write("4711 4710\n")
        holder.flush()
        fcntl.flock(holder, fcntl.LOCK_EX)
        engine = make_engine()
        engine.submit(job := Load(spec=model()))
        with pytest.raises(RuntimeBusy, match="4711"):
            wait(job)


def test_while_a_model_loads_the_engine_says_that_it_is_not_ready(engine: Engine, model: Model) -> None:
    engine.submit(job := Generate(spec=model("slow", "load_ms=300"), prompt="<<script tokens=2>>"))
    while engine.status().busy != "loading":
        time.sleep(0.005)
    assert not engine.status().ready
    read(job)
    assert engine.status().ready


def test_a_larger_context_reloads_the_model_and_lets_it_stay_as_it_was_to_stay(engine: Engine, model: Model) -> None:
    engine.submit(pinned := Load(spec=model(context_length=1024), keep_alive=math.inf))
    wait(pinned)
    for least, length in ((1024, 1024), (1056, 4096), (1024, 4096)):
        engine.submit(job := Generate(spec=model(), prompt="<<script tokens=2>>", least_context=least))
        read(job)
        (resident,) = engine.status().resident
        assert (resident.context_length, resident.expires) == (length, None)


def test_a_model_is_seen_from_its_load_on_also_while_it_answers_for_the_first_time(
    engine: Engine, model: Model
) -> None:
    engine.submit(job := Generate(spec=model(), prompt=SLOW))
    while not isinstance(job.mailbox.get(10), Started):
        pass
    assert [entry.spec.name for entry in engine.status().resident] == ["model"]
    engine.cancel(job)
