"""What a figure depends on: the machine, its clocks, the driver, and the versions of all that took part."""

import os
import platform
import re
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from scripts.benchmarks.client import Client, ServerError

UNKNOWN = "unknown"

_DRIVER = ("/sys/kernel/debug/rknpu/version", "/proc/rknpu/version")


def describe(client: Client | None = None, *, runtime: Path | None = None, root: Path = Path("/")) -> dict[str, Any]:
    """Each fact by its name, "unknown" where neither the kernel nor the server tells it."""
    facts = {
        "when": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": _machine(root),
        "processors": os.cpu_count() or UNKNOWN,
        "clocks": _clocks(root),
        "memory_mb": _memory_mb(root),
        "npu": _npu(root),
        "npu_driver": next((text for path in _DRIVER if (text := _read(root, path))), UNKNOWN),
        "load": " ".join(_read(root, "/proc/loadavg").split()[:3]) or UNKNOWN,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "runtime": _version(runtime),
    }
    if client is not None:
        facts["server"] = _server(client)
    return facts


def _machine(root: Path) -> str:
    board = _read(root, "/proc/device-tree/model")
    soc = _read(root, "/proc/device-tree/compatible").split("\0")[-1].rpartition(",")[2]
    if board:
        return f"{board} ({soc})" if soc else board
    named = re.search(r"^model name\s*:\s*(.+)$", _read(root, "/proc/cpuinfo"), re.MULTILINE)
    return f"{named.group(1)} ({platform.machine()})" if named else platform.machine() or UNKNOWN


def _clocks(root: Path) -> str:
    """Each group of cores: governor, and how fast it runs of what it could."""
    found = []
    for policy in sorted((root / "sys/devices/system/cpu/cpufreq").glob("policy*")):
        governor = _text(policy / "scaling_governor") or UNKNOWN
        now, most = (_text(policy / name) for name in ("scaling_cur_freq", "cpuinfo_max_freq"))
        speed = f" {int(now) // 1000}/{int(most) // 1000} MHz" if now.isdecimal() and most.isdecimal() else ""
        found.append(f"{policy.name}: {governor}{speed}")
    return "; ".join(found) or UNKNOWN


def _npu(root: Path) -> str:
    for device in sorted((root / "sys/class/devfreq").glob("*npu*")):
        governor, now = _text(device / "governor"), _text(device / "cur_freq")
        return f"{governor or UNKNOWN}{f' {int(now) // 10**6} MHz' if now.isdecimal() else ''}"
    return UNKNOWN


def _memory_mb(root: Path) -> int | str:
    total = re.search(r"^MemTotal:\s*(\d+) kB", _read(root, "/proc/meminfo"), re.MULTILINE)
    return int(total.group(1)) // 1024 if total else UNKNOWN


def _version(runtime: Path | None) -> str:
    from rkllama_flask.errors import RkllamaError
    from rkllama_flask.runtime.library import find_version

    if runtime is None:
        return UNKNOWN
    try:
        return f"{runtime.name} {find_version(runtime)}"
    except (RkllamaError, OSError):
        return UNKNOWN


def _server(client: Client) -> str:
    """Its name and version, as far as it says."""
    try:
        reply = client.ask(client.request("GET", "/health"))
    except ServerError:
        return UNKNOWN
    told = reply.json
    version = told.get("version") if isinstance(told, dict) else None
    return f"{reply.headers.get('server', UNKNOWN)}{f', version {version}' if version else ''}"


def _read(root: Path, path: str) -> str:
    return _text(root / path.lstrip("/"))


def _text(path: Path) -> str:
    """What a file of the kernel's says; empty where there is none or it may not be read."""
    try:
        return path.read_text(errors="replace").strip("\0 \n")
    except OSError:
        return ""
