"""Where nobody can listen it is said why, and connections are guarded from the listener on."""

import os
import socket
import subprocess
import sys

import pytest

from rkllama_flask.hosting.listening import SEND_BUFFER, check_address, guard
from rkllama_flask.settings import SettingsError
from tests.serving import ROOT


def test_a_free_port_is_fine() -> None:
    check_address("127.0.0.1", 0)
    check_address("localhost", 0)


@pytest.mark.parametrize(
    ("host", "said"),
    [("nowhere.invalid", "HOST=nowhere.invalid"), ("192.0.2.1", "no such address"), ("a" * 99, "HOST=")],
)
def test_an_address_that_is_not_ours_is_named(host: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        check_address(host, 0)


def test_a_port_that_is_taken_is_the_only_thing_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-m", "gunicorn", "-c", "gunicorn.conf.py"],
            cwd=ROOT,
            env=os.environ | {"HOST": "127.0.0.1", "PORT": str(port)},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    assert done.returncode == 1
    sentence = done.stderr.splitlines()[-1]
    assert sentence == (
        f"rkllama-flask can't start: port {port} of 127.0.0.1: another program listens there. Stop it, or set another "
        "PORT."
    )
    assert "Traceback" not in done.stderr


def test_connections_inherit_the_guard() -> None:
    """A client whose power fails says no goodbye: only unanswered probes and data that nobody takes tell of it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        guard(listener, patience=12)
        with socket.create_connection(listener.getsockname()), listener.accept()[0] as accepted:
            seen = [
                accepted.getsockopt(level, option)
                for level, option in (
                    (socket.SOL_SOCKET, socket.SO_KEEPALIVE),
                    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE),
                    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL),
                    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT),
                    (socket.SOL_SOCKET, socket.SO_SNDBUF),
                )
            ]
    assert seen == [1, 6, 2, 12_000, 2 * SEND_BUFFER]  # the kernel doubles it, for its own bookkeeping
