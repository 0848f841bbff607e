"""Every reply of every route that Ollama describes, whole and line by line, is what the description says."""

from typing import Any
from urllib.parse import quote

import pytest
import requests

from tests.api.ollama.reading import check_answer, read_lines
from tests.contract.conftest import MODEL, REPO
from tests.contract.ollama_spec import check, replies, routes
from tests.serving import Server


def script(text: str) -> str:
    return f"<<script text={quote(text)}>>"


ANSWERS = {"plain": "One two three.", "thoughtful": "<think>\nHm.\n</think>\n\nYes."}
CALL = '<tool_call>\n{"name": "add", "arguments": {"a": [1, {"b": null}]}}\n</tool_call>'
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}

Case = tuple[str, str, dict[str, Any] | None]
CASES: dict[str, Case] = {
    **{
        f"generate {kind}": ("POST", "/api/generate", {"model": MODEL, "prompt": script(text)})
        for kind, text in ANSWERS.items()
    },
    **{
        f"chat {kind}": ("POST", "/api/chat", {"model": MODEL, "messages": [{"role": "user", "content": script(text)}]})
        for kind, text in ANSWERS.items()
    },
    "chat with a call": (
        "POST",
        "/api/chat",
        {"model": MODEL, "messages": [{"role": "user", "content": script(CALL)}], "tools": [TOOL], "think": False},
    ),
    "generate JSON": (
        "POST",
        "/api/generate",
        {"model": MODEL, "prompt": script('{"a": 1}'), "format": "json", "options": {"num_predict": 50}},
    ),
    "generate raw": ("POST", "/api/generate", {"model": MODEL, "prompt": script("x"), "raw": True}),
    "load": ("POST", "/api/generate", {"model": MODEL}),
    "load by chat": ("POST", "/api/chat", {"model": MODEL, "messages": []}),
    "loaded": ("GET", "/api/ps", None),
    "unload": ("POST", "/api/generate", {"model": MODEL, "keep_alive": 0}),
    "embed": ("POST", "/api/embed", {"model": MODEL, "input": ["one", "two"]}),
    "embed nothing": ("POST", "/api/embed", {"model": MODEL}),
    "models": ("GET", "/api/tags", None),
    "show": ("POST", "/api/show", {"model": MODEL}),
    "show more": ("POST", "/api/show", {"name": MODEL, "verbose": True}),
    "version": ("GET", "/api/version", None),
    "pull": ("POST", "/api/pull", {"model": REPO}),
    "create": ("POST", "/api/create", {"model": "made", "from": MODEL, "system": "Be brief."}),
    "copy": ("POST", "/api/copy", {"source": MODEL, "destination": "copied"}),
    "delete": ("DELETE", "/api/delete", {"model": "copied"}),
}
SINGLE = {"load", "load by chat", "unload"}
"""What is one object also where a stream was asked for."""


@pytest.mark.parametrize("case", CASES)
def test_a_reply_is_what_the_description_says(hub_server: Server, case: str) -> None:
    method, path, body = CASES[case]
    described = replies(method, path)
    streams = "application/x-ndjson" in described
    for stream in (True, False) if streams else (None,):
        sent = body if stream is None else {**(body or {}), "stream": stream}
        response = requests.request(method, hub_server.url + path, json=sent, timeout=30)
        assert response.status_code == 200, response.text
        kind = response.headers["Content-Type"].partition(";")[0]
        if not described:
            assert response.content == b""
            continue
        assert kind == ("application/x-ndjson" if stream and case not in SINGLE else "application/json")
        objects = read_lines(response.content) if stream and case not in SINGLE else [response.json()]
        assert objects
        for one in objects:
            check(one, described[kind])
            if path in ("/api/chat", "/api/generate"):
                check_answer(one, path.rpartition("/")[2].capitalize())
        assert objects[-1].get("done", objects[-1].get("status", "success")) in (True, "success")


def test_every_route_is_tried() -> None:
    tried = {(method, path) for method, path, _ in CASES.values()}
    assert routes() - tried == {("POST", "/api/push")}  # which has no good reply here


@pytest.mark.parametrize("path", sorted(path for method, path in routes() if method == "POST"))
@pytest.mark.parametrize("body", [b"", b"{", b'{"model": 5, "source": 5, "input": 5}'])
def test_a_refusal_is_what_the_description_says(hub_server: Server, path: str, body: bytes) -> None:
    response = requests.post(hub_server.url + path, data=body, timeout=30)
    assert response.status_code == 400
    assert response.headers["Content-Type"] == "application/json"
    check(response.json(), "ErrorResponse")
    assert set(response.json()) == {"error"}


def test_an_error_in_a_stream_is_its_last_line(hub_server: Server) -> None:
    body = {"model": MODEL, "messages": [{"role": "user", "content": "<<script tokens=9 fail=5>>"}], "think": False}
    lines = read_lines(requests.post(f"{hub_server.url}/api/chat", json=body, timeout=30).content)
    for line in lines[:-1]:
        check_answer(line, "Chat")
        assert line["done"] is False
    check(lines[-1], "ErrorResponse")
    assert set(lines[-1]) == {"error"}
