"""One answer while it is generated: bytes to text, and the moment to stop. Runs inside the runtime's callback."""

import time
from collections.abc import Callable
from functools import partial

from rkllama_flask.engine.jobs import Generate, Piece, Started
from rkllama_flask.engine.models.residency import Loaded, Running
from rkllama_flask.engine.running.runs import End, run_once
from rkllama_flask.runtime.context import RunStatistics
from rkllama_flask.text.stops import StopMatcher
from rkllama_flask.text.utf8 import Utf8Decoder


class Answer:
    """Turns tokens into pieces for the job's mailbox; calls `abort` when the answer is over before the runtime knows.

    An abort can be lost (between the start of a run and the library's own reset): it is repeated at every later token.
    """

    def __init__(self, job: Generate, *, abort: Callable[[], None], limit_here: bool) -> None:
        self._job = job
        self._abort = abort
        self._limit = job.max_tokens if limit_here else None
        self._deadline = time.monotonic() + job.timeout if job.timeout else None
        self._eos = job.spec.eos_token_ids
        self._decoder = Utf8Decoder()
        self._stops = StopMatcher(job.stop)
        self._unsent_tokens = 0
        self.tokens = 0
        self.end: End | None = None
        self.stop_string: str | None = None
        self.first_token_at: int | None = None

    def run(self, model: Loaded, running: Running, started: Started) -> RunStatistics:
        """The one run; `started` is sent right before it. Raises what run_once raises."""
        return run_once(
            model, self._job, self.on_token, running=running, on_begin=partial(self._job.mailbox.put, started)
        )

    def on_token(self, data: bytes, token_id: int) -> None:
        """Take one token's bytes (empty while a character is incomplete)."""
        if self.end is not None:
            self._abort()
            return
        if self.first_token_at is None:
            self.first_token_at = time.monotonic_ns()
        if token_id in self._eos:
            self._finish("stop")
            return
        self.tokens += 1
        self._unsent_tokens += 1
        if data:
            text, self.stop_string = self._stops.feed(self._decoder.feed(data))
            self._send(text)
        if self.stop_string is not None:
            self._finish("stop")
        elif self._job.cancelled:
            self._finish("cancelled")
        elif self._job.finished_early:
            self._finish("stop")
        elif self._limit is not None and self.tokens >= self._limit:
            self._finish("length")
        elif self._deadline is not None and time.monotonic() > self._deadline:
            self._finish("timeout")

    def flush(self, *, cut: bool) -> None:
        """Send what was held back; of an answer `cut` by a limit the beginning of a character is no text."""
        if self.stop_string is None and not cut:
            text, self.stop_string = self._stops.feed(self._decoder.finish())
            self._send(text)
        if self.stop_string is None:
            self._send(self._stops.flush())

    def _send(self, text: str) -> None:
        if text:
            self._job.mailbox.put(Piece(text, self._unsent_tokens))
            self._unsent_tokens = 0

    def _finish(self, end: End) -> None:
        self.end = end
        self._abort()
