"""The server's application, in a worker that at a signal writes down what only it can count."""

import gc
import json
import os
import signal
from pathlib import Path

from wsgi import application

__all__ = ["application"]

SIGNAL = signal.SIGRTMIN


def _count(_number: int, _frame: object) -> None:
    """Greenlets that have begun and not ended."""
    from greenlet import greenlet

    gc.collect()
    alive = sum(isinstance(one, greenlet) and bool(one) for one in gc.get_objects())
    target = Path(os.environ["SOAK_COUNTS"])
    target.with_suffix(".new").write_text(json.dumps({"greenlets": alive}))
    target.with_suffix(".new").replace(target)


signal.signal(SIGNAL, _count)
