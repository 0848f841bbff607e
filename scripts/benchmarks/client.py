"""A client with a stopwatch."""

import json
import time
from dataclasses import dataclass
from typing import Any

import requests

TIMEOUT = 1800
"""Seconds: a long prompt on a small board takes its time."""


class ServerError(Exception):
    """What the server answered instead, or that there is none."""


@dataclass(frozen=True)
class Answer:
    """A streamed answer. `ttft` is the time to the first token in seconds, by this client's clock."""

    text: str
    ttft: float
    prompt_tokens: int
    cached_tokens: int
    cache_hit: bool | None
    miss_reason: str | None

    @property
    def computed(self) -> int:
        """Prompt tokens that were not reused."""
        return self.prompt_tokens - self.cached_tokens


class Client:
    """Raises ServerError for every answer that is an error."""

    def __init__(self, url: str, *, api_key: str = "") -> None:
        self._url = url.rstrip("/")
        self._session = requests.Session()
        if api_key:
            self._session.headers["Authorization"] = f"Bearer {api_key}"

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """One request and the JSON it answers with."""
        return self._send(method, path, body).json()

    def chat(self, body: dict[str, Any]) -> Answer:
        """One greedy answer, streamed."""
        asked = {"temperature": 0, "stream": True, "stream_options": {"include_usage": True}, **body}
        begun = time.monotonic()
        ttft, text = 0.0, ""
        usage: dict[str, Any] = {}
        with self._send("POST", "/v1/chat/completions", asked, stream=True) as response:
            for line in response.iter_lines():
                if not line.startswith(b"data: {"):
                    continue
                chunk = json.loads(line[6:])
                if "error" in chunk:
                    raise ServerError(chunk["error"]["message"])
                delta = chunk["choices"][0]["delta"] if chunk["choices"] else {}
                said = delta.get("content") or delta.get("reasoning_content") or ""
                if said and not text:
                    ttft = time.monotonic() - begun
                text += said
                usage = chunk.get("usage") or usage
        return Answer(
            text=text,
            ttft=ttft or time.monotonic() - begun,
            prompt_tokens=usage["prompt_tokens"],
            cached_tokens=usage["prompt_tokens_details"]["cached_tokens"],
            cache_hit=usage.get("cache_hit"),
            miss_reason=usage.get("cache_miss_reason"),
        )

    def _send(self, method: str, path: str, body: Any, *, stream: bool = False) -> requests.Response:
        try:
            response = self._session.request(method, self._url + path, json=body, stream=stream, timeout=TIMEOUT)
        except requests.RequestException as error:
            raise ServerError(f"No answer from {self._url}: {error}") from error
        if response.status_code >= 400:
            raise ServerError(f"{method} {path}: {response.status_code} {response.text.strip()}")
        return response
