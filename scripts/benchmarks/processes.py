"""What a server takes of the machine, as the kernel counts it: memory and processor time of its processes."""

import os
from collections.abc import Iterable
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def tree(pid: int) -> list[int]:
    """The process and all that descend from it."""
    children: dict[int, list[int]] = {}
    for one in _numbers():
        children.setdefault(_parent(one), []).append(one)
    found = [pid]
    for one in found:
        found += children.get(one, [])
    return found


def pss_mb(pids: Iterable[int]) -> float | None:
    """Memory in MB, with each shared page split among those that share it; None where the kernel won't tell."""
    total = 0
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            return None
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1024


def cpu_seconds(pids: Iterable[int]) -> float:
    """Processor time so far, in the program and in the kernel."""
    total = 0
    for pid in pids:
        fields = _stat(pid)
        if fields:
            total += int(fields[11]) + int(fields[12])
    return total / _TICKS


def listening(port: int) -> int | None:
    """The first process on this machine that listens on a TCP port; None where that can't be seen."""
    sockets = set()
    for table in ("tcp", "tcp6"):
        path = Path(f"/proc/net/{table}")
        if path.exists():
            rows = [line.split() for line in path.read_text().splitlines()[1:]]
            sockets |= {
                f"socket:[{row[9]}]" for row in rows if row[3] == "0A" and int(row[1].split(":")[1], 16) == port
            }
    holders = [pid for pid in _numbers() if sockets & _files(pid)]
    return next((pid for pid in holders if _parent(pid) not in holders), None)


def _numbers() -> list[int]:
    return sorted(int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())


def _files(pid: int) -> set[str]:
    try:
        return {str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir()}
    except OSError:  # another user's, or gone meanwhile
        return set()


def _parent(pid: int) -> int:
    fields = _stat(pid)
    return int(fields[1]) if fields else 0


def _stat(pid: int) -> list[str]:
    """What follows the name, which may hold anything."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
