"""Chunks as server-sent events.

Of a chunk only its text changes from token to token. Each kind of chunk is serialised once per response and cut where
the text stands; a token then costs one `json.dumps` of its text. All of it is ASCII, because some clients also split
lines at characters that JSON lets stand (U+2028, U+0085).
"""

import json
import time
import uuid
from collections.abc import Callable
from typing import Any, NamedTuple

from rkllama_flask.api.openai.choices import ChoiceEvent, total_usage
from rkllama_flask.api.openai.errors import dialect
from rkllama_flask.api.openai.usage import render_timings, render_usage
from rkllama_flask.catalog.model import Model
from rkllama_flask.errors import RkllamaError
from rkllama_flask.generation.events import (
    Content,
    Finished,
    Reasoning,
    Text,
    ToolArguments,
    ToolCallCut,
    ToolCallFinished,
    ToolCallStarted,
)

_HOLE = "\0text\0"


class Head(NamedTuple):
    """What every body and chunk of one response begins with."""

    id: str
    created: int
    model: str
    system_fingerprint: str

    @classmethod
    def of(cls, model: Model, prefix: str) -> "Head":
        """A new one: an id that begins with `prefix`, the time now, and a fingerprint that follows the weights."""
        return cls(f"{prefix}-{uuid.uuid4().hex}", int(time.time()), model.name, f"fp_{model.digest[:12]}")

    def body(self, kind: str, **rest: Any) -> dict[str, Any]:
        """A body or chunk of this `object` kind, with the rest of its keys."""
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.system_fingerprint,
            **rest,
        }


class _Chunks:
    """What both kinds of stream share: the frame of a chunk, and the end with usage and `[DONE]`.

    `count` choices are to come, `per_prompt` of them for each prompt.
    """

    content_type = "text/event-stream; charset=utf-8"
    heartbeat = b": keep-alive\n\n"
    kind: str
    null_usage: bool
    """Whether chunks before the one with usage say that they have none: OpenAI's chat does, its completions don't."""

    def __init__(self, head: Head, *, count: int, per_prompt: int, include_usage: bool) -> None:
        self._head = head
        self._count = count
        self._per_prompt = per_prompt
        self._include_usage = include_usage
        self._finished: list[Finished] = []
        self._cut: dict[tuple[int, str], tuple[bytes, bytes]] = {}

    def begin(self) -> bytes:
        return self.heartbeat

    def error(self, error: RkllamaError, request_id: str, /) -> bytes:
        """An error after the first chunk: SDKs raise on the key, and no `[DONE]` follows."""
        return _event(dialect.render_error(error, request_id))

    def _chunk(self, choice: dict[str, Any], **rest: Any) -> bytes:
        return _event(self._body([choice], **rest))

    def _fill(self, index: int, name: str, text: str, choice: Callable[[str], dict[str, Any]]) -> bytes:
        """The chunk that `choice` makes of a text; serialised once for each index and name."""
        if (index, name) not in self._cut:
            before, after = self._chunk(choice(_HOLE)).split(json.dumps(_HOLE).encode())
            self._cut[index, name] = before, after
        before, after = self._cut[index, name]
        return before + json.dumps(text).encode() + after

    def _end(self, finished: Finished) -> bytes:
        """What follows a choice's last chunk: nothing, until the last choice has ended."""
        self._finished.append(finished)
        if len(self._finished) < self._count:
            return b""
        end = b"data: [DONE]\n\n"
        if not self._include_usage:
            return end
        usage = render_usage(total_usage(self._finished, self._per_prompt))
        return _event(self._head.body(self.kind, choices=[], usage=usage)) + end

    def _timings(self, finished: Finished) -> dict[str, Any]:
        return {"timings": render_timings(finished)} if self._count == 1 else {}

    def _body(self, choices: list[dict[str, Any]], **rest: Any) -> dict[str, Any]:
        usage = {"usage": None} if self._include_usage and self.null_usage else {}
        return self._head.body(self.kind, choices=choices, **usage, **rest)


class ChatChunks(_Chunks):
    """The stream of `POST /v1/chat/completions`: a role first, then deltas, then the reason for the end alone.

    `by_functions` says that the request has `functions`: its one call is told in the older form.
    """

    kind = "chat.completion.chunk"
    null_usage = True

    def __init__(self, head: Head, *, count: int, include_usage: bool, by_functions: bool = False) -> None:
        super().__init__(head, count=count, per_prompt=count, include_usage=include_usage)
        self._by_functions = by_functions
        self._begun = -1
        # Made here, while the runtime reads the prompt, and not when the first token is there.
        self._first_opening = self._opening(0)
        self._frame(0, Text(""))

    def frame(self, item: ChoiceEvent, /) -> bytes:
        index, event = item
        opening = b""
        if index > self._begun:
            self._begun = index
            opening = self._opening(index) if index else self._first_opening
        return opening + self._frame(index, event)

    def _opening(self, index: int) -> bytes:
        return self._chunk(_delta(index, {"role": "assistant", "content": ""}))

    def _frame(self, index: int, event: Content) -> bytes:
        match event:
            case Text(text):
                return self._fill(index, "content", text, lambda hole: _delta(index, {"content": hole}))
            case Reasoning(text):
                return self._fill(index, "reasoning", text, lambda hole: _delta(index, {"reasoning_content": hole}))
            case ToolCallStarted(call, call_id, name):
                function = {"name": name, "arguments": ""}
                return self._chunk(self._call(index, call, function, id=call_id, type="function"))
            case ToolArguments(call, text):
                return self._fill(
                    index, f"call {call}", text, lambda hole: self._call(index, call, {"arguments": hole})
                )
            case ToolCallFinished() | ToolCallCut():  # what was sent of a cut one stays JSON that nobody can read
                return b""
            case Finished():
                reason = finish_reason(event, by_functions=self._by_functions)
                return self._chunk(_delta(index, {}, reason), **self._timings(event)) + self._end(event)

    def _call(self, index: int, call: int, function: dict[str, str], **fields: str) -> dict[str, Any]:
        if self._by_functions:
            return _delta(index, {"function_call": function})
        return _delta(index, {"tool_calls": [{"index": call, **fields, "function": function}]})


class TextChunks(_Chunks):
    """The stream of `POST /v1/completions`; `echoes` are the prompts that are sent back first, by index."""

    kind = "text_completion"
    null_usage = False

    def __init__(
        self, head: Head, *, count: int, per_prompt: int, include_usage: bool, echoes: tuple[str, ...] = ()
    ) -> None:
        super().__init__(head, count=count, per_prompt=per_prompt, include_usage=include_usage)
        self._echoes = dict(enumerate(echoes))

    def frame(self, item: ChoiceEvent, /) -> bytes:
        index, event = item
        echo = self._echoes.pop(index, "")
        opening = self._text(index, echo) if echo else b""
        match event:
            case Text(text):
                return opening + self._text(index, text)
            case Finished():
                last = _text_choice(index, "", "length" if event.reason == "length" else "stop")
                return opening + self._chunk(last, **self._timings(event)) + self._end(event)
            case _:
                return opening

    def _text(self, index: int, text: str) -> bytes:
        return self._fill(index, "text", text, lambda hole: _text_choice(index, hole))


def finish_reason(finished: Finished, *, by_functions: bool) -> str:
    """Why a choice of a chat ended."""
    return "function_call" if by_functions and finished.reason == "tool_calls" else finished.reason


def _delta(index: int, delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
    return {"index": index, "delta": delta, "logprobs": None, "finish_reason": reason}


def _text_choice(index: int, text: str, reason: str | None = None) -> dict[str, Any]:
    return {"index": index, "text": text, "logprobs": None, "finish_reason": reason}


def _event(body: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(body, separators=(',', ':'))}\n\n".encode()
