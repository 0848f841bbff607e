"""The report says what was measured, tells bare from HTTP, and names what is missing."""

from pathlib import Path

import pytest

from scripts.benchmarks import report
from scripts.benchmarks.environment import describe
from scripts.benchmarks.processes import listening
from scripts.benchmarks.results import BARE, HTTP, RATIO, Results


@pytest.fixture
def results() -> Results:
    found = Results("tiny", {"machine": "RK3588", "npu_driver": "unknown"}, notes=["No named cache: 404"])
    for n in (16, 128):
        found.add("prompt tokens", HTTP, "tokens", [n], prompt=n)
        found.add("time to first token", HTTP, "s", [n / 100, n / 50], prompt=n)
        found.add("time to first token", BARE, "s", [n / 100], prompt=n)
        found.add("tokens per second", HTTP, "/s", [10.0, 12.0], prompt=n)
        found.add("tokens per second", RATIO, "", [0.99], prompt=n)
    for name, seconds in (("cold", 3.0), ("named cache", 0.1)):
        found.add("time to first token", HTTP, "s", [seconds], cache=name)
    found.add("times faster than cold", HTTP, "x", [30.0], cache="named cache")
    found.add("tokens per second, all together", HTTP, "/s", [11.0], clients=4)
    found.add("time to first token", HTTP, "s", [1.0, 2.0], clients=4)
    found.add("memory (PSS), model loaded", HTTP, "MB", [890.0])
    return found


def test_the_first_table_is_the_one_of_the_front_page(results: Results) -> None:
    lines = report.markdown(results).splitlines()
    assert lines[2:6] == [
        "| Model | Tokens/sec | TTFT | Memory | Status |",
        "| --- | --- | --- | --- | --- |",
        "| tiny | **11.00** | 1920 ms | 890 MB | measured |",
        "| tiny + cache | - | **100 ms** | - | **30.0x faster**: named cache |",
    ]


def test_each_figure_has_median_tail_and_count_and_what_is_missing_is_a_dash(results: Results) -> None:
    row = next(line for line in report.markdown(results).splitlines() if line.startswith("| 16 "))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[2:7] == ["240 / 312 ms (2)", "160 / 160 ms (1)", "11.00 / 11.90 (2)", "-", "0.990 / 0.990 (1)"]


def test_what_was_not_measured_and_where_is_said(results: Results) -> None:
    text = report.markdown(results)
    assert "- No named cache: 404" in text
    assert "- npu_driver: unknown" in text


def test_nothing_is_made_of_nothing(results: Results) -> None:
    results.add("model load", BARE, "s", [None])
    assert results.find("model load", BARE) is None


def test_results_plots_and_report_are_written_and_can_be_read_again(results: Results, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    names = {path.name for path in report.write(results, tmp_path)}
    assert {"results.json", "report.md", "first-token.svg", "caches.png", "clients.svg"} <= names
    assert all((tmp_path / name).stat().st_size > 500 for name in names)
    assert Results.read(tmp_path / "results.json").series == results.series


def test_a_file_that_holds_no_results_says_so(tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(ValueError, match=r"other\.json"):
        Results.read(tmp_path / "other.json")


def test_a_board_is_described_by_what_its_kernel_tells(tmp_path: Path) -> None:
    for path, text in {
        "proc/device-tree/model": "Orange Pi 5\0",
        "proc/device-tree/compatible": "xunlong,orangepi-5\0rockchip,rk3588s\0",
        "proc/meminfo": "MemTotal:       16000000 kB\n",
        "proc/loadavg": "0.10 0.20 0.30 1/100 5\n",
        "sys/kernel/debug/rknpu/version": "RKNPU driver: v0.9.8\n",
        "sys/devices/system/cpu/cpufreq/policy4/scaling_governor": "performance\n",
        "sys/devices/system/cpu/cpufreq/policy4/scaling_cur_freq": "2256000\n",
        "sys/devices/system/cpu/cpufreq/policy4/cpuinfo_max_freq": "2256000\n",
        "sys/class/devfreq/fdab0000.npu/governor": "rknpu_ondemand\n",
        "sys/class/devfreq/fdab0000.npu/cur_freq": "1000000000\n",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    facts = describe(root=tmp_path)
    assert facts["machine"] == "Orange Pi 5 (rk3588s)"
    assert facts["clocks"] == "policy4: performance 2256/2256 MHz"
    assert facts["npu"] == "rknpu_ondemand 1000 MHz"
    assert facts["npu_driver"] == "RKNPU driver: v0.9.8"
    assert (facts["memory_mb"], facts["load"]) == (15625, "0.10 0.20 0.30")


def test_what_nobody_tells_is_unknown(tmp_path: Path) -> None:
    facts = describe(root=tmp_path)
    assert {facts[name] for name in ("clocks", "npu", "npu_driver", "load", "runtime")} == {"unknown"}


def test_nobody_listens_on_a_port_that_is_closed() -> None:
    assert listening(1) is None
