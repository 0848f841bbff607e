"""Real threads and locks, also where gevent has put greenlets in their place.

The rule for whatever runs on such a thread: nothing that gevent patches, so no logging, no lock, event or queue of
`threading` or `queue`, no metric and no first import. They belong to greenlets there, and touching one from outside can
hang the server. `_queue.SimpleQueue`, a native lock and pure computing are allowed.
"""

import os
import sys
from _thread import get_native_id
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


def under_gevent() -> bool:
    """Whether threads are greenlets here; asked at run time, because patching may come after import."""
    monkey = sys.modules.get("gevent.monkey")
    return bool(monkey and monkey.is_module_patched("threading"))


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
