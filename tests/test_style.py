"""Lint, format, types and the walls between rooms hold (pyproject.toml says which room may know which)."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.serving import ROOT

PACKAGE = ROOT / "rkllama_flask"


@pytest.mark.parametrize("command", ["ruff check .", "ruff format --check .", "mypy", "lint-imports --no-cache"])
def test_the_checkers_have_nothing_to_say(command: str) -> None:
    program, *arguments = command.split()
    checker = [str(Path(sys.executable).with_name(program)), *arguments]
    done = subprocess.run(checker, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


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
        "generation/prompt/compiled.py",  # templates are told the day
        "generation/models.py",  # turns monotonic times into ones that can be shown
    }
    for path in (
        path for room in ("api", "generation", "engine", "runtime") for path in (PACKAGE / room).rglob("*.py")
    ):
        tree = ast.walk(ast.parse(path.read_text()))
        calls = [ast.unparse(node.func) for node in tree if isinstance(node, ast.Call)]
        if {"time.time", "time.time_ns", "datetime.now", "datetime.utcnow"} & set(calls):
            assert str(path.relative_to(PACKAGE)) in shown, path
