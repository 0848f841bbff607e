import pytest

from rkllama_flask.api.web.context import client_name
from rkllama_flask.app import create_app


@pytest.mark.parametrize(
    ("peer", "forwarded", "name"),
    [
        ("", "6.6.6.6, 10.0.0.7", "10.0.0.7"),
        ("127.0.0.1", "10.0.0.7", "10.0.0.7"),
        ("10.0.0.1", "10.0.0.7", "10.0.0.1"),
        ("127.0.0.1", "", "127.0.0.1"),
    ],
)
def test_clients_behind_a_proxy_of_this_machine_are_told_apart(peer: str, forwarded: str, name: str) -> None:
    """The queue is fair between clients, not between proxies. From elsewhere the header is only somebody's word."""
    with create_app().test_request_context(environ_base={"REMOTE_ADDR": peer}, headers={"X-Forwarded-For": forwarded}):
        assert client_name() == name
