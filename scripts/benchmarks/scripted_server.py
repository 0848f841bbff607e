"""Our own server on the scripted runtime, started for a measurement, and what that runtime wrote down meanwhile.

Its journal has the moment of every callback by the same clock as ours, so what lies between a callback and the client's
read is the server's doing, however long the machine slept in between.
"""

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from scripts.benchmarks.client import Client, ServerError
from scripts.benchmarks.processes import tree

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = ROOT / "build" / "librkllmrt-scripted.so"
MODEL = "scripted"
START_WITHIN = 60


@dataclass(frozen=True)
class Run:
    """One run in the runtime's own times, `time.monotonic_ns()`."""

    begun: int
    callbacks: tuple[int, ...]
    ended: int

    @property
    def seconds(self) -> float:
        return (self.ended - self.begun) / 1e9


class ScriptedServer(NamedTuple):
    """`spawned` is when its process was started, `time.monotonic_ns()`."""

    client: Client
    pid: int
    journal: Path
    spawned: int

    @property
    def processes(self) -> list[int]:
        return tree(self.pid)

    def runs(self) -> list[Run]:
        """Every run that is over, in order."""
        found: list[Run] = []
        begun = 0
        callbacks: list[int] = []
        for line in self.journal.read_text(errors="replace").splitlines() if self.journal.exists() else ():
            moment, _, _, what, *values = line.split(" ", 6)
            if what == "run":
                begun, callbacks = int(moment), []
            elif what == "callback" and values[1] == "state=NORMAL":
                callbacks.append(int(moment))
            elif what == "run_end":
                found.append(Run(begun, tuple(callbacks), int(moment)))
        return found

    def forget_runs(self) -> None:
        """Begin the journal anew."""
        if self.journal.exists():
            os.truncate(self.journal, 0)


@contextmanager
def floor_server() -> Iterator[Client]:
    """gunicorn with the same worker and an application of three lines: what no server in it can be faster than."""
    client = Client(f"http://127.0.0.1:{_free_port()}")
    bind = f"{client.address.host}:{client.address.port}"
    with tempfile.TemporaryDirectory() as name:
        log = Path(name) / "log"
        command = ["-m", "gunicorn", "-k", "gevent", "-b", bind, "scripts.benchmarks.floor_app:application"]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        with log.open("wb") as output:  # started elsewhere, or gunicorn would read our own gunicorn.conf.py
            process = subprocess.Popen(
                [sys.executable, *command], env=environment, stdout=output, stderr=output, cwd=name
            )
        try:
            _wait(client, process, log)
            yield client
        finally:
            process.terminate()
            process.wait()


@contextmanager
def scripted_server(script: str, *, journal: bool = True) -> Iterator[ScriptedServer]:
    """A server whose only model plays `script`, once it answers; it is stopped afterwards. Raises ServerError."""
    if not LIBRARY.exists():
        raise ServerError("The scripted runtime is not built: run native/build.py scripted.")
    port = _free_port()
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as name:
        folder = Path(name)
        (folder / "models").mkdir()
        (folder / "models" / f"{MODEL}.rkllm").write_text(script.replace(" ", "\n"))
        environment = os.environ | {
            "HOST": "127.0.0.1",
            "PORT": str(port),
            "MODELS_DIR": str(folder / "models"),
            "CACHE_DIR": str(folder / "cache"),
            "NPU_LOCK": str(folder / "npu.lock"),
            "RKLLM_LIB_PATH": str(LIBRARY),
            "RKLLM_SCRIPT_LOG": str(folder / "journal") if journal else "",
            "ENV_FILE": os.devnull,
        }
        command = [sys.executable, "-m", "gunicorn", "-c", str(ROOT / "gunicorn.conf.py")]
        with (folder / "log").open("wb") as log:
            spawned = time.monotonic_ns()
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=ROOT)
        client = Client(f"http://127.0.0.1:{port}")
        try:
            _wait(client, process, folder / "log")
            yield ScriptedServer(client, process.pid, folder / "journal", spawned)
        finally:
            process.terminate()
            process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(client: Client, process: "subprocess.Popen[bytes]", log: Path) -> None:
    """Until it listens: what is asked then is answered, if late. Raises ServerError with its log."""
    deadline = time.monotonic() + START_WITHIN
    while True:
        with socket.socket() as probe:
            if not probe.connect_ex((client.address.host, client.address.port)):
                return
        if process.poll() is not None or time.monotonic() > deadline:
            raise ServerError(f"The server did not start:\n{log.read_text(errors='replace')}")
        time.sleep(0.005)
