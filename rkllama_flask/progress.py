"""Steps that may take a while say so on standard error."""

import sys
import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def take_step(what: str, action: Callable[[], T]) -> T:
    """Run it. Once that takes more than a second it is told, on a terminal with the seconds that pass."""
    over = threading.Event()
    begun = time.monotonic()

    def show() -> None:
        while not over.wait(1):
            if not sys.stderr.isatty():
                sys.stderr.write(f"{what} …\n")
                return
            sys.stderr.write(f"\r{what} … {time.monotonic() - begun:.0f}s")
            sys.stderr.flush()

    threading.Thread(target=show, daemon=True).start()
    try:
        return action()
    finally:
        over.set()
        if time.monotonic() - begun > 1:
            start = "\r" if sys.stderr.isatty() else ""
            sys.stderr.write(f"{start}{what}: done in {time.monotonic() - begun:.0f}s\n")
