"""Vectors on their way out."""

from array import array
from types import SimpleNamespace

import pytest

from rkllama_flask.api.web.vectors import numbers, reply_with


def test_others_are_served_between_two_vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("rkllama_flask.api.web.vectors.time", SimpleNamespace(sleep=pauses.append))
    assert [*numbers([array("f", [1, 0.5])] * 3)] == ["[1.0, 0.5]"] * 3
    assert pauses == [0, 0]


def test_what_is_written_already_stands_in_the_body_under_its_name() -> None:
    reply = reply_with({"model": "a", "count": 2}, "items", ['{"b": [1]}', '"c"'])
    assert reply.json == {"model": "a", "count": 2, "items": [{"b": [1]}, "c"]}
    assert reply.content_type == "application/json"
    assert reply_with({}, "items", []).json == {"items": []}
