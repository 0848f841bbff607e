"""From a checked OpenAI body to words that belong to no API."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rkllama_flask.api.openai.fields import Choice
from rkllama_flask.api.openai.schemas import CALLABLE
from rkllama_flask.api.web.context import services
from rkllama_flask.api.web.unread import Told, dotted, placed
from rkllama_flask.errors import InvalidRequest
from rkllama_flask.generation.request import GenerationRequest, Message, Tool, ToolCall, ToolChoice
from rkllama_flask.sampling import Sampling

_SAMPLING = (
    "temperature",
    "top_p",
    "frequency_penalty",
    "presence_penalty",
    "repeat_penalty",
    "mirostat",
    "mirostat_tau",
    "mirostat_eta",
)


def messages_of(checked: Sequence[Mapping[str, Any]]) -> tuple[Message, ...]:
    """The conversation. A tool's answer gets the name of its function through the id of the call."""
    called: dict[str, str] = {}
    messages = []
    for one in checked:
        calls = _calls_of(one)
        called |= {call.id: call.name for call in calls if call.id}
        messages.append(_message_of(one, calls, called))
    return tuple(messages)


def _message_of(one: Mapping[str, Any], calls: tuple[ToolCall, ...], called: Mapping[str, str]) -> Message:
    content = one.get("content", Told()).text or one.get("refusal", "")
    match one["role"]:
        case "tool" | "function":
            call_id = one.get("tool_call_id")
            name = one.get("name") or called.get(call_id or "")
            return Message("tool", content, tool_call_id=call_id, name=name)
        case "assistant":
            reasoning = one.get("reasoning_content") or one.get("reasoning")
            return Message("assistant", content, reasoning=reasoning, tool_calls=calls)
        case "user":
            return Message("user", content, name=one.get("name"))
        case _:
            return Message("system", content)


def _calls_of(one: Mapping[str, Any]) -> tuple[ToolCall, ...]:
    calls = tuple(_call(call) for call in one.get("tool_calls", ()) if call["type"] in CALLABLE)
    if not calls and "function_call" in one:
        return (ToolCall(one["function_call"]["name"], one["function_call"]["arguments"]),)
    return calls


def _call(call: Mapping[str, Any]) -> ToolCall:
    """A call of free text has that as its one argument."""
    if call["type"] == "function":
        return ToolCall(call["function"]["name"], call["function"]["arguments"], call.get("id"))
    arguments = json.dumps({"input": call["custom"]["input"]}, ensure_ascii=False)
    return ToolCall(call["custom"]["name"], arguments, call.get("id"))


def unapplied_messages(checked: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """What `messages_of` had to leave out, or to put a line of text for, by dotted path."""
    found: list[str] = []
    for index, one in enumerate(checked):
        if "content" in one:
            found += dotted(placed(one["content"].unread, "messages", index, "content"))
        found += [
            f"messages.{index}.tool_calls.{at}"
            for at, call in enumerate(one.get("tool_calls", ()))
            if call["type"] not in CALLABLE
        ]
    return tuple(found)


def tools_of(fields: Mapping[str, Any]) -> tuple[tuple[Tool, ...], ToolChoice]:
    """The functions on offer and the choice among them. Raises InvalidRequest for a choice of what isn't there."""
    functions = fields["functions"] if asks_by_functions(fields) else _functions_of(fields["tools"])
    tools = tuple(Tool(f["name"], f["description"], f["parameters"], f["strict"]) for f in functions)
    param = "function_call" if asks_by_functions(fields) else "tool_choice"
    choice, allowed = fields.get(param, Choice(ToolChoice()))
    if allowed is not None:
        tools = tuple(tool for tool in tools if tool.name in allowed)
    if choice.mode == "named" and choice.name not in {tool.name for tool in tools}:
        raise InvalidRequest(f"'{param}' names '{choice.name}', which is not among the tools.", param=param)
    if choice.mode == "required" and not tools:
        raise InvalidRequest(f"'{param}' is required, but there are no tools.", param=param)
    return tools, choice


def asks_by_functions(fields: Mapping[str, Any]) -> bool:
    """Whether the request has `functions`, the older form of tools: an answer then makes one call at most."""
    return bool(fields.get("functions")) and not fields["tools"]


def unapplied_tools(fields: Mapping[str, Any]) -> tuple[str, ...]:
    """The tools that `tools_of` had to leave out, by dotted path."""
    return tuple(f"tools.{index}" for index, tool in enumerate(fields["tools"]) if tool["type"] != "function")


def unapplied_thinking(fields: Mapping[str, Any], request: GenerationRequest) -> tuple[str, ...]:
    """The fields that ask a model to think which can't."""
    if not request.thinking or "thinking" in services().inference.capabilities(request.model):
        return ()
    asked = {
        "think": fields.get("think"),
        "reasoning.effort": fields.get("reasoning", {}).get("effort"),
        "reasoning_effort": fields.get("reasoning_effort"),
        "enable_thinking": fields.get("enable_thinking"),
        "chat_template_kwargs.enable_thinking": fields["chat_template_kwargs"].get("enable_thinking"),
    }
    return tuple(name for name, value in asked.items() if value and value != "none")


def _functions_of(tools: Sequence[Mapping[str, Any]]) -> list[Any]:
    return [tool["function"] for tool in tools if tool["type"] == "function"]


def sampling_of(fields: Mapping[str, Any]) -> Sampling:
    """The parameters that were sent. A top_k of 0 or -1 asks for all tokens, which no runtime here offers."""
    said = {name: fields[name] for name in _SAMPLING if name in fields}
    if "repetition_penalty" in fields:
        said.setdefault("repeat_penalty", fields["repetition_penalty"])
    if fields.get("top_k", 0) > 0:
        said["top_k"] = fields["top_k"]
    return Sampling(**said)


def unapplied_sampling(fields: Mapping[str, Any]) -> tuple[str, ...]:
    """What `sampling_of` had to leave out."""
    return ("top_k",) if fields.get("top_k", 1) <= 0 else ()


def limit_of(fields: Mapping[str, Any]) -> int | None:
    """The token limit: None for 0, which means unset. `max_completion_tokens` wins over `max_tokens`."""
    return fields.get("max_completion_tokens") or fields.get("max_tokens") or None


def thinking_of(fields: Mapping[str, Any]) -> tuple[bool | str | None, dict[str, Any]]:
    """Whether and how hard to think, and what is left for the chat template. "Not at all" wins, then an effort."""
    arguments = dict(fields["chat_template_kwargs"])
    think = fields.get("think")
    switches = [fields.get("enable_thinking"), arguments.pop("enable_thinking", None)]
    if not all(switch is None or isinstance(switch, bool) for switch in switches):
        raise InvalidRequest(
            "'chat_template_kwargs.enable_thinking' must be true or false.",
            param="chat_template_kwargs.enable_thinking",
        )
    effort = fields.get("reasoning", {}).get("effort") or fields.get("reasoning_effort")
    if think is False or False in switches or effort == "none":
        return False, arguments
    return effort or think or (True if True in switches else None), arguments
