"""A long conversation with calls, the same for every client, and a model of any family that plays its part in it.

Each question tells the scripted runtime what to write, in the way that the model's family writes calls, and so does the
result of each call: another call, or the answer.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from rkllama_flask.generation.prompt.templates import ChatTemplate
from rkllama_flask.generation.turns import probes as probing
from rkllama_flask.generation.turns.readings import probes_for

SYSTEM = "You look things up and take notes. Call a function where one helps."

Arguments = dict[str, Any]


class Call(NamedTuple):
    """`arguments["step"]` tells it from all others."""

    name: str
    arguments: Arguments


class Turn(NamedTuple):
    """A question, the calls that each round of it makes, and the answer at its end."""

    question: str
    rounds: tuple[tuple[Call, ...], ...]
    answer: str


class Said(NamedTuple):
    """What a client has seen of a turn: its answer, and how many tokens of each prompt of it came from the cache.

    That is None of one that doesn't show it.
    """

    answer: str
    cached: tuple[int, ...] | None


Way = Callable[[Sequence[Call]], str]
"""How a family writes calls."""


def _objects(calls: Sequence[Call], key: str = "arguments") -> list[str]:
    return [json.dumps({"name": name, key: arguments}, ensure_ascii=False) for name, arguments in calls]


def _hermes(calls: Sequence[Call]) -> str:
    return "\n".join(f"<tool_call>\n{one}\n</tool_call>" for one in _objects(calls))


def _python(calls: Sequence[Call]) -> str:
    written = (f"{name}({', '.join(f'{key}={value!r}' for key, value in given.items())})" for name, given in calls)
    return "```tool_code\n" + "\n".join(written) + "\n```"


def _gemma(value: Any) -> str:
    if isinstance(value, str):
        return f'<|"|>{value}<|"|>'
    if isinstance(value, list):
        return f"[{','.join(map(_gemma, value))}]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{_gemma(one)}" for key, one in value.items()) + "}"
    return json.dumps(value)


WAYS: Mapping[str, Way] = {
    "llama-3.2-3b": lambda calls: "; ".join(_objects(calls, "parameters")),
    "qwen3-4b": lambda calls: f"<think>\nI should look.\n</think>\n\n{_hermes(calls)}",
    "mistral-7b-v0.3": lambda calls: f"[TOOL_CALLS] [{', '.join(_objects(calls))}]",
    "gemma-3-4b": _python,
    "phi-4-mini": lambda calls: f"<|tool_call|>[{', '.join(_objects(calls))}]<|/tool_call|>",
    "granite-3.3-2b": lambda calls: f"<|tool_call|>[{', '.join(_objects(calls))}]",
    "gemma-4-e2b": lambda calls: "".join(
        f"<|tool_call>call:{name}{_gemma(given)}<tool_call|>" for name, given in calls
    ),
}
"""By models whose names choose the built-in template of their family; TEMPLATES has those that bring their own."""

TEMPLATES: Mapping[str, str] = {
    "granite-3.3-2b": """
{%- macro turn(role, text) -%}
<|start_of_role|>{{ role }}<|end_of_role|>{{ text }}<|end_of_text|>
{% endmacro -%}
{%- if messages[0].role == 'system' -%}
    {{- turn('system', messages[0].content) -}}
    {%- set messages = messages[1:] -%}
{%- endif -%}
{%- if tools -%}{{- turn('available_tools', tools | tojson(indent=2)) -}}{%- endif -%}
{%- for message in messages -%}
    {%- if message.tool_calls -%}
        {%- set written = message.tool_calls | map(attribute='function') | list | tojson -%}
        {{- turn('assistant', (message.content or '') + '<|tool_call|>' + written) -}}
    {%- else -%}
        {{- turn('tool_response' if message.role == 'tool' else message.role, message.content) -}}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}<|start_of_role|>assistant<|end_of_role|>{%- endif -%}
""",
    "gemma-4-e2b": """
{%- macro write(value) -%}
    {%- if value is string -%}<|"|>{{ value }}<|"|>
    {%- elif value is mapping -%}
        {
        {%- for key, one in value | items -%}{{ key }}:{{ write(one) }}{{ '' if loop.last else ',' }}{%- endfor -%}
        }
    {%- elif value is sequence -%}
        [{%- for one in value -%}{{ write(one) }}{{ '' if loop.last else ',' }}{%- endfor -%}]
    {%- else -%}{{ value | tojson }}
    {%- endif -%}
{%- endmacro -%}
{%- if tools -%}
    <|turn>system
    {%- for tool in tools -%}<|tool>declaration:{{ tool.function.name }}{{ write(tool.function) }}<tool|>{%- endfor -%}
    <turn|>
{% endif -%}
{%- for message in messages -%}
    {%- if message.role == 'tool' -%}
        <|tool_response>response:{{ message.name or 'function' }}{{ write({'value': message.content}) }}<tool_response|>
    {%- else -%}
        <|turn>{{ 'model' if message.role == 'assistant' else message.role }}
        {{- '\n' + (message.content or '') -}}
        {%- for call in message.tool_calls or () -%}
            <|tool_call>call:{{ call.function.name }}{{ write(call.function.arguments) }}<tool_call|>
        {%- endfor -%}
        <turn|>
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}<|turn>model{{ '\n' }}{%- endif -%}
""",
}

_FOUND = Path(__file__).parents[1] / "generation" / "data" / "turns"
FOUND = {
    name: (_FOUND / f"{name}.jinja").read_text()
    for name in (
        *("arg-key-value", "array-with-id-behind", "fenced-behind-a-name", "id-between", "name-as-key"),
        *("parameters-on-lines", "parameters-shielded", "python-lines", "section-with-suffixed-marks"),
    )
}
"""Templates in whose way no family of WAYS writes calls."""


def as_template_writes(template: str) -> Way:
    """What a model says that writes calls as this template writes them."""
    probes = probes_for(ChatTemplate(template))

    def write(calls: Sequence[Call]) -> str:
        if not calls:
            return ""
        made = tuple(probing.Call(name, arguments) for name, arguments in calls)
        return probes.answer(probing.Probe(calls=made)) or ""

    return write


WITHOUT_TOOLS = ("gemma-3-4b",)
"""Families whose template has no place for tools: Ollama's API refuses those, as Ollama does."""


@dataclass
class Stage:
    """One conversation. `made` are the calls that the client has carried out so far."""

    turns: list[Turn]
    results: dict[int, str]
    made: list[Call] = field(default_factory=list)

    def search(self, step: int, query: str, limits: dict[str, int]) -> str:
        """Look something up.

        Args:
            step: The number of this call.
            query: What to look for.
            limits: How much of it is wanted.
        """
        return self.carry_out("search", {"step": step, "query": query, "limits": limits})

    def note(self, step: int, text: str, tags: list[str], urgent: bool) -> str:
        """Write something down.

        Args:
            step: The number of this call.
            text: What is to be remembered.
            tags: Words to find it by.
            urgent: Whether it matters now.
        """
        return self.carry_out("note", {"step": step, "text": text, "tags": tags, "urgent": urgent})

    def carry_out(self, name: str, arguments: Arguments) -> str:
        """The result of a call."""
        self.made.append(Call(name, arguments))
        return self.results[arguments["step"]]

    def expected(self) -> list[Call]:
        return [call for turn in self.turns for calls in turn.rounds for call in calls]


def set_stage(way: Way, *, turns: int) -> Stage:
    """A conversation of so many turns: mostly one call each, sometimes two at once, or one after the other, or none."""
    stage, steps = Stage([], {}), iter(range(1, 10 * turns))
    for number in range(1, turns + 1):
        rounds = tuple(tuple(_call(next(steps)) for _ in range(width)) for width in _WIDTHS[number % len(_WIDTHS)])
        answer = f"Answer {number}: “{number * number}” — all is well."
        plays = [*(way(calls) for calls in rounds), f"{_thoughts(way)}{answer}"]
        question = f"Question {number}: what's new in Łódź? {_playing(plays[0])}"
        for calls, then in zip(rounds, plays[1:], strict=True):
            for call in calls:
                step = call.arguments["step"]
                stage.results[step] = f'Result {step}:\n\t{{"found": {step}}} – ok. {_playing(then)}'
        stage.turns.append(Turn(question, rounds, answer))
    return stage


_WIDTHS = ((1,), (1,), (2,), (1, 1), (1,), (), (2, 1))
"""How many calls each round of a turn makes."""


def _call(step: int) -> Call:
    if step % 3:
        limits = {"most": step, "fewest": 0}
        return Call("search", {"step": step, "query": f'the "best" café №{step}, C:\\tmp', "limits": limits})
    tags = [f"tag {step}", "naïve 😀"]
    return Call("note", {"step": step, "text": f"line {step}\nand its end", "tags": tags, "urgent": step % 2 == 0})


def _thoughts(way: Way) -> str:
    return "<think>\nNow I know.\n</think>\n\n" if "<think>" in way(()) else ""


def _playing(text: str) -> str:
    return f"<<script text={quote(text)}>>"


def texts_of(stage: Stage) -> Iterator[str]:
    """All that was said up to the last answer, in order."""
    for number, turn in enumerate(stage.turns):
        yield turn.question
        for calls in turn.rounds:
            for call in calls:
                yield from (text for text in call.arguments.values() if isinstance(text, str))
            yield from (stage.results[call.arguments["step"]] for call in calls)
        if number < len(stage.turns) - 1:
            yield turn.answer


def find_in_order(prompt: str, texts: Iterator[str]) -> str | None:
    """The first of the texts that doesn't stand behind those before it, as it is or as JSON or Python writes it."""
    at = 0
    for text in texts:
        forms = (text, json.dumps(text, ensure_ascii=False)[1:-1], json.dumps(text)[1:-1], repr(text)[1:-1])
        places = [place + len(form) for form in forms if (place := prompt.find(form, at)) >= 0]
        if not places:
            return text
        at = min(places)
    return None
