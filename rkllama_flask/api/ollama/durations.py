"""Durations and moments as Ollama writes them: Go's `5m`, nanoseconds, RFC 3339."""

import json
import math
import re
import time
from datetime import datetime, timezone

NEVER = 292 * 365.25 * 86400
"""Seconds: as far ahead as Go can count, which is what clients are shown of a model that stays."""

_FOR_EVER = 100 * 365.25 * 86400  # from here on a duration has no end: timers take hardly more

_UNITS = {"ns": 1, "us": 1e3, "\u00b5s": 1e3, "\u03bcs": 1e3, "ms": 1e6, "s": 1e9, "m": 60e9, "h": 3600e9}
_TERM = re.compile(r"(\d+\.?\d*|\.\d+)([^\d.]*)", re.ASCII)


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


def utc_now() -> str:
    """This moment as replies carry it: UTC, with a fraction of nine digits."""
    seconds, nanoseconds = divmod(time.time_ns(), 10**9)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{nanoseconds:09d}Z"


def local_time(moment: float) -> str:
    """A moment in Unix seconds, with this machine's offset."""
    return datetime.fromtimestamp(moment, timezone.utc).astimezone().isoformat(timespec="microseconds")


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
