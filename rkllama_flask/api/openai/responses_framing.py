"""A response on the wire: whole, and as server-sent events that are named and numbered."""

import json
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rkllama_flask.api.openai.errors import dialect
from rkllama_flask.api.openai.responses_output import Item, ItemEvent, OutputItems
from rkllama_flask.api.openai.usage import render_response_usage, render_timings
from rkllama_flask.errors import InvalidRequest, RkllamaError
from rkllama_flask.generation.events import Content, Finished
from rkllama_flask.generation.request import GenerationRequest


@dataclass(frozen=True)
class ResponseHead:
    """What belongs to one response from its start; `echo` are the request's fields that it repeats."""

    model: str
    echo: Mapping[str, Any]
    id: str = field(default_factory=lambda: f"resp_{uuid.uuid4().hex}")
    created_at: int = field(default_factory=lambda: int(time.time()))

    @classmethod
    def of(cls, request: GenerationRequest, body: Mapping[str, Any]) -> "ResponseHead":
        """A new one for the request that `body` made. What wasn't said about sampling is null: the model decides."""
        said = _said(body)
        echo = {
            "instructions": said.get("instructions"),
            "max_output_tokens": said.get("max_output_tokens"),
            "metadata": said.get("metadata", {}),
            "parallel_tool_calls": request.parallel_tool_calls,
            "reasoning": {"effort": None, "summary": None} | _said(said.get("reasoning", {})),
            "temperature": said.get("temperature"),
            "text": {"format": {"type": "text"}} | _said(said.get("text", {})),
            "tool_choice": said.get("tool_choice", "auto"),
            "tools": [
                {
                    "type": "function",
                    "name": tool.name,
                    "description": tool.description,
                    "parameters": tool.parameters,
                    "strict": tool.strict,
                }
                for tool in request.tools
            ],
            "top_p": said.get("top_p"),
        }
        return cls(request.model.name, echo)

    def begun(self) -> dict[str, Any]:
        """The response before it says anything."""
        return self._body("in_progress", [])

    def finished(self, output: Sequence[Item], finished: Finished) -> dict[str, Any]:
        """The response once it is complete, or cut by its token limit."""
        cut = finished.reason == "length"
        return self._body(
            "incomplete" if cut else "completed",
            output,
            completed_at=None if cut else int(time.time()),
            incomplete_details={"reason": "max_output_tokens"} if cut else None,
            usage=render_response_usage(finished.usage),
            timings=render_timings(finished),
        )

    def failed(self, output: Sequence[Item], error: RkllamaError) -> dict[str, Any]:
        """The response that broke off."""
        code = "invalid_prompt" if isinstance(error, InvalidRequest) else "server_error"
        return self._body("failed", output, error={"code": code, "message": error.message})

    def _body(self, status: str, output: Sequence[Item], **rest: Any) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": "response",
            "created_at": self.created_at,
            "completed_at": None,
            "status": status,
            "background": False,
            "error": None,
            "incomplete_details": None,
            "model": self.model,
            "output": output,
            "previous_response_id": None,
            "service_tier": "default",
            "store": False,
            "truncation": "disabled",
            **self.echo,
            **rest,
        }


class ResponseEvents:
    """The stream of `POST /v1/responses`.

    An answer that its token limit cuts also ends with `response.completed`, whose response says `incomplete`: the SDKs'
    helpers and Codex wait for that event and take another end for a broken stream.
    """

    content_type = "text/event-stream; charset=utf-8"
    heartbeat = b": keep-alive\n\n"

    def __init__(self, head: ResponseHead, items: OutputItems) -> None:
        self._head = head
        self._items = items
        self._number = 0

    def frame(self, event: Content, /) -> bytes:
        opening = self.begin()
        content = b"".join(self._event(one) for one in self._items.read(event))
        if not isinstance(event, Finished):
            return opening + content
        response = self._head.finished(self._items.items, event)
        return opening + content + self._event({"type": "response.completed", "response": response})

    def error(self, error: RkllamaError, request_id: str, /) -> bytes:
        """The failed response, and an event at which SDKs raise."""
        opening = self.begin()
        content = b"".join(self._event(one) for one in self._items.close("incomplete"))
        failed = {"type": "response.failed", "response": self._head.failed(self._items.items, error)}
        told = dialect.render_error(error, request_id)
        flat = {name: told["error"][name] for name in ("code", "message", "param")}
        return opening + content + self._event(failed) + self._event({"type": "error", **flat, **told})

    def begin(self) -> bytes:
        """The response before it says anything, once."""
        if self._number:
            return b""
        response = self._head.begun()
        kinds = ("response.created", "response.in_progress")
        return b"".join(self._event({"type": kind, "response": response}) for kind in kinds)

    def _event(self, event: ItemEvent) -> bytes:
        body = {"type": event["type"], "sequence_number": self._number, **event}
        self._number += 1
        return f"event: {event['type']}\ndata: {json.dumps(body, separators=(',', ':'))}\n\n".encode()


def _said(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}
