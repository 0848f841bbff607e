"""What a template writes for an assistant's turn that is made up to be looked at."""

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from rkllama_flask.generation.output.turn_form import Marks
from rkllama_flask.text.marks import common_end, common_start, first_mark, pieces

Turn = dict[str, Any]


class Render(Protocol):
    """Renders messages and tools. Raises whatever the template raises."""

    def __call__(self, messages: Sequence[Turn], tools: Sequence[Turn], *, add_generation_prompt: bool) -> str: ...


TEXT, THOUGHT = "probetext says", "probethought thinks"
ONE, TWO = "probe_one", "probe_two"
KEYS = ("probekeya", "probekeyb")

_ANY: Turn = {"description": "any", "type": ["string", "integer", "number", "boolean", "array", "object", "null"]}
_PARAMETERS: Turn = {"type": "object", "properties": {key: {"type": "string", "description": "any"} for key in KEYS}}
TOOLS: tuple[Turn, ...] = tuple(
    {"type": "function", "function": {"name": name, "description": "any", "parameters": _PARAMETERS}}
    for name in (ONE, TWO)
)


@dataclass(frozen=True)
class Call:
    """A call in a turn that is made up."""

    name: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True)
class Probe:
    """A turn that is made up."""

    content: str = ""
    reasoning: str | None = None
    calls: tuple[Call, ...] = ()


class Probes:
    """Renders probes. Where a template refuses one form of handing a call over, another is tried."""

    def __init__(self, render: Render, tools: Sequence[Turn] = TOOLS) -> None:
        self._render = render
        self._tools = tools
        self.named_ids = False
        """Ids hold the function's name, as Kimi's do: what is written of a call may be its id alone."""

    @cached_property
    def generation_prompt(self) -> str:
        """What the prompt of an answer ends with, and all before it. Raises what the template raises."""
        return self._render([_QUESTION], self._tools, add_generation_prompt=True)

    @cached_property
    def header(self) -> int:
        """Where the assistant's turn begins: up to there a prompt and a conversation with any answer are the same."""
        call = (Call(ONE, {KEYS[0]: "a"}),)
        turns = (Probe(TEXT), Probe(TEXT, THOUGHT), Probe(calls=call), Probe("", THOUGHT, call))
        whole = [rendered for turn in turns if (rendered := self._whole(turn)) is not None]
        return min(common_start(self.generation_prompt, rendered) for rendered in whole)

    def turn(self, probe: Probe) -> str | None:
        """What stands behind the header for this turn; None where the template refuses it."""
        whole = self._whole(probe)
        return None if whole is None else whole[self.header :]

    @cached_property
    def _behind(self) -> str:
        """What ends a turn of text."""
        return (self.turn(Probe(TEXT)) or "").rpartition(TEXT)[2]

    @property
    def turn_end(self) -> str:
        """The mark that ends a turn of text; empty where none does."""
        mark = first_mark(self._behind)
        return mark if mark[:1] in ("<", "[") else ""

    def answer(self, probe: Probe) -> str | None:
        """What a model would write for this turn: without what ends every turn; None where the template refuses it."""
        whole = self._whole(probe)
        if whole is None:
            return None
        prompt = self.generation_prompt
        written = whole[len(prompt) :] if whole.startswith(prompt) else whole[self.header :]
        written = written[: len(written) - common_end(written, self._behind)]
        before, end, rest = written.rpartition(self.turn_end) if self.turn_end else ("", "", "")
        return before if end and not _unmarked(rest) else written

    def opens(self, marks: Marks) -> bool:
        """Whether the generation prompt ends inside these marks."""
        prompts = (self.generation_prompt, self.generation_prompt[: self.header])
        return bool(marks.open) and any(prompt.rstrip().endswith(marks.open) for prompt in prompts)

    def _whole(self, probe: Probe) -> str | None:
        for as_text, null in itertools.product((False, True), (False, True)):
            if (as_text or null) and not probe.calls:
                break
            try:
                return self._render(
                    [_QUESTION, self._message(probe, as_text, null)], self._tools, add_generation_prompt=False
                )
            except Exception:  # noqa: S112 - a template can raise anything to say no
                continue
        return None

    def _message(self, probe: Probe, as_text: bool, null: bool) -> Turn:
        turn: Turn = {"role": "assistant", "content": None if null and not probe.content else probe.content}
        if probe.reasoning is not None:
            turn |= {"reasoning_content": probe.reasoning, "reasoning": probe.reasoning, "thinking": probe.reasoning}
        if probe.calls:
            turn["tool_calls"] = [
                {
                    "type": "function",
                    "id": f"functions.{call.name}:{index}" if self.named_ids else f"probeid{index:02}",
                    "function": {
                        "name": call.name,
                        "arguments": json.dumps(call.arguments) if as_text else dict(call.arguments),
                    },
                }
                for index, call in enumerate(probe.calls)
            ]
        return turn


def _unmarked(text: str) -> str:
    return "".join(piece for piece in pieces(text) if len(piece) == 1 or piece[0] + piece[-1] not in ("<>", "[]"))


_QUESTION: Turn = {"role": "user", "content": "probequestion asks"}
