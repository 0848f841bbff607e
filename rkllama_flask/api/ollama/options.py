"""The `options` of a request: what is honoured, what is only named, and what is refused."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from rkllama_flask.errors import InvalidRequest
from rkllama_flask.sampling import Sampling


class _Honoured(NamedTuple):
    """`kind` is Ollama's word for the type. Values outside `least` to `most` make no sense and are refused."""

    kind: str
    least: float
    most: float


_INT32 = 2**31 - 1
_SAMPLING = {
    "temperature": _Honoured("float32", 0, 100),
    "top_k": _Honoured("integer", -_INT32, _INT32),
    "top_p": _Honoured("float32", 0, 1),
    "repeat_penalty": _Honoured("float32", 0.01, 100),
    "presence_penalty": _Honoured("float32", -100, 100),
    "frequency_penalty": _Honoured("float32", -100, 100),
    "mirostat": _Honoured("integer", 0, 2),
    "mirostat_tau": _Honoured("float32", 0, 100),
    "mirostat_eta": _Honoured("float32", 0, 100),
}
_LIMITS = {
    "num_ctx": _Honoured("integer", -_INT32, 2**63),
    "num_predict": _Honoured("integer", -_INT32, 2**63),
}
_NAMED: dict[str, tuple[str, tuple[Any, ...]]] = {
    "seed": ("integer", (-1,)),
    "min_p": ("float32", (0,)),
    "typical_p": ("float32", (1,)),
    "tfs_z": ("float32", (1,)),
    "repeat_last_n": ("integer", ()),
    "penalize_newline": ("boolean", ()),
    "num_keep": ("integer", ()),
    "num_batch": ("integer", ()),
    "num_gpu": ("integer", (-1,)),
    "main_gpu": ("integer", (0,)),
    "num_thread": ("integer", (0,)),
    "draft_num_predict": ("integer", (0,)),
    "use_mmap": ("boolean", ()),
    "use_mlock": ("boolean", (False,)),
    "numa": ("boolean", (False,)),
    "low_vram": ("boolean", (False,)),
    "f16_kv": ("boolean", (True,)),
    "logits_all": ("boolean", (False,)),
    "vocab_only": ("boolean", (False,)),
    "embedding_only": ("boolean", (False,)),
}
"""The type of each, and the values that ask for nothing."""

HONOURED = (*_SAMPLING, *_LIMITS, "stop")
NAMED = tuple(_NAMED)


@dataclass(frozen=True)
class Options:
    """`num_ctx` and `num_predict` in tokens, None where they weren't sent; `num_predict` -1 means without limit."""

    sampling: Sampling = Sampling()
    stop: tuple[str, ...] = ()
    num_ctx: int | None = None
    num_predict: int | None = None
    unapplied: tuple[str, ...] = ()


def read_options(options: Mapping[str, Any]) -> Options:
    """Sort the options. Nulls and unknown names count as not sent. Raises InvalidRequest."""
    sampling: dict[str, Any] = {}
    limits: dict[str, int] = {}
    stop: tuple[str, ...] = ()
    unapplied = []
    for name, value in options.items():
        if value is None:
            continue
        if name in _SAMPLING:
            sampling[name] = _number(name, value, _SAMPLING[name])
        elif name in _LIMITS:
            limits[name] = int(_number(name, value, _LIMITS[name]))
        elif name == "stop":
            stop = _texts(value)
        elif name in _NAMED:
            kind, neutral = _NAMED[name]
            if _checked(name, value, kind) not in neutral:
                unapplied.append(name)
    if sampling.get("top_k", 1) <= 0:  # asks for all tokens, which no runtime here offers
        del sampling["top_k"]
        unapplied.append("top_k")
    num_ctx, num_predict = limits.get("num_ctx", 0), limits.get("num_predict")
    return Options(
        sampling=Sampling(**sampling),
        stop=stop,
        num_ctx=num_ctx if num_ctx > 0 else None,
        num_predict=num_predict if num_predict is None or num_predict > 0 else -1,
        unapplied=tuple(unapplied),
    )


def _number(name: str, value: Any, rule: _Honoured) -> int | float:
    number: int | float = _checked(name, value, rule.kind)
    if not rule.least <= number <= rule.most:
        raise _refused(f'option "{name}" must be between {rule.least:g} and {rule.most:g}', name)
    return int(number) if rule.kind == "integer" else float(number)


def _checked(name: str, value: Any, kind: str) -> Any:
    """The value, if it is of this kind; an integer may be any JSON number."""
    wanted = bool if kind == "boolean" else int | float
    if not isinstance(value, wanted) or (kind != "boolean" and isinstance(value, bool)):
        raise _refused(f'option "{name}" must be of type {kind}', name)
    return value


def _texts(value: Any) -> tuple[str, ...]:
    """A list of strings, or one; empty ones stop nothing."""
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, list):
        raise _refused('option "stop" must be of type array', "stop")
    if not all(isinstance(item, str) for item in items):
        raise _refused('option "stop" must be of an array of strings', "stop")
    return tuple(item for item in items if item)


def _refused(text: str, name: str) -> InvalidRequest:
    return InvalidRequest(text, param=f"options.{name}")
