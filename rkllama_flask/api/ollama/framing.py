"""Answers as lines of JSON, or as one object: pieces of text, whole tool calls, and the figures at the end."""

import json
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from rkllama_flask.api.ollama.durations import utc_now
from rkllama_flask.api.ollama.errors import dialect
from rkllama_flask.errors import RkllamaError
from rkllama_flask.generation.events import Finished, Reasoning, Text, ToolArguments, ToolCallStarted, WholeContent

Fields = dict[str, Any]
Shape = Callable[[str, str, Sequence[Fields]], Fields]
"""Puts text, thoughts and tool calls where an endpoint has them."""

CONTENT_TYPE = "application/x-ndjson"


def generate_shape(text: str, thinking: str, calls: Sequence[Fields]) -> Fields:
    """The fields of `/api/generate`."""
    return {"response": text} | _unless_empty(thinking=thinking, tool_calls=calls)


def chat_shape(text: str, thinking: str, calls: Sequence[Fields]) -> Fields:
    """The fields of `/api/chat`."""
    return {"message": {"role": "assistant", "content": text} | _unless_empty(thinking=thinking, tool_calls=calls)}


def line(fields: Fields) -> bytes:
    """One line of a stream. ASCII throughout: some clients cut lines at all that Unicode calls a line end."""
    return json.dumps(fields, separators=(",", ":")).encode() + b"\n"


class AnswerLines:
    """The framing of one answer. `model` is what the client called it, `begun` when it asked (`time.monotonic_ns()`).

    `ending` is given the whole text, and returns what the endpoint adds to its last object. With `heartbeat` a line
    without text may stand in for silence.
    """

    content_type = CONTENT_TYPE

    def __init__(
        self, model: str, shape: Shape, *, begun: int, ending: Callable[[str], Fields] | None, heartbeat: bool
    ) -> None:
        self._model = model
        self._shape = shape
        self._begun = begun
        self._ending = ending
        self._text: list[str] = []
        self._calls = _Calls()
        self.heartbeat = self._piece() if heartbeat else b""

    def begin(self) -> bytes:
        return self.heartbeat

    def frame(self, event: WholeContent, /) -> bytes:
        match event:
            case Text(text):
                self._text.append(text)
                return self._piece(text)
            case Reasoning(text):
                return self._piece(thinking=text)
            case ToolCallStarted():
                self._calls.begin(event)
                return b""
            case ToolArguments(_, text):
                return self._piece(calls=[self._calls.whole(text)])
            case Finished():
                return line(self._head(self._shape("", "", ())) | self._end(event))
            case _:
                return b""

    def whole(self, events: Iterable[WholeContent]) -> Fields:
        """The one object of an answer that isn't streamed."""
        thoughts: list[str] = []
        calls: list[Fields] = []
        body: Fields = {}
        for event in events:
            match event:
                case Text(text):
                    self._text.append(text)
                case Reasoning(text):
                    thoughts.append(text)
                case ToolCallStarted():
                    self._calls.begin(event)
                case ToolArguments(_, text):
                    calls.append(self._calls.whole(text))
                case Finished():
                    said = self._shape("".join(self._text), "".join(thoughts), calls)
                    body = self._head(said) | self._end(event)
        return body

    def error(self, error: RkllamaError, request_id: str, /) -> bytes:
        """The last line of a stream that broke."""
        return line(dialect.render_error(error, request_id))

    def _piece(self, text: str = "", thinking: str = "", calls: Sequence[Fields] = ()) -> bytes:
        return line(self._head(self._shape(text, thinking, calls)) | {"done": False})

    def _head(self, said: Fields) -> Fields:
        return {"model": self._model, "created_at": utc_now()} | said

    def _end(self, finished: Finished) -> Fields:
        more = self._ending("".join(self._text)) if self._ending else {}
        return {"done": True} | figures(finished, begun=self._begun) | more


class _Calls:
    """Tool calls, arguments as an object, numbered from 0."""

    def __init__(self) -> None:
        self._open: ToolCallStarted | None = None

    def begin(self, call: ToolCallStarted) -> None:
        self._open = call

    def whole(self, arguments: str) -> Fields:
        """The call that has begun, with its arguments."""
        assert self._open is not None
        function = {"index": self._open.index, "name": self._open.name, "arguments": json.loads(arguments)}
        return {"id": self._open.id, "function": function}


def figures(finished: Finished, *, begun: int) -> Fields:
    """Why it ended, counts in tokens, durations in ns. No duration of a run is 0, and the parts fit into the whole.

    Loading includes the wait for a turn. What reached the prompt from a cache is counted twice: it is part of the
    prompt, and told apart.
    """
    usage, timings = finished.usage, finished.timings
    load, prefill, decode = (max(1, one) for one in (timings.queue + timings.load, timings.prefill, timings.decode))
    body: Fields = {
        "done_reason": "length" if finished.reason == "length" else "stop",
        "total_duration": max(time.monotonic_ns() - begun, load + prefill + decode),
        "load_duration": load,
        "prompt_eval_count": usage.prompt_tokens,
        "prompt_eval_duration": prefill,
        "eval_count": usage.completion_tokens,
        "eval_duration": decode,
    }
    if usage.cached_tokens:
        body["prompt_eval_cached_count"] = usage.cached_tokens
    if usage.cache_hit is not None:
        body |= {"cache_hit": usage.cache_hit, "cached_prompts": list(usage.cached_prompts)}
        body |= _unless_empty(cache_miss_reason=usage.cache_miss_reason)
    return body


def _unless_empty(**fields: Any) -> Fields:
    return {name: value for name, value in fields.items() if value}
