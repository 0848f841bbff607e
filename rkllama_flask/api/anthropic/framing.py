"""A message on the wire: whole, and as server-sent events that each have a name."""

import json
import uuid
from collections.abc import Sequence
from typing import Any, NamedTuple

from rkllama_flask.api.anthropic.content import ContentBlocks
from rkllama_flask.api.anthropic.errors import dialect
from rkllama_flask.errors import RkllamaError
from rkllama_flask.generation.events import Finished, Usage, WholeContent
from rkllama_flask.generation.request import GenerationRequest

_REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}


class Head(NamedTuple):
    """What belongs to one message from its start."""

    id: str
    model: str
    stop_sequences: tuple[str, ...]

    @classmethod
    def of(cls, request: GenerationRequest) -> "Head":
        """A new one, with an id of its own."""
        return cls(f"msg_{uuid.uuid4().hex}", request.model.name, request.stop)

    def begun(self, input_tokens: int) -> dict[str, Any]:
        """The message before it says anything."""
        usage = {
            "input_tokens": input_tokens,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": 0,
        }
        return self._body([], {"stop_reason": None, "stop_sequence": None}, usage)

    def whole(self, content: Sequence[dict[str, Any]], finished: Finished) -> dict[str, Any]:
        """The message once it is complete."""
        return self._body(content, self.ending(finished), render_usage(finished.usage))

    def ending(self, finished: Finished) -> dict[str, Any]:
        """Why the answer ended. A stop string that only the model's own files name is the end of a turn."""
        if finished.reason == "stop" and finished.stop_string in self.stop_sequences:
            return {"stop_reason": "stop_sequence", "stop_sequence": finished.stop_string}
        return {"stop_reason": _REASONS[finished.reason], "stop_sequence": None}

    def _body(self, content: Sequence[dict[str, Any]], ending: dict[str, Any], usage: dict[str, Any]) -> dict[str, Any]:
        return {
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "content": content,
            **ending,
            "usage": usage,
        }


class MessageEvents:
    """The stream of `POST /v1/messages`. A `ping` may come at any time, but nothing before `message_start`.

    A call comes whole: clients of this API complete by themselves the JSON of an input that breaks off.
    """

    content_type = "text/event-stream; charset=utf-8"

    def __init__(self, head: Head, blocks: ContentBlocks, *, input_tokens: int) -> None:
        self._head = head
        self._blocks = blocks
        self._input_tokens = input_tokens
        self._begun = False
        self.heartbeat = _event({"type": "ping"})

    def frame(self, event: WholeContent, /) -> bytes:
        opening = self.begin()
        content = b"".join(_event(one) for one in self._blocks.read(event))
        return opening + content + (self._end(event) if isinstance(event, Finished) else b"")

    def error(self, error: RkllamaError, request_id: str, /) -> bytes:
        """An error after the stream has begun: SDKs raise on the event's name, and nothing follows."""
        return _event(dialect.render_error(error, request_id))

    def begin(self) -> bytes:
        """The message before it says anything, once."""
        if self._begun:
            return b""
        self._begun = True
        start = {"type": "message_start", "message": self._head.begun(self._input_tokens)}
        return _event(start) + self.heartbeat

    def _end(self, finished: Finished) -> bytes:
        usage = render_usage(finished.usage)
        delta = {"type": "message_delta", "delta": self._head.ending(finished), "usage": usage}
        return _event(delta) + _event({"type": "message_stop"})


def render_usage(usage: Usage) -> dict[str, Any]:
    """The `usage` object: cached tokens are not among `input_tokens`. A count that is a guess says so."""
    body: dict[str, Any] = {
        "input_tokens": usage.prompt_tokens - usage.cached_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached_tokens,
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"thinking_tokens": usage.reasoning_tokens},
    }
    if usage.estimated:
        body["estimated"] = True
    if usage.cache_hit is not None:
        body |= {"cache_hit": usage.cache_hit, "cached_prompts": list(usage.cached_prompts)}
        if usage.cache_miss_reason:
            body["cache_miss_reason"] = usage.cache_miss_reason
    return body


def _event(body: dict[str, Any]) -> bytes:
    return f"event: {body['type']}\ndata: {json.dumps(body, separators=(',', ':'))}\n\n".encode()
