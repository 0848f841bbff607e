"""Answers as lines of JSON. Each line but the last differs from the one before in its text and its time alone."""

import json
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

from rkllama_flask.api.ollama.errors import dialect
from rkllama_flask.errors import RkllamaError
from rkllama_flask.generation.events import Content, Finished, Reasoning, Text, ToolArguments, ToolCallStarted

Fields = dict[str, Any]


def now() -> str:
    """The time as RFC 3339, in UTC, with a fraction."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class Call:
    """A tool call while its arguments arrive."""

    def __init__(self, start: ToolCallStarted) -> None:
        self._start = start
        self.arguments = ""

    def render(self) -> Fields:
        index, call_id, name = self._start
        function = {"index": index, "name": name, "arguments": json.loads(self.arguments or "{}")}
        return {"id": call_id, "function": function}


class Answer:
    """What generate and chat answer, as lines or as one object.

    `shape(text, thinking, calls)` puts the three where the endpoint has them. `ending(whole text)` is what it adds to
    the last object.
    """

    content_type = "application/x-ndjson"

    def __init__(
        self,
        model: str,
        shape: Callable[[str, str, list[Fields]], Fields],
        *,
        ending: Callable[[str], Fields] = lambda _: {},
        heartbeat: bool = False,
    ) -> None:
        self._model = model
        self._shape = shape
        self._ending = ending
        self._call: Call | None = None
        self._text = ""
        self._head = f'{{"model":{json.dumps(model)},"created_at":"'
        self.heartbeat = self._line(shape("", "", []) | {"done": False}) if heartbeat else b""

    def frame(self, event: Content, /) -> bytes:
        match event:
            case Text(text):
                self._text += text
                return self._end_call() + self._piece(text, "", [])
            case Reasoning(text):
                return self._piece("", text, [])
            case ToolCallStarted():
                line = self._end_call()
                self._call = Call(event)
                return line
            case ToolArguments(_, text) if self._call is not None:
                self._call.arguments += text
                return b""
            case Finished():
                line = self._end_call()
                last = self._shape("", "", []) | {"done": True} | figures(event) | self._ending(self._text)
                return line + self._line(last)
            case _:
                return b""

    def whole(self, events: list[Content]) -> Fields:
        """The one object of an answer that isn't streamed."""
        text = "".join(event.text for event in events if isinstance(event, Text))
        thinking = "".join(event.text for event in events if isinstance(event, Reasoning))
        calls: list[Call] = []
        for event in events:
            if isinstance(event, ToolCallStarted):
                calls.append(Call(event))
            elif isinstance(event, ToolArguments):
                calls[-1].arguments += event.text
        finished = next(event for event in events if isinstance(event, Finished))
        body = {"model": self._model, "created_at": now()}
        body |= self._shape(text, thinking, [call.render() for call in calls])
        return body | {"done": True} | figures(finished) | self._ending(text)

    def error(self, error: RkllamaError, request_id: str, /) -> bytes:
        """The last line of a stream that broke."""
        return json.dumps(dialect.render_error(error, request_id)).encode() + b"\n"

    def _piece(self, text: str, thinking: str, calls: list[Fields]) -> bytes:
        return self._line(self._shape(text, thinking, calls) | {"done": False})

    def _end_call(self) -> bytes:
        if self._call is None:
            return b""
        call, self._call = self._call.render(), None
        return self._piece("", "", [call])

    def _line(self, fields: Fields) -> bytes:
        # ASCII throughout: some clients cut lines at every character that Unicode calls a line end.
        return f'{self._head}{now()}",{json.dumps(fields, separators=(",", ":"))[1:]}\n'.encode()


def generate_shape(text: str, thinking: str, calls: list[Fields]) -> Fields:
    """The fields of `/api/generate`."""
    return {"response": text} | ({"thinking": thinking} if thinking else {}) | ({"tool_calls": calls} if calls else {})


def chat_shape(text: str, thinking: str, calls: list[Fields]) -> Fields:
    """The fields of `/api/chat`."""
    message: Fields = {"role": "assistant", "content": text}
    message |= ({"thinking": thinking} if thinking else {}) | ({"tool_calls": calls} if calls else {})
    return {"message": message}


def figures(finished: Finished) -> Fields:
    """Why it ended, counts in tokens and durations in ns; loading includes the wait for a turn. None of a run is 0."""
    usage, timings = finished.usage, finished.timings
    body: Fields = {
        "done_reason": "length" if finished.reason == "length" else "stop",
        "total_duration": timings.total,
        "load_duration": max(1, timings.load + timings.queue),
        "prompt_eval_count": usage.prompt_tokens,
        "prompt_eval_duration": max(1, timings.prefill),
        "eval_count": usage.completion_tokens,
        "eval_duration": max(1, timings.decode),
    }
    if usage.cached_tokens:
        body["prompt_eval_cached_count"] = usage.cached_tokens
    if usage.cache_hit is not None:
        body |= {"cache_hit": usage.cache_hit, "cached_prompts": list(usage.cached_prompts)}
        if usage.cache_miss_reason:
            body["cache_miss_reason"] = usage.cache_miss_reason
    return body
