import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.catalog.gguf_files import write_llama
from tests.conftest import scripted_library
from tests.serving import ROOT, Server, start_server

_CURL = 'curl() { command curl --fail-with-body --silent --show-error --max-time 60 "$@"; }\n'


@pytest.fixture(scope="session")
def documented(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that has the models of which the documentation speaks."""
    names = ("qwen3-0.6b", "smollm2-135m-instruct")
    folder = tmp_path_factory.mktemp("documented")
    models = {f"{name}.rkllm": "load_ms=0" for name in names}
    server = start_server(folder, library=scripted_library("1.3"), models=models)
    write_llama(folder / "model.gguf")
    yield server
    server.stop()


@pytest.fixture
def shell(documented: Server) -> Callable[[str], str]:
    """Run commands as a reader would, against that server instead of port 8080; gives what they print."""

    def run(text: str) -> str:
        text = text.replace("localhost:8080", f"127.0.0.1:{documented.port}")
        where: Path = ROOT if "scripts/" in text else documented.folder
        env = os.environ | {"RKLLAMA_URL": documented.url, "VIRTUAL_ENV": sys.prefix}
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", _CURL + text],
            cwd=where,
            env=env,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run
