"""Request, Modelfile, inference_config.json, runtime: who wins, as the runtime itself saw it; and live edits."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.hosts.test_hosts import chat
from tests.native import journal
from tests.serving import Server

Serve = Callable[..., Server]
MODELFILE = "FROM ./scripted.rkllm\nPARAMETER temperature 0.5\nPARAMETER top_k 11\n"


class Configured:
    """A server whose model has a Modelfile, and its live configuration."""

    def __init__(self, serve: Serve, family: str, path: Path) -> None:
        self._path = path
        self.edit({"temperature": 0.25, "top_k": 22, "top_p": 0.375, "max_new_tokens": 7}, enabled_cpus_mask=0x0F)
        models = {"scripted/scripted.rkllm": "", "scripted/Modelfile": MODELFILE}
        self.server = serve(family=family, models=models, INFERENCE_CONFIG=str(path))

    def edit(self, inference: dict[str, float], **hardware: int) -> None:
        self._path.write_text(json.dumps({"inference_params": inference, "hardware": hardware}) + " // edited")

    def spoil(self) -> None:
        self._path.write_text('{"inference_params": {"top_p": 5}}')

    def ask(self, **fields: Any) -> requests.Response:
        response = self.server.post("/v1/chat/completions", chat("<<script tokens=20>>", **fields))
        assert response.status_code == 200, response.text
        return response

    def last(self, what: str) -> journal.Entry:
        return [entry for entry in journal.parse(self.server.calls) if entry.what == what][-1]

    def seen(self, *names: str) -> list[float]:
        """What the last run really used."""
        return [self.last("run").number(name) for name in names]

    def until(self, condition: Callable[[], bool]) -> None:
        begun = time.monotonic()
        while not condition():
            assert time.monotonic() - begun < 10, self.server.log
            time.sleep(0.1)


@pytest.fixture
def configured(serve: Serve, family: str, tmp_path: Path) -> Configured:
    return Configured(serve, family, tmp_path / "inference_config.json")


def test_the_request_wins_over_the_modelfile_over_the_file_over_the_runtime(
    configured: Configured, family: str
) -> None:
    answer = configured.ask(temperature=0.75)
    temperature = 0.75 if family == "1.3" else 0.5
    knobs = ("temperature", "top_k", "top_p", "repeat_penalty")
    assert configured.seen(*knobs) == pytest.approx([temperature, 11, 0.375, 1.1])
    assert answer.headers.get("X-Unapplied-Parameters") == (None if family == "1.3" else "temperature")
    (choice,) = answer.json()["choices"]
    assert (len(choice["message"]["content"].split()), choice["finish_reason"]) == (7, "length")
    assert len(configured.ask(max_tokens=9).json()["choices"][0]["message"]["content"].split()) == 9


def test_where_sampling_is_fixed_at_load_a_request_that_agrees_is_applied(configured: Configured) -> None:
    answer = configured.ask(temperature=0.5, top_p=0.375)
    assert "X-Unapplied-Parameters" not in answer.headers
    assert configured.seen("temperature", "top_k", "top_p") == pytest.approx([0.5, 11, 0.375])


def test_an_edit_of_the_file_acts_without_a_restart(configured: Configured, family: str) -> None:
    configured.ask()
    assert configured.seen("top_p") == [0.375]
    configured.edit({"top_p": 0.625}, enabled_cpus_mask=0xF0)

    def acts() -> bool:
        if family == "1.2":  # where sampling is fixed at load, at the next load
            configured.server.post("/v1/models/unload")
        configured.ask()
        return configured.seen("top_p") == [0.625]

    configured.until(acts)
    configured.server.post("/v1/models/unload")
    configured.ask()
    assert int(configured.last("init")["cpus"] or "", 16) == 0xF0
    assert configured.seen("top_k", "top_p") == [11, 0.625]


def test_where_sampling_is_fixed_at_load_an_edit_leaves_the_loaded_model_as_it_is(
    configured: Configured, family: str
) -> None:
    configured.ask()
    configured.edit({"top_p": 0.625, "max_new_tokens": 3})
    configured.until(lambda: len(configured.ask().json()["choices"][0]["message"]["content"].split()) == 3)
    assert configured.seen("top_p") == [0.625 if family == "1.3" else 0.375]


def test_a_broken_file_keeps_the_last_good_values_and_is_told_once(configured: Configured) -> None:
    server = configured.server
    assert server.get("/health").json()["config"] == {"error": None}
    configured.spoil()
    configured.until(lambda: server.get("/health").json()["config"]["error"] is not None)
    complaint = server.get("/health").json()["config"]["error"]
    assert "top_p must be a number from 0 to 1, not 5" in complaint
    for _ in range(3):
        configured.ask()
    assert configured.seen("top_p") == [0.375]
    assert server.log.count(complaint) == 1
    configured.edit({"top_p": 0.5})
    configured.until(lambda: server.get("/health").json()["config"] == {"error": None})
