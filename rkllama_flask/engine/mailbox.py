"""From the engine's native thread to whoever waits: a greenlet or a plain thread, without polling.

Only `_queue.SimpleQueue` and the hub's thread-safe callback are used: under gevent's monkey patching every other lock,
queue or event is one of greenlets, and touching it from a native thread can hang the server.
"""

import os
import sys
from _queue import Empty, SimpleQueue
from _thread import get_native_id
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class Mailbox(Protocol):
    """One reader's post. `put` may be called from any thread; `get` only by the reader that opened it."""

    def put(self, item: Any) -> None: ...

    def get(self, timeout: float | None) -> Any:
        """The next item; raises `_queue.Empty` after `timeout` seconds (None: waits for ever)."""


class ThreadMailbox:
    def __init__(self) -> None:
        items: SimpleQueue[Any] = SimpleQueue()
        self.put = items.put
        self._get = items.get

    def get(self, timeout: float | None) -> Any:
        return self._get(True, timeout)


class GreenletMailbox:
    """One wake-up serves all that has been put until the reader looks, and switches to it without a detour."""

    def __init__(self) -> None:
        import gevent

        self._hub = gevent.get_hub()
        self._current = gevent.getcurrent
        self._call = self._hub.loop.run_callback_threadsafe
        self._items: deque[Any] = deque()
        self._called = False
        self._reader: Any = None

    def put(self, item: Any) -> None:
        self._items.append(item)
        if not self._called:
            self._called = True
            self._call(self._wake)

    def get(self, timeout: float | None) -> Any:
        if not self._items:
            self._wait(timeout)
        try:
            return self._items.popleft()
        except IndexError:
            raise Empty from None

    def _wait(self, timeout: float | None) -> None:
        self._reader = self._current()
        timer = None
        try:
            if timeout is not None:
                timer = self._hub.loop.timer(timeout)
                timer.start(self._switch)
            self._hub.switch()
        finally:  # also when another greenlet throws into this one
            self._reader = None
            if timer is not None:
                timer.close()

    def _wake(self) -> None:
        self._called = False  # before the look: what is put from here on calls again
        if self._items:
            self._switch()

    def _switch(self) -> None:
        if self._reader is not None:
            self._reader.switch()


def under_gevent() -> bool:
    """Whether threads are greenlets here; asked at run time, because patching may come after import."""
    monkey = sys.modules.get("gevent.monkey")
    return bool(monkey and monkey.is_module_patched("threading"))


def open_mailbox() -> Mailbox:
    """A mailbox for the calling greenlet or thread."""
    return GreenletMailbox() if under_gevent() else ThreadMailbox()


def _original(name: str) -> Callable[..., Any]:
    """A function of `_thread` as it was before any monkey patching."""
    monkey = sys.modules.get("gevent.monkey")
    if monkey:
        return monkey.get_original("_thread", name)  # type: ignore[no-any-return]
    import _thread

    return getattr(_thread, name)  # type: ignore[no-any-return]


def start_native_thread(function: Callable[[], None]) -> None:
    """Start a real thread of the operating system, also where `threading.Thread` is a greenlet."""
    _original("start_new_thread")(function, ())


def call_natively(function: Callable[[], T]) -> T:
    """Call what may hold its thread for a while without standing in the way of other greenlets.

    These are all in the main thread. Any other one, the engine's for instance, calls it itself: asking gevent there
    would begin a second event loop.
    """
    if not under_gevent() or get_native_id() != os.getpid():
        return function()
    import gevent

    result, failure = gevent.get_hub().threadpool.apply(_outcome, (function,))
    if failure is not None:
        raise failure
    return result  # type: ignore[no-any-return]


def _outcome(function: Callable[[], T]) -> tuple[T | None, BaseException | None]:
    """What it returned, or what it raised: gevent would write that to stderr, with what a client wrote in it."""
    try:
        return function(), None
    except BaseException as failure:
        return None, failure


def native_lock() -> Any:
    """A real lock, to be held for microseconds and never across anything that may switch greenlets."""
    return _original("allocate_lock")()


__all__ = [
    "Empty",
    "GreenletMailbox",
    "Mailbox",
    "SimpleQueue",
    "ThreadMailbox",
    "call_natively",
    "native_lock",
    "open_mailbox",
    "start_native_thread",
    "under_gevent",
]
