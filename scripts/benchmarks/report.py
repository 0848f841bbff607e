"""Results as a page that a person reads: first the table that all know, then every figure with its spread."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from scripts.benchmarks import plots
from scripts.benchmarks.results import BARE, HTTP, RATIO, Results, Series

WORTH_IT = 1.5
"""Times faster: a cache that spares less is not shown on the first page."""


def write(results: Results, folder: Path) -> list[Path]:
    """Write results.json, report.md and, where matplotlib is installed, plots; what was written."""
    folder.mkdir(parents=True, exist_ok=True)
    pictures = plots.draw(results, folder)
    data, page = folder / "results.json", folder / "report.md"
    results.write(data)
    page.write_text(markdown(results, [path.name for path in pictures]), encoding="utf-8")
    return [data, page, *pictures]


def markdown(results: Results, pictures: Sequence[str] = ()) -> str:
    """The report; `pictures` are shown where SVG files of these names lie beside it."""
    blocks = [f"# {results.model}", _summary(results)]
    blocks += [f"![{name.removesuffix('.svg')}]({name})" for name in pictures if name.endswith(".svg")]
    sections = (
        ("Prompt length (cold, one client)", _lengths(results, "prompt")),
        ("Answer length (cold, one client)", _lengths(results, "output")),
        ("Caches", _caches(results)),
        ("Clients at once", _clients(results)),
        ("The rest", _rest(results)),
    )
    blocks += [f"## {title}\n\n{table}" for title, table in sections if table]
    if results.notes:
        blocks.append("## What was not measured\n\n" + "\n".join(f"- {note}" for note in results.notes))
    blocks.append("## Measured on\n\n" + "\n".join(f"- {name}: {fact}" for name, fact in results.environment.items()))
    blocks.append(
        "Each figure is median / 95th percentile (count). Tokens are those the server reports, times those of the "
        "client's clock; ratios are made of neighbouring pairs. Warm-up is not counted."
    )
    return "\n\n".join(blocks) + "\n"


def _summary(results: Results) -> str:
    """The table of the project's front page: one line for the model, one for its best cache."""
    rate = _longest(results, "tokens per second", "output") or _longest(results, "tokens per second", "prompt")
    first = results.find("time to first token", HTTP, prompt=128) or _longest(results, "time to first token", "prompt")
    memory = results.find("memory (PSS), model loaded", HTTP)
    speed, wait = (f"**{rate.figure.median:.2f}**" if rate else "-"), (_ms(first) if first else "-")
    rows = [[results.model, speed, wait, f"{memory.figure.median:.0f} MB" if memory else "-", "measured"]]
    best = max(results.of("times faster than cold", HTTP), key=lambda one: one.figure.median, default=None)
    if best and best.figure.median >= WORTH_IT:
        cached = results.find("time to first token", HTTP, **best.setting)
        assert cached is not None
        faster = f"**{best.figure.median:.1f}x faster**: {best.setting['cache']}"
        rows.append([f"{results.model} + cache", "-", f"**{_ms(cached)}**", "-", faster])
    return table(["Model", "Tokens/sec", "TTFT", "Memory", "Status"], rows)


def _longest(results: Results, what: str, kind: str) -> Series | None:
    return max(
        (one for one in results.of(what, HTTP) if kind in one.setting), key=lambda one: one.setting[kind], default=None
    )


def _lengths(results: Results, kind: str) -> str:
    rows = []
    for one in _at(results, "time to first token", kind):
        setting = one.setting
        cells = [str(setting[kind])]
        for what, source, show in (
            ("prompt tokens", HTTP, _count),
            ("time to first token", HTTP, _ms_spread),
            ("time to first token", BARE, _ms_spread),
            ("tokens per second", HTTP, _rate),
            ("tokens per second", BARE, _rate),
            ("tokens per second", RATIO, _ratio),
            ("gap between tokens", HTTP, _ms_spread),
            ("gap between tokens", BARE, _ms_spread),
        ):
            cells.append(_shown(results.find(what, source, **setting), show))
        rows.append(cells)
    names = [f"{kind} tokens wanted", "prompt", "TTFT, HTTP", "TTFT, bare", "tokens/s, HTTP", "tokens/s, bare"]
    return table([*names, "HTTP ÷ bare", "gap, HTTP", "gap, bare"], rows)


def _caches(results: Results) -> str:
    rows = [
        [
            one.setting["cache"],
            _shown(results.find("prompt tokens", HTTP, **one.setting), _count),
            _shown(results.find("computed tokens", HTTP, **one.setting), _count),
            _ms_spread(one),
            _shown(results.find("times faster than cold", HTTP, **one.setting), _times),
        ]
        for one in _at(results, "time to first token", "cache")
    ]
    return table(["", "prompt", "computed", "TTFT", "faster than cold"], rows)


def _clients(results: Results) -> str:
    rows = [
        [
            str(one.setting["clients"]),
            _shown(results.find("tokens per second, all together", HTTP, **one.setting), _rate),
            _ms_spread(one),
        ]
        for one in _at(results, "time to first token", "clients")
    ]
    return table(["clients", "tokens/s, all together", "TTFT"], rows)


def _rest(results: Results) -> str:
    rows = [[one.what, one.source, f"{_plain(one)} {one.unit}"] for one in results.series if not one.setting]
    return table(["", "", "median / p95 (n)"], rows)


def _at(results: Results, what: str, kind: str) -> Iterator[Series]:
    return (one for one in results.of(what, HTTP) if kind in one.setting)


def _shown(series: Series | None, show: Callable[[Series], str]) -> str:
    return show(series) if series else "-"


def _ms(one: Series) -> str:
    return f"{one.figure.median * 1000:.0f} ms"


def _ms_spread(one: Series) -> str:
    median, p95, _, count = one.figure
    digits = 0 if median >= 0.1 else 1
    return f"{median * 1000:.{digits}f} / {p95 * 1000:.{digits}f} ms ({count})"


def _rate(one: Series) -> str:
    return f"{one.figure.median:.2f} / {one.figure.p95:.2f} ({one.figure.count})"


def _ratio(one: Series) -> str:
    return f"{one.figure.median:.3f} / {one.figure.p95:.3f} ({one.figure.count})"


def _times(one: Series) -> str:
    return f"{one.figure.median:.1f}x / {one.figure.p95:.1f}x ({one.figure.count})"


def _count(one: Series) -> str:
    return f"{one.figure.median:.0f}"


def _plain(one: Series) -> str:
    return f"{one.figure.median:.3g} / {one.figure.p95:.3g} ({one.figure.count})"


def table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; empty for no rows."""
    if not rows:
        return ""
    lines = [names, ["---"] * len(names), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
