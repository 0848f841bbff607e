"""One request in each API: how to ask for a text, and how to read it out of a whole or a streamed reply."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

MAX_TOKENS = 400


class Unfinished(Exception):
    """The stream broke off, or ended with an error."""


@dataclass(frozen=True)
class Dialect:
    """`body` makes a request of model and prompt. `ended` says whether a streamed record is the last that belongs."""

    path: str
    body: Callable[[str, str], dict[str, Any]]
    whole: Callable[[Any], str]
    piece: Callable[[Any], str]
    ended: Callable[[Any], bool]

    def read(self, raw: bytes, *, streamed: bool) -> str:
        """The text in a complete reply; raises Unfinished."""
        if not streamed:
            return self.whole(json.loads(raw))
        records = list(_records(raw))
        if not records or any(isinstance(one, dict) and "error" in one and one["error"] for one in records):
            raise Unfinished(raw[-300:].decode(errors="replace"))
        if not any(self.ended(one) for one in records):
            raise Unfinished("no end")
        return "".join(self.piece(one) for one in records)


def _records(raw: bytes) -> Iterator[Any]:
    for line in raw.split(b"\n"):
        text = line.removeprefix(b"data: ").strip()
        if text[:1] == b"{":
            yield json.loads(text)


def _messages(model: str, prompt: str) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": prompt}], "max_tokens": MAX_TOKENS}


def _delta(record: Any) -> str:
    return "".join(choice["delta"].get("content") or "" for choice in record.get("choices", ()))


def _reason(record: Any) -> bool:
    return any(choice.get("finish_reason") for choice in record.get("choices", ()))


def _block(record: Any) -> str:
    return str(record["delta"].get("text", "")) if record.get("type") == "content_block_delta" else ""


CHAT = Dialect(
    "/v1/chat/completions", _messages, lambda reply: reply["choices"][0]["message"]["content"], _delta, _reason
)
DIALECTS = (
    CHAT,
    Dialect(
        "/v1/completions",
        lambda model, prompt: {"model": model, "prompt": prompt, "max_tokens": MAX_TOKENS},
        lambda reply: reply["choices"][0]["text"],
        lambda record: "".join(choice["text"] for choice in record.get("choices", ())),
        _reason,
    ),
    Dialect(
        "/v1/responses",
        lambda model, prompt: {"model": model, "input": prompt, "max_output_tokens": MAX_TOKENS},
        lambda reply: reply["output"][-1]["content"][0]["text"],
        lambda record: record["delta"] if record.get("type") == "response.output_text.delta" else "",
        lambda record: record.get("type") == "response.completed",
    ),
    Dialect(
        "/v1/messages",
        _messages,
        lambda reply: reply["content"][0]["text"],
        _block,
        lambda record: record.get("type") == "message_stop",
    ),
    Dialect(
        "/api/chat",
        lambda model, prompt: _messages(model, prompt) | {"stream": False},
        lambda reply: reply["message"]["content"],
        lambda record: record["message"]["content"],
        lambda record: record.get("done") is True,
    ),
    Dialect(
        "/api/generate",
        lambda model, prompt: {"model": model, "prompt": prompt, "stream": False},
        lambda reply: reply["response"],
        lambda record: record["response"],
        lambda record: record.get("done") is True,
    ),
)
