"""From a checked Ollama body to words that belong to no API."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rkllama_flask.generation.request import Message, Tool, ToolCall


def messages_of(checked: Sequence[Mapping[str, Any]]) -> tuple[Message, ...]:
    """The conversation. A tool's answer belongs to the call of its id, else of its name, else to the next in order."""
    open_calls: list[ToolCall] = []
    messages = []
    for one in checked:
        if one["role"] == "tool":
            messages.append(_result(one, open_calls))
            continue
        calls = tuple(_call(call) for call in one["tool_calls"])
        open_calls += calls
        messages.append(Message(one["role"], one["content"], reasoning=one.get("thinking"), tool_calls=calls))
    return tuple(messages)


def tools_of(checked: Sequence[Mapping[str, Any]]) -> tuple[Tool, ...]:
    """The functions on offer."""
    functions = [tool["function"] for tool in checked]
    return tuple(Tool(f["name"], f["description"], f["parameters"]) for f in functions)


def _call(checked: Mapping[str, Any]) -> ToolCall:
    function = checked["function"]
    return ToolCall(function["name"], json.dumps(function["arguments"], ensure_ascii=False), checked.get("id"))


def _result(one: Mapping[str, Any], open_calls: list[ToolCall]) -> Message:
    wanted_id, wanted_name = one.get("tool_call_id"), one.get("tool_name")
    fitting = (
        [call for call in open_calls if wanted_id and call.id == wanted_id]
        or [call for call in open_calls if wanted_name and call.name == wanted_name]
        or [call for call in open_calls if not wanted_id and not wanted_name]
    )
    call = fitting[0] if fitting else None
    if call is not None:
        open_calls[:] = [other for other in open_calls if other is not call]
    return Message(
        "tool",
        one["content"],
        tool_call_id=wanted_id or (call.id if call else None),
        name=wanted_name or (call.name if call else None),
    )
