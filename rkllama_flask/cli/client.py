"""The server as the commands see it: JSON in, JSON out, and sentences for what goes wrong."""

import json
from collections.abc import Iterator
from typing import Any

import requests

_CONNECT = 5.0
"""Seconds to wait for a connection; an answer may take as long as it does."""


class Failed(Exception):
    """What the user reads; the command ends with it."""


class NotThere(Failed):
    """The server doesn't have what was named."""


class Client:
    """One server at `url`, asked with a key if it wants one. Every method raises Failed."""

    def __init__(self, url: str, key: str | None = None) -> None:
        self.url = url.rstrip("/")
        self._session = requests.Session()
        self._session.trust_env = False  # a proxy for the internet doesn't know this server
        if key:
            self._session.headers["Authorization"] = f"Bearer {key}"

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """One answer as a whole; None for an empty one."""
        with self._send(method, path, body, stream=False) as response:
            try:
                return response.json() if response.content else None
            except ValueError as error:
                raise Failed(f"What answers at {self.url} is not this server: {response.text[:100]!r}") from error

    def stream(self, path: str, body: Any) -> Iterator[dict[str, Any]]:
        """An answer line by line. A line that tells of an error raises it."""
        with self._send("POST", path, body, stream=True) as response:
            try:
                for line in response.iter_lines():
                    value = json.loads(line)
                    if "error" in value:
                        raise Failed(_text(value["error"]))
                    yield value
            except requests.RequestException as error:
                raise Failed(f"The connection to {self.url} broke: {_reason(error)}.") from error

    def has(self, path: str) -> bool:
        """Whether there is something."""
        try:
            self._send("HEAD", path).close()
        except NotThere:
            return False
        return True

    def upload(self, path: str, body: Any) -> None:
        """Send bytes as they are; `body` has a length, and is iterated over."""
        self._send("POST", path, data=body).close()

    def _send(self, method: str, path: str, body: Any = None, **options: Any) -> requests.Response:
        try:
            response = self._session.request(method, self.url + path, json=body, timeout=(_CONNECT, None), **options)
        except requests.ConnectionError as error:
            if "data" in options:
                raise Failed(f"The connection to {self.url} broke: {_reason(error)}. Try again.") from error
            raise Failed(
                f"There is no server at {self.url}. Start it with scripts/serve, or say where it is with --server or "
                "RKLLAMA_URL."
            ) from error
        except (requests.RequestException, ValueError) as error:
            raise Failed(f"{self.url} can't be asked: {_reason(error)}.") from error
        if response.ok:
            return response
        with response:
            raise _failure(response)


def _failure(response: requests.Response) -> Failed:
    try:
        text = _text(response.json()["error"])
    except (ValueError, KeyError, TypeError):
        text = f"The server answered {response.status_code} {response.reason}."
    if response.status_code == 401:
        return Failed(f"{text} Set RKLLAMA_API_KEY to one of the server's API_KEYS.")
    return NotThere(text) if response.status_code == 404 else Failed(text)


def _text(error: Any) -> str:
    """The sentence of an error in either API's shape."""
    return str(error.get("message", error)) if isinstance(error, dict) else str(error)


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
