"""One run on a loaded model, and how the answer that is made of runs ended. On the engine thread."""

import math
import time
from collections.abc import Callable, Sequence
from typing import Literal, Protocol

from rkllama_flask.engine.jobs import Generate, RunResult, Started
from rkllama_flask.engine.models.residency import Loaded, Running
from rkllama_flask.engine.running.caches import Prepared
from rkllama_flask.engine.watchdog import prefill_allowance
from rkllama_flask.errors import Draining, TimedOut
from rkllama_flask.runtime.context import Context, RunStatistics
from rkllama_flask.sampling import Sampling

RESERVED_TOKENS = 4
"""Positions of a context that the runtime keeps for itself: a 1024 context takes 1020 tokens."""


End = Literal["stop", "length", "timeout", "cancelled"]


class OpenAnswer(Protocol):
    """An answer in the making. `tokens` counts what was generated, `first_token_at` is `time.monotonic_ns()`.

    `end` is None where the runtime ended the answer by itself.
    """

    end: End | None
    stop_string: str | None
    first_token_at: int | None

    @property
    def tokens(self) -> int: ...

    def run(self, model: Loaded, running: Running, started: Started) -> RunStatistics:
        """Make all the runs of the answer; sends `started` before the first one."""

    def flush(self, *, cut: bool) -> None:
        """Send what was held back; `cut` tells that a limit ended the answer."""


def run_once(
    model: Loaded,
    job: Generate,
    on_token: Callable[[bytes, int], None],
    *,
    running: Running,
    prompt: str | Sequence[int] | None = None,
    max_tokens: int | None = None,
    sampling: Sampling | None = None,
    on_begin: Callable[[], None] | None = None,
) -> RunStatistics:
    """One run on behalf of `job`, with its sampling; returns when the runtime has ended it.

    `prompt` and `max_tokens` are the job's own unless they are given, and so is what `sampling` does not say; limit and
    sampling are kept by runtimes that know them for each run (`Library.per_run_sampling`), elsewhere `on_token` has to
    keep the limit. `on_begin` is called right before the runtime is. Whoever makes several runs in one job looks at
    `job.finished_early` between them.

    Raises Draining for a job that is not wanted any more, and what Context.run raises.
    """
    context, library = model.context, model.context.library
    limit = job.max_tokens if max_tokens is None else max_tokens
    prompt = job.prompt if prompt is None else prompt
    with running(context, prefill_allowance(len(prompt), model.speed.prefill_ns)):
        if job.cancelled:
            raise Draining("The client left before its turn came.")
        return context.run(
            prompt,
            on_token,
            sampling=(sampling or Sampling()).over(job.sampling.over(context.sampling))
            if library.per_run_sampling
            else None,
            max_new_tokens=limit if library.per_run_sampling else None,
            on_begin=on_begin,
        )


def unapplied(job: Generate, context: Context) -> tuple[str, ...]:
    """What the client asked for and does not get: a larger context than the model was made for, or other sampling than
    was fixed when it was loaded.
    """
    larger = ("num_ctx",) if job.least_context > context.context_length else ()
    if context.library.per_run_sampling:
        return larger
    fixed = context.sampling.said()
    requested = job.requested.said().items()
    return (*larger, *(name for name, value in requested if not math.isclose(value, fixed[name], rel_tol=1e-5)))


def conclude(
    job: Generate,
    answer: OpenAnswer,
    statistics: RunStatistics,
    model: Loaded,
    *,
    begun: int,
    loaded_at: int,
    prepared: Prepared,
) -> RunResult:
    """How the answer ended; sends what it held back. `begun` and `loaded_at` as `time.monotonic_ns()`.

    Raises TimedOut for one that its deadline ended.
    """
    ended = time.monotonic_ns()
    if answer.end == "timeout":
        raise TimedOut(f"The answer was not complete after {job.timeout:g} seconds.")
    generated = statistics.generate_tokens
    if generated is None or not answer.tokens <= generated <= answer.tokens + 2:
        generated = answer.tokens
    room = model.context.context_length - RESERVED_TOKENS
    full = statistics.prompt_tokens is not None and statistics.prompt_tokens + generated >= room
    reached = answer.end is None and (full or (job.max_tokens is not None and answer.tokens >= job.max_tokens))
    length = answer.end == "length" or reached
    answer.flush(cut=length)
    first = answer.first_token_at or ended
    prefill_ns, decode_ns = first - loaded_at, ended - first
    if statistics.prefill_ms is not None and statistics.prefill_ms * 1e6 <= ended - loaded_at:
        prefill_ns = int(statistics.prefill_ms * 1e6)
        model.speed.saw_prefill(statistics.prefill_tokens, prefill_ns)
        prefill_ns += prepared.took
    if statistics.generate_ms is not None and statistics.generate_ms * 1e6 <= ended - loaded_at:
        decode_ns = int(statistics.generate_ms * 1e6)
    model.speed.saw_answer(generated, decode_ns, whole=not job.cancelled)
    return RunResult(
        reason="length" if length and answer.stop_string is None else "stop",
        stop_string=answer.stop_string,
        prompt_tokens=statistics.prompt_tokens,
        prefill_tokens=statistics.prefill_tokens,
        generated_tokens=generated,
        prefill_ns=prefill_ns,
        decode_ns=decode_ns,
        queued_ns=begun - job.submitted_at,
        load_ns=loaded_at - begun,
    )
