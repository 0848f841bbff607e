"""One native thread, one queue: the way to the runtime."""

import atexit
import contextlib
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from rkllama_flask.engine.executor import Executor
from rkllama_flask.engine.jobs import Done, Failed, Generate, Job, ModelSpec, SaveCache
from rkllama_flask.engine.mailbox import Empty, Mailbox, SimpleQueue, open_mailbox
from rkllama_flask.engine.models.journal import Journal
from rkllama_flask.engine.models.npu_lock import NpuLock
from rkllama_flask.engine.models.residency import Loaded, ResidentModel, snapshot
from rkllama_flask.engine.models.residents import Loads, Residents
from rkllama_flask.engine.models.speeds import Speeds
from rkllama_flask.engine.running.caches import PromptCaches
from rkllama_flask.engine.scheduling.job_queue import JobQueue
from rkllama_flask.engine.watchdog import Watchdog
from rkllama_flask.errors import Draining, ProcessSpent, RkllamaError, RuntimeFailed, RuntimeHung
from rkllama_flask.native_threads import native_lock, start_native_thread
from rkllama_flask.promptcache.store import NO_ROOM, CacheStore
from rkllama_flask.runtime.context import Context
from rkllama_flask.runtime.library import family_of, find_version
from rkllama_flask.runtime.log import RuntimeLog

_LAST_WORDS = 3.0
"""Seconds that answers have to leave a process whose runtime hangs, before it ends in any case."""

_EXIT_CODE = 70


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

    At most `max_queue` jobs wait, and as many places are kept for embeddings, of which eight short ones share one. None
    is taken that would wait for more than `max_wait` seconds. A call of the runtime that is silent for `hang_timeout`
    seconds longer than it may be is taken for one that hangs, 0: none is.
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
        max_wait: float = math.inf,
        hang_timeout: float = 0,
        cache_store: CacheStore = NO_ROOM,
        automatic_caches_from: int = 0,
    ) -> None:
        self._libraries = libraries
        self._journal = Journal(journal_path)
        self._speeds = Speeds()
        self._watchdog = Watchdog(hang_timeout, self._give_up)
        caches = PromptCaches(
            cache_store,
            automatic_from=automatic_caches_from,
            journal=self._journal,
            running=self._running,
            watchdog=self._watchdog,
        )
        residents = Residents(
            libraries=libraries,
            lock=NpuLock(lock_path),
            journal=self._journal,
            keep_alive=keep_alive,
            max_loaded=max_loaded,
            changed=self._show,
            npu_taken=caches.clean,
            watchdog=self._watchdog,
            speeds=self._speeds,
        )
        self._executor = Executor(residents, journal=self._journal, caches=caches, running=self._running)
        self._queue = JobQueue(max_jobs=max_queue, max_wait=max_wait, speeds=self._speeds)
        self._starting = native_lock()
        self._process: int | None = None
        self.ends_at = math.inf
        self._resident: tuple[ResidentModel, ...] = ()
        self._stopped: Mailbox | None = None
        self._unsettled = False  # models are missing that come back: after a crash, and when this process is replaced
        self._replace_process: Callable[[], None] | None = None

    # Any thread

    def start(
        self, *, replace_process: Callable[[], None] | None = None, supervisor: str = "", first: Job | None = None
    ) -> None:
        """Start the thread in this process, if it does not run yet.

        `replace_process` is called on a native thread when the runtime can't be trusted in this process any more;
        where it is given, somebody starts another process as soon as this one has ended. Under the same `supervisor`
        that one goes on with the model that is loaded then. `first` is the job to begin with.
        """
        if replace_process is not None:
            self._replace_process = replace_process
            self._journal.supervisor = supervisor
        with self._starting:
            if self._process == os.getpid():
                return
            self._process = os.getpid()
            self._unsettled = True
        if first is not None:
            self._queue.put(first)
        # A native thread that calls back into a finished interpreter hangs or dies: it must be gone before the exit.
        RuntimeLog.capture()
        atexit.register(self.close)
        start_native_thread(self._work)
        self._watchdog.start()

    def submit(self, job: Job) -> None:
        """Queue a job. Raises QueueFull, Draining or ProcessSpent at once; the rest comes through the job's mailbox."""
        self._queue.put(job)
        self.start()

    def cancel(self, job: Job) -> None:
        """The result is not wanted any more: a queued job never runs, a running one is aborted, a finished one left."""
        self._queue.interrupt(job, wanted=False)

    def finish(self, job: Job) -> None:
        """What has been generated is enough: end the run now and report it as complete."""
        self._queue.interrupt(job, wanted=True)

    def withdraw(self, job: Job) -> bool:
        """Cancel a job only if it still waits; says whether it did."""
        return self._queue.withdraw(job)

    @property
    def loading(self) -> ModelSpec | None:
        """The model that is being loaded now."""
        return self._executor.loading

    @property
    def resident(self) -> tuple[ResidentModel, ...]:
        """The loaded models, the most recently used first."""
        return self._resident

    def context_limit(self, identity: str) -> int | None:
        """The largest context in tokens that a model of this identity has turned out to take; None if it is open."""
        return self._journal.context_limits.get(identity)

    def status(self) -> EngineStatus:
        draining = self._queue.draining
        job, context, waiting, expected = self._queue.look()
        loading = self._unsettled or self._queue.lost or self._executor.loading is not None
        busy = None
        if loading:
            busy = "loading"
        elif job is not None:
            generating = isinstance(job, Generate) and context is not None
            busy = "generating" if generating else type(job).__name__.lower()
        if isinstance(job, SaveCache) or (job is None and context is not None):
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
        self._queue.draining = True

    def close(self, timeout: float = 10) -> bool:
        """Abort what runs, release the models and end the thread; says whether it did within `timeout` seconds.

        One that hangs is left alone: it ends with the process.
        """
        self.drain(0)
        stopped = open_mailbox()
        with self._starting:
            if self._process != os.getpid():
                return True
            self._process = None
        if self._queue.lost:
            return False
        self._stopped = stopped
        self._queue.stop()
        try:
            return bool(stopped.get(timeout))
        except Empty:
            return False
        finally:
            self._watchdog.stop()

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
                self._queue.done(job)
                job.mailbox.put(event)
                if executor.spent and self._replace_process is not None:
                    self._replace_process()
                    self._replace_process = None
        finally:
            self._attempt(executor.close)
            if self._stopped is not None:
                self._stopped.put(True)

    @staticmethod
    def _attempt(action: Callable[[], None]) -> None:
        with contextlib.suppress(RkllamaError, OSError):  # the next request for the model meets the error again
            action()

    def _next(self, executor: Executor) -> Job | None:
        """The next job whose turn it is; what is due without one is done meanwhile. None: the end."""
        while not self._queue.stopped:
            executor.expire()
            self._show(executor.models)
            job, refused = self._queue.next(executor.models, due=self._due)
            if job is not None:
                return job
            self._refuse(refused, Draining("The server is shutting down. Try again in a moment.", retry_after=2))
            if not self._queue.draining:  # it may have begun during the wait
                executor.tend()
        return None

    def _due(self) -> float | None:
        return None if self._queue.draining else self._executor.next_due()

    @staticmethod
    def _refuse(jobs: Sequence[Job], error: RkllamaError) -> None:
        for job in jobs:
            job.mailbox.put(Failed(error))

    def _run(self, executor: Executor, job: Job) -> Done | Failed:
        try:
            result = executor.perform(job)
        except RkllamaError as error:
            return Failed(error)
        except Exception as error:  # the thread must outlive a bug, and the client must hear of it
            failure = RuntimeFailed("The engine failed in a way it should not have; the log has the details.")
            failure.__cause__ = error
            return Failed(failure)
        return Done(result)

    def _show(self, models: Sequence[Loaded]) -> None:
        self._resident = snapshot(models)

    @contextlib.contextmanager
    def _running(self, context: Context, allowed: float) -> Iterator[None]:
        self._queue.set_context(context)
        try:
            with self._watchdog.watching(allowed, context.progress):
                yield
        finally:
            self._queue.set_context(None)

    # The watchdog's thread: the same rules

    def _give_up(self) -> None:
        """A call hangs, and with it the engine thread: everybody is told, and the process ends if another takes over.

        The journal stays as it is: to the next process this is a crash of what was being done.
        """
        job, waiting = self._queue.give_up()
        then = "This process is replaced." if self._replace_process else "Start the server again unless it comes back."
        told = f"The runtime hangs: it neither answers nor returns. {then}"
        os.write(2, f"rkllama-flask: {told}\n".encode())
        if job is not None:
            self._refuse([job], RuntimeHung(told))
        self._refuse(waiting, ProcessSpent(f"{told} The request was not begun.", retry_after=3))
        if self._stopped is not None:  # it hangs in the last call of all
            self._stopped.put(False)
        elif self._replace_process is not None:
            self._replace_process()
            with contextlib.suppress(Empty):
                SimpleQueue[None]().get(True, _LAST_WORDS)
            os._exit(_EXIT_CODE)
