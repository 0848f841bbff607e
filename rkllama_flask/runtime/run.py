"""One run while it goes on: what the runtime's callback does, and what is left when it has returned."""

import math
from array import array
from collections.abc import Callable
from ctypes import c_float, sizeof, string_at
from dataclasses import dataclass
from typing import Any, TypeVar

from rkllama_flask.runtime.abi import ERROR, FINISH, GO_ON, NORMAL, WAITING

Number = TypeVar("Number", int, float)


@dataclass(frozen=True)
class RunStatistics:
    """The runtime's own figures; None where it did not give them (FINISH never came).

    `prefill_tokens` counts only the tokens really computed, so it is less than `prompt_tokens` where a prefix was
    reused. `memory_mb` is the process's peak. Times are in milliseconds.
    """

    prefill_tokens: int | None = None
    prefill_ms: float | None = None
    generate_tokens: int | None = None
    generate_ms: float | None = None
    memory_mb: float | None = None
    prompt_tokens: int | None = None


@dataclass(frozen=True)
class EmbedResult:
    """The last hidden layer: one row of floats per token of the prompt."""

    rows: tuple["array[float]", ...]
    prompt_tokens: int


class Run:
    """Takes the callbacks of one run. Nothing raised here may reach C: it is kept as `failure`, and the run aborted.

    `aborted` says that somebody asked for its end; the runtime itself reports that as an ordinary FINISH.
    """

    def __init__(
        self, on_token: Callable[[bytes, int], None] | None, *, abort: Callable[[], None], after_hidden_states: int
    ) -> None:
        self._on_token = on_token
        self._abort = abort
        self._after_hidden_states = after_hidden_states
        self.tokens = 0
        self.finished = False
        self.aborted = False
        self.errored = False
        self.failure: BaseException | None = None
        self.statistics = RunStatistics()
        self.hidden_states: EmbedResult | None = None

    def receive(self, result: Any, state: int) -> int:
        """The callback; its value tells the runtime how to go on."""
        try:
            return self._receive(result, state)
        except BaseException as failure:  # whatever it is: C must not see it
            self.failure = failure
            self._abort()
            return GO_ON

    def _receive(self, result: Any, state: int) -> int:
        if state == ERROR:
            self.errored = True
        elif not result or self.finished:  # nothing is read of what comes after the end
            return GO_ON
        elif state == FINISH:
            self.finished = True
            self.statistics = _statistics(result.contents.perf)
        elif state in (NORMAL, WAITING):
            if self._on_token is None:
                return self._take_hidden_states(result.contents.last_hidden_layer)
            if self.failure is not None:
                self._abort()  # the first one was lost
                return GO_ON
            self.tokens += 1
            # In WAITING the text is not complete, and its pointer must not be looked at.
            text = result.contents.text if state == NORMAL else None
            self._on_token(text or b"", result.contents.token_id)
        return GO_ON

    def _take_hidden_states(self, layer: Any) -> int:
        if self.hidden_states is not None or not layer.hidden_states or min(layer.embd_size, layer.num_tokens) <= 0:
            return GO_ON
        values: array[float] = array("f")
        values.frombytes(string_at(layer.hidden_states, layer.num_tokens * layer.embd_size * sizeof(c_float)))
        rows = tuple(values[start : start + layer.embd_size] for start in range(0, len(values), layer.embd_size))
        self.hidden_states = EmbedResult(rows, layer.num_tokens)
        return self._after_hidden_states


def _statistics(perf: Any) -> RunStatistics:
    return RunStatistics(
        prefill_tokens=_sane(perf.prefill_tokens),
        prefill_ms=_sane(perf.prefill_time_ms),
        generate_tokens=_sane(perf.generate_tokens),
        generate_ms=_sane(perf.generate_time_ms),
        memory_mb=_sane(perf.memory_usage_mb),
    )


def _sane(value: Number) -> Number | None:
    """The figure, unless it can't be one: negative, infinite or not a number."""
    return value if 0 <= value < math.inf else None
