"""scripts/clocks on folders that look like boards."""

import subprocess
from pathlib import Path

import pytest

from tests import boards
from tests.serving import ROOT


def clocks(action: str, root: Path) -> subprocess.CompletedProcess[str]:
    command = [str(ROOT / "scripts" / "clocks"), action, "--root", str(root)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def contents(root: Path) -> dict[str, str]:
    return {str(path): path.read_text() for path in sorted((root / "sys").rglob("*")) if path.is_file()}


def read(root: Path, path: str) -> str:
    return (root / "sys" / path).read_text().strip()


@pytest.mark.parametrize(
    ("chip", "npu", "memory"),
    [
        ("rk3588", ("class/devfreq/fdab0000.npu/userspace/set_freq", "1000000000"), "2112000000"),
        ("rk3576", ("class/devfreq/27700000.npu/userspace/set_freq", "1000000000"), None),
        ("rk3562", ("kernel/debug/rknpu/freq", "1000000000"), "2112000000"),
        ("rv1126b", ("class/devfreq/22000000.npu/userspace/set_freq", "950000000"), "1332000000"),
    ],
)
def test_each_chip_gets_its_official_clocks_and_its_old_ones_back(
    chip: str, npu: tuple[str, str], memory: str | None, tmp_path: Path
) -> None:
    root = boards.board(tmp_path, chip, governor="ondemand")
    before = contents(root)
    done = clocks("fix", root)
    assert done.returncode == 0, done.stderr
    assert read(root, npu[0]) == npu[1]
    if memory is None:
        assert read(root, "class/devfreq/dmc/governor") == "performance"
    else:
        assert read(root, "class/devfreq/dmc/governor") == "userspace"
        assert read(root, "class/devfreq/dmc/userspace/set_freq") == memory
    for policy in boards.POLICIES[chip]:
        assert read(root, f"devices/system/cpu/cpufreq/policy{policy}/scaling_governor") == "performance"
    sleeps = read(root, "devices/system/cpu/cpu0/cpuidle/state1/disable")
    assert sleeps == ("1" if chip in ("rk3588", "rk3576") else "0")
    assert clocks("fix", root).returncode == 0  # a second time changes nothing, and keeps the first values
    assert clocks("restore", root).returncode == 0
    after = contents(root)
    governed = {path for path in before if not path.endswith("set_freq")}  # ruled by its governor
    assert {path: after[path] for path in governed} == {path: before[path] for path in governed}
    assert "Nothing to restore" in clocks("restore", root).stdout


def test_a_kernel_that_offers_less_gets_its_best(tmp_path: Path) -> None:
    root = boards.board(tmp_path, governor="ondemand", scales_memory=False)
    boards.write(root, "sys/class/devfreq/fdab0000.npu/available_frequencies", "300000000 900000000\n")
    done = clocks("fix", root)
    assert done.returncode == 0, done.stderr
    assert read(root, "class/devfreq/fdab0000.npu/governor") == "performance"
    assert "dmc: this kernel does not scale it" in done.stdout


@pytest.mark.parametrize("compatible", [None, "raspberrypi,5\0brcm,bcm2712\0"])
def test_other_machines_are_left_alone(compatible: str | None, tmp_path: Path) -> None:
    root = boards.laptop(tmp_path)
    if compatible:
        boards.write(root, "proc/device-tree/compatible", compatible)
    before = contents(root)
    done = clocks("fix", root)
    assert done.returncode == 1
    assert "Rockchip" in done.stderr or "RK3588" in done.stderr
    assert contents(root) == before


def test_show_tells_the_clocks_as_they_are(tmp_path: Path) -> None:
    shown = clocks("show", boards.board(tmp_path, governor="ondemand")).stdout
    assert "chip: rk3588" in shown
    assert "/sys/class/devfreq/dmc/cur_freq: 300000000" in shown
    assert "/sys/devices/system/cpu/cpufreq/policy6/scaling_governor: ondemand" in shown
