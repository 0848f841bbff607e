"""Embeddings on a loaded model: one run a prompt, pooled before the next. On the engine thread."""

import time
from array import array
from collections.abc import Sequence

from rkllama_flask.engine.jobs import Embed
from rkllama_flask.engine.models.residency import Loaded, Running
from rkllama_flask.engine.watchdog import prefill_allowance
from rkllama_flask.errors import ContextLengthExceeded, Draining, TimedOut
from rkllama_flask.runtime.context import Context, EmbedResult


def make_vectors(model: Loaded, job: Embed, *, running: Running) -> tuple[tuple["array[float]", ...], int]:
    """The job's vectors in the order of its prompts, and the tokens of these.

    Raises Draining for a job that is not wanted any more, TimedOut, and what Context.embed raises. What a larger
    context of this model would take is not cut.
    """
    truncate = job.truncate and model.spec.context_length >= job.spec.context_length
    begun = time.monotonic_ns()
    vectors, tokens = [], 0
    for prompt in job.prompts:
        with running(model.context, prefill_allowance(len(prompt), model.speed.prefill_ns)):
            if job.cancelled:
                raise Draining("The client left before all was embedded.")
            if job.timeout is not None and time.monotonic_ns() - begun > job.timeout * 1e9:
                raise TimedOut(f"Not all was embedded after {job.timeout:g} seconds.")
            states = _hidden_states(model.context, prompt, truncate=truncate)
        vectors.append(job.pool(states.rows))
        tokens += states.prompt_tokens
    return tuple(vectors), tokens


def _hidden_states(context: Context, prompt: str | Sequence[int], *, truncate: bool) -> EmbedResult:
    """The prompt's, or with `truncate` those of as much of its beginning as the context takes."""
    try:
        return context.embed(prompt)
    except ContextLengthExceeded as error:
        if not truncate:
            raise
        # Tokens may lie unevenly in a text; a little more than their share makes this end soon all the same.
        keep = len(prompt) * error.limit // error.prompt_tokens * 15 // 16
    return _hidden_states(context, prompt[:keep], truncate=True)
