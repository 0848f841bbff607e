"""A runtime that hangs is found, told to whoever is concerned, and replaced; one that is only slow is left alone."""

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import requests

from tests.faults.crashing import answer_of_the_next_process, ask, processes, text
from tests.hosts.test_clients_that_leave import busy
from tests.hosts.test_hosts import chat
from tests.serving import Server, wait_for

Serve = Callable[..., Server]
LIMIT = "1"
WARM = "<<script text=warm>> " + "a b c d e f g h " * 4


def beside(server: Server, prompt: str) -> tuple[threading.Thread, list[requests.Response]]:
    """The same request from another client, while the caller goes on."""
    answers: list[requests.Response] = []
    thread = threading.Thread(target=lambda: answers.append(ask(server, prompt)))
    thread.start()
    return thread, answers


def test_hangs_are_told_replaced_and_counted_and_slowness_is_left_alone(family: str, serve: Serve) -> None:
    server = serve(family=family, HANG_TIMEOUT=LIMIT, models={"scripted.rkllm": "hang=destroy"})
    assert text(ask(server, WARM)) == "warm"
    # Slow: a prefill that is longer than the limit; and a process that nobody lets run for longer than that.
    thread, slow = beside(server, "<<script tokens=3 prefill_ms=1200 decode_ms=400>>")
    wait_for(lambda: busy(server), 10, server)
    (process,) = map(int, processes(server))
    os.kill(process, signal.SIGSTOP)
    time.sleep(2 * float(LIMIT))
    os.kill(process, signal.SIGCONT)
    thread.join(20)
    assert text(slow[0]) == "w0 w1 w2"
    assert processes(server) == {str(process)}

    # It hangs while one client reads, and one waits whose request may well be repeated.
    stream = server.post("/v1/chat/completions", chat("<<script tokens=9 hang=3>>", stream=True), stream=True)
    lines = stream.iter_lines()
    next(lines)
    thread, waiting = beside(server, "<<script text=never>>")
    assert b'"runtime_hung"' in [line for line in lines if line][-1]
    thread.join(20)
    assert (waiting[0].status_code, waiting[0].json()["error"]["code"]) == (503, "process_spent")
    assert int(waiting[0].headers["Retry-After"]) > 0
    # No name: the model has been restored, and not only loaded for this request.
    assert text(answer_of_the_next_process(server, "<<script text=next>>", model=None)) == "next"
    ((key, times),) = server.get("/health").json()["crashes"].items()
    assert (key[:4], times) == ("run:", 1)

    # The same request again, for a client that waits for the whole answer: 504 once, then it is refused.
    hung = ask(server, "<<script tokens=9 hang=3>>")
    assert (hung.status_code, hung.headers["x-should-retry"]) == (504, "false")
    assert "hangs" in hung.json()["error"]["message"]
    assert text(answer_of_the_next_process(server, "<<script text=next>>")) == "next"
    assert ask(server, "<<script tokens=9 hang=3>>").status_code == 422
    assert len(processes(server)) == 3

    begun = time.monotonic()
    server.stop()  # hangs in destroy
    assert time.monotonic() - begun < 15


def test_a_hang_in_prefill_or_in_a_load_is_told_in_each_dialect(family: str, serve: Serve, tmp_path: Path) -> None:
    stuck = f"hang=init\nonce={tmp_path / 'struck'}"
    server = serve(family=family, HANG_TIMEOUT=LIMIT, models={"scripted.rkllm": "", "stuck.rkllm": stuck})
    assert text(ask(server, WARM)) == "warm"
    messages = [{"role": "user", "content": "<<script hang=prefill>>"}]
    hung = server.post("/v1/messages", {"model": "scripted", "max_tokens": 9, "messages": messages})
    assert (hung.status_code, hung.headers["x-should-retry"]) == (504, "false")
    assert hung.json()["type"] == "error"
    assert text(answer_of_the_next_process(server, "<<script text=next>>")) == "next"

    hung = server.post("/api/generate", {"model": "stuck", "prompt": "hello"})
    assert hung.status_code == 504
    assert "hangs" in hung.json()["error"]
    after = answer_of_the_next_process(server, "<<script text=restored>>", model=None)
    assert (text(after), after.json()["model"]) == ("restored", "scripted")
    assert text(ask(server, "<<script text=well>>", model="stuck")) == "well"


def test_a_host_without_a_master_says_that_it_has_to_be_started_again_and_goes_on_if_need_be(serve: Serve) -> None:
    """flask's and waitress's servers have nobody who would replace them."""
    server = serve(host="waitress", HANG_TIMEOUT=LIMIT)
    assert text(ask(server, WARM)) == "warm"
    thread, _ = beside(server, "<<script tokens=2 finish_ms=5000>>")
    wait_for(lambda: busy(server), 10, server)
    wait_for(lambda: not server.get("/health").json()["ready"], 20, server)
    refused = ask(server, "<<script text=no>>")
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "process_spent")
    assert "start the server again unless it comes back" in server.log.lower()
    wait_for(lambda: bool(server.get("/health").json()["ready"]), 20, server)
    thread.join(20)
    assert text(ask(server, "<<script text=back>>")) == "back"
