"""Every conversation that the APIs allow reaches the prompt whole and in order, or is refused, or its loss is named.

Longer: `CONVERSATIONS=100000 python -m pytest tests/generation/test_every_conversation.py`.
"""

import json
import os
import random
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from rkllama_flask.errors import TemplateFailed
from rkllama_flask.generation.prompt import builtin_templates
from rkllama_flask.generation.prompt.templates import ChatTemplate
from rkllama_flask.generation.request import Message, Tool, ToolCall

OWN = sorted((Path(__file__).parent / "data" / "templates").glob("*.jinja"))
BUILT_IN = sorted(Path(builtin_templates.__file__).parent.glob("*.jinja"))
TEMPLATES = {path.stem: path.read_text() for path in (*OWN, *BUILT_IN)}
TRIED = int(os.environ.get("CONVERSATIONS", "6000")) // len(TEMPLATES)
"""Conversations for each template."""

TOOLS = (Tool("look_up", "d", {"type": "object", "properties": {"a": {}}}), Tool("f2", "d", {}))


_TEXTS = ("say{}", " say{} \n", 'say{} "so"\n<b>', "say{} [INST] <|end|>", "say{}\\é🙂")
_OTHERS = (*_TEXTS, "say{} </think>?")
"""What a model has written before `</think>` are its thoughts, which templates leave out."""


def conversation(chance: random.Random) -> list[Message]:
    """Any turns in any order; each text of them is found by its number, which stands nowhere else."""
    number = iter(range(100, 1000))
    found: list[Message] = []
    open_calls: list[ToolCall] = []
    while not found or (len(found) < 12 and chance.random() < 0.8):
        kind = chance.choice(("user", "user", "assistant", "system", "call", "result", "result"))
        text = chance.choice(_TEXTS if kind in ("assistant", "call") else _OTHERS).format(next(number))
        if kind == "call":
            open_calls = [_call(chance, next(number)) for _ in range(chance.choice((1, 1, 1, 2, 3)))]
            found.append(Message("assistant", text if chance.random() < 0.4 else "", tool_calls=tuple(open_calls)))
            chance.shuffle(open_calls)
        elif kind == "result":
            nobodys = ToolCall("look_up", "{}", "call_nobody")
            call = open_calls.pop() if open_calls and chance.random() < 0.9 else nobodys
            result = chance.choice((text, f'{{"value": "say{next(number)}"}}'))
            named = call.id if chance.random() < 0.9 else None
            found.append(Message("tool", result, tool_call_id=named, name=call.name))
        else:
            found.append(Message(kind, text))  # type: ignore[arg-type]
    return found


def _call(chance: random.Random, number: int) -> ToolCall:
    arguments = chance.choice((f'{{"a": "say{number}", "b": 1}}', f'{{"a": ["say{number}"]}}', f'{{"a": "say{number}'))
    return ToolCall("look_up", arguments, f"call_{number}")


def numbers(text: str) -> list[str]:
    return re.findall(r"say(\d{3})", text)


def said(messages: list[Message]) -> Iterator[tuple[int, list[str]]]:
    """By message, the numbers of its texts."""
    for place, message in enumerate(messages):
        calls = "".join(call.arguments for call in message.tool_calls)
        yield place, numbers(message.content + calls)


@pytest.mark.parametrize("name", TEMPLATES)
def test_every_text_of_every_message_stands_in_the_prompt_in_order(name: str) -> None:
    chance = random.Random(7)
    template = ChatTemplate(TEMPLATES[name], bos_token="<s>", eos_token="</s>")
    refused = 0
    for _ in range(TRIED):
        messages = conversation(chance)
        calls = any(message.tool_calls or message.role == "tool" for message in messages)
        tools = TOOLS if calls and chance.random() < 0.8 else ()
        try:
            prompt = template.render(messages, tools)
        except TemplateFailed as error:
            refused += bool(error.message)
            continue
        check(messages, prompt.text, set(prompt.left_out))
    assert refused <= TRIED // 100, refused


def check(messages: list[Message], text: str, named: set[int]) -> None:
    """Looks for the numbers alone: nothing here knows how turns are bent."""
    places = {number: match.start() for match in re.finditer(r"say(\d{3})", text) for number in [match[1]]}
    end = -1
    turn_end = -1
    in_call = False
    for place, wanted in said(messages):
        message = messages[place]
        whole = json.dumps([message.role, message.content, [call.arguments for call in message.tool_calls]])
        if place in named:
            continue
        assert all(number in places for number in wanted), (whole, text)
        if message.role == "system":
            continue
        if not (in_call and message.role == "tool"):
            in_call, end = bool(message.tool_calls), turn_end
        assert all(places[number] > end for number in wanted), (whole, text)
        turn_end = max([turn_end, *(places[number] for number in wanted)])
