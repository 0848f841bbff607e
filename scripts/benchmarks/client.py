"""A client of any server that speaks OpenAI's API, with a stopwatch. Tokens are those the server reports as `usage`."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

from scripts.benchmarks.wire import Address, Connection, Reply, Unreachable, ask_all


class ServerError(Exception):
    """What the server answered instead, or that there is none."""


@dataclass(frozen=True)
class Answer:
    """A streamed answer. `begun` and `token_times` are `time.monotonic_ns()`: of sending, and of each piece of text."""

    text: str
    begun: int
    ended: int
    token_times: tuple[int, ...]
    usage: dict[str, Any]

    @property
    def ttft(self) -> float:
        """Time to the first token in seconds, by this client's clock."""
        return ((self.token_times[0] if self.token_times else self.ended) - self.begun) / 1e9

    @property
    def seconds(self) -> float:
        return (self.ended - self.begun) / 1e9

    @property
    def prompt_tokens(self) -> int:
        return int(self.usage["prompt_tokens"])

    @property
    def completion_tokens(self) -> int:
        return int(self.usage["completion_tokens"])

    @property
    def cached_tokens(self) -> int:
        return int((self.usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0)

    @property
    def computed(self) -> int:
        """Prompt tokens that were not reused."""
        return self.prompt_tokens - self.cached_tokens

    @property
    def tokens_per_second(self) -> float | None:
        """While it was generated: the first token ends the prefill, so it is not counted. None for a single token."""
        span = self.token_times[-1] - self.token_times[0] if self.token_times else 0
        return (self.completion_tokens - 1) * 1e9 / span if span and self.completion_tokens > 1 else None

    @cached_property
    def gaps(self) -> list[float]:
        """Seconds between two pieces of text."""
        return [(after - before) / 1e9 for before, after in pairwise(self.token_times)]

    @property
    def cache_hit(self) -> bool | None:
        return self.usage.get("cache_hit")


class Client:
    """Raises ServerError for every answer that is an error, and where there is no server."""

    def __init__(self, url: str, *, api_key: str = "") -> None:
        try:
            self.address = Address.of(url)
        except ValueError as error:
            raise ServerError(str(error)) from None
        self.url = url
        self._api_key = api_key
        self._connection = Connection(self.address)

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """One request and the JSON it answers with."""
        reply = self.ask(self.request(method, path, body))
        if reply.status >= 400:
            raise ServerError(f"{method} {path}: {_complaint(reply)}")
        return reply.json

    def usual_model(self) -> str:
        """The loaded model, else the first one the server names."""
        models = self.call("GET", "/v1/models")["data"]
        try:
            loaded = self.call("GET", "/v1/models/loaded")["model_name"]
        except (ServerError, KeyError, TypeError):
            loaded = None
        if not loaded and not models:
            raise ServerError("The server has no model: name one with --model.")
        return str(loaded or models[0]["id"])

    def request(self, method: str, path: str, body: Any = None) -> bytes:
        return self.address.request(method, path, body, api_key=self._api_key)

    def chat_request(self, body: dict[str, Any]) -> bytes:
        """A greedy answer, streamed."""
        asked = {"temperature": 0, "stream": True, "stream_options": {"include_usage": True}, **body}
        return self.request("POST", "/v1/chat/completions", asked)

    def ask(self, request: bytes) -> Reply:
        try:
            return self._connection.ask(request)
        except Unreachable as error:
            raise ServerError(str(error)) from error

    def chat(self, body: dict[str, Any]) -> Answer:
        """One greedy answer."""
        return read(self.ask(self.chat_request(body)))

    def chat_at_once(self, bodies: Sequence[dict[str, Any]]) -> list[Answer]:
        """An answer for each body, all asked at the same moment by clients of their own."""
        connections = [Connection(self.address) for _ in bodies]
        try:
            replies = ask_all(connections, [self.chat_request(body) for body in bodies])
        except Unreachable as error:
            raise ServerError(str(error)) from error
        finally:
            for connection in connections:
                connection.close()
        return [read(reply) for reply in replies]


def read(reply: Reply) -> Answer:
    """A reply of `/v1/chat/completions` as an answer. Raises ServerError for an error, and where `usage` is missing."""
    if reply.status >= 400:
        raise ServerError(_complaint(reply))
    texts, times = [], []
    usage: dict[str, Any] = {}
    for moment, chunk in _chunks(reply):
        if "error" in chunk:
            raise ServerError(str(chunk["error"].get("message", chunk["error"])))
        delta = chunk["choices"][0].get("delta") or {} if chunk.get("choices") else {}
        said = delta.get("content") or delta.get("reasoning_content") or delta.get("reasoning") or ""
        if said:
            texts.append(said)
            times.append(moment)
        usage = chunk.get("usage") or usage
    if "completion_tokens" not in usage:
        raise ServerError("The server tells no `usage` in its stream, so its tokens can't be counted.")
    return Answer("".join(texts), reply.sent_at, reply.ended_at, tuple(times), usage)


def _complaint(reply: Reply) -> str:
    """Status and as much of an error's body as a line holds."""
    text = " ".join(reply.body.decode(errors="replace").split())
    return f"{reply.status} {text if len(text) <= 200 else f'{text[:200]} …'}"


def _chunks(reply: Reply) -> Iterator[tuple[int, dict[str, Any]]]:
    for moment, data in reply.events:
        if data != b"[DONE]":
            yield moment, json.loads(data)
