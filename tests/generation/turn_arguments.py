"""Random arguments of calls: quotes, brackets, tags, line ends, half marks, other scripts, empty ones, nested ones."""

import random
from collections.abc import Iterator
from typing import Any

from rkllama_flask.generation.output.turn_form import TaggedCall, TurnForm
from rkllama_flask.generation.turns.probes import KEYS, ONE, TWO, Call

_WORDS = (
    "Paris",
    "a b",
    " padded ",
    "\n",
    "\t",
    '"',
    "'",
    '"""',
    "`",
    "```",
    "\\",
    "\\n",
    "\\u00e9",
    "{",
    "}",
    "[",
    "]",
)
_MORE = (
    "<b>",
    "</b>",
    "<",
    ">",
    "&",
    "|",
    "é",
    "漢字",
    "🙂",
    "ی",
    "1",
    "true",
    "null",
    "None",
    "True",
    "[1]",
    '{"a": 1}',
)
_MOST_PARTS = 5


def texts(form: TurnForm, chance: random.Random) -> Iterator[str]:
    """Texts made of everything that ends something somewhere, and of halves of this form's own marks."""
    marks = [part for part in _marks(form) if part]
    while True:
        parts = []
        for _ in range(chance.randrange(_MOST_PARTS)):
            mark = chance.choice(marks or ["<"])
            cut = mark[: chance.randrange(len(mark)) + 1] if chance.random() < 0.3 else ""
            parts.append(cut or chance.choice(_WORDS + _MORE))
        yield "".join(parts)


def arguments(form: TurnForm, chance: random.Random) -> Iterator[dict[str, Any]]:
    """Arguments of one call."""
    source = texts(form, chance)
    while True:
        keys = KEYS[: chance.choice((0, 1, 1, 2, 2, 2))]
        yield {key: _value(source, chance, 0) for key in keys}


def calls(form: TurnForm, chance: random.Random) -> Iterator[tuple[Call, ...]]:
    """One call, or two where the template writes several."""
    source = arguments(form, chance)
    while True:
        several = form.calls is not None and form.calls.between is not None and chance.random() < 0.2
        yield tuple(Call(name, next(source)) for name in (ONE, TWO)[: 2 if several else 1])


def _marks(form: TurnForm) -> Iterator[str]:
    if form.calls is None:
        return
    yield from (form.calls.begin.strip(), form.calls.end.strip(), (form.calls.between or "").strip())
    if isinstance(form.calls.call, TaggedCall):
        yield from (form.calls.call.close.strip(), form.calls.call.key.strip(), form.calls.call.separator.strip())


def _value(source: Iterator[str], chance: random.Random, depth: int) -> Any:
    kind = chance.randrange(8 if depth < 3 else 5)
    if kind < 3:
        return next(source)
    if kind == 3:
        return chance.choice((0, 1, -7, 12345678901, 0.5, -1e-9, 2.5e30))
    if kind == 4:
        return chance.choice((True, False))
    if kind == 5:
        return [_value(source, chance, depth + 1) for _ in range(chance.randrange(4))]
    if kind == 6:
        return [None, next(source)]
    return {next(source) or "k": _value(source, chance, depth + 1) for _ in range(chance.randrange(3))}
