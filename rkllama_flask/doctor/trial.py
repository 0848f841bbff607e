"""Five tokens from end to end: of the server if it runs, else in a process of our own."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from typing import Any

from rkllama_flask.catalog.catalog import Catalog
from rkllama_flask.catalog.reading import facts
from rkllama_flask.doctor.finding import Finding, Level
from rkllama_flask.settings import ROOT, Settings

_PATIENCE = 600.0
"""Seconds that loading and five tokens may take."""

_LOOK = "The server's log tells more; docs/troubleshooting.md goes by such sentences."


def ask_running(settings: Settings) -> dict[str, Any] | None:
    """What a server at the settings' address says of its health; None if there is none."""
    try:
        status, health = _ask(settings, "GET", "/health", timeout=5)
    except (OSError, http.client.HTTPException, ValueError):
        return None
    return health if status == 200 and isinstance(health, dict) and "queue" in health else None


def generate(settings: Settings, running: dict[str, Any] | None) -> Finding:
    """Five tokens from the loaded model, else from the default, else from the smallest; of those that chat."""
    model = _choose(settings, running)
    if model is None:
        why = "what is loaded makes embeddings" if running and running["models"] else "there is no model that chats"
        return Finding(Level.NOTE, "generation", f"not tried: {why}")
    where = "the running server" if running is not None else "a process of its own"
    begun = time.monotonic()
    try:
        if running is not None:
            status, answer = _ask(settings, "POST", "/v1/chat/completions", _body(model), timeout=_PATIENCE)
        else:
            status, answer = _ask_child(model)
    except (OSError, http.client.HTTPException, ValueError, _Died) as error:
        return Finding(Level.ERROR, "generation", f"{model} in {where}: {error}", _LOOK)
    if status != 200:
        message = str(answer["error"]["message"])
        return Finding(Level.ERROR, "generation", f"{model} in {where} answers {status}", message)
    tokens = answer["usage"]["completion_tokens"]
    taken = time.monotonic() - begun
    return Finding(Level.OK, "generation", f"{tokens} tokens from {model} by {where}, {taken:.1f} s with loading")


class _Died(Exception):
    pass


def _choose(settings: Settings, running: dict[str, Any] | None) -> str | None:
    models = Catalog(settings.models_dir).list()
    silent = {one.name for one in models if "completion" not in facts.capabilities(one)}
    loaded = [str(one["name"]) for one in running["models"]] if running is not None else []
    if loaded:  # another one would take its place
        return next((name for name in loaded if name not in silent), None)
    if settings.default_model and settings.default_model not in silent:
        return settings.default_model
    usable = {"rkllm": settings.rkllm_lib_path, "gguf": settings.cpu_runtime_path}
    models = [one for one in models if one.name not in silent and (running is not None or usable[one.format])]
    return min(models, key=lambda model: model.size).name if models else None


def _body(model: str) -> dict[str, Any]:
    return {"model": model, "max_tokens": 5, "messages": [{"role": "user", "content": "Say hello."}]}


def _ask(settings: Settings, method: str, path: str, body: Any = None, *, timeout: float) -> tuple[int, Any]:
    connection = _Connection(settings, timeout)
    headers = {"Authorization": f"Bearer {settings.api_keys[0]}"} if settings.api_keys else {}
    try:
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


class _Connection(http.client.HTTPConnection):
    """To where the settings say, which may be a unix socket."""

    def __init__(self, settings: Settings, timeout: float) -> None:
        self._socket_path = settings.host.partition("unix:")[2]
        everywhere = settings.host in ("0.0.0.0", "::")  # noqa: S104 - compared, not bound
        host = "localhost" if everywhere or self._socket_path else settings.host
        super().__init__(host, settings.port, timeout=timeout)

    def connect(self) -> None:
        if not self._socket_path:
            super().connect()
            return
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._socket_path)


def _ask_child(model: str) -> tuple[int, Any]:
    """The whole server in a child process, with no cache folder of the real one's: it may run as another user."""
    with tempfile.TemporaryDirectory() as cache:
        done = subprocess.run(
            [sys.executable, "-m", "rkllama_flask.doctor.trial", model],
            cwd=ROOT,
            env=os.environ | {"CACHE_DIR": cache},
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
            check=False,
        )
    if done.returncode < 0:
        raise _Died(f"the runtime ended its process with {signal.Signals(-done.returncode).name}")
    try:
        status, answer = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        last = done.stderr.strip().splitlines()[-1:] or ["no reason is known"]
        raise _Died(f"it ended without an answer: {last[0]}") from None
    return status, answer


def main(model: str) -> None:
    """In the child: print the status and the body of one answer."""
    from rkllama_flask.app import create_app

    os.umask(0)  # the lock file is for all users of the machine
    answer = create_app().test_client().post("/v1/chat/completions", json=_body(model), buffered=True)
    print(json.dumps([answer.status_code, answer.get_json()]), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
