"""The scripted runtime through the binding, in this process; a process of its own for what kills or patches one."""

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rkllama_flask.runtime.context import Context, ContextParameters
from rkllama_flask.runtime.library import Library
from rkllama_flask.runtime.log import RuntimeLog
from tests.conftest import scripted_library
from tests.native import journal
from tests.serving import ROOT


@pytest.fixture(scope="session")
def library_path(family: str) -> Path:
    path = scripted_library(family)
    if not path.exists():
        subprocess.run([sys.executable, str(ROOT / "native/build.py"), "scripted", "--family", family], check=True)
    return path


@pytest.fixture
def library(library_path: Path) -> Library:
    return Library.open(library_path)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.rkllm"
    path.touch()
    return path


@pytest.fixture(autouse=True)
def nothing_captured() -> None:
    """Another folder's tests may have left their capture in force."""
    if (left := RuntimeLog.active()) is not None:
        left.release()


@pytest.fixture
def log(nothing_captured: None) -> Iterator[RuntimeLog]:
    """A capture in this process; what it passes on goes nowhere."""
    saved = {fd: os.dup(fd) for fd in (1, 2)}
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for fd in saved:
        os.dup2(nowhere, fd)
    captured = RuntimeLog.capture()
    yield captured
    captured.release()
    for fd, old in saved.items():
        os.dup2(old, fd)
    for fd in (nowhere, *saved.values()):
        os.close(fd)


@pytest.fixture
def entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[journal.Entry]]:
    """What the runtime was asked: `entries("run")`."""
    path = tmp_path / "calls.log"
    monkeypatch.setenv("RKLLM_SCRIPT_LOG", str(path))
    return lambda what: [entry for entry in journal.read(path) if entry.what == what]


@pytest.fixture
def open_context(library: Library, model: Path, log: RuntimeLog, entries: object) -> Iterator[Callable[..., Context]]:
    """Contexts of the scripted runtime: `open_context(context_length=…, **other parameters)`."""
    opened: list[Context] = []

    def make(*, context_length: int = 1024, **parameters: Any) -> Context:
        context = Context.open(library, ContextParameters(model, context_length, **parameters))
        opened.append(context)
        return context

    yield make
    for context in opened:
        context.close()


@pytest.fixture
def context(open_context: Callable[..., Context]) -> Context:
    return open_context()


class Collected:
    """What a run delivered."""

    def __init__(self) -> None:
        self.tokens: list[tuple[bytes, int]] = []

    def __call__(self, text: bytes, token_id: int) -> None:
        self.tokens.append((text, token_id))

    @property
    def text(self) -> bytes:
        return b"".join(text for text, _ in self.tokens)


@pytest.fixture
def answer() -> Collected:
    return Collected()


Child = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def child(tmp_path: Path) -> Child:
    """Run Python code in a process of its own, with `tmp` as a folder; gives what it printed and its return code."""

    def run(
        code: str, *, path: Path | None = None, timeout: float = 60, **env: str
    ) -> "subprocess.CompletedProcess[str]":
        prelude = f"""
            import ctypes, os, resource, sys
            from pathlib import Path
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            tmp, library_path = Path({str(tmp_path)!r}), Path({str(path)!r})
            model = tmp / "model.rkllm"
            model.touch()
        """
        return subprocess.run(
            [sys.executable, "-W", "error", "-c", textwrap.dedent(prelude) + textwrap.dedent(code)],
            cwd=ROOT,
            env=os.environ | env,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    return run
