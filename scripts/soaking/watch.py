"""What the process that serves holds: memory and descriptors by /proc, greenlets by its own count."""

import json
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

PATIENCE = 20.0
"""Seconds in which what clients left behind has to be gone."""


@dataclass(frozen=True)
class Holding:
    """`rss` in bytes, the rest counts. `native` are threads of the operating system."""

    pid: int
    rss: int
    descriptors: int
    native: int
    greenlets: int

    def __str__(self) -> str:
        return (
            f"{self.rss / 2**20:.1f} MiB, {self.descriptors} descriptors, {self.native} threads, "
            f"{self.greenlets} greenlets"
        )


def worker_of(master: int) -> int | None:
    """The process under gunicorn's master, None while there is none."""
    children = Path(f"/proc/{master}/task/{master}/children").read_text().split()
    return int(children[-1]) if children else None


def rss_of(pid: int) -> int:
    """Resident bytes; 0 for a process that is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
    except (OSError, IndexError):
        return 0


def holding_of(pid: int, counts: Path) -> Holding:
    """All of it; raises TimeoutError where the process does not answer its signal."""
    counts.unlink(missing_ok=True)
    os.kill(pid, signal.SIGRTMIN)
    deadline = time.monotonic() + PATIENCE
    while not counts.exists():
        if time.monotonic() > deadline:
            raise TimeoutError("the worker does not count its greenlets")
        time.sleep(0.02)
    told = json.loads(counts.read_text())
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return Holding(
        pid=pid,
        rss=rss_of(pid),
        descriptors=len(list(Path(f"/proc/{pid}/fd").iterdir())),
        native=int(status["Threads"]),
        greenlets=told["greenlets"],
    )
