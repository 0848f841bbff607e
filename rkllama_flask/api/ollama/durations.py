"""Moments as Ollama writes them, in RFC 3339."""

import time
from datetime import datetime, timezone

NEVER = 292 * 365.25 * 86400
"""Seconds: as far ahead as Go can count, which is what clients are shown of a model that stays."""


def utc_now() -> str:
    """This moment as replies carry it: UTC, with a fraction of nine digits."""
    seconds, nanoseconds = divmod(time.time_ns(), 10**9)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{nanoseconds:09d}Z"


def local_time(moment: float) -> str:
    """A moment in Unix seconds, with this machine's offset."""
    return datetime.fromtimestamp(moment, timezone.utc).astimezone().isoformat(timespec="microseconds")
