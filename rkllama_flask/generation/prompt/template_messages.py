"""A conversation in the shape chat templates are written for."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rkllama_flask.generation.prompt.special_text import Cover
from rkllama_flask.generation.request import Message, Tool, ToolCall

Turn = dict[str, Any]
"""One message as templates see it: `role`, `content`, and what else it has."""

_INSTRUCTION = """\
You can call these functions. Each line declares one, as JSON:
<tools>
{tools}
</tools>

To call one, write its name and arguments as a JSON object between these tags, and nothing after them:
<tool_call>
{{"name": "<function name>", "arguments": <object>}}
</tool_call>"""


@dataclass(frozen=True)
class CallForm:
    """How a template wants calls: arguments as text or object, null or empty content beside them.

    Arguments that are no object are handed over as text, or as an object that holds the text.
    """

    arguments_as_text: bool = False
    null_content: bool = False
    wraps_text: bool = False

    @property
    def empty(self) -> str | None:
        """The content of a turn that only calls."""
        return None if self.null_content else ""


PLAIN_CALLS = CallForm()


def turns(messages: Iterable[Message], form: CallForm = PLAIN_CALLS) -> list[Turn]:
    """The messages as dictionaries; a key is there only where it says something."""
    found = []
    for message in messages:
        turn: Turn = {"role": message.role, "content": message.content}
        if message.reasoning is not None:
            turn["reasoning_content"] = message.reasoning
        if message.tool_calls:
            turn["tool_calls"] = [_call(call, form) for call in message.tool_calls]
            turn["content"] = message.content or form.empty
        if message.tool_call_id is not None:
            turn["tool_call_id"] = message.tool_call_id
        if message.name is not None:
            turn["name"] = message.name
        found.append(turn)
    return found


def declarations(tools: Iterable[Tool], *, complete: bool = False) -> list[Turn]:
    """The tools as OpenAI's function objects; `complete` adds what some templates read of every parameter."""
    return [
        {
            "type": "function",
            "function": {
                "name": tool.name,
                "description": tool.description,
                "parameters": _completed(tool.parameters) if complete else dict(tool.parameters),
            },
        }
        for tool in tools
    ]


def _completed(parameters: Mapping[str, Any]) -> dict[str, Any]:
    properties = parameters.get("properties")
    found = {
        key: {"type": "string", "description": "", **value} if isinstance(value, Mapping) else value
        for key, value in (properties.items() if isinstance(properties, Mapping) else ())
    }
    return {"type": "object", "required": [], **parameters, "properties": found}


def strings(value: Any) -> Iterator[str]:
    """Every string in a JSON value, keys too."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from strings(key)
            yield from strings(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from strings(item)


def covered(conversation: Iterable[Turn], cover: Cover, tags: frozenset[str]) -> list[Turn]:
    """The conversation with special-looking text covered, but for `tags` in what the model is said to have written."""
    found = []
    for turn in conversation:
        new = {key: value if key == "role" else cover.value(value) for key, value in turn.items()}
        if turn["role"] == "assistant" and turn["content"]:
            new["content"] = cover.text(turn["content"], allowed=tags)
        found.append(new)
    return found


def with_leading_system_joined(conversation: Sequence[Turn]) -> list[Turn]:
    """System messages that follow each other at the start, as one: many templates read only one."""
    lead = 0
    while lead < len(conversation) and conversation[lead]["role"] == "system":
        lead += 1
    if lead < 2:
        return list(conversation)
    content = "\n\n".join(turn["content"] for turn in conversation[:lead] if turn["content"])
    return [{**conversation[0], "content": content}, *conversation[lead:]]


def joined(first: Turn, second: Turn) -> Turn:
    """Two turns of one role as one."""
    found = {**first, **second}
    for key, between in (("content", "\n\n"), ("reasoning_content", "\n\n")):
        texts = [turn[key] for turn in (first, second) if turn.get(key)]
        if texts:
            found[key] = between.join(texts)
    if "tool_calls" in found:
        found["tool_calls"] = [*first.get("tool_calls", ()), *second.get("tool_calls", ())]
    return found


def as_text(turn: Turn) -> Turn:
    """For a template that doesn't take a call, or a result, in its place: tagged text of the model, or of the user."""
    if turn["role"] == "tool":
        return {"role": "user", "content": f"<tool_response>\n{turn['content']}\n</tool_response>"}
    if not turn.get("tool_calls"):
        return turn
    calls = [f"<tool_call>\n{_line(call['function'])}\n</tool_call>" for call in turn["tool_calls"]]
    content = "\n".join((*([turn["content"]] if turn["content"] else []), *calls))
    return {key: value for key, value in {**turn, "content": content}.items() if key != "tool_calls"}


def with_instruction(conversation: Sequence[Turn], tools: Sequence[Turn]) -> list[Turn]:
    """For a template that knows no tools: an instruction in the system text."""
    instruction = _INSTRUCTION.format(tools="\n".join(_line(tool["function"]) for tool in tools))
    if conversation and conversation[0]["role"] == "system":
        first = conversation[0]
        return [{**first, "content": f"{first['content']}\n\n{instruction}"}, *conversation[1:]]
    return [{"role": "system", "content": instruction}, *conversation]


def with_call_ids(conversation: Sequence[Turn]) -> list[Turn]:
    """Every call with an id, and every result with its call's id and name.

    A result that names no call answers the oldest one that is still open.
    """
    found: list[Turn] = []
    names: dict[str, str] = {}
    waiting: list[str] = []
    for turn in conversation:
        if turn.get("tool_calls"):
            calls = [
                call if call.get("id") else {**call, "id": f"call{len(names) + at:05}"}
                for at, call in enumerate(turn["tool_calls"])
            ]
            waiting = [call["id"] for call in calls]
            names |= {call["id"]: call["function"]["name"] for call in calls}
            found.append({**turn, "tool_calls": calls})
        elif turn["role"] == "tool":
            call_id = turn.get("tool_call_id") or (waiting[0] if waiting else None)
            if call_id is not None:
                waiting = [other for other in waiting if other != call_id]
                name = {"name": names[call_id]} if call_id in names else {}
                found.append({**name, **turn, "tool_call_id": call_id})
            else:
                found.append(turn)
        else:
            found.append(turn)
    return found


def with_short_call_ids(conversation: Sequence[Turn]) -> list[Turn]:
    """Call ids as nine letters and digits, which Mistral's templates insist on; equal ids stay equal."""

    def short(call_id: str | None) -> str:
        call_id = call_id or ""
        return call_id if len(call_id) == 9 and call_id.isalnum() else hashlib.sha256(call_id.encode()).hexdigest()[:9]

    found = []
    for turn in conversation:
        new = dict(turn)
        if "tool_calls" in turn:
            new["tool_calls"] = [{**call, "id": short(call.get("id"))} for call in turn["tool_calls"]]
        if turn["role"] == "tool":
            new["tool_call_id"] = short(turn.get("tool_call_id"))
        found.append(new)
    return found


def _call(call: ToolCall, form: CallForm) -> Turn:
    arguments: Any = call.arguments
    if not form.arguments_as_text:
        try:
            parsed = json.loads(call.arguments)
        except (ValueError, RecursionError):
            parsed = None
        otherwise = {"arguments": call.arguments} if form.wraps_text else call.arguments
        arguments = parsed if isinstance(parsed, dict) else otherwise
    function = {"name": call.name, "arguments": arguments}
    return {"type": "function", "function": function} | ({} if call.id is None else {"id": call.id})


def _line(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
