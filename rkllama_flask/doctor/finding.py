"""What an examination says."""

from dataclasses import dataclass
from enum import Enum


class Level(Enum):
    """ERROR: no answers, or wrong ones, until it is mended. WARNING: it works, but badly or not for long."""

    OK = "ok"
    NOTE = "note"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: what it is like, and what to do about it (empty if nothing)."""

    level: Level
    subject: str
    says: str
    do: str = ""


def by_importance(findings: list[Finding]) -> list[Finding]:
    """Those that ask for something: errors, then warnings, then notes, each in the order they were looked at."""
    order = (Level.ERROR, Level.WARNING, Level.NOTE)
    return sorted((one for one in findings if one.do), key=lambda one: order.index(one.level))
