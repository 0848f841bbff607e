"""The address that the server listens on: why it can't, in a sentence, and what every connection to it inherits."""

import errno
import os
import resource
import socket
import time

from rkllama_flask.settings import SettingsError

SEND_BUFFER = 128 * 1024
"""Bytes of an answer that a client who doesn't read may keep in the kernel; without a bound it is megabytes."""

_MOST_FILES = 65536
_TRIES, _PAUSE = 3, 0.5  # who restarts by hand may be quicker than the old process is gone


def check_address(host: str, port: int) -> None:
    """Raises SettingsError where nothing can listen there."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:
        raise SettingsError(f"HOST={host} is no address of this machine. Set one that `ip addr` shows.") from error
    family, _, _, _, address = found[0]
    for left in reversed(range(_TRIES)):
        number = _bind(family, address)
        if number == errno.EADDRINUSE and left:
            time.sleep(_PAUSE)
        elif number:
            raise SettingsError(f"port {port} of {host}: {_reason(number)}.")
        else:
            return


def guard(listener: socket.socket, *, patience: float) -> None:
    """Give up clients of `listener` that have vanished, or that take nothing for `patience` seconds.

    Connections inherit these options (Linux), so nothing has to be done for each.
    """
    seconds = max(1, round(patience))
    for level, option, value in (
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, max(1, seconds // 2)),
        (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, max(1, seconds // 6)),
        (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
        (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, seconds * 1000),
        (socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER),
    ):
        listener.setsockopt(level, option, value)


def allow_many_connections() -> None:
    """Raise this process's limit of open files as far as it may: each connection is one."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST_FILES if most == resource.RLIM_INFINITY else min(most, _MOST_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


def _bind(family: int, address: tuple[object, ...]) -> int:
    """0, or what number of error it is."""
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
            probe.listen()  # two may be bound to one port, but only one can listen
        except OSError as error:
            return error.errno or errno.EINVAL
    return 0


def _reason(number: int) -> str:
    match number:
        case errno.EADDRINUSE:
            return "another program listens there. Stop it, or set another PORT"
        case errno.EADDRNOTAVAIL:
            return "this machine has no such address. Set HOST to one that `ip addr` shows"
        case errno.EACCES:
            return "this user may not listen there. Set a PORT from 1024 on"
        case _:
            return os.strerror(number)
