"""conf/systemd as systemd itself reads it, and the server under socket activation."""

import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from rkllama_flask.settings import Settings
from tests.conftest import scripted_library
from tests.serving import ROOT, start_server

UNITS = sorted((ROOT / "conf" / "systemd").iterdir())
SERVICE = (ROOT / "conf" / "systemd" / "rkllama.service").read_text()
INSTALLED = "/opt/rkllama-flask"


@pytest.fixture(scope="module")
def units(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The units, with this installation in the place of theirs."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    folder = tmp_path_factory.mktemp("units")
    for unit in UNITS:
        text = unit.read_text().replace(f"{INSTALLED}/.venv/bin/python", sys.executable)
        (folder / unit.name).write_text(text.replace(INSTALLED, str(ROOT)))
    return folder


def analyze(*arguments: str) -> str:
    done = subprocess.run(
        ["systemd-analyze", *arguments], capture_output=True, text=True, check=False, timeout=60, env=os.environ
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_systemd_understands_every_line(units: Path) -> None:
    said = analyze("verify", "--man=no", *(str(unit) for unit in sorted(units.iterdir())))
    assert "rkllama" not in said, said  # what it says of the machine's other units is not ours


@pytest.mark.parametrize(("unit", "exposure"), [("rkllama.service", 2.5), ("rkllama-clocks.service", 3.5)])
def test_services_expose_little(units: Path, unit: str, exposure: float) -> None:
    """systemd's own measure, from 0 to 10; an ordinary service has about 9. Versions differ by some tenths."""
    if int(analyze("--version").split()[1]) < 250:
        pytest.skip("this systemd measures only installed units")
    analyze("security", "--offline=yes", f"--threshold={exposure * 10:.0f}", str(units / unit))


def test_the_npu_stays_within_reach() -> None:
    """Hardening that closes /dev must leave the nodes through which the library reaches the NPU."""
    allowed = set(re.findall(r"^DeviceAllow=(\S+) rw$", SERVICE, re.MULTILINE))
    assert allowed == {"char-drm", "/dev/rknpu", "char-dma_heap"}
    assert not re.search(r"^(PrivateDevices|MemoryDenyWriteExecute|PrivateUsers)=", SERVICE, re.MULTILINE)


def test_stopping_leaves_the_server_the_time_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GRACEFUL_TIMEOUT", raising=False)
    stop = int(SERVICE.split("TimeoutStopSec=")[1].split()[0])
    assert stop >= Settings.from_environment().graceful_timeout + 15  # and the NPU's release


def test_the_first_request_starts_the_server_and_systemd_hears_that_it_is_ready(tmp_path: Path) -> None:
    activate = shutil.which("systemd-socket-activate")
    if activate is None:
        pytest.skip("systemd-socket-activate is not installed")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
        notified.bind(str(tmp_path / "notify"))
        notified.settimeout(20)
        # It passes on PATH and what is named with -E; the addresses are those of start_server.
        names = ["HOST", "PORT", "MODELS_DIR", "CACHE_DIR", "NPU_LOCK", "RKLLM_LIB_PATH", "ENV_FILE", "NOTIFY_SOCKET"]
        gunicorn = [sys.executable, "-m", "gunicorn", "-c", str(ROOT / "gunicorn.conf.py")]
        command = [activate, "-l", "127.0.0.1:{port}", *(f"-E{name}" for name in names), *gunicorn]
        env = {"NOTIFY_SOCKET": str(tmp_path / "notify")}
        server = start_server(tmp_path / "server", library=scripted_library("1.3"), command=command, env=env)
        try:
            assert server.get("/health").ok
            assert b"READY=1" in notified.recv(1000)
        finally:
            assert server.stop() == 0
