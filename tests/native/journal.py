"""What the scripted runtime wrote down, read back: RKLLM_SCRIPT_LOG's lines as values."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote


@dataclass(frozen=True)
class Entry:
    """One call or callback. `ns` is CLOCK_MONOTONIC; `values` are strings, None where the runtime had a NULL."""

    ns: int
    pid: int
    thread: int
    what: str
    values: dict[str, str | None]

    def __getitem__(self, key: str) -> str | None:
        return self.values[key]

    def number(self, key: str) -> float:
        return float(self.values[key] or 0)


def parse(lines: Iterable[str]) -> list[Entry]:
    """The entries of a journal's lines, in their order."""
    entries = []
    for line in lines:
        ns, pid, thread, what, *words = line.split(" ")
        pairs = (word.partition("=") for word in words if word)
        values = {key: None if value == "%00" else unquote(value) for key, _, value in pairs}
        entries.append(Entry(int(ns), int(pid), int(thread), what, values))
    return entries


def read(path: Path) -> list[Entry]:
    """The entries of a journal; none if it was never begun."""
    return parse(path.read_text().splitlines()) if path.exists() else []
