"""Fields of Ollama's that other dialects take too: how long a model stays, and whether to think.

What they refuse, they refuse with InvalidRequest at once, so that the text stays Ollama's own.
"""

import json
import math
import re
from typing import Any

from marshmallow import fields

from rkllama_flask.errors import InvalidRequest

LEVELS = ("high", "medium", "low", "max")
_LEVELS = '"high", "medium", "low", "max", true, or false'

_FOR_EVER = 100 * 365.25 * 86400  # from here on a duration has no end: timers take hardly more
_UNITS = {"ns": 1, "us": 1e3, "\u00b5s": 1e3, "\u03bcs": 1e3, "ms": 1e6, "s": 1e9, "m": 60e9, "h": 3600e9}
_TERM = re.compile(r"(\d+\.?\d*|\.\d+)([^\d.]*)", re.ASCII)


class KeepAlive(fields.Field[float]):
    """Seconds as a number, or a Go duration; read into seconds, infinite for a negative one."""

    def _deserialize(self, value: Any, *_args: Any, **_kwargs: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise InvalidRequest(f"Unsupported type: '{type(value).__name__}'", param="keep_alive")
        try:
            return keep_alive_seconds(parse_duration(value) if isinstance(value, str) else float(value))
        except OverflowError:
            return keep_alive_seconds(-1)
        except ValueError as error:
            raise InvalidRequest(str(error), param="keep_alive") from error


class Think(fields.Field[bool | str]):
    """Whether to think, or how hard."""

    def _deserialize(self, value: Any, *_args: Any, **_kwargs: Any) -> bool | str:
        if isinstance(value, bool):
            return value
        if not isinstance(value, str):
            raise InvalidRequest(f"think must be a boolean or string ({_LEVELS})", param="think")
        if value not in LEVELS:
            raise InvalidRequest(
                f"invalid think value: {json.dumps(value, ensure_ascii=False)} (must be {_LEVELS})", param="think"
            )
        return value


def parse_duration(text: str) -> float:
    """Seconds of a Go duration: `300ms`, `1h30m`, `-1m`, `0`. Raises ValueError in Go's own words."""
    unsigned = text[1:] if text[:1] in ("-", "+") else text
    if unsigned == "0":
        return 0.0
    nanoseconds, at = 0.0, 0
    while at < len(unsigned):
        term = _TERM.match(unsigned, at)
        if term is None:
            break
        number, unit = term.groups()
        if not unit:
            raise ValueError(f"time: missing unit in duration {_quoted(text)}")
        if unit not in _UNITS:
            raise ValueError(f"time: unknown unit {_quoted(unit)} in duration {_quoted(text)}")
        nanoseconds += float(number) * _UNITS[unit]
        at = term.end()
    if at < len(unsigned) or not unsigned or nanoseconds >= 2**63:
        raise ValueError(f"time: invalid duration {_quoted(text)}")
    return math.copysign(nanoseconds / 1e9, -1 if text[0] == "-" else 1)


def keep_alive_seconds(seconds: float) -> float:
    """How long a model stays: anything below 0 means for ever, which is infinity."""
    return math.inf if not 0 <= seconds < _FOR_EVER else seconds


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
