"""What a token and a request cost, in counts that no busy machine can change: calls, wake-ups, system calls, looks."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from rkllama_flask.app import create_app
from rkllama_flask.engine.jobs import Generate, ModelSpec
from rkllama_flask.engine.mailbox import Empty, GreenletMailbox, ThreadMailbox
from rkllama_flask.engine.running.answer import Answer
from rkllama_flask.native_threads import start_native_thread
from rkllama_flask.settings import Settings
from scripts.benchmarks.processes import tree
from tests.conftest import scripted_library
from tests.serving import Server

READER_CALLS = 65
"""From the mailbox to the bytes of a chunk; 51 when this was written."""

CALLBACK_CALLS = 14
"""From the runtime's token to the mailbox; 9 when this was written."""

REQUEST_CALLS = 3500
"""Of a request with one token, Flask and the test's own client included; 2900 when this was written."""


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Flask]:
    """The whole application in this process, on the scripted runtime."""
    settings = replace(
        Settings.from_environment(tmp_path),
        models_dir=tmp_path / "models",
        cache_dir=tmp_path / "cache",
        npu_lock=tmp_path / "npu.lock",
        rkllm_lib_path=scripted_library("1.3"),
        log_level="error",
    )
    settings.models_dir.mkdir()
    (settings.models_dir / "tiny.rkllm").write_text("tokens=2000")
    app = create_app(settings)
    yield app
    assert app.extensions["rkllama"].inference.close()


def ask(app: Flask, tokens: int) -> bytes:
    body = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}], "stream": True, "max_tokens": tokens}
    response = app.test_client().post("/v1/chat/completions", json=body)
    assert response.status_code == 200, response.text
    return response.data


def calls_in(action: Callable[[], Any]) -> int:
    """How many functions this thread calls for it, Python's and C's."""
    count = 0

    def note(_frame: object, event: str, _arg: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(note)
    try:
        action()
    finally:
        sys.setprofile(None)
    return count


def test_a_token_costs_its_reader_few_calls(app: Flask) -> None:
    ask(app, 5)
    few, many = (calls_in(lambda n=n: ask(app, n)) for n in (100, 600))
    assert (many - few) / 500 < READER_CALLS


def test_a_token_costs_the_runtimes_callback_few_calls(tmp_path: Path) -> None:
    spec = ModelSpec("tiny", tmp_path / "tiny.rkllm", "rkllm", identity="1", context_length=4096)
    job = Generate(spec=spec, prompt="hi", mailbox=ThreadMailbox())
    answer = Answer(job, abort=lambda: None, limit_here=False)
    assert calls_in(lambda: [answer.on_token(b" word", 7) for _ in range(100)]) / 100 < CALLBACK_CALLS


def test_a_token_is_few_bytes_more_than_its_text(app: Flask) -> None:
    lines = [line for line in ask(app, 300).splitlines() if b'"content":" w1' in line]
    assert len(lines) > 100
    assert max(len(line) - len(json.loads(line[6:])["choices"][0]["delta"]["content"]) for line in lines) < 260


def test_a_request_costs_few_calls_before_its_run(app: Flask) -> None:
    ask(app, 1)
    assert calls_in(lambda: ask(app, 1)) < REQUEST_CALLS


def test_no_request_looks_at_the_folder_of_models_within_the_same_second(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = app.test_client()
    ask(app, 1)
    assert client.get("/v1/models").status_code == 200
    catalog = app.extensions["rkllama"].catalog
    monkeypatch.setattr(catalog, "_clock", lambda: 0.0)
    looks: list[Any] = []
    for name in ("scandir", "listdir"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda path=".", real=real: looks.append(path) or real(path))
    for _ in range(20):
        assert client.get("/v1/models").status_code == 200
        assert client.get("/api/tags").status_code == 200
        ask(app, 1)
    assert [path for path in looks if Path(path).is_relative_to(catalog.models_dir)] == []


def test_one_wake_up_serves_all_that_a_reader_has_not_seen() -> None:
    mailbox = GreenletMailbox()
    wake_ups: list[Any] = []
    call = mailbox._call
    mailbox._call = lambda wake: wake_ups.append(wake) or call(wake)
    done = ThreadMailbox()

    def write() -> None:
        for number in range(1000):
            mailbox.put(number)
        done.put(True)

    start_native_thread(write)
    done.get(10)
    assert [mailbox.get(10) for _ in range(1000)] == list(range(1000))
    with pytest.raises(Empty):
        mailbox.get(0.01)
    assert len(wake_ups) == 1


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_a_token_costs_few_system_calls(scripted: Server) -> None:
    tokens = 200
    asked = {"role": "user", "content": f"<<script tokens={tokens} decode_ms=1>>"}
    body = {"model": "scripted", "stream": True, "messages": [asked]}
    scripted.post("/v1/chat/completions", body)
    counted = count_system_calls(tree(scripted.process.pid)[1], lambda: scripted.post("/v1/chat/completions", body))
    assert counted["sendto"] <= tokens + 10  # each token leaves at once, in one piece
    assert counted["epoll_wait"] <= 1.5 * tokens  # each wakes the event loop once
    assert counted["read"] <= 1.5 * tokens
    assert counted["write"] <= 3 * tokens  # one wakes the loop, one is the scripted runtime's journal
    assert counted["openat"] + counted.get("getdents64", 0) < 10


def count_system_calls(pid: int, action: Callable[[], object]) -> dict[str, int]:
    """Of one process, by name, while `action` is done."""
    strace = subprocess.Popen(["strace", "-f", "-c", "-U", "name,calls", "-p", str(pid)], stderr=subprocess.PIPE)
    assert strace.stderr is not None
    first = strace.stderr.readline()
    if b"attached" not in first:
        strace.wait()
        pytest.skip(f"strace may not look: {first.decode().strip()}")
    action()
    strace.send_signal(signal.SIGINT)
    rows = [line.split() for line in strace.communicate()[1].decode().splitlines()]
    return {row[0]: int(row[1]) for row in rows if len(row) == 2 and row[1].isdecimal()}
