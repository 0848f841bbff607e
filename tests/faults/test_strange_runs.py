"""Whatever a run brings, its client gets the text that was meant or one honest error, and the next run is right."""

import json

import pytest
import requests

from tests.faults.crashing import ask, text
from tests.hosts.test_hosts import chat, read_stream
from tests.serving import Server

MODELS = {
    "scripted.rkllm": "",
    "runson/runson.rkllm": "miss_eos=1",
    "runson/Modelfile": "FROM ./runson.rkllm\nPARAMETER eos 2\n",
}
SETTINGS: dict[str, str] = {}
WORDS = "Äpfel, Birnen und 🍐"
SAID = "text=%c3%84pfel,%20Birnen%20und%20%f0%9f%8d%90"


def streamed(server: Server, prompt: str, **fields: object) -> str:
    body = chat(prompt, stream=True) | fields
    return "".join(text for _, text in read_stream(server.post("/v1/chat/completions", body, stream=True)))


def alive(server: Server) -> None:
    assert text(ask(server, "<<script text=next>>")) == "next"


@pytest.mark.parametrize("fault", ["fail=prefill", "error=prefill", "fail=2", "error=2"])
def test_a_run_that_fails_is_one_error_to_its_client_and_nothing_else(server: Server, fault: str) -> None:
    """With and without a callback, in ERROR state, before and after tokens."""
    prompt = f"<<script tokens=5 {fault} reason=failed%20to%20submit!>>"
    failed = ask(server, prompt)
    assert (failed.status_code, failed.headers["x-should-retry"]) == (500, "false")
    assert failed.json()["error"]["code"] == "runtime_failed"
    alive(server)
    stream = server.post("/v1/chat/completions", chat(prompt, stream=True), stream=True)
    if fault.endswith("prefill"):  # nothing has been sent yet, so the status tells it
        assert stream.status_code == 500
    else:
        last = [line for line in stream.iter_lines() if line][-1]
        assert json.loads(last.removeprefix(b"data: "))["error"]["code"] == "runtime_failed"
    alive(server)


@pytest.mark.parametrize(
    "fault",
    [
        "finish=0",
        "null_at=2",
        "empty_at=1",
        "waiting_at=2",
        "split=bytes",
        "split=waiting",
        "split=partial",
        "after_finish=3",
        "wrong_perf=1",
        "return_ms=50",
    ],
)
def test_a_strange_run_brings_the_text_that_was_meant(server: Server, fault: str) -> None:
    """FINISH missing, empty or NULL text, WAITING, characters cut anywhere, tokens after the end, wrong figures."""
    prompt = f"<<script {SAID} {fault}>>"
    answer = ask(server, prompt)
    assert text(answer) == WORDS
    usage = answer.json()["usage"]
    assert 4 <= usage["completion_tokens"] <= 8
    assert 0 <= usage["prompt_tokens_details"]["cached_tokens"] <= usage["prompt_tokens"] < 100
    assert streamed(server, prompt) == WORDS
    alive(server)


def test_bytes_that_are_no_text_become_the_replacement_character(server: Server) -> None:
    assert streamed(server, "<<script tokens=2 invalid_at=2>>") == "w0\ufffd\ufffd w1"
    assert text(ask(server, "<<script tokens=2 invalid_at=2>>")) == "w0\ufffd\ufffd w1"


@pytest.mark.parametrize("fault", ["late_abort=5", "lose_aborts=4"])
@pytest.mark.parametrize("limit", [{"stop": ["w3"]}, {"max_tokens": 3}])
def test_what_comes_after_the_end_of_an_answer_reaches_nobody(
    server: Server, fault: str, limit: dict[str, object]
) -> None:
    prompt = f"<<script tokens=300 decode_ms=1 {fault}>>"
    assert streamed(server, prompt, **limit).split() == ["w0", "w1", "w2"]
    assert text(server.post("/v1/chat/completions", chat(prompt) | limit)).split() == ["w0", "w1", "w2"]
    alive(server)


def test_an_end_of_text_that_the_runtime_misses_ends_the_answer(server: Server) -> None:
    """As 1.3.0 does with models of older toolkits; the id stands in the Modelfile."""
    answer: requests.Response = ask(server, "<<script tokens=3>>", model="runson")
    assert text(answer) == "w0 w1 w2"
    assert answer.json()["choices"][0]["finish_reason"] == "stop"
    assert answer.json()["usage"]["completion_tokens"] <= 4  # the runtime counts the end itself
