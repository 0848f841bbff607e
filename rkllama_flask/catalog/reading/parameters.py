"""The names that PARAMETER takes: Ollama's options, and `pooling`, `input`, `eos`, `context` of our own."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from rkllama_flask.catalog.model import Modelfile
from rkllama_flask.sampling import Sampling

Kind = Literal["integer", "number", "boolean", "text", "texts", "integers"]


@dataclass(frozen=True)
class _Rule:
    kind: Kind
    least: float = -math.inf
    most: float = math.inf
    choices: tuple[str, ...] = ()


_RULES = {
    "num_ctx": _Rule("integer", 4, 1 << 24),
    "num_predict": _Rule("integer"),
    "temperature": _Rule("number", 0, 100),
    "top_k": _Rule("integer", 0, 1 << 30),
    "top_p": _Rule("number", 0, 1),
    "min_p": _Rule("number", 0, 1),
    "typical_p": _Rule("number", 0, 1),
    "repeat_last_n": _Rule("integer", -1),
    "repeat_penalty": _Rule("number", 0, 100),
    "frequency_penalty": _Rule("number", -2, 2),
    "presence_penalty": _Rule("number", -2, 2),
    "mirostat": _Rule("integer", 0, 2),
    "mirostat_tau": _Rule("number", 0),
    "mirostat_eta": _Rule("number", 0),
    "seed": _Rule("integer"),
    "stop": _Rule("texts"),
    "num_keep": _Rule("integer"),
    "num_batch": _Rule("integer"),
    "num_gpu": _Rule("integer"),
    "main_gpu": _Rule("integer"),
    "num_thread": _Rule("integer"),
    "use_mmap": _Rule("boolean"),
    "think": _Rule("boolean"),
    "pooling": _Rule("text", choices=("mean", "last")),
    "input": _Rule("text", choices=("auto", "text", "tokens")),
    "eos": _Rule("integers", 0, 1 << 31),
}
WITHOUT_EFFECT = frozenset(
    (
        *("use_mlock", "low_vram", "f16_kv", "numa", "logits_all", "vocab_only", "embedding_only", "num_gqa"),
        *("penalize_newline", "tfs_z", "draft_num_predict", "rope_frequency_base", "rope_frequency_scale"),
    )
)
"""Options that Ollama has or had, and that nothing here could follow: they are taken, and named."""
_SYNONYMS = {"context": "num_ctx"}
_SAMPLING = tuple(field.name for field in fields(Sampling))


def is_known(name: str) -> bool:
    """Whether there is a parameter of this name, in small letters."""
    return name in _RULES or name in _SYNONYMS


def convert(name: str, value: Any) -> tuple[str, Any]:
    """The parameter's own name and its value, from text or from JSON; lists for `stop` and `eos`.

    Raises ValueError with a sentence for an unknown name or a value that it can't have.
    """
    name = name.lower()
    name = _SYNONYMS.get(name, name)
    rule = _RULES.get(name)
    if rule is None:
        raise ValueError(f"unknown parameter '{name}'; known are {', '.join(sorted((*_RULES, *_SYNONYMS)))}")
    if rule.kind in ("texts", "integers"):
        items = list(value) if isinstance(value, list | tuple) else [value]
        return name, [_single(name, rule, item) for item in items]
    return name, _single(name, rule, value)


def _single(name: str, rule: _Rule, value: Any) -> Any:
    if rule.kind in ("text", "texts"):
        if not isinstance(value, str) or not value or (rule.choices and value not in rule.choices):
            wanted = f"one of {', '.join(rule.choices)}" if rule.choices else "a text"
            raise ValueError(f"parameter '{name}' must be {wanted}")
        return value
    if rule.kind == "boolean":
        known = {"true": True, "false": False, "1": True, "0": False}.get(str(value).lower())
        if known is None:
            raise ValueError(f"parameter '{name}' must be true or false")
        return known
    number = _number(name, value)
    if not rule.least <= number <= rule.most:
        raise ValueError(f"parameter '{name}' must be between {rule.least:g} and {rule.most:g}")
    if rule.kind == "number":
        return number
    if not number.is_integer():
        raise ValueError(f"parameter '{name}' must be a whole number")
    return int(number)


def _number(name: str, value: Any) -> float:
    try:
        number = float("nan" if isinstance(value, bool) else value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"parameter '{name}' must be a number")
    return number


def apply_parameters(parameters: Mapping[str, Any], modelfile: Modelfile) -> Modelfile:
    """The Modelfile with these parameters, and with everything that follows from them."""
    return replace(
        modelfile,
        parameters=dict(parameters),
        sampling=Sampling(**{name: parameters[name] for name in _SAMPLING if name in parameters}),
        stop=tuple(parameters.get("stop", ())),
        max_tokens=parameters.get("num_predict"),
        context_length=parameters.get("num_ctx"),
        pooling=parameters.get("pooling"),
        input=parameters.get("input", "auto"),
        eos_token_ids=tuple(parameters.get("eos", ())),
    )


def parameter_lines(parameters: Mapping[str, Any]) -> list[tuple[str, str | int | float | bool]]:
    """Name and value of each PARAMETER line: one per item where there are several."""
    return [
        (name, item) for name, value in parameters.items() for item in (value if isinstance(value, list) else [value])
    ]
