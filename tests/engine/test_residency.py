from dataclasses import dataclass
from pathlib import Path

import pytest

from rkllama_flask.engine.jobs import ModelSpec
from rkllama_flask.engine.models.residency import Loaded, choose_evictions


@dataclass
class NoContext:
    """Stands where a runtime handle would; choosing never touches it."""


def loaded(name: str, *, size: int, last_used: float) -> Loaded:
    spec = ModelSpec(name, Path(name), "rkllm", name, 4096, size=size)
    return Loaded(spec, NoContext(), keep_alive=300, last_used=last_used)  # type: ignore[arg-type]


def test_nothing_goes_while_there_is_room_in_count_and_memory() -> None:
    models = [loaded("a", size=10, last_used=1)]
    assert choose_evictions(models, needed=5, available=6, limit=2) == []


def test_the_least_recently_used_model_makes_room_for_one_more() -> None:
    old, new = loaded("old", size=10, last_used=1), loaded("new", size=10, last_used=2)
    assert choose_evictions([new, old], needed=5, available=100, limit=2) == [old]


@pytest.mark.parametrize(("needed", "expected"), [(15, ["a"]), (30, ["a", "b"]), (1000, ["a", "b"])])
def test_as_many_go_as_the_memory_needs_but_never_more_than_there_are(needed: int, expected: list[str]) -> None:
    models = [loaded("a", size=10, last_used=1), loaded("b", size=20, last_used=2)]
    evicted = choose_evictions(models, needed=needed, available=5, limit=9)
    assert [model.spec.name for model in evicted] == expected
