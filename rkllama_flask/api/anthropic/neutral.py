"""From a checked Anthropic body to words that belong to no API."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

from rkllama_flask.api.anthropic.fields import (
    Block,
    TextBlock,
    ThinkingBlock,
    ToolResultBlock,
    ToolUseBlock,
    unread_in,
)
from rkllama_flask.api.web.context import services
from rkllama_flask.api.web.unread import Told, Unread, dotted, placed
from rkllama_flask.errors import InvalidRequest
from rkllama_flask.generation.request import GenerationRequest, JsonFormat, Message, Tool, ToolCall, ToolChoice
from rkllama_flask.sampling import Sampling

_MODES = {"auto": "auto", "any": "required", "tool": "named", "none": "none"}


def messages_of(fields: Mapping[str, Any]) -> tuple[Message, ...]:
    """The conversation. A tool's results are messages of their own, and messages of one role in a row are one turn."""
    system = fields.get("system", Told()).text
    parts = [Message("system", system)] if system else []
    called: dict[str, str] = {}
    for checked in fields["messages"]:
        parts += _parts_of(checked["role"], checked["content"], called)
    turns: list[Message] = []
    for role, run in groupby(parts, key=lambda part: part.role):
        together = [*run]
        turns += together if role == "tool" else [_joined(together)]
    return tuple(turns)


def _parts_of(role: Any, blocks: Sequence[Block], called: dict[str, str]) -> Iterator[Message]:
    """The results in a user's message come before its text, as they answer the turn before it."""
    text = "\n".join(block.text for block in blocks if isinstance(block, TextBlock) and block.text)
    uses = [block for block in blocks if isinstance(block, ToolUseBlock)]
    results = [block for block in blocks if isinstance(block, ToolResultBlock)]
    thoughts = "\n".join(block.text for block in blocks if isinstance(block, ThinkingBlock))
    called |= {use.id: use.name for use in uses if use.id}
    for result in results:
        content = f"Error: {result.text}" if result.failed else result.text
        yield Message("tool", content, tool_call_id=result.call_id, name=called.get(result.call_id or ""))
    if text or not results:
        calls = tuple(ToolCall(use.name, use.arguments, use.id) for use in uses)
        yield Message(role, text, reasoning=thoughts or None, tool_calls=calls)


def _joined(parts: Sequence[Message]) -> Message:
    return replace(
        parts[0],
        content="\n".join(part.content for part in parts if part.content),
        reasoning="\n".join(part.reasoning for part in parts if part.reasoning) or None,
        tool_calls=tuple(call for part in parts for call in part.tool_calls),
    )


def tools_of(fields: Mapping[str, Any]) -> tuple[tuple[Tool, ...], ToolChoice]:
    """The functions on offer and the choice among them. Raises InvalidRequest for a choice of what isn't there."""
    tools = tuple(
        Tool(tool["name"], tool["description"], tool["input_schema"], tool["strict"])
        for tool in fields["tools"]
        if "input_schema" in tool
    )
    said = fields.get("tool_choice", {"type": "auto"})
    choice = ToolChoice(_MODES[said["type"]], said.get("name") if said["type"] == "tool" else None)  # type: ignore[arg-type]
    if choice.mode == "named" and choice.name not in {tool.name for tool in tools}:
        raise InvalidRequest(f"'tool_choice' names '{choice.name}', which is not among the tools.", param="tool_choice")
    if choice.mode == "required" and not tools:
        raise InvalidRequest("'tool_choice' is any, but there are no tools.", param="tool_choice")
    return tools, choice


def thinking_of(fields: Mapping[str, Any]) -> bool | str | None:
    """Whether and how hard to think. Who doesn't ask for thoughts gets none; `adaptive` leaves it to the model."""
    effort: str | None = fields.get("output_config", {}).get("effort")
    match fields.get("thinking", {}).get("type"):
        case "enabled":
            return effort or True
        case "adaptive":
            return effort
        case _:
            return False


def shows_thoughts(fields: Mapping[str, Any]) -> bool:
    """Whether thinking blocks are wanted: a model that always thinks doesn't surprise who never asked for them."""
    thinking: Mapping[str, Any] = fields.get("thinking", {})
    return thinking.get("type", "disabled") != "disabled" and thinking.get("display") != "omitted"


def format_of(fields: Mapping[str, Any]) -> JsonFormat | None:
    """The answer's format; `output_format` is its older place."""
    found: JsonFormat | None = fields.get("output_config", {}).get("format") or fields.get("output_format")
    return found


def sampling_of(fields: Mapping[str, Any]) -> Sampling:
    """The parameters that were sent. A top_k of 0 or -1 asks for all tokens, which no runtime here offers."""
    top_k = fields.get("top_k", 0)
    return Sampling(
        temperature=fields.get("temperature"), top_p=fields.get("top_p"), top_k=top_k if top_k > 0 else None
    )


def unapplied_of(fields: Mapping[str, Any], request: GenerationRequest) -> tuple[str, ...]:
    """What the functions here had to leave out, by dotted path."""
    names = [f"tools.{index}" for index, tool in enumerate(fields["tools"]) if "input_schema" not in tool]
    if shows_thoughts(fields) and "thinking" not in services().inference.capabilities(request.model):
        names.append("thinking")
    elif "budget_tokens" in fields.get("thinking", {}):
        names.append("thinking.budget_tokens")
    if fields.get("top_k", 1) <= 0:
        names.append("top_k")
    return (*names, *dotted(_unread(fields)))


def _unread(fields: Mapping[str, Any]) -> Iterator[Unread]:
    yield from placed(fields.get("system", Told()).unread, "system")
    for index, message in enumerate(fields["messages"]):
        yield from placed(unread_in(message["content"]), "messages", index, "content")
