"""What gunicorn calls: a wrong setting stops a start but no running server, and nobody's connection is left behind."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from gunicorn.config import Config

from rkllama_flask.hosting.gunicorn import Hooks, OneLineLogger
from rkllama_flask.settings import Settings
from tests.conftest import scripted_library
from tests.serving import free_port, start_server


@pytest.fixture
def hooks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hooks:
    monkeypatch.setenv("RKLLAMA_MASTER", "this one")
    monkeypatch.setenv("ENV_FILE", str(tmp_path / "env"))
    monkeypatch.setenv("PORT", str(free_port()))
    (tmp_path / "env").write_text("GRACEFUL_TIMEOUT=7\nOF_THE_FILE=1\n")
    return Hooks(Settings.from_environment(tmp_path), {"OF_THE_FILE": "1"})


@pytest.fixture
def connection() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def request_on(connection: socket.socket) -> Any:
    return SimpleNamespace(unreader=SimpleNamespace(sock=connection))


def arbiter(**more: Any) -> Any:
    said: list[str] = []
    log = SimpleNamespace(error=lambda text, *values: said.append(text % values))
    return SimpleNamespace(log=log, said=said, LISTENERS=[], address=[], **more)


def test_the_server_starts_from_any_directory(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    server = start_server(tmp_path, library=scripted_library("1.3"), cwd=tmp_path / "elsewhere")
    try:
        assert server.get("/v1/models").json()["data"][0]["id"] == "scripted"
        assert list((tmp_path / "elsewhere").iterdir()) == []
    finally:
        server.end()


def test_a_wrong_setting_is_no_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "99999")
    with pytest.raises(SystemExit, match=r"rkllama-flask can't start: .*PORT"):
        Hooks.from_environment()


def test_a_reload_with_a_wrong_setting_leaves_the_server_as_it_is(
    hooks: Hooks, monkeypatch: pytest.MonkeyPatch
) -> None:
    reloads: list[bool] = []
    server = arbiter(reload=lambda: reloads.append(True), cfg=SimpleNamespace(bind=[hooks.settings.address]))
    hooks.on_starting(server)
    server.reload()
    assert reloads == [True]
    monkeypatch.setenv("MAX_QUEUE", "many")
    server.reload()
    assert reloads == [True]
    assert server.said[0].startswith("Not reloaded: ")
    assert "MAX_QUEUE" in server.said[0]


def test_an_address_that_cannot_be_had_is_no_start(hooks: Hooks) -> None:
    server = arbiter(reload=lambda: None)
    server.address = [("192.0.2.1", 80)]
    with pytest.raises(SystemExit, match=r"can't start: .*no such address"):
        hooks.on_starting(server)


def test_a_worker_is_set_as_the_start_was(hooks: Hooks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OF_THE_FILE", "2")
    hooks.post_fork(arbiter(), SimpleNamespace())  # type: ignore[arg-type]
    assert os.environ["OF_THE_FILE"] == "1"


def test_a_connection_waits_for_its_next_request_unless_the_worker_ends(
    hooks: Hooks, connection: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = connection
    theirs.setblocking(False)
    for alive in (True, False):
        hooks.pre_request(SimpleNamespace(), request_on(ours))  # type: ignore[arg-type]
        hooks.post_request(SimpleNamespace(alive=alive), request_on(ours), {}, None)  # type: ignore[arg-type]
        if alive:
            theirs.send(b"GET")
            assert ours.recv(3) == b"GET"
    assert ours.recv(3) == b""


def test_a_client_that_vanished_is_a_line_and_no_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    logger = OneLineLogger(Config())
    try:
        raise TimeoutError
    except TimeoutError:
        logger.exception("Socket error")
    said = capsys.readouterr().err
    assert "A client has vanished" in said
    assert "Traceback" not in said
