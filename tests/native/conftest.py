"""The scripted runtime in this process, one handle per test, and children for what would kill it."""

import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import scripted_library
from tests.native import journal
from tests.native.driver import Runtime
from tests.serving import ROOT


@pytest.fixture(scope="session")
def library(family: str) -> Path:
    """The scripted runtime of this family, built."""
    subprocess.run(
        [sys.executable, str(ROOT / "native/build.py"), "scripted", "--family", family],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return scripted_library(family)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.rkllm"
    path.touch()
    return path


@pytest.fixture
def entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[journal.Entry]]:
    """What the runtime wrote down since: `entries()`, or of one kind: `entries("run")`."""
    path = tmp_path / "calls.log"
    monkeypatch.setenv("RKLLM_SCRIPT_LOG", str(path))

    def read(what: str | None = None) -> list[journal.Entry]:
        return [entry for entry in journal.read(path) if what in (None, entry.what)]

    return read


@pytest.fixture
def fresh(library: Path, family: str, tmp_path: Path) -> Iterator[Callable[[], Runtime]]:
    """Runtimes without a handle yet; those that got one are destroyed afterwards. What they print is kept apart."""
    made: list[Runtime] = []

    def make() -> Runtime:
        made.append(Runtime(library, family, tmp_path / "printed"))
        return made[-1]

    yield make
    for runtime in made:
        if runtime.handle:
            assert runtime.destroy() == 0


@pytest.fixture
def runtime(fresh: Callable[[], Runtime], model: Path, entries: object) -> Runtime:
    """A handle with the template switched off."""
    runtime = fresh()
    assert runtime.init(model) == 0
    return runtime.plain()


@pytest.fixture
def printed(tmp_path: Path) -> Callable[[], str]:
    """What the library has printed so far, both streams."""
    return (tmp_path / "printed").read_text


@pytest.fixture
def child(library: Path, family: str, model: Path) -> Callable[..., int]:
    """Run Python code with `runtime` (no handle yet) and `model` in a process of its own; its return code."""

    def run(code: str, **env: str) -> int:
        prelude = f"""
            import resource
            from pathlib import Path
            from tests.native.driver import Runtime
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            model = Path({str(model)!r})
            library, family = Path({str(library)!r}), {family!r}
            runtime = Runtime(library, family)
        """
        program = textwrap.dedent(prelude) + textwrap.dedent(code)
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=ROOT, env=env, capture_output=True, timeout=30, check=False
        )
        print(done.stderr.decode())
        return done.returncode

    return run
