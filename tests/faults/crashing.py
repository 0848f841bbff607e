"""Ask servers whose runtime dies: what a client sees meanwhile, and how soon the next process answers."""

import time

import requests

from tests.hosts.test_hosts import chat
from tests.serving import Server


def ask(server: Server, prompt: str, *, model: str | None = "scripted") -> requests.Response:
    return server.post("/v1/chat/completions", chat(prompt) | {"model": model})


def text(response: requests.Response) -> str:
    assert response.status_code == 200, response.text
    return str(response.json()["choices"][0]["message"]["content"])


def dies(server: Server, prompt: str, *, model: str = "scripted") -> bool:
    """Whether the request takes its process with it."""
    try:
        ask(server, prompt, model=model)
    except requests.ConnectionError:
        return True
    return False


def whole(server: Server, prompt: str) -> bool:
    """Whether a stream comes to its end."""
    try:
        with server.post("/v1/chat/completions", chat(prompt, stream=True), stream=True) as response:
            return list(response.iter_lines())[-2:-1] == [b"data: [DONE]"]
    except requests.RequestException:
        return False


def answer_of_the_next_process(
    server: Server, prompt: str, *, model: str | None = "scripted", seconds: float = 20
) -> requests.Response:
    """The first answer that is no sign of the change: a connection refused or cut, or 503."""
    begun = time.monotonic()
    while True:
        try:
            response = ask(server, prompt, model=model)
            if response.status_code != 503:
                return response
            assert int(response.headers["Retry-After"]) > 0
        except requests.ConnectionError:
            pass
        assert time.monotonic() - begun < seconds, server.log
        time.sleep(0.05)


def processes(server: Server) -> set[str]:
    """Those that have called the runtime."""
    return {line.split()[1] for line in server.calls}
