"""Read replies as Ollama's clients do, checked against Ollama's description and what clients rely on besides."""

import json
import re
from typing import Any

from tests.contract.ollama_spec import check

UTC = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z")
LOCAL = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+[+-]\d\d:\d\d")
DURATIONS = ("load_duration", "prompt_eval_duration", "eval_duration")


def read_lines(raw: bytes) -> list[dict[str, Any]]:
    """The objects of a stream: one on each line, no line empty, nothing but ASCII."""
    assert raw.endswith(b"\n")
    lines = raw.decode("ascii").removesuffix("\n").split("\n")
    assert "" not in lines
    return [json.loads(line) for line in lines]


def check_answer(body: dict[str, Any], kind: str) -> None:
    """Raise what is wrong with an answer, or with one line of it; `kind` is Chat or Generate."""
    check(body, f"{kind}Response")
    check(body, f"{kind}StreamEvent")
    assert UTC.fullmatch(body["created_at"])
    assert isinstance(body["done"], bool)
    assert isinstance(body["model"], str)
    if kind == "Chat":
        assert body["message"]["role"] == "assistant"
        assert isinstance(body["message"]["content"], str)
    else:
        assert isinstance(body["response"], str)
    if body["done"] and body["done_reason"] in ("stop", "length"):
        assert all(type(body[name]) is int and body[name] > 0 for name in DURATIONS)
        assert body["total_duration"] >= sum(body[name] for name in DURATIONS)
        assert type(body["eval_count"]) is type(body["prompt_eval_count"]) is int


def read_answer(raw: bytes, kind: str) -> list[dict[str, Any]]:
    """The lines of a whole answer; only the last is done."""
    lines = read_lines(raw)
    for line in lines:
        check_answer(line, kind)
    assert [line["done"] for line in lines] == [False] * (len(lines) - 1) + [True]
    return lines
