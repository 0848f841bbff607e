"""What the machine says of itself in /proc and /sys: free memory, and the NPU's load and clock on a board.

Facts: Rockchip's rknpu driver writes `NPU load:  Core0:  0%, Core1:  0%, Core2:  0%,` on chips with several cores and
`NPU load:  0%` on the others, readable for root alone; the clock's device is named `<address>.npu`.
"""

import re
from pathlib import Path
from typing import NamedTuple

_CORE = re.compile(r"(?:Core(\d+):)?\s*(\d+)\s*%")


class Clock(NamedTuple):
    """A frequency and its upper limit, in Hz."""

    now: int
    limit: int


class Board:
    """`root` is where /proc and /sys are. What can't be read is empty or None: no board, or no permission."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root

    def npu_load(self) -> dict[str, float]:
        """How busy each core of the NPU is, from 0 to 1."""
        text = _read(self._root / "sys/kernel/debug/rknpu/load")
        return {core or "0": int(percent) / 100 for core, percent in _CORE.findall(text)}

    def npu_clock(self) -> Clock | None:
        """The NPU's clock."""
        for device in sorted(self._root.glob("sys/class/devfreq/*.npu")):
            now, limit = _read(device / "cur_freq").strip(), _read(device / "max_freq").strip()
            if now.isdecimal() and limit.isdecimal():
                return Clock(int(now), int(limit))
        return None

    def available_memory(self) -> int | None:
        """Bytes that could be had without swapping, by the kernel's own estimate."""
        found = re.search(r"^MemAvailable:\s+(\d+) kB", _read(self._root / "proc/meminfo"), re.MULTILINE)
        return int(found[1]) * 1024 if found else None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
