"""The way of a job from any thread to the engine's: admitted or refused at once, its turn, its run, its end.

One native lock guards which jobs wait, which one runs on which context, and so on whom an abort falls.
"""

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from rkllama_flask.engine.jobs import Embed, Failed, Generate, Job, JobState
from rkllama_flask.engine.mailbox import Empty, SimpleQueue
from rkllama_flask.engine.models.residency import Loaded
from rkllama_flask.engine.models.speeds import Speeds
from rkllama_flask.engine.scheduling.waiting import WaitingJobs, next_of
from rkllama_flask.errors import Draining, ProcessSpent, QueueFull
from rkllama_flask.native_threads import native_lock
from rkllama_flask.runtime.context import Context

LONGEST_SLEEP = 86_400.0
"""Seconds; a keep-alive of centuries is more than the operating system's clocks take."""


class QueueStatus(NamedTuple):
    """A look at the queue: the job that runs, on which context if it does so right now, and seconds for all of it."""

    job: Job | None
    context: Context | None
    waiting: int
    expected_wait: float


class JobQueue:
    """At most `max_jobs` wait, and as many embeddings or eight times as many short ones. None is admitted that would
    wait for more than `max_wait` seconds.

    `draining` says that what waits will not run any more, `lost` that the runtime hangs.
    """

    def __init__(self, *, max_jobs: int, max_wait: float, speeds: Speeds) -> None:
        self._max_wait = max_wait
        self._speeds = speeds
        self._lock = native_lock()
        self._waiting = WaitingJobs(max_jobs)
        self._wake: SimpleQueue[None] = SimpleQueue()
        self._asleep = False
        self._job: Job | None = None
        self._job_began = 0.0
        self._context: Context | None = None
        self._stopping = False
        self.draining = False
        self.lost = False

    # Any thread

    def put(self, job: Job) -> None:
        """Queue a job. Nobody fills the queue alone: whoever has most in it makes room for one who has less.

        Raises QueueFull, Draining or ProcessSpent for a job that is not admitted.
        """
        with self._lock:
            displaced = self._admit(job)
            told = Failed(self._full(job)) if displaced else None
            for other in displaced:
                self._take_back(other)
            self._waiting.add(job)
            wake, self._asleep = self._asleep, False
        if wake:
            self._wake.put(None)
        for other in displaced:
            other.mailbox.put(told)

    def withdraw(self, job: Job) -> bool:
        """Take a job back if it still waits; says whether it did."""
        with self._lock:
            return self._take_back(job)

    def interrupt(self, job: Job, *, wanted: bool) -> None:
        """A queued job never runs, a running one is aborted, of what is `wanted` the part that there is is kept."""
        with self._lock:
            if self._take_back(job) or job.state is not JobState.RUNNING:
                return
            if wanted:
                job.finished_early = True
            else:
                job.cancelled = True
            # Under the lock, or the abort could fall on the next job.
            if self._job is job and self._context is not None:
                self._context.abort()

    def look(self) -> QueueStatus:
        with self._lock:
            jobs = [entry.job for entry in self._waiting.order()]
            return QueueStatus(self._job, self._context, len(jobs), self._wait_behind(jobs))

    def stop(self) -> None:
        """Abort what runs and end the waiting for jobs."""
        with self._lock:
            self._stopping = True
            if self._job is not None:
                self._job.cancelled = True
            if self._context is not None:
                self._context.abort()
        self._wake.put(None)

    def give_up(self) -> tuple[Job | None, list[Job]]:
        """The runtime hangs: nothing is admitted until it comes back; the job it hangs in, and those never begun."""
        with self._lock:
            self.lost = True
            if self._job is not None:
                self._job.state = JobState.DONE  # or its client's leaving would call the runtime
            return self._job, self._empty()

    # The engine thread

    def next(self, models: Sequence[Loaded], *, due: Callable[[], float | None]) -> tuple[Job | None, list[Job]]:
        """The next job, and those that will not run because the server drains.

        Waits until one of them comes, or `due`, in monotonic seconds; then, and after `stop`, there is no job.
        """
        while True:
            with self._lock:
                refused = self._empty() if self.draining else []
                order = self._waiting.order()
                self._asleep = not order
            if refused or self._stopping:
                return None, refused
            if not order:
                if self._nothing_comes(due()):
                    return None, []
                continue
            now = time.monotonic()
            entry = next_of(order, models, now=now)
            with self._lock:
                if self._waiting.take(entry, now=now):
                    entry.job.state = JobState.RUNNING
                    self._job, self._job_began = entry.job, now
                    return entry.job, []

    def _nothing_comes(self, until: float | None) -> bool:
        timeout = None if until is None else min(max(0.0, until - time.monotonic()), LONGEST_SLEEP)
        try:
            self._wake.get(True, timeout)
        except Empty:
            return True
        return False

    @property
    def stopped(self) -> bool:
        return self._stopping

    def set_context(self, context: Context | None) -> None:
        """The context that runs from now on, if one does."""
        with self._lock:
            self._context = context

    def done(self, job: Job) -> None:
        """The job is over."""
        with self._lock:
            self._job = None
            self.lost = False  # it was only slow, and nobody has replaced this process
            job.state = JobState.DONE

    # With the lock held

    def _admit(self, job: Job) -> list[Job]:
        """Those that make room for it."""
        if self.lost:
            raise ProcessSpent("The runtime hangs. Try again in a moment.", retry_after=3)
        if self.draining:
            raise Draining("The server is shutting down. Try again in a moment.", retry_after=2)
        wait = self._wait_behind(self._waiting.before(job))
        if wait > self._max_wait and isinstance(job, Generate | Embed):
            raise QueueFull(
                f"This request would wait for about {wait:.0f} seconds, and at most {self._max_wait:g} are allowed. "
                "Try again later.",
                retry_after=int(wait - self._max_wait) + 1,
            )
        displaced = self._waiting.displaced_by(job)
        if displaced is None:
            raise self._full(job)
        return displaced

    def _full(self, job: Job) -> QueueFull:
        wait = self._wait_behind([entry.job for entry in self._waiting.order()])
        count = len(self._waiting.like(job))
        return QueueFull(f"{count} requests are waiting already. Try again later.", retry_after=int(wait) + 1)

    def _wait_behind(self, jobs: Sequence[Job]) -> float:
        """Seconds until these and what runs are done, as far as has been measured."""
        left = 0.0
        if self._job is not None:
            left = self._speeds.left(self._job, time.monotonic() - self._job_began)
        return left + sum(map(self._speeds.seconds, jobs))

    def _take_back(self, job: Job) -> bool:
        if job.state is not JobState.QUEUED or not self._waiting.remove(job):
            return False
        job.state = JobState.CANCELLED
        job.cancelled = True
        return True

    def _empty(self) -> list[Job]:
        jobs = self._waiting.clear()
        for job in jobs:
            job.state = JobState.DONE
        return jobs
