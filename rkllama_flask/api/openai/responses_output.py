"""An answer as the items of a response (thoughts, a message, calls, one after another) and the events that tell it."""

import uuid
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal

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

Item = dict[str, Any]
ItemEvent = dict[str, Any]
"""An event of the stream, but for its number."""

_PREFIXES = {"reasoning": "rs", "message": "msg", "function_call": "fc"}


class OutputItems:
    """Turns an answer's events into items; one is open at a time. `items` are those that have begun, in order.

    White space alone is no message, for models like to put some between thoughts and calls; but an answer that has
    nothing else ends with one. A call that was cut is an item that stays `incomplete`: its arguments are never done.
    `namespaces` are those of functions by their full names.
    """

    def __init__(self, namespaces: Mapping[str, str] = MappingProxyType({})) -> None:
        self._namespaces = namespaces
        self.items: list[Item] = []
        self._open: Item | None = None
        self._text = ""
        self._space = ""

    def read(self, event: Content) -> list[ItemEvent]:
        """What `event` adds; Finished closes the last item."""
        match event:
            case Text(text):
                return self._read_text(text)
            case Reasoning(text):
                return self._grow("reasoning", text)
            case ToolCallStarted(_, call_id, name):
                return self._begin_call(call_id, name)
            case ToolArguments(_, text):
                return self._delta("function_call", text)
            case ToolCallFinished() | ToolCallCut():
                return self.close("incomplete" if isinstance(event, ToolCallCut) else "completed")
            case Finished():
                silent = not any(item["type"] in ("message", "function_call") for item in self.items)
                nothing = self._grow("message", self._space) if silent else []
                return [*nothing, *self.close("incomplete" if event.reason == "length" else "completed")]

    def close(self, status: Literal["completed", "incomplete"]) -> list[ItemEvent]:
        """End the item that is open, if one is."""
        item, self._open = self._open, None
        if item is None:
            return []
        place = self._place(item)
        closing = []
        match item["type"]:
            case "reasoning":
                part = {"type": "summary_text", "text": self._text}
                item["summary"] = [part]
                place["summary_index"] = 0
                closing = [
                    {"type": "response.reasoning_summary_text.done", **place, "text": self._text},
                    {"type": "response.reasoning_summary_part.done", **place, "part": part},
                ]
            case "message":
                part = _text_part(self._text)
                item["content"] = [part]
                place["content_index"] = 0
                closing = [
                    {"type": "response.output_text.done", **place, "text": self._text, "logprobs": []},
                    {"type": "response.content_part.done", **place, "part": part},
                ]
            case "function_call":
                item["arguments"] = self._text
                if status == "completed":
                    done = {"type": "response.function_call_arguments.done", **place}
                    closing = [{**done, "name": item["name"], "arguments": self._text}]
        item["status"] = status
        index = place["output_index"]
        return [*closing, {"type": "response.output_item.done", "output_index": index, "item": dict(item)}]

    def _read_text(self, text: str) -> list[ItemEvent]:
        if self._open is None or self._open["type"] != "message":
            text = self._space + text
            self._space = text if text.isspace() else ""
            if self._space:
                return []
        return self._grow("message", text)

    def _grow(self, kind: Literal["message", "reasoning"], text: str) -> list[ItemEvent]:
        opening: list[ItemEvent] = []
        if self._open is None or self._open["type"] != kind:
            opening = self._begin_message() if kind == "message" else self._begin_reasoning()
        return [*opening, *self._delta(kind, text)]

    def _begin_message(self) -> list[ItemEvent]:
        events = self._begin("message", status="in_progress", role="assistant", content=[])
        part = {"type": "response.content_part.added", **self._place(self.items[-1]), "content_index": 0}
        return [*events, {**part, "part": _text_part("")}]

    def _begin_reasoning(self) -> list[ItemEvent]:
        events = self._begin("reasoning", summary=[], status="in_progress")
        part = {"type": "response.reasoning_summary_part.added", **self._place(self.items[-1]), "summary_index": 0}
        return [*events, {**part, "part": {"type": "summary_text", "text": ""}}]

    def _begin_call(self, call_id: str, name: str) -> list[ItemEvent]:
        space = self._namespaces.get(name)
        named = {"name": name.removeprefix(f"{space}."), "namespace": space} if space else {"name": name}
        return self._begin("function_call", call_id=call_id, **named, arguments="", status="in_progress")

    def _begin(self, kind: str, **fields: Any) -> list[ItemEvent]:
        closing = self.close("completed")
        self._text = self._space = ""
        self._open = {"id": f"{_PREFIXES[kind]}_{uuid.uuid4().hex}", "type": kind, **fields}
        self.items.append(self._open)
        index = len(self.items) - 1
        return [*closing, {"type": "response.output_item.added", "output_index": index, "item": dict(self._open)}]

    def _delta(self, kind: str, text: str) -> list[ItemEvent]:
        if not text:
            return []
        self._text += text
        place = self._place(self.items[-1])
        match kind:
            case "message":
                named = {"type": "response.output_text.delta", **place, "content_index": 0}
                return [{**named, "delta": text, "logprobs": []}]
            case "reasoning":
                return [{"type": "response.reasoning_summary_text.delta", **place, "summary_index": 0, "delta": text}]
            case _:
                return [{"type": "response.function_call_arguments.delta", **place, "delta": text}]

    def _place(self, item: Mapping[str, Any]) -> dict[str, Any]:
        return {"item_id": item["id"], "output_index": len(self.items) - 1}


def _text_part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
