"""Finds a runtime that hangs: a call that neither returns nor lets a token be heard for longer than it may take.

A thread of the operating system of its own, since the engine's is the one that is stuck. It sleeps until the earliest
moment at which something could be wrong, and asks for progress only then: a token costs nothing.
"""

import contextlib
import math
import time
from _queue import Empty, SimpleQueue
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from rkllama_flask.native_threads import start_native_thread

LOADED_PER_SECOND = 10e6
"""Bytes; a memory card on a bad day."""

_UNMEASURED_NS = 100e6
"""For a token of a prompt, before any has been measured."""

_QUICKEST_NS = 20e6
"""Less is never taken for what a token of a prompt takes on a busy day."""

_SLOWER = 10
"""How many times as long as measured a prefill may take."""

_LOOKS = 4
"""In the time that a token may take."""

_LONGEST_SLEEP = 86_400.0


@dataclass(eq=False)
class _Watched:
    """A call of the runtime. `progress` counts what it has brought so far; `deadline` in monotonic seconds."""

    deadline: float
    progress: Callable[[], int]
    seen: int = 0


class Watchdog:
    """`hung` is called on the watchdog's own thread, once for each call that hangs.

    `limit` is in seconds: how long a token may take, and what every call may take beyond what it is allowed. 0: off.
    """

    def __init__(self, limit: float, hung: Callable[[], None]) -> None:
        self._limit = limit
        self._hung = hung
        self._wake: SimpleQueue[bool] = SimpleQueue()
        self._watched: _Watched | None = None
        self._sleeps_until = math.inf

    def start(self) -> None:
        """Start the thread, in the process that serves."""
        if self._limit:
            start_native_thread(self._work)

    def stop(self) -> None:
        """End the thread, if it was started."""
        self._wake.put(False)

    @contextlib.contextmanager
    def watching(self, allowed: float, progress: Callable[[], int] = lambda: 0) -> Iterator[None]:
        """One call goes on within: until `progress` grows it may take `allowed` seconds and the limit, then the limit
        each time it grows."""
        if not self._limit:
            yield
            return
        self._watched = watched = _Watched(time.monotonic() + allowed + self._limit, progress)
        if watched.deadline < self._sleeps_until:
            self._wake.put(True)
        try:
            yield
        finally:
            self._watched = None

    def _work(self) -> None:
        while True:
            self._sleeps_until = math.inf  # before looking: a call that begins from here on wakes us
            watched, now = self._watched, time.monotonic()
            until = min(watched.deadline, now + self._limit / _LOOKS) if watched else now + _LONGEST_SLEEP
            self._sleeps_until = until
            try:
                if not self._wake.get(True, max(0.0, until - now)):
                    return
            except Empty:
                if watched is not None and watched is self._watched:
                    self._look(watched, late=time.monotonic() - until)

    def _look(self, watched: _Watched, *, late: float) -> None:
        now, progress = time.monotonic(), watched.progress()
        if progress != watched.seen:
            watched.seen = progress
            watched.deadline = now + self._limit
        elif late > self._limit / _LOOKS:  # this process was stopped, or the machine has no time for anybody
            watched.deadline = max(watched.deadline, now) + late
        elif now >= watched.deadline:
            watched.deadline = math.inf
            self._hung()


def prefill_allowance(tokens: int, measured_ns: float | None) -> float:
    """Seconds that computing a prompt may take, however busy the machine is."""
    each = _UNMEASURED_NS if measured_ns is None else max(_QUICKEST_NS, _SLOWER * measured_ns)
    return tokens * each / 1e9


def load_allowance(size: int) -> float:
    """Seconds that reading a file of so many bytes may take."""
    return size / LOADED_PER_SECOND
