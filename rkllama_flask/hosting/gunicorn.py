"""What gunicorn calls while it starts, reloads, serves and ends: the hooks that gunicorn.conf.py names.

The master never imports the application (it would hold that memory for ever); a worker does, after the fork.
"""

import contextlib
import gc
import logging
import os
import signal
import socket
import sys
import uuid
import weakref
from collections.abc import Callable, Mapping
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

from gunicorn.arbiter import Arbiter
from gunicorn.config import Config
from gunicorn.glogging import Logger
from gunicorn.workers.base import Worker

from rkllama_flask.hosting.listening import allow_many_connections, check_address, guard
from rkllama_flask.hosting.logs import OneLine
from rkllama_flask.settings import Settings, SettingsError

if TYPE_CHECKING:
    from rkllama_flask.generation.inference import Inference

_CUT_BEFORE = 3  # seconds before gunicorn kills: the last answers are ended with an error their client can read
_DROP_BEFORE = 1.5  # and then whoever has not even taken that is dropped, so that the runtime ends in good order
_MASTER = "RKLLAMA_MASTER"
"""The variable that tells workers of one master from all others: they inherit it, and a reload leaves it."""


class OneLineLogger(Logger):
    """gunicorn's own, with our lines, which go wherever its errors go."""

    def setup(self, cfg: Config) -> None:
        super().setup(cfg)
        for log in (self.error_log, self.access_log):
            for handler in log.handlers:
                formatter = handler.formatter or logging.Formatter()
                handler.setFormatter(OneLine(formatter._fmt, formatter.datefmt))
        logging.getLogger("rkllama_flask").handlers = list(self.error_log.handlers)

    def exception(self, msg: object, *args: object, **kwargs: Any) -> None:
        if isinstance(sys.exc_info()[1], TimeoutError):
            self.info("A client has vanished or takes nothing of its answer; it is given up.")
        else:
            super().exception(msg, *args, **kwargs)


class Hooks:
    """gunicorn's hooks for one reading of the settings. `in_file` is what `.env` says and the environment does not.

    Requests are Any: gunicorn's types don't know that what reads them has a `sock`.
    """

    def __init__(self, settings: Settings, in_file: Mapping[str, str]) -> None:
        self.settings = settings
        self._in_file = in_file
        self._master = os.environ.setdefault(_MASTER, uuid.uuid4().hex)
        self._idle: weakref.WeakSet[socket.socket] = weakref.WeakSet()  # connections between two requests
        self._busy: weakref.WeakSet[socket.socket] = weakref.WeakSet()  # connections with a request
        self._inference: Inference | None = None  # in a worker that serves

    @classmethod
    def from_environment(cls) -> "Hooks":
        """Read the settings and make their folders; a wrong setting ends the process with its sentence."""
        try:
            in_file = Settings.in_file()
            settings = Settings.from_environment()
            settings.make_folders()
        except SettingsError as error:
            _refuse(error)
        return cls(settings, in_file)

    # In the master

    def on_starting(self, server: Arbiter) -> None:
        """Say in a sentence why nobody could connect, before gunicorn says it in its own way."""
        allow_many_connections()
        server.reload = partial(self._reload, server, server.reload)  # type: ignore[method-assign]
        if "GUNICORN_PID" in os.environ or "LISTEN_FDS" in os.environ:
            return  # the sockets are handed over
        for address in server.address:
            if isinstance(address, tuple):
                try:
                    check_address(*address)
                except SettingsError as error:
                    _refuse(error)

    def when_ready(self, server: Arbiter) -> None:
        """Guard the listening sockets."""
        self._guard(server)

    def on_reload(self, server: Arbiter) -> None:
        """Guard them again: they may be others now."""
        self._guard(server)

    def _reload(self, server: Arbiter, reload: Callable[[], None]) -> None:
        """gunicorn would end over a wrong setting: what serves goes on, as it was started."""
        try:
            settings = Settings.from_environment()
            settings.make_folders()
            moves = settings.address != self.settings.address and self.settings.address in server.cfg.bind
            if moves and not settings.host.startswith("unix:"):
                check_address(settings.host, settings.port)
        except SettingsError as error:
            assert server.log is not None  # it has started
            server.log.error("Not reloaded: %s", error)  # noqa: TRY400 - the sentence says it all
        else:
            reload()

    def _guard(self, server: Arbiter) -> None:
        for listener in server.LISTENERS:
            if listener.sock.family != socket.AF_UNIX:
                guard(listener.sock, patience=self.settings.client_timeout)

    # In a worker

    def post_fork(self, _server: Arbiter, _worker: Worker) -> None:
        """A worker that replaces a crashed one is set as that was, whatever the file says by now."""
        os.environ.update(self._in_file)

    def post_worker_init(self, worker: Worker) -> None:
        """Start the engine's thread, and set this process up to serve."""
        if worker.age == 1:  # here and not in the master, which would hold what it imports for ever
            from rkllama_flask.hosting.banner import banner

            print(banner(self.settings), flush=True)
        gc.collect()
        gc.freeze()  # a full collection stops every stream for tens of ms; what the start loaded need not be in it
        sys.setswitchinterval(0.001)  # seconds the runtime's callback may have to wait for busy Python code
        inference: Inference = worker.wsgi.extensions["rkllama"].inference  # type: ignore[attr-defined]
        self._inference = inference
        signal.signal(signal.SIGTERM, partial(self._drain, worker, inference))
        inference.start(replace_process=lambda: os.kill(os.getpid(), signal.SIGTERM), supervisor=self._master)

    def worker_exit(self, _server: Arbiter, _worker: Worker) -> None:
        """Release the NPU: abort, wait for the end of the run, destroy."""
        if self._inference is not None:
            self._inference.close()

    def pre_request(self, _worker: Worker, req: Any) -> None:
        """Let other greenlets run: a busy keep-alive client would starve every stream."""
        self._idle.discard(req.unreader.sock)
        self._busy.add(req.unreader.sock)
        gevent = sys.modules.get("gevent")
        if gevent is not None:
            gevent.sleep(0)

    def post_request(self, worker: Worker, req: Any, _environ: Any, _resp: Any) -> None:
        """The connection waits for its next request; while we shut down there will be none."""
        self._busy.discard(req.unreader.sock)
        if worker.alive:
            self._idle.add(req.unreader.sock)
        else:
            _end(req.unreader.sock)

    def _drain(self, worker: Worker, inference: "Inference", number: int, frame: FrameType | None) -> None:
        inference.drain(max(0.0, self.settings.graceful_timeout - _CUT_BEFORE))
        worker.handle_exit(number, frame)
        for connection in list(self._idle):
            _end(connection)  # gunicorn would wait for their keep-alive time to pass
        gevent = sys.modules.get("gevent")
        if gevent is not None:  # a thread that sends to a client who takes nothing keeps nobody from the exit
            gevent.spawn_later(max(0.0, self.settings.graceful_timeout - _DROP_BEFORE), self._drop)

    def _drop(self) -> None:
        for connection in list(self._busy):
            _end(connection, socket.SHUT_RDWR)


def _refuse(error: SettingsError) -> NoReturn:
    sys.exit(f"rkllama-flask can't start: {error}")


def _end(connection: Any, how: int = socket.SHUT_RD) -> None:
    with contextlib.suppress(OSError):
        # The real socket: gevent's own method would raise in the greenlet that waits, instead of ending its wait.
        getattr(connection, "_sock", connection).shutdown(how)
