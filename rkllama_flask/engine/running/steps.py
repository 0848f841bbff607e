"""An answer made of several runs in one turn: the server writes what is fixed, the model what stands between.

Each run's prompt is the one before and what was decided since, so the runtime computes a few tokens of it. Nobody
else's job comes in between, and cancelling, the deadline and the token limit are the whole answer's.
"""

import time
from collections.abc import Callable
from dataclasses import replace

from rkllama_flask.engine.jobs import Generate, Piece, Started, Step, Steps
from rkllama_flask.engine.models.residency import Loaded, Running
from rkllama_flask.engine.running.answer import Answer
from rkllama_flask.engine.running.runs import RESERVED_TOKENS, End, OpenAnswer, run_once
from rkllama_flask.errors import ContextLengthExceeded
from rkllama_flask.runtime.context import RunStatistics
from rkllama_flask.sampling import Sampling
from rkllama_flask.text.stops import StopMatcher
from rkllama_flask.text.utf8 import Utf8Decoder

_AGAIN = Sampling(temperature=0.9, top_k=40)
"""For what is asked once more: the likeliest words were no answer to it."""


def open_answer(model: Loaded, job: Generate) -> OpenAnswer:
    """What makes the answer of one run, or of several where the job has steps."""
    limit_here = not model.context.library.per_run_sampling
    if job.steps is None:
        return Answer(job, abort=model.context.abort, limit_here=limit_here)
    return SteppedAnswer(job, job.steps, abort=model.context.abort, limit_here=limit_here)


class SteppedAnswer:
    """Counterpart of Answer for a job with steps, with the same facts when it is over.

    A stop string, like the end of the text, ends the run in which the model says it; the answer too where the steps say
    that it cuts a value in two. What was cut is sent as far as it was decided, and nothing is added to it.
    """

    def __init__(self, job: Generate, steps: Steps, *, abort: Callable[[], None], limit_here: bool) -> None:
        self.abort = abort
        self._job = job
        self._steps = steps
        self._limit_here = limit_here
        self._deadline = time.monotonic() + job.timeout if job.timeout else None
        self._worked = 0
        self._cut_tokens = 0  # of a run that was cut off: the steps don't know of them
        self._unsent_tokens = 0
        self.end: End | None = None
        self.stop_string: str | None = None
        self.first_token_at: int | None = None

    @property
    def tokens(self) -> int:
        """Tokens of the answer; without a tokenizer those that were generated, or computed between two runs."""
        counted = self._counted() + self._cut_tokens
        return counted if self._job.max_tokens is None else min(counted, self._job.max_tokens)

    def run(self, model: Loaded, running: Running, started: Started) -> RunStatistics:
        """All the runs; the figures are the first one's, as to the prompt. Raises what run_once and the steps raise."""
        self._job.mailbox.put(started)
        first: RunStatistics | None = None
        while self.end is None and not self._job.finished_early:
            step, left = self._steps.step, self._left()
            if left is not None and (left < 0 or (step is not None and left == 0)):
                self.end = "length"  # a text that goes beyond the limit is not sent either
                break
            if first is not None:  # before the first word it is open whether there will be an answer
                self._send()
            if step is None:
                self.end = "stop"
                break
            statistics = self._run(step, left, model, running, only=first is None)
            first = first or statistics
        self.end = self.end or "stop"
        return replace(first or RunStatistics(), generate_tokens=None, generate_ms=None)

    def flush(self, *, cut: bool) -> None:
        """Nothing is held back beyond the end of a run."""

    def send(self, text: str) -> bool:
        """Text that the model says in a run; whether it is enough. `end` may be set from here on."""
        enough = bool(text) and self._steps.feed(text)
        self._send()
        return enough

    def ends_with(self, text: str, stop: str | None) -> bool:
        """Text that the model says in a run, up to a stop string if it says one; whether that is enough."""
        enough = self.send(text)
        if stop is None or enough:
            return enough
        if self._steps.cut_by(stop):
            self.end, self.stop_string = "stop", stop
        return True

    def count_token(self) -> bool:
        """One more token has been generated; whether the whole answer ends with it."""
        self._unsent_tokens += 1
        if self.first_token_at is None:
            self.first_token_at = time.monotonic_ns()
        return self._is_over()

    def _is_over(self) -> bool:
        """Whether something from outside ends the whole answer here."""
        if self._job.cancelled:
            self.end = "cancelled"
        elif self._job.finished_early:
            self.end = "stop"
        elif self._deadline is not None and time.monotonic() > self._deadline:
            self.end = "timeout"
        return self.end is not None

    def _run(self, step: Step, left: int | None, model: Loaded, running: Running, *, only: bool) -> RunStatistics:
        limits = [limit for limit in (step.max_tokens, left) if limit is not None]
        run = _Run(self, self._job, min(limits, default=None), limit_here=self._limit_here)
        try:
            statistics = run_once(
                model,
                self._job,
                run.on_token,
                running=running,
                prompt=step.prompt,
                max_tokens=run.limit,
                sampling=_AGAIN if step.again else None,
            )
        except ContextLengthExceeded:
            if only:
                raise
            self.end = "length"
            return RunStatistics()
        self._worked += 0 if only else statistics.prefill_tokens or 0
        self._cut_tokens = run.tokens
        if not self._is_over():
            full = _is_full(model, step, statistics, run.tokens)
            run.close(cut=full or run.tokens == run.limit)
            if self.end is not None:
                return statistics
            too_long = run.tokens == left or (step.too_long and run.tokens == step.max_tokens)
            if not run.enough and (too_long or full):
                self.end = "length"
            else:
                self._worked += run.tokens
                self._cut_tokens = 0
                self._steps.end()
        return statistics

    def _left(self) -> int | None:
        """Tokens that the answer may still have."""
        return None if self._job.max_tokens is None else self._job.max_tokens - self._counted()

    def _counted(self) -> int:
        counted = self._steps.tokens
        return self._worked if counted is None else counted

    def _send(self) -> None:
        if text := self._steps.take():
            self._job.mailbox.put(Piece(text, self._unsent_tokens))
            self._unsent_tokens = 0


class _Run:
    """One run's tokens on their way to the steps."""

    def __init__(self, answer: SteppedAnswer, job: Generate, limit: int | None, *, limit_here: bool) -> None:
        self._answer = answer
        self._eos = job.spec.eos_token_ids
        self._decoder = Utf8Decoder()
        self._stops = StopMatcher(job.stop)
        self._over = False
        self._limit_here = limit_here
        self.limit = limit
        self.tokens = 0
        self.enough = False
        """The model has said what was wanted, or all that it had to say."""

    def on_token(self, data: bytes, token_id: int) -> None:
        if self._over or self._answer.end is not None:
            self._answer.abort()  # the first one was lost
            return
        if token_id in self._eos:
            self.enough = self._over = True
            self._answer.abort()
            return
        self.tokens += 1
        ended = self._answer.count_token()
        if data:
            self.enough = self._answer.ends_with(*self._stops.feed(self._decoder.feed(data)))
        self._over = ended or self.enough or self.tokens == self.limit
        if ended or self.enough or (self._over and self._limit_here):
            self._answer.abort()

    def close(self, *, cut: bool) -> None:
        """Hand over what was held back; where a limit `cut` the run the beginning of a character is no text."""
        if self.enough:
            return
        text, stop = ("", None) if cut else self._stops.feed(self._decoder.finish())
        self.enough = self._answer.ends_with(text + self._stops.flush(), stop)


def _is_full(model: Loaded, step: Step, statistics: RunStatistics, tokens: int) -> bool:
    length = statistics.prompt_tokens if isinstance(step.prompt, str) else len(step.prompt)
    return length is not None and length + tokens >= model.context.context_length - RESERVED_TOKENS
