"""`scripts/benchmark cache` measures any server, and leaves nothing on it."""

import subprocess
import sys
from collections.abc import Callable

from tests.serving import ROOT, Server


def benchmark(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "scripts.benchmarks", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


def test_cold_automatic_and_named_are_printed_side_by_side(serve: Callable[..., Server]) -> None:
    server = serve(models={"tiny/tiny.rkllm": "prefill_us_per_token=1000"})
    done = benchmark("cache", "--url", server.url, "--model", "tiny", "--runs", "2", "--tokens", "400")
    assert done.returncode == 0, done.stderr
    rows = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines() if line[:1] in "can" and line}
    prompt, computed = (int(word) for word in rows["cold"][:2])
    assert prompt - computed < 20
    for name in ("automatic", "named"):
        assert int(rows[name][0]) == prompt
        assert int(rows[name][1]) < 30
        assert float(rows[name][4].removesuffix("x")) > 2
        assert rows[name][5:] == ["the", "same"]
    assert server.get("/v1/cache").json()["data"] == []


def test_without_a_server_it_says_so() -> None:
    done = benchmark("cache", "--url", "http://127.0.0.1:1", "--model", "tiny")
    assert done.returncode == 1
    assert "No answer from http://127.0.0.1:1" in done.stderr
