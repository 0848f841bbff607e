import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rkllama_flask.catalog.pull import __main__ as program
from rkllama_flask.catalog.pull.source import parse_source
from tests.hub import Hub, serve_hub
from tests.serving import ROOT

WEIGHTS = random.Random(1).randbytes(1_000_000)
REPO = "org/Qwen3-0.6B-rkllm"
FILE = "Qwen3-0.6B-rk3588-w8a8.rkllm"
FOLDER = "Qwen3-0.6B-rk3588-w8a8"


@pytest.fixture
def hub() -> Iterator[Hub]:
    """A hub with one model for two platforms, its side files partly in the repository it was converted from."""
    with serve_hub() as hub:
        hub.repos = {
            REPO: {
                FILE: WEIGHTS,
                "Qwen3-0.6B-rk3576-w4a16.rkllm": b"for another board" * 100,
                "README.md": b"# Qwen3",
                "config.json": b'{"model_type": "qwen3"}',
            },
            "Qwen/Qwen3-0.6B": {
                "tokenizer.json": json.dumps({"text": "x" * 2000}).encode(),
                "tokenizer_config.json": b'{"eos_token": "<|im_end|>"}',
                "generation_config.json": b'{"eos_token_id": 151645}',
                "chat_template.jinja": b"{{ messages }}",
                "config.json": b'{"model_type": "of the original"}',
            },
        }
        hub.cards = {REPO: {"base_model": "Qwen/Qwen3-0.6B"}}
        yield hub


def command(models: Path, name: str = REPO, *, platform: str = "rk3588") -> list[str]:
    module = [sys.executable, "-m", "rkllama_flask.catalog.pull"]
    return [*module, "--models-dir", str(models), "--platform", platform, "--", name]


def environment(hub: Hub, models: Path, **more: str) -> dict[str, str]:
    """Nothing of the user's own: no token, no cache, no proxy."""
    kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    return kept | {"HF_ENDPOINT": hub.url, "HF_HOME": str(models.parent / "hf"), "HF_TOKEN": ""} | more


@pytest.fixture
def pull(hub: Hub, models: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[dict[str, Any]]]:
    """Pull, and wait: what was told. In a process of its own if `limit` or something in the environment is set.

    Files may then have `limit` blocks of half a KiB, or of one. A process takes a second before it does anything.
    """

    def run_here(name: str, platform: str) -> list[dict[str, Any]]:
        told: list[dict[str, Any]] = []
        source = parse_source(name)
        assert source is not None
        with monkeypatch.context() as patched:
            patched.setattr(program, "tell", lambda **line: told.append(json.loads(json.dumps(line))))
            patched.setenv("HF_ENDPOINT", hub.url)
            patched.setenv("HF_TOKEN", hub.token + "-of-nobody")
            program.run(source, models, platform)
        return told

    def run(
        name: str = REPO, *, platform: str = "rk3588", limit: int | None = None, **env: str
    ) -> list[dict[str, Any]]:
        if not env and limit is None:
            return run_here(name, platform)
        limited = ["sh", "-c", f'ulimit -f {limit}; exec "$@"', "sh"] if limit else []
        with subprocess.Popen(
            [*limited, *command(models, name, platform=platform)],
            env=environment(hub, models, **env),
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            return [json.loads(line) for line in process.stdout]

    return run


def tree(folder: Path) -> set[str]:
    """Every file, but what is only remembered of files."""
    paths = (path.relative_to(folder) for path in folder.rglob("*") if not path.is_dir())
    return {str(path) for path in paths if path.parts[0] != ".rkllama"}
