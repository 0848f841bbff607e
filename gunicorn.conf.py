"""gunicorn's settings: `gunicorn` in this folder reads them. Command line options win over them."""

import sys
from pathlib import Path

_HERE = Path(__file__).resolve().parent
if str(_HERE) not in sys.path:  # gunicorn sees to it too, but only after it has read this file
    sys.path.insert(0, str(_HERE))

from rkllama_flask.hosting.gunicorn import Hooks, OneLineLogger  # noqa: E402 - the package above has to be found

_hooks = Hooks.from_environment()
_settings = _hooks.settings

wsgi_app = "wsgi:application"
chdir = str(_HERE)  # works from any directory
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
logger_class = OneLineLogger

on_starting = _hooks.on_starting
when_ready = _hooks.when_ready
on_reload = _hooks.on_reload
post_fork = _hooks.post_fork
post_worker_init = _hooks.post_worker_init
pre_request = _hooks.pre_request
post_request = _hooks.post_request
worker_exit = _hooks.worker_exit
