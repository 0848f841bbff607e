"""How fast each model has been, to say how long a job will take and what is slow without being stuck."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rkllama_flask.engine.jobs import Embed, Generate, Job, Load, ModelSpec, SaveCache

_MEASURABLE = 16
"""Computed tokens from which on a run tells how long one takes."""

_NEW = 0.3
"""What the newest measurement counts against all before it."""

CHARACTERS_PER_TOKEN = 4
"""Of text whose tokens nobody has counted."""


@dataclass(eq=False)
class Speed:
    """Of one model: ns for a token of a prompt, for one generated, for a load; tokens of an answer. None: not known."""

    prefill_ns: float | None = None
    decode_ns: float | None = None
    load_ns: float | None = None
    answer_tokens: float | None = None

    def saw_prefill(self, tokens: int | None, ns: float | None) -> None:
        """A run has computed so many tokens of its prompt in this time."""
        if tokens is not None and ns is not None and tokens >= _MEASURABLE:
            self.prefill_ns = _mean(self.prefill_ns, ns / tokens)

    def saw_answer(self, tokens: int, ns: float, *, whole: bool) -> None:
        """A run has generated so many tokens; one that is not `whole` says nothing of how long answers are."""
        if tokens:
            self.decode_ns = _mean(self.decode_ns, ns / tokens)
        if whole:
            self.answer_tokens = _mean(self.answer_tokens, tokens)


class Speeds:
    """The speeds of all models that this process has loaded."""

    def __init__(self) -> None:
        self._speeds: dict[str, Speed] = {}

    def of(self, spec: ModelSpec) -> Speed:
        """Of a model not seen yet nothing is known."""
        return self._speeds.setdefault(spec.identity, Speed())

    def seconds(self, job: Job) -> float:
        """How long a job will take, its model being loaded; 0 where nothing has been measured."""
        if isinstance(job, Generate):
            answer = self.of(job.spec).answer_tokens or 0.0
            return self._answer(job, answer if job.max_tokens is None else min(answer, job.max_tokens))
        if isinstance(job, Embed):
            return sum(map(length, job.prompts)) * (self.of(job.spec).prefill_ns or 0.0) / 1e9
        if isinstance(job, SaveCache):
            return length(job.draft.content) * (self.of(job.spec).prefill_ns or 0.0) / 1e9
        if isinstance(job, Load):
            return (self.of(job.spec).load_ns or 0.0) / 1e9
        return 0.0

    def left(self, job: Job, taken: float) -> float:
        """How long a job will go on that has taken so many seconds.

        One that takes longer than expected will take as long again, or as long as its token limit lets it.
        """
        left = self.seconds(job) - taken
        if left >= 0 or not isinstance(job, Generate) or self.of(job.spec).decode_ns is None:
            return max(0.0, left)
        most = math.inf if job.max_tokens is None else self._answer(job, job.max_tokens)
        return max(0.0, min(taken, most - taken))

    def _answer(self, job: Generate, tokens: float) -> float:
        speed = self.of(job.spec)
        return (length(job.prompt) * (speed.prefill_ns or 0.0) + tokens * (speed.decode_ns or 0.0)) / 1e9


def length(prompt: str | Sequence[int]) -> int:
    """A prompt in tokens, about."""
    return len(prompt) // CHARACTERS_PER_TOKEN if isinstance(prompt, str) else len(prompt)


def _mean(old: float | None, new: float) -> float:
    return new if old is None else (1 - _NEW) * old + _NEW * new
