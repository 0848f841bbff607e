"""Following a job of the engine until it ends, without ever sitting still for longer than a client may have to wait."""

import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from rkllama_flask.engine.engine import Engine
from rkllama_flask.engine.jobs import Failed, Job, JobState
from rkllama_flask.engine.mailbox import Empty
from rkllama_flask.errors import Draining, RkllamaError, WaitedTooLong
from rkllama_flask.generation.events import Ended, Waiting

TICK = 0.5
"""Seconds of silence after which a reader may look for its client."""

T = TypeVar("T")

OnEnd = Callable[[Ended], None]
"""Hears how something ended, in the thread or greenlet that followed it."""


def nobody(_: Ended) -> None:
    """Hears it and does nothing."""


class Following(Generic[T]):
    """An iterator of what comes of a job, with Waiting in times of silence.

    `close()` cancels the job, and tells `on_end` how it ended. `next()` raises RkllamaError: what the job failed with,
    WaitedTooLong for a turn that did not come within `queue_timeout` seconds, Draining where the server's end comes
    first.
    """

    def __init__(self, engine: Engine, job: Job, *, queue_timeout: float, on_end: OnEnd = nobody) -> None:
        self._engine = engine
        self._job = job
        self._queue_timeout = queue_timeout
        self._ready: deque[T | Waiting] = deque()
        self._over = False
        self._failed = False
        self._on_end: OnEnd | None = on_end
        self._quiet_since = time.monotonic()

    def __iter__(self) -> Iterator[T | Waiting]:
        return self

    def __next__(self) -> T | Waiting:
        while not self._ready:
            if self._over:
                raise StopIteration
            try:
                self._advance()
            except RkllamaError:
                self._failed = True
                raise
        return self._ready.popleft()

    def close(self) -> None:
        """The result is no longer wanted; does nothing after the end."""
        self._over = True
        self._ready.clear()
        self._engine.cancel(self._job)
        on_end, self._on_end = self._on_end, None
        if on_end is not None:
            on_end(self._ended())

    def _ended(self) -> Ended:
        """How it ended."""
        raise NotImplementedError

    def _take(self, event: object) -> None:
        """Make something of an event of the engine that is not Failed."""
        raise NotImplementedError

    def _advance(self) -> None:
        try:
            event = self._job.mailbox.get(TICK)
        except Empty:
            self._wait()
            return
        self._quiet_since = time.monotonic()
        if self._quiet_since > self._engine.ends_at:
            self._wait()
        if isinstance(event, Failed):
            self._over = True
            raise event.error
        self._take(event)

    def _wait(self) -> None:
        draining = self._engine.ends_at < math.inf
        if draining and self._job.state is JobState.QUEUED and self._engine.withdraw(self._job):
            self._over = True
            raise Draining("The server is shutting down. Try again in a moment.", retry_after=2)
        if time.monotonic() > self._engine.ends_at:
            raise Draining("The server is shutting down and could not wait for the end of this answer.", retry_after=2)
        waited = (time.monotonic_ns() - self._job.submitted_at) / 1e9
        if self._job.state is JobState.QUEUED and waited > self._queue_timeout and self._engine.withdraw(self._job):
            self._over = True
            raise WaitedTooLong(
                f"The request waited {waited:.0f} seconds for its turn. Try again later.",
                retry_after=int(self._engine.status().expected_wait) + 1,
            )
        self._ready.append(Waiting(time.monotonic() - self._quiet_since))
