"""scripts/soak itself, for a few seconds: everything that goes wrong outside at once, and one crash."""

import subprocess
import sys

from tests.serving import ROOT


def test_a_short_soak_finds_nothing() -> None:
    command = [sys.executable, "scripts/soaking", "--minutes", "0.1", "--crashes", "1", "--rate", "20"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "\n0 breaches in 0.1 minutes of " in done.stdout
    assert "1 crashes" in done.stdout
