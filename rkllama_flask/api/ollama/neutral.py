"""From a checked Ollama body to words that belong to no API."""

from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from typing import Any

from rkllama_flask.api.web.unread import last, stand_in
from rkllama_flask.generation.request import Message, Tool, ToolCall


def messages_of(checked: Sequence[Mapping[str, Any]]) -> tuple[Message, ...]:
    """The conversation. A tool's answer belongs to the call of its id, else of its name, else to the next in order."""
    open_calls = _OpenCalls()
    messages = []
    for one in checked:
        if one["role"] == "tool":
            messages.append(_result(one, open_calls))
            continue
        calls = tuple(_call(call) for call in one["tool_calls"])
        for call in calls:
            open_calls.add(call)
        messages.append(Message(one["role"], _text(one), reasoning=one.get("thinking"), tool_calls=calls))
    return tuple(messages)


def asks_with_images(checked: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the last turn of the user has pictures, without which it would be answered wrongly."""
    index = last(checked, lambda one: one["role"] == "user")
    return index is not None and bool(checked[index]["images"])


def unapplied_images(checked: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """The pictures that `messages_of` had to put a line of text for, by dotted path."""
    return tuple(f"messages.{index}.images" for index, one in enumerate(checked) if one["images"])


def tools_of(checked: Sequence[Mapping[str, Any]]) -> tuple[Tool, ...]:
    """The functions on offer."""
    functions = [tool["function"] for tool in checked]
    return tuple(Tool(f["name"], f["description"], f["parameters"]) for f in functions)


def _text(one: Mapping[str, Any]) -> str:
    content: str = one["content"]
    if not one["images"]:
        return content
    count = len(one["images"])
    line = stand_in("an image" if count == 1 else f"{count} images").text
    return f"{content}\n{line}" if content else line


def _call(checked: Mapping[str, Any]) -> ToolCall:
    function = checked["function"]
    return ToolCall(function["name"], function["arguments"], checked.get("id"))


class _OpenCalls:
    """The calls that have no result yet: a conversation may have thousands of both."""

    def __init__(self) -> None:
        self._calls: list[ToolCall | None] = []
        self._order: deque[int] = deque()
        self._by_id: defaultdict[str | None, deque[int]] = defaultdict(deque)
        self._by_name: defaultdict[str | None, deque[int]] = defaultdict(deque)

    def add(self, call: ToolCall) -> None:
        for places in (self._order, self._by_id[call.id], self._by_name[call.name]):
            places.append(len(self._calls))
        self._calls.append(call)

    def take(self, wanted_id: str | None, wanted_name: str | None) -> ToolCall | None:
        """The first call of this id, else of this name; the next one where neither is said."""
        for wanted, found in ((wanted_id, self._by_id), (wanted_name, self._by_name)):
            if wanted and (call := self._first(found[wanted])):
                return call
        return None if wanted_id or wanted_name else self._first(self._order)

    def _first(self, places: deque[int]) -> ToolCall | None:
        while places:
            place = places.popleft()
            call, self._calls[place] = self._calls[place], None
            if call is not None:
                return call
        return None


def _result(one: Mapping[str, Any], open_calls: _OpenCalls) -> Message:
    wanted_id, wanted_name = one.get("tool_call_id"), one.get("tool_name")
    call = open_calls.take(wanted_id, wanted_name)
    return Message(
        "tool",
        _text(one),
        tool_call_id=wanted_id or (call.id if call else None),
        name=wanted_name or (call.name if call else None),
    )
