"""One native thread, one queue: the way to the runtime."""

import atexit
import contextlib
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from rkllama_flask.engine.caches import PromptCaches
from rkllama_flask.engine.executor import Executor
from rkllama_flask.engine.jobs import Done, Failed, Generate, Job, JobState, SaveCache
from rkllama_flask.engine.journal import Journal
from rkllama_flask.engine.mailbox import Empty, Mailbox, SimpleQueue, native_lock, open_mailbox, start_native_thread
from rkllama_flask.engine.npu_lock import NpuLock
from rkllama_flask.engine.residency import Loaded, ResidentModel, snapshot
from rkllama_flask.engine.residents import Loads, Residents
from rkllama_flask.errors import Draining, QueueFull, RkllamaError, RuntimeFailed
from rkllama_flask.promptcache.store import NO_ROOM, CacheStore
from rkllama_flask.runtime.context import Context
from rkllama_flask.runtime.library import family_of, find_version
from rkllama_flask.runtime.log import RuntimeLog

LONGEST_SLEEP = 86_400.0
"""Seconds; a keep-alive of centuries is more than the operating system's clocks take."""


class EngineStatus(NamedTuple):
    """A look at the engine. `waiting` counts jobs, `expected_wait` is in seconds, `busy` says what is being done."""

    ready: bool
    draining: bool
    busy: str | None
    waiting: int
    expected_wait: float
    resident: tuple[ResidentModel, ...]
    crashes: Mapping[str, int]
    loads: Loads = Loads()


class Engine:
    """Takes jobs from any greenlet or thread and runs them one after another on a thread of the operating system.

    The thread starts in the process that first needs it, never at import and never before a fork. Each job's events
    arrive in its own mailbox and end with Done or Failed. After `ends_at` (monotonic seconds) nobody should wait more.
    Openings of prompts from `automatic_caches_from` tokens on are kept in `cache_store` by themselves, 0: none are.
    """

    def __init__(
        self,
        *,
        libraries: Mapping[str, Path | None],
        lock_path: Path,
        journal_path: Path | None = None,
        keep_alive: float = 300,
        max_loaded: int = 1,
        max_queue: int = 64,
        cache_store: CacheStore = NO_ROOM,
        automatic_caches_from: int = 0,
    ) -> None:
        self._libraries = libraries
        self._journal = Journal(journal_path)
        caches = PromptCaches(
            cache_store, automatic_from=automatic_caches_from, journal=self._journal, running=self._set_running
        )
        residents = Residents(
            libraries=libraries,
            lock=NpuLock(lock_path),
            journal=self._journal,
            keep_alive=keep_alive,
            max_loaded=max_loaded,
            changed=self._show,
            npu_taken=caches.clean,
        )
        self._executor = Executor(residents, journal=self._journal, caches=caches, running=self._set_running)
        self._max_queue = max_queue
        self._lock = native_lock()
        self._process: int | None = None
        self._inbox: SimpleQueue[Job | None] = SimpleQueue()
        self._waiting = 0
        self._draining = False
        self.ends_at = math.inf
        self._job: Job | None = None
        self._context: Context | None = None
        self._resident: tuple[ResidentModel, ...] = ()
        self._mean_run = 0.0
        self._stopped: Mailbox | None = None
        self._unsettled = False  # models are missing that come back: after a crash, and when this process is replaced
        self._replace_process: Callable[[], None] | None = None

    # Any thread

    def start(self, *, replace_process: Callable[[], None] | None = None) -> None:
        """Start the thread in this process, if it does not run yet.

        `replace_process` is called on the engine thread when the runtime can't be trusted in this process any more.
        """
        if replace_process is not None:
            self._replace_process = replace_process
        with self._lock:
            if self._process == os.getpid():
                return
            self._process = os.getpid()
            self._unsettled = True
        # A native thread that calls back into a finished interpreter hangs or dies: it must be gone before the exit.
        RuntimeLog.capture()
        atexit.register(self.close)
        start_native_thread(self._work)

    def submit(self, job: Job) -> None:
        """Queue a job. Raises QueueFull or Draining at once; everything else comes through the job's mailbox."""
        with self._lock:
            if self._draining:
                raise Draining("The server is shutting down. Try again in a moment.", retry_after=2)
            if self._waiting >= self._max_queue:
                raise QueueFull(
                    f"{self._waiting} requests are waiting already. Try again later.",
                    retry_after=int(self._expected_wait()) + 1,
                )
            self._waiting += 1
        self.start()
        self._inbox.put(job)

    def cancel(self, job: Job) -> None:
        """The result is not wanted any more: a queued job never runs, a running one is aborted, a finished one left."""
        self._interrupt(job, withdraw=True)

    def finish(self, job: Job) -> None:
        """What has been generated is enough: end the run now and report it as complete."""
        self._interrupt(job, withdraw=False)

    def withdraw(self, job: Job) -> bool:
        """Cancel a job only if it still waits; says whether it did."""
        with self._lock:
            return self._take_back(job)

    def status(self) -> EngineStatus:
        with self._lock:
            job, waiting, draining = self._job, self._waiting, self._draining
            expected = self._expected_wait()
        loading = self._unsettled or self._executor.loading
        busy = None
        if loading:
            busy = "loading"
        elif job is not None:
            generating = isinstance(job, Generate) and self._context is not None
            busy = "generating" if generating else type(job).__name__.lower()
        if isinstance(job, SaveCache) or (job is None and self._context is not None):
            busy = "loading" if loading else "saving"
        return EngineStatus(
            ready=not draining and not loading,
            draining=draining,
            busy=busy,
            waiting=waiting,
            expected_wait=expected,
            resident=self._resident,
            crashes=dict(self._journal.crashes),
            loads=self._executor.loads,
        )

    def runtime_version(self, model_format: str) -> tuple[str, str]:
        """Version and family of the library for such models, also before it is loaded; empty where that isn't known."""
        path = self._libraries.get(model_format)
        try:
            version = find_version(path) if path else ""
        except RkllamaError:
            version = ""
        return version, family_of(version) or ""

    def drain(self, grace: float) -> None:
        """Take no more jobs. What runs may go on for `grace` seconds, what waits is refused when its turn comes.

        Called from a signal handler, so it must not touch the lock, which the interrupted code may hold.
        """
        self.ends_at = time.monotonic() + grace
        self._draining = True

    def close(self, timeout: float = 10) -> bool:
        """Abort what runs, release the models and end the thread; says whether it did within `timeout` seconds."""
        self.drain(0)
        stopped = open_mailbox()
        with self._lock:
            if self._process != os.getpid():
                return True
            self._process = None
            self._stopped = stopped
            if self._job is not None:
                self._job.cancelled = True
            if self._context is not None:
                self._context.abort()
        self._inbox.put(None)
        try:
            stopped.get(timeout)
        except Empty:
            return False
        return True

    def _interrupt(self, job: Job, *, withdraw: bool) -> None:
        with self._lock:
            if self._take_back(job) or job.state is not JobState.RUNNING:
                return
            if withdraw:
                job.cancelled = True
            else:
                job.finished_early = True
            # Under the lock, or the abort could fall on the next job.
            if self._job is job and self._context is not None:
                self._context.abort()

    def _take_back(self, job: Job) -> bool:
        if job.state is not JobState.QUEUED:
            return False
        job.state = JobState.CANCELLED
        job.cancelled = True
        self._waiting -= 1
        return True

    def _expected_wait(self) -> float:
        return self._mean_run * (self._waiting + (self._job is not None))

    # The engine thread: no logging, no patched locks, nothing that could wait for a greenlet

    def _work(self) -> None:
        executor = self._executor
        try:
            self._attempt(executor.restore)
            self._show(executor.models)
            self._unsettled = False
            while (job := self._next(executor)) is not None:
                event = self._run(executor, job)
                self._show(executor.models)  # before the client hears of it
                self._unsettled |= executor.spent and self._replace_process is not None
                with self._lock:
                    self._job = None
                    job.state = JobState.DONE
                job.mailbox.put(event)
                if executor.spent and self._replace_process is not None:
                    self._replace_process()
                    self._replace_process = None
        finally:
            self._attempt(executor.close)
            self._attempt(self._journal.close)
            if self._stopped is not None:
                self._stopped.put(True)

    @staticmethod
    def _attempt(action: Callable[[], None]) -> None:
        with contextlib.suppress(RkllamaError, OSError):  # the next request for the model meets the error again
            action()

    def _next(self, executor: Executor) -> Job | None:
        """The next job whose turn it is; what is due without one is done meanwhile. None: the end."""
        while True:
            executor.expire()
            self._show(executor.models)
            due = None if self._draining else executor.next_due()
            try:
                job = self._inbox.get(
                    True, None if due is None else min(max(0.0, due - time.monotonic()), LONGEST_SLEEP)
                )
            except Empty:
                if not self._draining:  # it may have begun during the wait
                    executor.tend()
                continue
            if job is None:
                return None
            with self._lock:
                if job.state is not JobState.QUEUED:
                    continue
                self._waiting -= 1
                if not self._draining:
                    job.state = JobState.RUNNING
                    self._job = job
                    return job
                job.state = JobState.DONE
            job.mailbox.put(Failed(Draining("The server is shutting down. Try again in a moment.", retry_after=2)))

    def _run(self, executor: Executor, job: Job) -> Done | Failed:
        begun = time.monotonic()
        try:
            result = executor.perform(job)
        except RkllamaError as error:
            return Failed(error)
        except Exception as error:  # the thread must outlive a bug, and the client must hear of it
            failure = RuntimeFailed("The engine failed in a way it should not have; the log has the details.")
            failure.__cause__ = error
            return Failed(failure)
        finally:
            if isinstance(job, Generate):
                taken = time.monotonic() - begun
                self._mean_run = taken if not self._mean_run else 0.8 * self._mean_run + 0.2 * taken
        return Done(result)

    def _show(self, models: Sequence[Loaded]) -> None:
        self._resident = snapshot(models)

    def _set_running(self, context: Context | None) -> None:
        with self._lock:
            self._context = context
