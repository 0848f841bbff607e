"""Lint, format and types hold, and the floors know only what lies below them."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serving import ROOT

PACKAGE = ROOT / "rkllama_flask"
BELOW = {"api": {"generation", "catalog"}, "generation": {"engine", "catalog"}, "engine": {"runtime"}, "runtime": set()}


@pytest.mark.parametrize("command", [["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy"]])
def test_the_checkers_have_nothing_to_say(command: list[str]) -> None:
    done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


@pytest.mark.parametrize("room", BELOW)
def test_a_floor_imports_nothing_from_above_it(room: str) -> None:
    forbidden = set(BELOW) - BELOW[room] - {room}
    # The neutral knobs are the one thing of runtime/ that every floor speaks of.
    allowed = {"rkllama_flask.runtime.sampling"}
    for path in (PACKAGE / room).rglob("*.py"):
        for module in set(imports(path)) - allowed:
            parts = module.split(".")
            assert not (parts[0] == "rkllama_flask" and len(parts) > 1 and parts[1] in forbidden), f"{path}: {module}"


@pytest.mark.parametrize(("library", "room"), [("flask", "api"), ("marshmallow", "api"), ("ctypes", "runtime")])
def test_a_library_stays_in_its_room(library: str, room: str) -> None:
    for path in PACKAGE.rglob("*.py"):
        if path.relative_to(PACKAGE).parts[0] != room and path.name != "app.py":
            assert library not in {module.split(".")[0] for module in imports(path)}, path


def test_the_engine_thread_uses_nothing_that_gevent_patches() -> None:
    """A greenlet lock, a logger or a queue of gevent's touched from the native thread can hang the server."""
    for room in ("engine", "runtime"):
        for path in (PACKAGE / room).rglob("*.py"):
            if path.name == "log.py":  # re-points logging's handlers, before the thread starts
                continue
            assert not {"logging", "threading", "queue"} & set(imports(path)), path
