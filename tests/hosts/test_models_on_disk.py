"""Models that come, change their name, are replaced and go while the server answers."""

import threading
import time
from collections.abc import Callable

import pytest

from tests.hosts.test_hosts import chat
from tests.serving import Server

Serve = Callable[..., Server]


def names(server: Server) -> set[str]:
    return {model["id"] for model in server.get("/v1/models").json()["data"]}


def within_a_second(condition: Callable[[], bool]) -> None:
    """Ten times the promise is the test's limit."""
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() - begun < 10
        time.sleep(0.05)


def test_changes_on_disk_are_seen_and_never_disturb_an_answer(family: str, serve: Serve) -> None:
    server = serve(family=family)
    models = server.folder / "models"
    over = threading.Event()
    answers: list[str] = []

    def ask_all_the_time() -> None:
        while not over.is_set():
            reply = server.post("/v1/chat/completions", chat("<<script text=whole%20answer decode_ms=5>>"))
            answers.append(reply.json()["choices"][0]["message"]["content"])

    asker = threading.Thread(target=ask_all_the_time)
    asker.start()
    try:
        (models / "other.rkllm").write_text("load_ms=0")
        within_a_second(lambda: "other" in names(server))
        (models / "other.rkllm").rename(models / "renamed.rkllm")
        within_a_second(lambda: names(server) == {"scripted", "renamed"})
        (models / "new").write_text("load_ms=1 text=replaced")
        (models / "new").replace(models / "scripted.rkllm")
        (models / "renamed.rkllm").unlink()
        within_a_second(lambda: names(server) == {"scripted"})
    finally:
        over.set()
        asker.join(30)
    assert len(answers) > 5
    assert set(answers) == {"whole answer"}
    loads = [line for line in server.calls if line.split()[3] == "init"]
    server.post("/v1/chat/completions", chat("hello"))
    assert len(loads) >= 1
    assert sum(line.split()[3] == "init" for line in server.calls) == 2


def test_a_model_of_a_newer_toolkit_than_the_runtime_is_refused_before_it_is_tried(
    scripted: Server, family: str
) -> None:
    path = scripted.folder / "models" / "newer.rkllm"
    path.write_text("load_ms=0\n#rkllm-toolkit version: 1.3.0")
    try:
        within_a_second(lambda: "newer" in names(scripted))
        before = len(scripted.calls)
        reply = scripted.post("/v1/chat/completions", chat("hello") | {"model": "newer"})
        if family == "1.3":
            assert reply.status_code == 200
        else:
            assert reply.status_code == 422
            assert "needs one of 1.3.0 or higher" in reply.json()["error"]["message"]
            assert len(scripted.calls) == before
    finally:
        path.unlink()


def test_a_model_of_another_platform_is_told_in_the_log(serve: Serve) -> None:
    server = serve(models={"tiny-1b-rk3576-w4a16.rkllm": "load_ms=0"}, NPU_PLATFORM="rk3588")
    assert server.post("/v1/models/load", {"model": "tiny-1b"}).status_code == 200
    assert "seems to be made for RK3576, this is RK3588" in server.log
    assert "RK3588 runs W8A8 models; this one seems to be W4A16" in server.log


@pytest.mark.parametrize("stream", [False, True])
def test_an_over_long_prompt_for_a_model_without_tokenizer_is_refused_in_the_runtimes_own_figures(
    scripted: Server, stream: bool
) -> None:
    reply = scripted.post("/v1/chat/completions", chat("word " * 5000, stream=stream))
    assert reply.status_code == 400
    error = reply.json()["error"]
    assert error["code"] == "context_length_exceeded"
    assert error["n_prompt_tokens"] > 5000
    assert error["n_ctx"] == 4092
