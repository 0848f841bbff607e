"""Rockchip's NPUs: what they are called, which quantisations they run, and which one this machine has.

Facts: Rockchip's RKLLM manual. One file runs on one platform only.
"""

from pathlib import Path

QUANTIZATIONS = {
    "RK3588": ("W8A8",),
    "RK3576": ("W4A16", "W8A8"),
    "RK3562": ("W8A8", "W4A16", "W4A8"),
    "RV1126B": ("W4A16", "W8A8"),
}
"""By platform; groups (`W8A8_G128`) count as what they are groups of."""


def platform_of(text: str) -> str:
    """RK3588 for rk3588s, rk3588s2; RK3576 for rk3576m."""
    upper = text.upper()
    return next((name for name in (*QUANTIZATIONS, "RV1126") if upper.startswith(name)), upper)


def this_platform(proc: Path = Path("/proc")) -> str | None:
    """What this machine says it is in its device tree; None for one without such an NPU."""
    try:
        compatible = (proc / "device-tree" / "compatible").read_bytes()
    except OSError:
        return None
    chips = (item.rpartition(b",")[2].decode("ascii", "replace") for item in compatible.split(b"\0"))
    return next((name for chip in chips if (name := platform_of(chip)) in QUANTIZATIONS), None)
