from collections.abc import Iterator
from pathlib import Path

import pytest

from rkllama_flask.catalog.catalog import Catalog


class Clock:
    """Time that passes when it is told to, in seconds."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def warnings() -> list[str]:
    return []


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Path]:
    """A tree beside the models folder that no test may change."""
    outside = tmp_path / "outside"
    (outside / "folder").mkdir(parents=True)
    (outside / "weights.rkllm").write_bytes(b"precious")
    (outside / "folder" / "inner.rkllm").write_bytes(b"precious too")
    (outside / "folder" / "Modelfile").write_text("FROM ./inner.rkllm\n")

    def state() -> dict[str, tuple[bytes | None, int]]:
        return {
            str(path.relative_to(tmp_path)): (path.read_bytes() if path.is_file() else None, path.lstat().st_mtime_ns)
            for path in [outside, *outside.rglob("*")]
        }

    before, siblings = state(), {path.name for path in tmp_path.iterdir()} | {"models"}
    yield outside
    assert state() == before
    assert {path.name for path in tmp_path.iterdir()} <= siblings


@pytest.fixture
def models(tmp_path: Path, canary: Path) -> Path:
    folder = tmp_path / "models"
    folder.mkdir()
    return folder


@pytest.fixture
def catalog(models: Path, warnings: list[str], clock: Clock) -> Catalog:
    return Catalog(models, on_warning=warnings.append, clock=clock)
