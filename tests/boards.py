"""Folders that look like /sys, /proc and /dev of a machine, as far as our tools read them."""

from pathlib import Path

POLICIES = {"rk3588": (0, 4, 6), "rk3576": (0, 4), "rk3562": (0,), "rv1126b": (0,)}
NODES = {"rk3588": "fdab0000.npu", "rk3576": "27700000.npu", "rk3562": "ff300000.npu", "rv1126b": "22000000.npu"}


def write(root: Path, path: str, text: str) -> Path:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def board(
    root: Path,
    chip: str = "rk3588",
    *,
    driver: str | None = "0.9.8",
    governor: str = "performance",
    memory_mib: int = 16384,
    device_mode: int = 0o660,
    scales_memory: bool = True,
) -> Path:
    """A board whose NPU answers; the keywords make it a worse one. Its device nodes are plain files."""
    write(root, "proc/device-tree/compatible", f"xunlong,some-board\0rockchip,{chip}\0")
    memory(root, memory_mib)
    if driver is not None:
        write(root, "sys/kernel/debug/rknpu/version", f"RKNPU driver: v{driver}\n")
        write(root, "sys/kernel/debug/rknpu/freq", "800000000\n")
        for node in ("dev/dri/renderD129", "dev/rknpu"):
            write(root, node, "").chmod(device_mode)
    devfreq(root, NODES[chip], governor="rknpu_ondemand" if governor != "performance" else governor)
    if scales_memory:
        devfreq(root, "dmc", governor="dmc_ondemand" if governor != "performance" else governor)
    for number in POLICIES[chip]:
        policy = f"sys/devices/system/cpu/cpufreq/policy{number}"
        write(root, f"{policy}/scaling_governor", f"{governor}\n")
        write(root, f"{policy}/scaling_cur_freq", "1800000\n")
    for cpu in range(8):
        write(root, f"sys/devices/system/cpu/cpu{cpu}/cpuidle/state1/disable", "0\n")
    return root


def devfreq(root: Path, node: str, *, governor: str) -> None:
    folder = f"sys/class/devfreq/{node}"
    write(root, f"{folder}/governor", f"{governor}\n")
    write(root, f"{folder}/available_governors", "rknpu_ondemand dmc_ondemand userspace powersave performance\n")
    write(root, f"{folder}/available_frequencies", "300000000 528000000 950000000 1000000000 1332000000 2112000000\n")
    write(root, f"{folder}/userspace/set_freq", "0\n")
    write(root, f"{folder}/cur_freq", "300000000\n")


def laptop(root: Path, *, memory_mib: int = 16384) -> Path:
    """A machine without an NPU."""
    memory(root, memory_mib)
    write(root, "sys/devices/system/cpu/cpufreq/policy0/scaling_governor", "schedutil\n")
    return root


def memory(root: Path, mib: int) -> None:
    write(root, "proc/meminfo", f"MemTotal: {mib * 1024} kB\nMemAvailable: {mib * 800} kB\n")
