"""Shapes of conversations that the APIs allow, and whether what was said in one reached the prompt.

As a program (`scripts/template-shapes`) it sends every shape through every template of a folder and prints a table.
"""

import argparse
import re
import sys
import time
from collections.abc import Sequence
from itertools import count, pairwise
from pathlib import Path

from rkllama_flask.errors import RkllamaError
from rkllama_flask.generation.prompt.templates import ChatTemplate
from rkllama_flask.generation.request import Message, Tool, ToolCall

TOOLS = [Tool("look", "looks", {"type": "object", "properties": {"a": {"type": "string", "description": "what"}}})]
SHAPES = {
    "user": "U",
    "system, user": "S U",
    "system alone": "S",
    "user, user": "U U",
    "turns": "S U A U A U",
    "assistant first": "A U",
    "assistant twice": "U A A U",
    "system in the middle": "U A S U",
    "two systems": "S S U",
    "developer": "S U A S U",
    "text parts": "U U A U",
    "call, result": "U C R",
    "call, result, user": "U C R U",
    "two calls with text": "U D R R",
    "results without a question": "S C R",
    "call, result, answer, user": "U C R A U",
}
MORE = (
    *("R", "C R", "U R A U", "U C U", "U C A U", "U C C R R", "U D r r A U", "U C S R U", "A", "A A", "S A U", "D R"),
    *("U A C R A U", "U T R U", "U D R U", "U C R C R D R R A U", "S S", "U S", "U S A S U", "U C R R", "U B R A U"),
)
_MARK = re.compile(r"text-\d+-(?:said|argued)")


def conversation(shape: str) -> list[Message]:
    """S, U, A: a text of the system, user or assistant; C a call, B one with damaged arguments, T with text, D two with
    text; R the next call's result, r the last one's.
    """
    numbers = count(1)
    waiting: list[str] = []
    found = []
    for letter in shape.split():
        text = f"text-{next(numbers)}-said"
        if letter in "SUA":
            role = {"S": "system", "U": "user", "A": "assistant"}[letter]
            found.append(Message(role, text))  # type: ignore[arg-type]
        elif letter in "Rr":
            call_id = waiting.pop(0 if letter == "R" else -1) if waiting else "call_none"
            found.append(Message("tool", text, tool_call_id=call_id))
        else:
            arguments = '{"a": "text-%d-argued' if letter == "B" else '{"a": "text-%d-argued"}'
            calls = [
                ToolCall("look", arguments % next(numbers), f"call_{next(numbers)}") for _ in range(1 + (letter == "D"))
            ]
            waiting = [str(call.id) for call in calls]
            found.append(Message("assistant", text if letter in "TD" else "", tool_calls=tuple(calls)))
    return found


def lost(messages: Sequence[Message], prompt: str) -> list[str]:
    """The texts that do not stand in the prompt, and `order` where turns are not in theirs.

    The system's may stand anywhere; a call's text, arguments and results are one turn.
    """
    turns: list[list[str]] = []
    missing, in_call = [], False
    for message in messages:
        texts = _MARK.findall(message.content)
        texts += [mark for call in message.tool_calls for mark in _MARK.findall(call.arguments)]
        missing += [text for text in texts if text not in prompt]
        if message.role == "system":
            continue
        if message.role != "tool" or not in_call:
            turns.append([])
        in_call = (message.role == "tool" and in_call) or bool(message.tool_calls)
        turns[-1] += texts
    places = [[prompt.find(text) for text in texts] for texts in turns if texts]
    if not missing and any(max(before) > min(after) for before, after in pairwise(places)):
        missing.append("order")
    return missing


def verdict(template: ChatTemplate, shape: str) -> str:
    """Empty where the shape reaches the prompt."""
    messages = conversation(shape)
    tools = TOOLS if set(shape) & set("CDTBR") else []
    try:
        prompt = template.render(messages, tools)
    except RkllamaError as error:
        return error.message
    missing = lost(messages, prompt.text)
    return f"lost {', '.join(missing)}" + (" (named)" if prompt.left_out else " IN SILENCE") if missing else ""


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/template-shapes", description=__doc__)
    parser.add_argument("folder", type=Path, help="a folder of chat templates, *.jinja")
    parser.add_argument("--more", action="store_true", help="rarer shapes too")
    arguments = parser.parse_args()
    shapes = SHAPES | ({shape: shape for shape in MORE} if arguments.more else {})
    whole = right = tried = 0
    for path in sorted(arguments.folder.glob("*.jinja")):
        begun = time.perf_counter()
        template = ChatTemplate(path.read_text(encoding="utf-8"), path.stem, "<s>", "</s>")
        wrong = {name: found for name, shape in shapes.items() if (found := verdict(template, shape))}
        tried += len(shapes)
        right += len(shapes) - len(wrong)
        whole += not wrong
        print(
            f"{path.stem:55} {len(shapes) - len(wrong):3}/{len(shapes)} {(time.perf_counter() - begun) * 1e3:5.0f} ms"
        )
        for name, found in wrong.items():
            print(f"    {name}: {found}")
    print(f"{right} of {tried} conversations right, {whole} templates wholly")
    sys.exit(0 if right == tried else 1)


if __name__ == "__main__":
    main()
