"""Pictures that can be read without the text: what is shown stands in the title, who it is beside each line."""

import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from scripts.benchmarks.results import BARE, HTTP, Results, Series

COLOURS = {HTTP: "#0b6e99", BARE: "#c96a1b"}
GREY = "#666666"


def draw(results: Results, folder: Path) -> list[Path]:
    """Write each plot as SVG and PNG into `folder`; none, and a note in the results, without matplotlib."""
    try:
        import matplotlib as mpl
    except ImportError:
        results.notes.append("No plots: pip install -r requirements-benchmark.txt")
        return []
    mpl.use("agg")  # no display is asked for
    from matplotlib import pyplot

    paths = []
    for name, picture in _pictures(results, pyplot):
        for ending in ("svg", "png"):
            paths.append(folder / f"{name}.{ending}")
            picture.savefig(paths[-1], dpi=150, bbox_inches="tight")
        pyplot.close(picture)
    return paths


def _pictures(results: Results, pyplot: Any) -> Iterator[tuple[str, Any]]:
    if list(_at(results, "time to first token", HTTP, "prompt")):
        yield (
            "first-token",
            _lines(results, pyplot, "time to first token", "prompt", "Time to the first token", "ms", 1e3),
        )
        yield (
            "speed",
            _lines(results, pyplot, "tokens per second", "prompt", "Speed of the answer", "tokens per second", 1),
        )
    if list(_at(results, "time to first token", HTTP, "cache")):
        yield "caches", _caches(results, pyplot)
    if list(_at(results, "tokens per second, all together", HTTP, "clients")):
        yield "clients", _clients(results, pyplot)


def _lines(results: Results, pyplot: Any, what: str, kind: str, title: str, unit: str, factor: float) -> Any:
    """Medians as lines, up to the 95th percentile as a band, for HTTP and, where measured, the bare library."""
    picture, axes = _sheet(results, pyplot, f"{title} against the length of the prompt (cold, one client)")
    for source in (BARE, HTTP):
        series = sorted(_at(results, what, source, kind), key=lambda one: one.setting[kind])
        if not series:
            continue
        at = [_tokens(results, one, kind) for one in series]
        middle = [one.figure.median * factor for one in series]
        axes.plot(
            at, middle, marker="o", color=COLOURS[source], linestyle="--" if source == BARE else "-", label=source
        )
        axes.fill_between(at, middle, [one.figure.p95 * factor for one in series], color=COLOURS[source], alpha=0.15)
    for place, value in zip(at, middle, strict=True):
        axes.annotate(
            f"{value:,.0f}", (place, value), textcoords="offset points", xytext=(0, 7), ha="center", fontsize=8
        )
    axes.set_xlabel("tokens of the prompt")
    axes.set_ylabel(unit)
    axes.set_ylim(bottom=0)
    axes.set_xlim(left=0)
    axes.legend(frameon=False, title="line: median, band: up to the 95th percentile")
    return picture


def _caches(results: Results, pyplot: Any) -> Any:
    series = list(_at(results, "time to first token", HTTP, "cache"))
    tokens = results.find("prompt tokens", HTTP, **series[0].setting)
    length = f" of {tokens.figure.median:.0f} tokens" if tokens else ""
    picture, axes = _sheet(results, pyplot, f"Time to the first token of a prompt{length}, with and without caches")
    names = [textwrap.fill(one.setting["cache"], 24) for one in series]
    values = [one.figure.median * 1000 for one in series]
    bars = axes.barh(names, values, color=[GREY, *[COLOURS[HTTP]] * (len(series) - 1)])
    labels = []
    for one, value in zip(series, values, strict=True):
        faster = results.find("times faster than cold", HTTP, **one.setting)
        labels.append(f" {value:,.0f} ms" + (f", {faster.figure.median:.0f}x faster" if faster else ""))
    axes.bar_label(bars, labels, fontsize=9)
    axes.invert_yaxis()
    axes.set_xlabel("ms, median")
    axes.set_xlim(right=max(values) * 1.25)
    return picture


def _clients(results: Results, pyplot: Any) -> Any:
    picture, (speed, waits) = _sheet(
        results, pyplot, "Many clients at once: all are served, one after another", panels=2
    )
    series = list(_at(results, "tokens per second, all together", HTTP, "clients"))
    at = [str(one.setting["clients"]) for one in series]
    bars = speed.bar(at, [one.figure.median for one in series], color=COLOURS[HTTP])
    speed.bar_label(bars, [f"{one.figure.median:.0f}" for one in series], fontsize=8)
    speed.set_ylabel("tokens per second, all together")
    times = [results.find("time to first token", HTTP, **one.setting) for one in series]
    figures = [one.figure for one in times if one]
    waits.plot(at, [one.median for one in figures], marker="o", color=COLOURS[HTTP], label="median")
    waits.fill_between(
        at,
        [one.median for one in figures],
        [one.p95 for one in figures],
        color=COLOURS[HTTP],
        alpha=0.15,
        label="to p95",
    )
    waits.set_ylabel("wait for the first token, s")
    waits.set_ylim(bottom=0)
    waits.legend(frameon=False, loc="upper left")
    for axes in (speed, waits):
        axes.set_xlabel("clients that ask at the same moment")
    return picture


def _sheet(results: Results, pyplot: Any, title: str, *, panels: int = 1) -> tuple[Any, Any]:
    picture, axes = pyplot.subplots(1, panels, figsize=(8, 4.5), layout="constrained")
    machine = f"{results.model} on {results.environment.get('machine', 'an unknown machine')}"
    picture.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    for number, one in enumerate(axes if panels > 1 else [axes]):
        one.set_title(machine if not number else "", loc="left", fontsize=8, color=GREY)
        for side in ("top", "right"):
            one.spines[side].set_visible(False)
        one.grid(visible=True, axis="both", color="#e5e5e5", linewidth=0.7)
        one.set_axisbelow(True)
    return picture, axes


def _tokens(results: Results, one: Series, kind: str) -> float:
    """The prompt's real length, which is only about what was wanted."""
    real = results.find("prompt tokens", HTTP, **one.setting)
    return real.figure.median if real else float(one.setting[kind])


def _at(results: Results, what: str, source: str, kind: str) -> Iterator[Series]:
    return (one for one in results.of(what, source) if kind in one.setting)
