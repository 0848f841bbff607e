"""A crash ends one process: the next one answers, counts what did it, and refuses that the third time."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest
import requests

from tests.faults.crashing import answer_of_the_next_process, ask, dies, processes, text, whole
from tests.serving import Server

Serve = Callable[..., Server]


def test_after_a_crash_anywhere_the_next_process_answers_with_the_same_model(family: str, serve: Serve) -> None:
    """Requests that come meanwhile wait. What a model does when it goes is no reason to load it again."""
    server = serve(family=family, models={"scripted.rkllm": "", "fragile.rkllm": "segv=destroy"})
    server.post("/v1/models/load", {"model": "scripted"})
    for fault in ("segv=5", "abrt=5", "segv=prefill"):
        assert not whole(server, f"<<script tokens=9 decode_ms=1 {fault}>>")
        begun = time.monotonic()
        # Once, without trying again, and no name: whatever is loaded answers.
        assert text(ask(server, "<<script text=alive>>", model=None)) == "alive"
        assert time.monotonic() - begun < 30  # ten times what is promised
    assert text(ask(server, "<<script text=there>>", model="fragile")) == "there"
    with pytest.raises(requests.ConnectionError):
        server.post("/v1/models/unload")
    assert server.get("/v1/models/loaded").json()["loaded"] is False
    assert text(ask(server, "<<script text=well>>")) == "well"
    assert len(processes(server)) == 5
    assert set(server.get("/health").json()["crashes"].values()) == {1}


def test_a_request_that_crashed_twice_is_refused_until_the_record_is_cleared(
    family: str, serve: Serve, tmp_path: Path
) -> None:
    server = serve(family=family)
    struck = tmp_path / "struck"
    prompt = f"a secret <<script tokens=3 segv=2 once={struck}>>"
    for _ in range(2):
        struck.unlink(missing_ok=True)
        assert dies(server, prompt)
        assert text(answer_of_the_next_process(server, "<<script text=other>>")) == "other"
    refused = ask(server, prompt)
    assert (refused.status_code, refused.headers["x-should-retry"]) == (422, "false")
    assert "DELETE /health/crashes" in refused.json()["error"]["message"]
    assert text(ask(server, "<<script text=other>>")) == "other"
    (crashed,) = server.get("/health").json()["crashes"].items()
    assert crashed[1] == 2
    assert "secret" not in crashed[0]
    assert server.delete("/health/crashes").json() == {"cleared": 1}
    assert server.get("/health").json()["crashes"] == {}
    assert text(ask(server, prompt)) == "w0 w1 w2"


def test_a_crash_that_does_not_come_again_is_forgotten(family: str, serve: Serve, tmp_path: Path) -> None:
    server = serve(family=family)
    prompt = f"<<script tokens=3 abrt=2 once={tmp_path / 'struck'}>>"
    assert dies(server, prompt)
    assert text(answer_of_the_next_process(server, prompt)) == "w0 w1 w2"
    assert server.get("/health").json()["crashes"] == {}


def test_a_model_whose_load_crashed_twice_is_refused_and_the_one_before_it_is_restored_each_time(
    family: str, serve: Serve, tmp_path: Path
) -> None:
    struck = tmp_path / "struck"
    server = serve(family=family, models={"good.rkllm": "", "bad.rkllm": f"segv=init\nonce={struck}"})
    assert text(ask(server, "<<script text=before>>", model="good")) == "before"
    for _ in range(2):
        struck.unlink(missing_ok=True)
        assert dies(server, "hello", model="bad")
        # No name: whatever is loaded answers, so the model has been restored and not only loaded for this request.
        after = answer_of_the_next_process(server, "<<script text=after>>", model=None)
        assert (text(after), after.json()["model"]) == ("after", "good")
    refused = ask(server, "hello", model="bad")
    assert (refused.status_code, refused.headers["x-should-retry"]) == (422, "false")
    assert "Loading 'bad' has crashed" in refused.json()["error"]["message"]
    assert text(ask(server, "<<script text=still>>", model=None)) == "still"
    server.delete("/health/crashes")
    assert text(ask(server, "<<script text=well>>", model="bad")) == "well"
