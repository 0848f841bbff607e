"""`scripts/benchmark` measures a server and the bare library in turn, and leaves nothing on the server."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.serving import ROOT, Server


def benchmark(*arguments: object, **env: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "scripts.benchmarks", *map(str, arguments)]
    environment = os.environ | env
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)


def test_everything_is_measured_in_turn_and_nothing_stays_on_the_server(
    serve: Callable[..., Server], tmp_path: Path
) -> None:
    server = serve(models={"tiny/tiny.rkllm": "prefill_us_per_token=500\ndecode_ms=1"})
    library = str(ROOT / "build" / "librkllmrt-scripted.so")
    done = benchmark(
        *("--url", server.url, "--model", "tiny", "--quick", "--output", tmp_path / "out"),
        MODELS_DIR=str(server.folder / "models"),
        RKLLM_LIB_PATH=library,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "out" / "results.json").read_text())

    def series(what: str, source: str = "through HTTP", **setting: Any) -> dict[str, Any]:
        return next(
            one for one in found["series"] if (one["what"], one["source"], one["setting"]) == (what, source, setting)
        )

    prompt = series("prompt tokens", prompt=128)["median"]
    assert abs(prompt - 128) < 8
    assert series("computed tokens", prompt=128)["median"] > prompt - 20  # cold is cold
    assert series("prompt tokens", "bare library", prompt=128)["median"] == prompt
    assert series("time to first token", "bare library", prompt=128)["median"] >= 0.05
    assert series("tokens per second", "HTTP ÷ bare", prompt=128)["count"] == 2
    for name in ("automatic", "named"):
        setting = {"cache": f"the same after another prompt, {name} cache"}
        assert series("computed tokens", **setting)["median"] < 30
        assert series("times faster than cold", **setting)["median"] > 2
    assert series("time to first token", clients=4)["count"] == 4
    assert series("memory (PSS), model loaded")["median"] > 20
    assert not [note for note in found["notes"] if "differ" in note or "not the one" in note], found["notes"]
    assert "| tiny + cache | - |" in (tmp_path / "out" / "report.md").read_text()
    assert server.get("/v1/cache").json()["data"] == []


def test_the_servers_own_cost_is_told_by_the_runtimes_journal(tmp_path: Path) -> None:
    done = benchmark("own-cost", "--quick", "--only", "warm", "--json", tmp_path / "own.json")
    assert done.returncode == 0, done.stderr
    rows = {row["name"]: row["figure"] for row in json.loads((tmp_path / "own.json").read_text())}
    lag = rows["lag of a token, callback to client"]
    assert (lag["count"], 0 < lag["median"] < 50) == (30, True)
    assert "| lag of a token, callback to client, ms |" in done.stdout


def test_without_a_server_it_says_so() -> None:
    done = benchmark("--url", "http://127.0.0.1:1", "--model", "tiny")
    assert done.returncode == 1
    assert "No answer from http://127.0.0.1:1" in done.stderr
