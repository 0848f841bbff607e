"""A conversation in the shape chat templates are written for."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
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


def turns(messages: Iterable[Message], *, arguments_as_text: bool = False, null_content: bool = False) -> list[Turn]:
    """The messages as dictionaries; a key is there only where it says something.

    Some templates want a call's arguments as JSON text, or null as the content of a turn that only calls.
    """
    found = []
    for message in messages:
        turn: Turn = {"role": message.role, "content": message.content}
        if message.reasoning is not None:
            turn["reasoning_content"] = message.reasoning
        if message.tool_calls:
            turn["tool_calls"] = [_call(call, as_text=arguments_as_text) for call in message.tool_calls]
            if null_content and not message.content:
                turn["content"] = None
        if message.tool_call_id is not None:
            turn["tool_call_id"] = message.tool_call_id
        if message.name is not None:
            turn["name"] = message.name
        found.append(turn)
    return found


def declarations(tools: Iterable[Tool]) -> list[Turn]:
    """The tools as OpenAI's function objects."""
    return [
        {
            "type": "function",
            "function": {"name": tool.name, "description": tool.description, "parameters": dict(tool.parameters)},
        }
        for tool in tools
    ]


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


def without_system(conversation: Sequence[Turn], *, keep_first: bool) -> list[Turn]:
    """System text moved to the front of the next user turn, or made one where none follows."""
    found: list[Turn] = []
    waiting: list[str] = []
    for index, turn in enumerate(conversation):
        if turn["role"] == "system" and not (keep_first and index == 0):
            waiting.extend([turn["content"]] if turn["content"] else [])
        elif turn["role"] == "user" and waiting:
            found.append({**turn, "content": "\n\n".join((*waiting, turn["content"]))})
            waiting = []
        else:
            found.append(turn)
    text = "\n\n".join(waiting)
    if text and found and found[-1]["role"] == "user":
        found[-1] = {**found[-1], "content": f"{found[-1]['content']}\n\n{text}"}
    elif text:
        found.append({"role": "user", "content": text})
    return found


def with_tools_as_text(conversation: Sequence[Turn], tools: Sequence[Turn]) -> list[Turn]:
    """For a template that knows no tools: an instruction in the system text, calls and results as tagged text."""
    found: list[Turn] = []
    for turn in conversation:
        if turn["role"] == "tool":
            result = f"<tool_response>\n{turn['content']}\n</tool_response>"
            if not found or "results" not in found[-1]:
                found.append({"role": "user", "content": "", "results": []})
            found[-1]["results"].append(result)
        elif turn.get("tool_calls"):
            calls = [f"<tool_call>\n{_line(call['function'])}\n</tool_call>" for call in turn["tool_calls"]]
            content = "\n".join((*([turn["content"]] if turn["content"] else []), *calls))
            found.append({key: value for key, value in {**turn, "content": content}.items() if key != "tool_calls"})
        else:
            found.append(turn)
    for turn in found:
        if results := turn.pop("results", None):
            turn["content"] = "\n".join(results)
    if not tools:
        return found
    instruction = _INSTRUCTION.format(tools="\n".join(_line(tool["function"]) for tool in tools))
    if found and found[0]["role"] == "system":
        return [{**found[0], "content": f"{found[0]['content']}\n\n{instruction}"}, *found[1:]]
    return [{"role": "system", "content": instruction}, *found]


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


def _call(call: ToolCall, *, as_text: bool) -> Turn:
    arguments: Any = call.arguments
    if not as_text:
        try:
            parsed = json.loads(call.arguments)
        except ValueError:
            parsed = None
        arguments = parsed if isinstance(parsed, dict) else call.arguments
    function = {"name": call.name, "arguments": arguments}
    return {"type": "function", "function": function} | ({} if call.id is None else {"id": call.id})


def _line(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
