"""Tables, sizes and times, as people read them."""

from collections.abc import Sequence
from datetime import datetime, timezone

_CONTROLS = dict.fromkeys([*range(32), *range(127, 160)])
_HARMLESS = {ord("\n"): "\n", ord("\t"): "\t"}


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns under their heads, two blanks between them."""
    lines = [tuple(head), *map(tuple, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def size(count: int) -> str:
    """Bytes in decimal units: `1.3 GB`."""
    for unit, letters in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if count >= unit:
            return f"{count / unit:.1f} {letters}"
    return f"{count} B"


def day(text: str) -> str:
    """A moment as day and minute, where the terminal is."""
    return datetime.fromisoformat(text).astimezone().strftime("%Y-%m-%d %H:%M")


def left(text: str, now: datetime | None = None) -> str:
    """How long it is until a moment: `4m 10s`, `for ever`."""
    seconds = int((datetime.fromisoformat(text) - (now or datetime.now(timezone.utc))).total_seconds())
    if seconds > 10 * 365 * 86400:
        return "for ever"
    hours, minutes = divmod(max(0, seconds) // 60, 60)
    if hours:
        return f"{hours}h {minutes}m"
    return f"{minutes}m {max(0, seconds) % 60}s"


def harmless(text: str) -> str:
    """Text without the characters that could make a terminal do something."""
    return text.translate(_CONTROLS | _HARMLESS)
