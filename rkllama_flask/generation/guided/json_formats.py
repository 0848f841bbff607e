"""The string formats that are checked: those that OpenAI's structured output names, and a few that cost nothing."""

import calendar
import datetime
import ipaddress
import re
from collections.abc import Callable
from typing import NamedTuple

_TIME = r"([01]\d|2[0-3]):[0-5]\d:([0-5]\d|60)(\.\d+)?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)"
_HOSTNAME = r"(?=.{1,253}\Z)[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*"
_PATTERNS = {
    "time": _TIME,
    "date-time": rf"(?P<date>\d{{4}}-\d{{2}}-\d{{2}})[Tt]{_TIME}",
    "duration": r"P(?=.)(\d+W|(\d+Y)?(\d+M)?(\d+D)?(T(?=\d)(\d+H)?(\d+M)?(\d+S)?)?)",
    "email": rf"[A-Za-z0-9.!#$%&'*+/=?^_`{{|}}~-]{{1,64}}@{_HOSTNAME}",
    "hostname": _HOSTNAME,
    "uri": r"[A-Za-z][A-Za-z0-9+.-]*:[^\s<>\"{}|\\^`]+",
}
_COMPILED = {name: re.compile(pattern, re.ASCII) for name, pattern in _PATTERNS.items()}
_PARSERS: dict[str, Callable[[str], object]] = {
    "date": datetime.date.fromisoformat,
    "ipv4": ipaddress.IPv4Address,
    "ipv6": ipaddress.IPv6Address,
}

EXAMPLES = {
    "date": "YYYY-MM-DD",
    "time": "hh:mm:ssZ",
    "date-time": "YYYY-MM-DDThh:mm:ssZ",
    "duration": "P1DT2H",
    "email": "name@example.com",
    "hostname": "example.com",
    "uri": "https://example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uuid": "123e4567-e89b-12d3-a456-426614174000",
}
"""What a text of a format looks like, by the format's name: every format that is checked."""


class Digits(NamedTuple):
    """What stands before some digits, how many they are, and the bounds of their value."""

    before: str
    number: int
    lowest: int
    highest: int


MOST_DAYS = 31
"""The highest day of some month."""

_DATE = (Digits("", 4, 1, 9999), Digits("-", 2, 1, 12), Digits("-", 2, 1, MOST_DAYS))
_CLOCK = (Digits("", 2, 0, 23), Digits(":", 2, 0, 59), Digits(":", 2, 0, 59))
PARTS: dict[str, tuple[tuple[Digits, ...], str]] = {
    "date": (_DATE, ""),
    "time": (_CLOCK, "Z"),
    "date-time": ((*_DATE, _CLOCK[0]._replace(before="T"), *_CLOCK[1:]), "Z"),
}
"""Formats of digits with something fixed between them, and what stands at their end."""


def highest_day(date: str) -> int:
    """The last day of the month that a date begins with: `2024-02-` has 29."""
    year, month = date.split("-")[:2]
    return calendar.monthrange(int(year), int(month))[1]


def format_problem(name: str | None, text: str) -> str | None:
    """Why the text is not of this format, None if it is; other formats are no more than a remark in a schema."""
    if name not in EXAMPLES or _is_of(name, text):
        return None
    return f"It is no {name}."


def _is_of(name: str, text: str) -> bool:
    if name == "uuid":
        return re.fullmatch(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", text) is not None
    try:
        if name in _PARSERS:
            _PARSERS[name](text)
            return name != "date" or len(text) == 10  # Python reads more of ISO 8601 than RFC 3339 has
        match = _COMPILED[name].fullmatch(text)
        if match and name == "date-time":
            datetime.date.fromisoformat(match.group("date"))
    except ValueError:
        return False
    return match is not None
