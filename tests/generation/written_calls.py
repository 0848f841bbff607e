"""Calls as models of each family write them, with a mark where each of them is finished: where it can't go on."""

import json
import random
from collections.abc import Callable, Sequence
from typing import Any

from rkllama_flask.generation.request import Tool

END = "\0"
"""Stands behind the last character of a call's arguments."""

TOOLS = (
    Tool(
        "get_weather",
        parameters={
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer"}, "where": {"type": "object"}},
        },
    ),
    Tool("get", parameters={"type": "object", "properties": {"key": {"type": "string"}}}),
    Tool("now"),
)

Call = tuple[str, dict[str, Any]]
Write = Callable[[Sequence[Call]], str]


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _object(call: Call, arguments: str = "arguments") -> str:
    return f'{{"name": "{call[0]}", "{arguments}": {_json(call[1])}{END}}}'


def _python(call: Call) -> str:
    return f"{call[0]}({', '.join(f'{key}={_literal(value)}' for key, value in call[1].items())}){END}"


def _literal(value: Any) -> str:
    """As Python writes it, but for strings, which have JSON's escapes."""
    match value:
        case bool() | None:
            return str(value)
        case dict():
            return "{" + ", ".join(f"{_json(key)}: {_literal(one)}" for key, one in value.items()) + "}"
        case list():
            return f"[{', '.join(map(_literal, value))}]"
    return _json(value)


def _quoted(value: Any, quote: str) -> str:
    """As Gemma's models write values: keys bare, strings between marks."""
    match value:
        case dict():
            return "{" + ",".join(f"{key}:{_quoted(one, quote)}" for key, one in value.items()) + "}"
        case list():
            return f"[{','.join(_quoted(one, quote) for one in value)}]"
        case str():
            return f"{quote}{value}{quote}"
    return _json(value)


def _tags(call: Call) -> str:
    parameters = "".join(
        f"<parameter={key}>\n{value if isinstance(value, str) else _json(value)}\n</parameter>\n"
        for key, value in call[1].items()
    )
    return f"<function={call[0]}>\n{parameters}</function>{END}"


def _each(before: str, write: Callable[[Call], str], after: str, between: str = "") -> Write:
    return lambda calls: between.join(f"{before}{write(call)}{after}" for call in calls)


def _all(before: str, write: Callable[[Call], str], after: str, between: str = ", ") -> Write:
    return lambda calls: f"{before}{between.join(map(write, calls))}{after}"


def _llama(call: Call) -> str:
    return _object(call, "parameters")


def _deepseek(before: str, after: str) -> Write:
    def one(call: Call) -> str:
        return f"{before.format(call[0])}{_json(call[1])}{END}{after}<｜tool▁call▁end｜>"

    return _all("<｜tool▁calls▁begin｜>", one, "<｜tool▁calls▁end｜>", "\n")


DIALECTS: dict[str, Write] = {
    "hermes": _each("<tool_call>\n", _object, "\n</tool_call>", "\n"),
    "hermes, one tag": _all("<tool_call>\n", _object, "\n</tool_call>", "\n"),
    "hermes, a list": _all("<tool_call>[", _object, "]</tool_call>"),
    "hermes, fenced": _each("<tool_call>\n```json\n", _object, "\n```\n</tool_call>", "\n"),
    "hermes, arguments first": _each(
        "<tool_call>\n", lambda call: f'{{"arguments": {_json(call[1])}, "name": "{call[0]}"}}{END}', "\n</tool_call>"
    ),
    "hermes, arguments in a string": _each(
        "<tool_call>\n",
        lambda call: f'{{"name": "{call[0]}", "arguments": {_json(_json(call[1]))}}}{END}',
        "\n</tool_call>",
    ),
    "qwen3-coder": _each("<tool_call>\n", _tags, "\n</tool_call>", "\n"),
    "qwen3-coder, bare": _each("", _tags, "\n", "\n"),
    "llama3": _all("", _llama, "", "; "),
    "llama3, lines": _all("", _llama, "", "\n"),
    "llama3, python_tag": _all("<|python_tag|>", _llama, "<|eom_id|>", "; "),
    "llama3, function tags": _each(
        "", lambda call: f"<function={call[0]}>{_json(call[1])}{END}", "</function>", between="\n"
    ),
    "llama3, pythonic": _all("[", _python, "]"),
    "llama3, call": _all("<|python_tag|>", lambda call: _python(call).replace("(", ".call(", 1), "<|eom_id|>", "; "),
    "mistral": _all("[TOOL_CALLS] [", _object, "]</s>"),
    "mistral, args": _each("[TOOL_CALLS]", lambda call: f"{call[0]}[ARGS]{_json(call[1])}{END}", ""),
    "mistral, ids": _each("[TOOL_CALLS]", lambda call: f"{call[0]}[CALL_ID]a1[ARGS]{_json(call[1])}{END}", ""),
    "gemma, tool_code": _all("```tool_code\n", _python, "\n```", "\n"),
    "gemma, print": _all("```tool_code\n", lambda call: f"print({_python(call)})", "\n```", "\n"),
    "functiongemma": _each(
        "<start_function_call>",
        lambda call: f"call:{call[0]}{_quoted(call[1], '<escape>')}{END}",
        "<end_function_call>",
    ),
    "gemma4": _each("<|tool_call>", lambda call: f"call:{call[0]}" + _quoted(call[1], '<|"|>') + END, "<tool_call|>"),
    "deepseek": _deepseek("<｜tool▁call▁begin｜>function<｜tool▁sep｜>{}\n```json\n", "\n```"),
    "deepseek-v3.1": _deepseek("<｜tool▁call▁begin｜>{}<｜tool▁sep｜>", ""),
    "phi": _all("<|tool_call|>[", _object, "]<|/tool_call|>"),
    "phi, functools": _all("functools[", _object, "]"),
    "internlm2": _each("<|action_start|><|plugin|>\n", _llama, "<|action_end|>", "\n"),
    "minicpm": _all("<|tool_call_start|>\n```python\n", _python, "\n```\n<|tool_call_end|>", "\n"),
    "lfm2": _all("<|tool_call_start|>[", _python, "]<|tool_call_end|>"),
    "granite, lines": _all("", _python, "", "\n"),
    "bare list": _all("[", _object, "]"),
    "fenced": _all("```json\n[", _object, "]\n```"),
    "fenced, plain": _all("```\n", _object, "\n```", "\n"),
    "openai": _all("[", lambda call: f'{{"type": "function", "id": "x", "function": {_object(call)}}}', "]"),
}
"""How each family writes several calls of one turn."""


_SCRAPS = [
    *"\"'\\{}[]():,;=<>`/ \n",
    "Ö",
    "🦙",
    "e\u0301",
    "a",
    "7",
    "null",
    "</",
    "tool_call>",
    "```json",
    "name",
    "://",
]


def random_calls(rng: random.Random, dialect: str) -> list[Call]:
    """Up to three calls with whatever that family's way of writing can hold."""
    bare = "coder" in dialect or "gemma4" in dialect or "functiongemma" in dialect
    return [_random_call(rng, bare=bare) for _ in range(rng.randint(1, 3))]


def _random_call(rng: random.Random, *, bare: bool) -> Call:
    name = rng.choice(TOOLS).name
    keys = rng.sample(["city", "days", "where", "key", "other"], rng.randint(0, 3))
    return name, {key: _random_value(rng, 2, bare=bare) for key in keys}


def _random_value(rng: random.Random, depth: int, *, bare: bool) -> Any:
    kind = rng.randint(0, 6 if depth else 4)
    if kind <= 1:
        text = "".join(rng.choices(_SCRAPS, k=rng.randint(0, 8)))
        # Between tags and marks nothing is escaped: what ends a value there can't stand in one.
        return "".join(character for character in text if character not in "<\n").strip() if bare else text
    if kind == 5:
        return [_random_value(rng, depth - 1, bare=bare) for _ in range(rng.randint(0, 3))]
    if kind == 6:
        return {key: _random_value(rng, depth - 1, bare=bare) for key in rng.sample("abc", rng.randint(0, 3))}
    return rng.choice([None, True, False, 0, -12, 123456, 0.5, -2.5e-7])
