"""Stopping, reloading, crashing, and two servers that want one NPU."""

import contextlib
import json
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from tests.hosts.test_clients_that_leave import stalled
from tests.hosts.test_hosts import chat
from tests.serving import Server

Serve = Callable[..., Server]


def ask(server: Server, prompt: str, model: str = "scripted") -> requests.Response:
    return server.post("/v1/chat/completions", chat(prompt, model=model))


def content(response: requests.Response) -> str:
    assert response.status_code == 200, response.text
    return str(response.json()["choices"][0]["message"]["content"])


def test_sigterm_lets_a_running_answer_end(family: str, serve: Serve) -> None:
    server = serve(family=family)
    ask(server, "<<script text=warm>>")
    answers: list[requests.Response] = []
    thread = threading.Thread(target=lambda: answers.append(ask(server, "<<script tokens=60 decode_ms=20>>")))
    thread.start()
    while server.get("/health").json()["busy"] != "generating":
        time.sleep(0.02)
    assert server.stop(signal.SIGTERM) == 0
    thread.join(10)
    assert len(content(answers[0]).split()) == 60


def test_an_answer_longer_than_the_grace_time_ends_with_an_error_its_client_can_read(serve: Serve) -> None:
    server = serve(GRACEFUL_TIMEOUT="4")
    body = chat("<<script tokens=3000 decode_ms=20>>", stream=True)
    response = server.post("/v1/chat/completions", body, stream=True)
    lines = response.iter_lines()
    next(lines)
    threading.Thread(target=server.stop).start()
    last = [line for line in lines if line][-1]
    assert b'"error"' in last
    assert b"shutting down" in last


def test_at_the_end_who_waits_is_told_so_and_who_takes_nothing_leaves_no_trace(serve: Serve) -> None:
    server = serve(GRACEFUL_TIMEOUT="4")
    waiting: list[requests.Response] = []
    thread = threading.Thread(target=lambda: waiting.append(ask(server, "<<script text=late>>")))
    with stalled(server, "<<script tokens=3000 decode_ms=5>>"):
        while server.get("/health").json()["busy"] != "generating":
            time.sleep(0.02)
        thread.start()
        while server.get("/health").json()["queue"]["waiting"] < 1:
            time.sleep(0.02)
        time.sleep(1.5)  # for the buffers to be full
        assert server.stop(signal.SIGTERM) == 0
    thread.join(10)
    assert waiting[0].status_code == 503
    assert "shutting down" in waiting[0].json()["error"]["message"]
    assert waiting[0].elapsed.total_seconds() < 3.5
    (left,) = (server.folder / "cache").iterdir()
    assert "ended" in json.loads(left.read_bytes())  # or it would count as a crash


def test_a_log_that_was_moved_away_is_begun_anew_at_sigusr1(serve: Serve, tmp_path: Path) -> None:
    log = tmp_path / "gunicorn.log"
    server = serve(GUNICORN_CMD_ARGS=f"--error-logfile={log}", DEFAULT_MODEL="nowhere")
    assert "DEFAULT_MODEL is not loaded" in log.read_text()
    log.rename(tmp_path / "gunicorn.log.1")
    server.process.send_signal(signal.SIGUSR1)
    deadline = time.monotonic() + 10
    while not (log.exists() and "RuntimeFailed" in log.read_text()):
        ask(server, "<<script tokens=3 fail=2>>")
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_wrong_setting_keeps_a_reload_from_happening_and_nothing_else(serve: Serve, tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_text("MAX_QUEUE=7\n")
    server = serve(ENV_FILE=str(file))
    file.write_text("MAX_QUEUE=many\n")
    server.process.send_signal(signal.SIGHUP)
    until(lambda: 'Not reloaded: Environment variable "MAX_QUEUE" invalid' in server.log, server)
    assert content(ask(server, "<<script text=as%20before>>")) == "as before"
    with pytest.raises(requests.ConnectionError):
        ask(server, "<<script tokens=9 segv=5>>")
    until(lambda: content(ask(server, "<<script text=as%20before>>")) == "as before", server)  # another worker
    file.write_text("API_KEYS=secret\n")
    server.process.send_signal(signal.SIGHUP)
    until(lambda: server.post("/api/show", {"model": "scripted"}).status_code == 401, server)


def until(condition: Callable[[], bool], server: Server) -> None:
    deadline = time.monotonic() + 20
    while True:
        with contextlib.suppress(requests.ConnectionError):
            if condition():
                return
        assert time.monotonic() < deadline, server.log
        time.sleep(0.05)


def test_a_reload_hands_the_npu_to_the_next_worker(serve: Serve) -> None:
    server = serve()
    assert content(ask(server, "<<script text=before>>")) == "before"
    server.process.send_signal(signal.SIGHUP)
    deadline = time.monotonic() + 15
    while len(workers(server)) < 2:
        assert time.monotonic() < deadline, server.log
        with contextlib.suppress(requests.ConnectionError):
            answer = ask(server, "<<script text=after>>")
            if answer.status_code == 503:  # the old worker, on its way out
                assert int(answer.headers["Retry-After"]) > 0
            else:
                assert content(answer) == "after"
        time.sleep(0.1)
    assert content(ask(server, "<<script text=still>>")) == "still"


def test_a_reload_keeps_the_model_and_takes_no_running_answer_for_a_crash(serve: Serve) -> None:
    server = serve(models={"one.rkllm": "load_ms=0", "two.rkllm": "load_ms=0"}, DEFAULT_MODEL="one")
    until(lambda: loaded(server) == "one", server)
    assert content(ask(server, "<<script text=first>>", "two")) == "first"
    assert server.post("/v1/models/load", {"model": "two"}).ok  # it is loaded; from now on it stays
    reload(server)
    assert server.get("/health").json()["models"][0]["expires_at"] is None
    for _ in range(2):
        with ThreadPoolExecutor() as pool:
            answer = pool.submit(ask, server, "<<script tokens=60 decode_ms=30>>", "two")
            until(lambda: server.get("/health").json()["busy"] == "generating", server)
            reload(server)
            assert len(content(answer.result()).split()) == 60
    assert server.get("/health").json()["crashes"] == {}


def reload(server: Server) -> None:
    """Until the next worker has the model that this one had."""
    before = workers(server)
    server.process.send_signal(signal.SIGHUP)
    until(lambda: workers(server) > before and loaded(server) == "two", server)


def loaded(server: Server) -> str | None:
    name: str | None = server.get("/v1/models/loaded").json()["model_name"]
    return name


def workers(server: Server) -> set[str]:
    """Processes that have loaded a model."""
    return {line.split()[1] for line in server.calls if line.split()[3] == "init"}


def test_a_second_server_explains_who_holds_the_npu(serve: Serve) -> None:
    first = serve()
    assert content(ask(first, "<<script text=mine>>")) == "mine"
    second = serve(NPU_LOCK=str(first.folder / "npu.lock"))
    refused = ask(second, "<<script text=mine>>")
    assert refused.status_code == 503
    assert "holds the NPU" in refused.json()["error"]["message"]
    assert int(refused.headers["Retry-After"]) > 0
    assert content(ask(first, "<<script text=still>>")) == "still"


def test_settings_that_name_a_model_which_is_not_there_are_told_and_stop_nothing(serve: Serve) -> None:
    server = serve(DEFAULT_MODEL="nowhere", MODEL_ALIASES="gpt-4o=gone,gpt-5=scripted", FALLBACK_MODEL="away")
    assert content(ask(server, "<<script text=fine>>")) == "fine"
    assert "DEFAULT_MODEL is not loaded: model 'nowhere' not found" in server.log
    assert "MODEL_ALIASES: 'gpt-4o' answers nothing: model 'gone' not found" in server.log
    assert "FALLBACK_MODEL answers nothing: model 'away' not found" in server.log
    assert "gpt-5" not in server.log


def test_a_lock_file_that_can_not_be_made_is_named(serve: Serve) -> None:
    server = serve(NPU_LOCK="/proc/nowhere/lock")
    refused = ask(server, "<<script text=fine>>")
    assert refused.status_code == 500
    assert "/proc/nowhere/lock" in refused.json()["error"]["message"]
