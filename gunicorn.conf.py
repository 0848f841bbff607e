"""gunicorn's settings: `gunicorn` in this folder reads them. Command line options win over them."""

import contextlib
import gc
import logging
import os
import signal
import socket
import sys
import uuid
import weakref
from functools import partial
from pathlib import Path

from gunicorn.glogging import Logger

from rkllama_flask.hosting.listening import allow_many_connections, check_address, guard
from rkllama_flask.hosting.logs import OneLine
from rkllama_flask.settings import Settings, SettingsError

try:
    _from_file = Settings.in_file()
    _settings = Settings.from_environment()
    _settings.make_folders()
except SettingsError as error:
    sys.exit(f"rkllama-flask can't start: {error}")

wsgi_app = "wsgi:application"
chdir = str(Path(__file__).resolve().parent)  # works from any directory
bind = _settings.address
worker_class = "gevent"  # hundreds of waiting streams in one process
workers = 1  # one NPU, one process that holds it
preload_app = False  # no library, no thread before the fork
max_requests = 0  # a recycled worker would load the model again
worker_connections = 1000  # many more than the queue takes, so that idle ones don't keep others out
timeout = 120  # only catches a worker whose event loop stands still
graceful_timeout = int(_settings.graceful_timeout)  # how long running answers may go on after SIGTERM
keepalive = 20  # seconds; longer than a proxy's, or it would lose requests
worker_tmp_dir = "/dev/shm" if Path("/dev/shm").is_dir() else None  # the heartbeat file: not on an SD card
control_socket_disable = True  # nothing uses it
forwarded_allow_ips = "127.0.0.1,::1"  # whose X-Forwarded-* headers count
umask = 0o007  # a unix socket: for nginx's group, not for everybody
loglevel = _settings.log_level
_master = os.environ.setdefault("RKLLAMA_MASTER", uuid.uuid4().hex)  # workers inherit it; a reload leaves it
_idle = weakref.WeakSet()  # connections between two requests
_busy = weakref.WeakSet()  # connections with a request
_CUT_BEFORE = 3  # seconds before gunicorn kills: the last answers are ended with an error their client can read
_DROP_BEFORE = 1.5  # and then whoever has not even taken that is dropped, so that the runtime ends in good order


class logger_class(Logger):  # noqa: N801 - the name is gunicorn's
    """gunicorn's own, with our lines, which go wherever its errors go."""

    def setup(self, cfg):
        super().setup(cfg)
        for log in (self.error_log, self.access_log):
            for handler in log.handlers:
                formatter = handler.formatter
                handler.setFormatter(OneLine(formatter and formatter._fmt, formatter and formatter.datefmt))
        logging.getLogger("rkllama_flask").handlers = list(self.error_log.handlers)

    def exception(self, msg, *args, **kwargs):
        if isinstance(sys.exc_info()[1], TimeoutError):
            self.info("A client has vanished or takes nothing of its answer; it is given up.")
        else:
            super().exception(msg, *args, **kwargs)


def on_starting(server):
    """Say in a sentence why nobody could connect, before gunicorn says it in its own way."""
    allow_many_connections()
    server.reload = partial(_reload, server, server.reload)
    if "GUNICORN_PID" in os.environ or "LISTEN_FDS" in os.environ:
        return  # the sockets are handed over
    for address in server.address:
        if isinstance(address, tuple):
            try:
                check_address(*address)
            except SettingsError as error:
                sys.exit(f"rkllama-flask can't start: {error}")


def _reload(server, reload):
    """gunicorn would end over a wrong setting: what serves goes on, as it was started."""
    try:
        settings = Settings.from_environment()
        settings.make_folders()
        moves = settings.address != _settings.address and _settings.address in server.cfg.bind
        if moves and not settings.host.startswith("unix:"):
            check_address(settings.host, settings.port)
    except SettingsError as error:
        server.log.error("Not reloaded: %s", error)  # noqa: TRY400 - the sentence says it all
    else:
        reload()


def on_reload(server):
    _guard(server)


def _guard(server):
    for listener in server.LISTENERS:
        if listener.sock.family != socket.AF_UNIX:
            guard(listener.sock, patience=_settings.client_timeout)


def when_ready(server):
    _guard(server)


def pre_request(worker, req):
    """Let other greenlets run: a busy keep-alive client would starve every stream."""
    _idle.discard(req.unreader.sock)
    _busy.add(req.unreader.sock)
    gevent = sys.modules.get("gevent")
    if gevent is not None:
        gevent.sleep(0)


def post_request(worker, req, environ, resp):
    """The connection waits for its next request; while we shut down there will be none."""
    _busy.discard(req.unreader.sock)
    if worker.alive:
        _idle.add(req.unreader.sock)
    else:
        _end(req.unreader.sock)


def _end(connection, how=socket.SHUT_RD):
    with contextlib.suppress(OSError):
        # The real socket: gevent's own method would raise in the greenlet that waits, instead of ending its wait.
        getattr(connection, "_sock", connection).shutdown(how)


def post_fork(server, worker):
    """A worker that replaces a crashed one is set as that was, whatever the file says by now."""
    os.environ.update(_from_file)


def post_worker_init(worker):
    if worker.age == 1:  # here and not in the master, which would hold what it imports for ever
        from rkllama_flask.hosting.banner import banner

        print(banner(_settings), flush=True)
    gc.collect()
    gc.freeze()  # a full collection stops every stream for tens of ms; what was loaded at the start need not be in it
    sys.setswitchinterval(0.001)  # seconds the runtime's callback may have to wait for busy Python code
    inference = worker.wsgi.extensions["rkllama"].inference
    worker.inference = inference

    def drain(number, frame):
        inference.drain(max(0.0, _settings.graceful_timeout - _CUT_BEFORE))
        worker.handle_exit(number, frame)
        for connection in list(_idle):
            _end(connection)  # gunicorn would wait for their keep-alive time to pass
        gevent = sys.modules.get("gevent")
        if gevent is not None:  # a thread that sends to a client who takes nothing keeps nobody from the exit
            gevent.spawn_later(max(0.0, _settings.graceful_timeout - _DROP_BEFORE), drop)

    def drop():
        for connection in list(_busy):
            _end(connection, socket.SHUT_RDWR)

    signal.signal(signal.SIGTERM, drain)
    inference.start(replace_process=lambda: os.kill(os.getpid(), signal.SIGTERM), supervisor=_master)


def worker_exit(server, worker):
    """Release the NPU: abort, wait for the end of the run, destroy."""
    inference = getattr(worker, "inference", None)
    if inference is not None:
        inference.close()
