"""Ollama's own kinds of fields, each read into one type."""

import math
import re
from collections.abc import Mapping
from typing import Any

from marshmallow import ValidationError, fields

from rkllama_flask.generation.request import JsonFormat

_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)")
_LEVELS = ("high", "medium", "low", "max")


class KeepAlive(fields.Field[float]):
    """Seconds: a number, or one of Go's durations such as `1h30m`; negative means for ever."""

    def _deserialize(self, value: Any, *_args: Any, **_kwargs: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise ValidationError(f"has an unsupported type: '{type(value).__name__}'")
        seconds = _seconds(value) if isinstance(value, str) else float(value)
        return math.inf if seconds < 0 else seconds


def _seconds(text: str) -> float:
    unsigned = text.removeprefix("-") if text.startswith("-") else text.removeprefix("+")
    if unsigned == "0":
        return 0.0
    parts = _PART.findall(unsigned)
    if not parts or "".join(number + unit for number, unit in parts) != unsigned:
        missing = unsigned.replace(".", "", 1).isdecimal()
        raise ValidationError(
            f'time: missing unit in duration "{text}"' if missing else f'time: invalid duration "{text}"'
        )
    total = sum(float(number) * _UNITS[unit] for number, unit in parts)
    return -total if text.startswith("-") else total


class Think(fields.Field[bool | str]):
    """true, false, or a level."""

    def _deserialize(self, value: Any, *_args: Any, **_kwargs: Any) -> bool | str:
        if isinstance(value, bool) or value in _LEVELS:
            return value  # type: ignore[no-any-return]
        raise ValidationError('must be a boolean or string ("high", "medium", "low", "max", true, or false)')


class Format(fields.Field[JsonFormat | None]):
    """`"json"` or a JSON Schema; an empty text is none."""

    def _deserialize(self, value: Any, *_args: Any, **_kwargs: Any) -> JsonFormat | None:
        if value == "":
            return None
        if value == "json":
            return JsonFormat()
        if isinstance(value, Mapping):
            return JsonFormat(value)
        raise ValidationError('must be "json" or a valid JSON Schema object')


class WholeNumber(fields.Field[int]):
    """Any JSON number, cut to a whole one, as Ollama reads its integer options."""

    def _deserialize(self, value: Any, *_args: Any, **_kwargs: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) >= 2**63:
            raise ValidationError("must be of type integer")
        return int(value)


class Arguments(fields.Field[Mapping[str, Any]]):
    """A call's arguments: an object, never text."""

    def _deserialize(self, value: Any, *_args: Any, **_kwargs: Any) -> Mapping[str, Any]:
        if not isinstance(value, Mapping):
            raise ValidationError("must be an object")
        return value
