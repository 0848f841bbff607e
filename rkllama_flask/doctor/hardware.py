"""The chip, the NPU's driver and its device nodes, the clocks: read below a root that tests put elsewhere.

Facts: Rockchip's RKLLM manual and benchmark scripts, its library's messages, and what users measured on boards.
"""

import grp
import os
import pwd
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rkllama_flask.doctor.finding import Finding, Level
from rkllama_flask.machine.platforms import QUANTIZATIONS, this_platform

GOOD_DRIVER = (0, 9, 8)
LEAST_DRIVER = (0, 9, 7)
USELESS_DRIVER = (0, 9, 0)
"""Older than this models load and their first computation fails."""

_VERSION_FILES = ("sys/kernel/debug/rknpu/version", "sys/module/rknpu/version")
_NPU_NODES = {"RK3588": "fdab0000.npu", "RK3576": "27700000.npu", "RK3562": "ff300000.npu", "RV1126B": "22000000.npu"}


@dataclass(frozen=True)
class Identity:
    """Who would open the devices."""

    name: str
    uid: int
    groups: frozenset[int]

    @classmethod
    def of(cls, name: str | None = None) -> "Identity":
        """A user by name, with the groups of the user database; without a name this process's. Raises KeyError."""
        if name is None:
            uid = os.geteuid()
            groups = frozenset({os.getegid(), *os.getgroups()})
            return cls(_user_name(uid), uid, groups)
        entry = pwd.getpwnam(name)
        return cls(name, entry.pw_uid, frozenset(os.getgrouplist(name, entry.pw_gid)))

    def may_use(self, path: Path) -> bool:
        """Whether the file's mode lets this user read and write it."""
        if self.uid == 0:
            return True
        stat = path.stat()
        shift = 6 if stat.st_uid == self.uid else 3 if stat.st_gid in self.groups else 0
        return stat.st_mode >> shift & 6 == 6


def examine(root: Path, who: Identity) -> Iterator[Finding]:
    """Findings about the hardware below `root`; on a machine without such an NPU only that there is none."""
    chip = this_platform(root / "proc")
    if chip is None:
        yield Finding(Level.NOTE, "chip", f"no Rockchip NPU ({', '.join(QUANTIZATIONS)}): models run on the CPU")
        return
    yield Finding(Level.OK, "chip", chip)
    yield _driver(root)
    yield _devices(root, who)
    yield from _clocks(root, chip)


def _driver(root: Path) -> Finding:
    version = _driver_version(root)
    if version is not None:
        return _judge_driver(version)
    if (root / "sys/bus/platform/drivers/rocket").exists():
        return Finding(
            Level.ERROR,
            "driver",
            "the kernel has the driver rocket, which RKLLM does not know",
            "Install an image with Rockchip's vendor kernel, whose driver is called rknpu.",
        )
    if _nodes(root):
        return Finding(
            Level.NOTE,
            "driver",
            "there, but its version can only be read by root",
            "To see the driver's version: sudo cat /sys/kernel/debug/rknpu/version (0.9.8 is recommended).",
        )
    return Finding(
        Level.ERROR,
        "driver",
        "the kernel has no NPU driver (rknpu)",
        "Try `sudo modprobe rknpu`; if that fails, install an image with Rockchip's vendor kernel.",
    )


def _judge_driver(version: tuple[int, ...]) -> Finding:
    text = f"rknpu {'.'.join(map(str, version))}"
    if version >= GOOD_DRIVER:
        return Finding(Level.OK, "driver", text)
    update = "Install a vendor image (Armbian or the board maker's) whose kernel has rknpu 0.9.8."
    if version < USELESS_DRIVER:
        return Finding(Level.ERROR, "driver", f"{text} is too old: models load, but can't compute", update)
    if version < LEAST_DRIVER:
        return Finding(Level.WARNING, "driver", f"{text} is old: larger models fail", update)
    return Finding(Level.NOTE, "driver", f"{text} works; 0.9.8 is recommended", update)


def _driver_version(root: Path) -> tuple[int, ...] | None:
    for name in _VERSION_FILES:
        match = re.search(r"(\d+)\.(\d+)\.(\d+)", _read(root / name))
        if match:
            return tuple(map(int, match.groups()))
    return None


def _nodes(root: Path) -> list[Path]:
    """The nodes that the library opens: one of its own with memory from the heaps, or a DRM node."""
    own = root / "dev/rknpu"
    if own.exists():
        return [own, *sorted((root / "dev/dma_heap").glob("system*"))]
    return sorted((root / "dev/dri").glob("renderD*"))


def _devices(root: Path, who: Identity) -> Finding:
    nodes = _nodes(root)
    if not nodes:
        return Finding(
            Level.ERROR,
            "devices",
            "there is neither /dev/rknpu nor /dev/dri/renderD*",
            "Load the driver first. In a container, hand the nodes in: docs/deployment.md.",
        )
    closed = [node for node in nodes if not who.may_use(node)]
    names = ", ".join(f"/{node.relative_to(root)}" for node in closed or nodes)
    if not closed:
        return Finding(Level.OK, "devices", f"{who.name} may use {names}")
    groups = {_group_name(node.stat().st_gid) for node in closed if node.stat().st_mode & 0o060 == 0o060}
    if len(groups) == 1 and "root" not in groups:
        do = f"sudo usermod -aG {groups.pop()} {who.name}, then log in again (or restart the service)."
    else:
        do = f"Give {names} to a group of {who.name}'s by a udev rule: docs/install-board.md, step 2."
    level = Level.WARNING if len(closed) < len(nodes) and nodes[0].name.startswith("renderD") else Level.ERROR
    return Finding(level, "devices", f"{who.name} may not use {names}", do)


def _clocks(root: Path, chip: str) -> Iterator[Finding]:
    sys = root / "sys"
    governors = {
        "NPU": _read(sys / "class/devfreq" / _NPU_NODES[chip] / "governor"),
        "memory": _read(sys / "class/devfreq/dmc/governor"),
    }
    for policy in sorted((sys / "devices/system/cpu/cpufreq").glob("policy*")):
        governors[f"CPU {policy.name.removeprefix('policy')}"] = _read(policy / "scaling_governor")
    known = {part: governor for part, governor in governors.items() if governor}
    if not known:
        return
    slow = {part: governor for part, governor in known.items() if governor not in ("performance", "userspace")}
    if not slow:
        yield Finding(Level.OK, "clocks", "fixed: " + ", ".join(known))
        return
    said = ", ".join(f"{part} {governor}" for part, governor in slow.items())
    worst = "powersave" in slow.values()
    yield Finding(
        Level.WARNING if worst else Level.NOTE,
        "clocks",
        f"governors: {said}",
        "For full speed: sudo scripts/clocks fix (a slow memory clock alone can halve the tokens per second).",
    )


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
