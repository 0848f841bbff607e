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
    for path in (PACKAGE / room).rglob("*.py"):
        for module in imports(path):
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


def test_only_the_command_line_and_the_pull_speak_to_other_machines() -> None:
    """An address that a client sends, of an image or of anything, is never followed: nothing here could."""
    speaking = {"requests", "urllib", "urllib3", "http", "httpx", "httpx2", "huggingface_hub", "ftplib", "smtplib"}
    for path in PACKAGE.rglob("*.py"):
        place = path.relative_to(PACKAGE).parts
        if place[0] in ("cli", "doctor") or place[:2] == ("catalog", "pull") or path.name == "provision.py":
            continue
        found = {module for module in imports(path) if module.split(".")[0] in speaking} - {"urllib.parse"}
        assert not found, f"{path}: {found}"


def test_no_wait_depends_on_what_time_it_is() -> None:
    """Clocks are set, and boards without a battery begin in 1970: the time of day is only shown, or told to files."""
    shown = {
        "api/observability/access_log.py",
        "api/cache.py",
        "api/ollama/durations.py",
        "api/ollama/models.py",
        "api/openai/framing.py",
        "api/openai/responses_framing.py",
        "engine/running/cache_writer.py",  # when a cache was made
        "generation/models.py",  # turns monotonic times into ones that can be shown
    }
    for path in (
        path for room in ("api", "generation", "engine", "runtime") for path in (PACKAGE / room).rglob("*.py")
    ):
        tree = ast.walk(ast.parse(path.read_text()))
        calls = [ast.unparse(node.func) for node in tree if isinstance(node, ast.Call)]
        if {"time.time", "time.time_ns", "datetime.now", "datetime.utcnow"} & set(calls):
            assert str(path.relative_to(PACKAGE)) in shown, path
