"""Answers of several runs on the scripted runtime: one job, whose limits and whose end are the whole answer's."""

import threading
import time
from collections.abc import Callable, Sequence

import pytest

from rkllama_flask.engine.engine import Engine
from rkllama_flask.engine.jobs import Generate, JobState, ModelSpec, Piece, Step
from rkllama_flask.errors import AnswerUnfit, RuntimeFailed, TimedOut
from tests.engine.conftest import read

Model = Callable[..., ModelSpec]


class Listed:
    """Steps with these prompts. All that the model says is sent, `between` after each run, "." ends one, CUT all."""

    def __init__(
        self, *prompts: str, between: str = "|", limits: Sequence[int | None] = (), again: bool = False
    ) -> None:
        self.prompts = prompts
        self.limits = (*limits, *[None] * len(prompts))
        self.between = between
        self.again = again
        self.too_long = False
        self.tokens: int | None = None
        self.threads: set[int] = set()
        self._place = 0
        self._unsent = ""

    @property
    def step(self) -> Step | None:
        if self._place >= len(self.prompts):
            return None
        return Step(self.prompts[self._place], self.limits[self._place], self.again, self.too_long)

    def feed(self, text: str) -> bool:
        said, stop, _ = text.partition(".")
        self._unsent += said
        return bool(stop)

    def cut_by(self, stop: str) -> bool:
        return stop == "CUT"

    def end(self) -> None:
        self.threads.add(threading.get_ident())
        self._place += 1
        self._unsent += self.between

    def take(self) -> str:
        unsent, self._unsent = self._unsent, ""
        return unsent


def submitted(engine: Engine, spec: ModelSpec, steps: Listed, **fields: object) -> Generate:
    job = Generate(spec=spec, prompt=steps.prompts[0], steps=steps, **fields)  # type: ignore[arg-type]
    engine.submit(job)
    return job


def test_the_runs_follow_each_other_and_their_texts_are_one_answer(engine: Engine, model: Model) -> None:
    steps = Listed("<<script text=one>>", "<<script text=two.%20and%20more>>", "<<script text=three>>")
    text, result = read(submitted(engine, model(), steps))
    assert text == "one|two|three|"
    assert (result.reason, result.stop_string) == ("stop", None)
    assert result.prompt_tokens is not None
    assert result.generated_tokens >= 3


def test_nobody_elses_answer_comes_between(engine: Engine, model: Model) -> None:
    spec = model()
    slow = "<<script tokens=3 decode_ms=10>>"
    first = submitted(engine, spec, Listed(slow, slow, slow))
    second = Generate(spec=spec, prompt="<<script text=x>>")
    engine.submit(second)
    assert second.state is JobState.QUEUED
    read(first)
    assert read(second)[0] == "x"


def test_each_run_has_its_limit_and_the_answer_has_one_too(engine: Engine, model: Model) -> None:
    many = "<<script tokens=50>>"
    text, result = read(submitted(engine, model(), Listed(many, many, limits=(2, 3))))
    assert (text, result.reason) == ("w0 w1|w0 w1 w2|", "stop")
    text, result = read(submitted(engine, model(), Listed(many, many, limits=(2,)), max_tokens=30))
    assert (result.reason, result.generated_tokens) == ("length", 30)
    assert text.startswith("w0 w1|w0 w1 w2")
    assert not text.endswith("|")


def test_a_run_that_is_too_long_at_its_limit_ends_the_whole_answer(engine: Engine, model: Model) -> None:
    steps = Listed("<<script tokens=2>>", "<<script tokens=50>>", "<<script text=never>>", limits=(3, 3))
    steps.too_long = True
    text, result = read(submitted(engine, model(), steps))
    assert (text, result.reason) == ("w0 w1|w0 w1 w2", "length")


def test_what_is_fixed_counts_for_the_limit_and_goes_out_only_within_it(engine: Engine, model: Model) -> None:
    steps = Listed("<<script text=one>>", "<<script text=two>>")
    steps.tokens = 9
    text, result = read(submitted(engine, model(), steps, max_tokens=8))
    assert (text, result.reason, result.generated_tokens) == ("", "length", 8)


def test_a_stop_string_and_an_end_of_text_end_a_run_and_not_the_answer(engine: Engine, model: Model) -> None:
    steps = Listed("<<script text=a%20STOP%20b>>", "<<script text=two miss_eos=1>>")
    spec = model(eos_token_ids=frozenset({2}))
    text, result = read(submitted(engine, spec, steps, stop=("STOP",), max_tokens=100))
    assert (text, result.reason, result.stop_string) == ("a |two|", "stop", None)


def test_a_stop_string_that_cuts_a_value_ends_the_answer_there(engine: Engine, model: Model) -> None:
    for said in ("a%20CUT%20b", "a%20CUT"):
        steps = Listed(f"<<script text={said}>>", "<<script text=two>>")
        text, result = read(submitted(engine, model(), steps, stop=("STOP", "CUT")))
        assert (text, result.reason, result.stop_string) == ("a ", "stop", "CUT")
    steps = Listed("<<script text=a.CUT>>", "<<script text=two>>")  # behind what was wanted it is nobody's
    assert read(submitted(engine, model(), steps, stop=("CUT",)))[0] == "a|two|"


def test_a_limit_within_a_character_lets_out_nothing_of_it(engine: Engine, model: Model) -> None:
    face = "<<script text=%F0%9F%98%80%F0%9F%98%80 split=single>>"
    for limit in range(1, 9):
        text, result = read(submitted(engine, model(), Listed(face, between=""), max_tokens=limit))
        assert (text, result.reason) == ("😀" * (limit // 4), "length")


def test_a_cancelled_answer_ends_in_its_run_and_the_next_job_is_whole(engine: Engine, model: Model) -> None:
    spec = model()
    steps = Listed("<<script text=one>>", "<<script tokens=500 decode_ms=5>>", "<<script text=three>>")
    job = submitted(engine, spec, steps)
    while not (isinstance(event := job.mailbox.get(10), Piece) and "w1" in event.text):
        pass
    engine.cancel(job)
    follower = Generate(spec=spec, prompt="<<script text=next>>")
    engine.submit(follower)
    begun = time.monotonic()
    assert read(follower)[0] == "next"
    assert time.monotonic() - begun < 2
    assert steps.step is not None
    assert "500" in str(steps.step.prompt)


def test_the_deadline_is_the_whole_answers(engine: Engine, model: Model) -> None:
    slow = "<<script tokens=4 decode_ms=20>>"
    with pytest.raises(TimedOut):
        read(submitted(engine, model(), Listed(*[slow] * 50), timeout=0.2))


def test_an_answer_that_is_called_complete_early_has_no_further_runs(engine: Engine, model: Model) -> None:
    steps = Listed("<<script tokens=500 decode_ms=5>>", "<<script text=never>>")
    job = submitted(engine, model(), steps)
    while not isinstance(job.mailbox.get(10), Piece):
        pass
    engine.finish(job)
    text, result = read(job)
    assert (result.reason, "never" in text) == ("stop", False)


def test_what_steps_or_a_run_raise_fails_the_job_alone(engine: Engine, model: Model) -> None:
    spec = model()

    class Unhappy(Listed):
        def end(self) -> None:
            raise AnswerUnfit("no")

    with pytest.raises(AnswerUnfit):
        read(submitted(engine, spec, Unhappy("<<script text=x>>")))
    with pytest.raises(RuntimeFailed):
        read(submitted(engine, spec, Listed("<<script text=one>>", "<<script text=two fail=prefill>>")))
    assert read(submitted(engine, spec, Listed("<<script text=x>>")))[0] == "x|"


def test_an_answer_that_outgrows_the_context_is_cut(engine: Engine, model: Model) -> None:
    steps = Listed("<<script text=one>>", "word " * 5000)
    text, result = read(submitted(engine, model(), steps))
    assert (text, result.reason) == ("one|", "length")


def test_steps_are_taken_on_the_engines_thread(engine: Engine, model: Model) -> None:
    steps = Listed("<<script text=x>>", "<<script text=y>>")
    read(submitted(engine, model(), steps))
    assert len(steps.threads) == 1
    assert threading.get_ident() not in steps.threads
