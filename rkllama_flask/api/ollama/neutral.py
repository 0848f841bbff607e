"""From a checked Ollama body to words that belong to no API."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rkllama_flask.catalog.model import Model
from rkllama_flask.errors import InvalidRequest, UnsupportedRequest
from rkllama_flask.generation.request import Message, Tool, ToolCall
from rkllama_flask.runtime.sampling import Sampling

_ROLES = ("system", "user", "assistant", "tool")
_SAMPLING = (
    "temperature",
    "top_p",
    "repeat_penalty",
    "presence_penalty",
    "frequency_penalty",
    "mirostat",
    "mirostat_tau",
    "mirostat_eta",
)


def messages_of(checked: Sequence[Mapping[str, Any]]) -> tuple[Message, ...]:
    """The conversation. A tool's answer belongs to the call of its id, else of its name, else to the next in order."""
    open_calls: list[ToolCall] = []
    messages = []
    for one in checked:
        role = one["role"].lower()
        if role not in _ROLES:
            raise InvalidRequest(f"invalid role '{one['role']}': it must be one of {', '.join(_ROLES)}")
        refuse_images(one.get("images"))
        if role == "tool":
            call = _answered(one, open_calls)
            name = one.get("tool_name") or (call.name if call else None)
            call_id = one.get("tool_call_id") or (call.id if call else None)
            messages.append(Message("tool", one["content"], name=name, tool_call_id=call_id))
            continue
        calls = tuple(
            ToolCall(call["function"]["name"], json.dumps(call["function"]["arguments"]), call.get("id"))
            for call in one["tool_calls"]
        )
        open_calls += calls
        messages.append(Message(role, one["content"], reasoning=one.get("thinking"), tool_calls=calls))
    return tuple(messages)


def _answered(one: Mapping[str, Any], open_calls: list[ToolCall]) -> ToolCall | None:
    wanted_id, wanted_name = one.get("tool_call_id"), one.get("tool_name")
    for call in open_calls:
        if (call.id == wanted_id) if wanted_id else (not wanted_name or call.name == wanted_name):
            open_calls.remove(call)
            return call
    return None


def tools_of(checked: Sequence[Mapping[str, Any]]) -> tuple[Tool, ...]:
    functions = [tool["function"] for tool in checked]
    return tuple(Tool(f["name"], f["description"], f["parameters"]) for f in functions)


def sampling_of(options: Mapping[str, Any]) -> Sampling:
    """The parameters that were sent. A top_k of 0 or less asks for all tokens, which no runtime here offers."""
    said = {name: options[name] for name in _SAMPLING if name in options}
    if options.get("top_k", 0) > 0:
        said["top_k"] = options["top_k"]
    return Sampling(**said)


def unapplied_sampling(options: Mapping[str, Any]) -> tuple[str, ...]:
    """What `sampling_of` had to leave out."""
    return ("top_k",) if options.get("top_k", 1) <= 0 else ()


def limit_of(options: Mapping[str, Any]) -> int | None:
    """The token limit; 0 and negative numbers mean until the end."""
    limit: int = options.get("num_predict", -1)
    return limit if limit > 0 else None


def thinking_of(wanted: bool | str | None, capabilities: Sequence[str], asked_for: str) -> bool | str | None:
    """Whether to think: what was asked, else yes where the model can. Raises InvalidRequest where it can't."""
    if "thinking" in capabilities:
        return True if wanted is None else wanted
    if wanted:
        raise UnsupportedRequest(f'"{asked_for}" does not support thinking', param="think")
    return None if wanted is None else False


def refuse_images(images: Sequence[str] | None) -> None:
    """Raises UnsupportedRequest: no model here reads images."""
    if images:
        raise UnsupportedRequest("this model can't read images: it reads text only", param="images")


def require(capability: str, capabilities: Sequence[str], model: Model) -> None:
    """Raises UnsupportedRequest in Ollama's words where the model's files don't offer what is asked."""
    if capability not in capabilities:
        tag = "" if ":" in model.name else ":latest"
        raise UnsupportedRequest(f"registry.ollama.ai/library/{model.name}{tag} does not support {capability}")
