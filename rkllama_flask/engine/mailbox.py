"""From the engine's native thread to whoever waits: a greenlet or a plain thread, without polling.

Only `_queue.SimpleQueue` and the hub's thread-safe callback are used: under gevent's monkey patching every other lock,
queue or event is one of greenlets, and touching it from a native thread can hang the server.
"""

from _queue import Empty, SimpleQueue
from collections import deque
from typing import Any, Protocol

from rkllama_flask.native_threads import under_gevent

__all__ = ["Empty", "GreenletMailbox", "Mailbox", "SimpleQueue", "ThreadMailbox", "open_mailbox"]


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
                timer.start(self._switch, update=True)  # the loop's clock stands while Python works
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


def open_mailbox() -> Mailbox:
    """A mailbox for the calling greenlet or thread."""
    return GreenletMailbox() if under_gevent() else ThreadMailbox()
