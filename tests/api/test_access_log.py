"""The access log: a line for each request, with all that happened and nothing that was said."""

import json
import logging
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from rkllama_flask.api.observability import access_log
from tests.api.conftest import Api
from tests.serving import ROOT, Server

SECRET_WORDS = "a-sentence-that-nobody-may-find"


class _Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@pytest.fixture
def log(api: Api) -> Iterator[list[str]]:
    handler = _Lines()
    before, access_log.logger.handlers = access_log.logger.handlers, [handler]
    yield handler.lines
    access_log.logger.handlers = before


def ask(api: Api, path: str, **options: Any) -> None:
    api.client.open(path, buffered=True, **options).close()


def line_of(server: Server, request_id: str) -> dict[str, Any]:
    """The line of a request, which is written after its client has the last byte."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for line in server.log.splitlines():
            if line.startswith("{") and f'"id":"{request_id}"' in line:
                found: dict[str, Any] = json.loads(line)
                return found
        time.sleep(0.02)
    raise AssertionError(server.log)


def chat(prompt: str, **fields: Any) -> dict[str, Any]:
    return {"model": "scripted", "messages": [{"role": "user", "content": prompt}], **fields}


@pytest.mark.parametrize("streamed", [True, False])
def test_an_answer_has_a_line_with_all_that_happened(scripted: Server, streamed: bool) -> None:
    name = f"all-{streamed}-{scripted.port}"
    prompt = f"{SECRET_WORDS} <<script tokens=4 prefill_ms=20 decode_ms=10>>"
    body = chat(prompt, stream=streamed)
    assert scripted.post("/v1/chat/completions?secret=in-the-query", body, headers={"X-Request-Id": name}).ok
    line = line_of(scripted, name)
    assert (line["method"], line["path"], line["status"]) == ("POST", "/v1/chat/completions", 200)
    assert (line["who"], line["outcome"], line["model"]) == ("127.0.0.1", "ok", "scripted")
    assert line["completion_tokens"] == 4
    assert line["prompt_tokens"] >= line["cached_tokens"] >= 0
    assert line["prompt_tokens"] > 5
    assert line["prefill_ms"] >= 20
    assert line["decode_ms"] >= 20
    assert line["total_ms"] >= line["first_token_ms"] >= 20
    assert SECRET_WORDS not in scripted.log
    assert "in-the-query" not in scripted.log


def test_the_fields_are_those_that_are_documented(scripted: Server) -> None:
    name = f"fields-{scripted.port}"
    scripted.post("/v1/chat/completions", chat("<<script tokens=2>>"), headers={"X-Request-Id": name})
    section = (ROOT / "docs" / "monitoring.md").read_text().partition("## Access log")[2]
    rows = re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)
    documented = [field for row in rows for field in re.findall(r"`(\w+)`", row)]
    assert [*line_of(scripted, name)] == documented
    assert [*json.loads(re.findall(r"```json\n(.*?)```", section, re.DOTALL)[0])] == documented


def test_all_answers_of_a_stream_are_in_its_line(scripted: Server) -> None:
    name = f"several-{scripted.port}"
    body = chat("<<script tokens=4>>", stream=True, n=3)
    assert scripted.post("/v1/chat/completions", body, headers={"X-Request-Id": name}).ok
    assert line_of(scripted, name)["completion_tokens"] == 12


def test_a_client_that_leaves_is_seen(scripted: Server) -> None:
    name = f"gone-{scripted.port}"
    body = chat("<<script tokens=3000 decode_ms=5>>", stream=True)
    url, headers = f"{scripted.url}/v1/chat/completions", {"X-Request-Id": name}
    with requests.post(url, json=body, headers=headers, stream=True) as response:
        next(response.iter_lines())
    line = line_of(scripted, name)
    assert (line["status"], line["outcome"]) == (200, "cancelled")
    assert 0 < line["completion_tokens"] < 3000
    assert line["decode_ms"] > 0


def test_an_error_amid_a_stream_is_seen(scripted: Server) -> None:
    name = f"broke-{scripted.port}"
    body = chat("<<script tokens=9 fail=3>>", stream=True)
    assert "error" in scripted.post("/v1/chat/completions", body, headers={"X-Request-Id": name}).text
    line = line_of(scripted, name)
    assert (line["status"], line["outcome"]) == (200, "runtime_failed")


def test_a_refusal_has_a_line_too(api: Api, log: list[str]) -> None:
    ask(api, "/v1/chat/completions", method="POST", json={})
    ask(api, "/nowhere")
    ask(api, "/v1/chat/completions", method="POST", json={}, headers={"Origin": "http://evil.example"})
    lines = [json.loads(line) for line in log]
    assert [(line["status"], line["outcome"]) for line in lines] == [
        (400, "invalid_request"),
        (404, "not_found"),
        (403, "forbidden"),
    ]
    assert all("model" not in line for line in lines)


def test_keys_are_told_by_their_number(api: Api, log: list[str]) -> None:
    api.configure(api_keys=("first-key", "second-key"))
    ask(api, "/v1/models", headers={"Authorization": "Bearer second-key"})
    ask(api, "/v1/models", headers={"X-Api-Key": "wrong-key"})
    assert [json.loads(line)["who"] for line in log] == ["key 2", "127.0.0.1"]
    assert "-key" not in "".join(log)


def test_no_path_can_forge_a_line(api: Api, log: list[str]) -> None:
    ask(api, '/a%0a{"status":200}%e2%80%a8%1b[31m' + "b" * 1000)
    assert len(log) == 1
    assert log[0].isascii()
    assert log[0].isprintable()
    path = json.loads(log[0])["path"]
    assert path.startswith('/a\n{"status":200}')
    assert len(path) == access_log.MAX_PATH


def test_it_can_be_switched_off(api: Api, log: list[str]) -> None:
    api.configure(access_log=False)
    ask(api, "/health")
    assert log == []


def test_a_client_that_never_saw_an_answer_has_499(api: Api, log: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rkllama_flask.api.web.streaming.client_gone", lambda _: True)
    monkeypatch.setattr("rkllama_flask.api.web.streaming.LOOK_EVERY", 0)
    ask(api, "/v1/completions", method="POST", json={"model": "tiny", "prompt": "x"})
    line = json.loads(log[0])
    assert (line["status"], line["outcome"]) == (499, "cancelled")
