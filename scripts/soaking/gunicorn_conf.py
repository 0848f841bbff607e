"""The server's own gunicorn settings, and a signal at which the worker writes down what only it can count."""

import gc
import json
import os
import signal
from pathlib import Path

exec((Path(__file__).resolve().parents[2] / "gunicorn.conf.py").read_text())

SIGNAL = signal.SIGRTMIN
_install = post_worker_init  # noqa: F821 - of the file above


def post_worker_init(worker):
    _install(worker)
    signal.signal(SIGNAL, count)


def count(_number, _frame):
    """Greenlets that have begun and not ended."""
    from greenlet import greenlet

    gc.collect()
    alive = sum(isinstance(one, greenlet) and bool(one) for one in gc.get_objects())
    target = Path(os.environ["SOAK_COUNTS"])
    target.with_suffix(".new").write_text(json.dumps({"greenlets": alive}))
    target.with_suffix(".new").replace(target)
