"""Measured rows beside the bars they should keep to."""

from collections.abc import Sequence
from typing import NamedTuple

from scripts.benchmarks.figures import Figure


class Row(NamedTuple):
    """One line of the result. `bars` are what the median and the tail (a name of Figure's) should keep to.

    Where more is better `at_least` says so.
    """

    name: str
    unit: str
    figure: Figure
    bars: tuple[float, ...] = ()
    tail: str = ""
    at_least: bool = False

    @property
    def kept(self) -> bool:
        """Whether every bar is; a row may have none, and be there to compare with."""
        measured = (self.figure.median, getattr(self.figure, self.tail) if self.tail else 0.0)
        pairs = zip(measured, self.bars, strict=False)
        return all(got >= bar if self.at_least else got <= bar for got, bar in pairs)


def table(rows: Sequence[Row]) -> str:
    """The rows as Markdown."""
    lines = ["| figure | median | p95 | p99 | n | bar | |", "| --- | ---: | ---: | ---: | ---: | ---: | --- |"]
    for row in rows:
        median, p95, p99, count = row.figure
        bar = " / ".join(f"{value:,g}" for value in row.bars)
        bar = f"{'≥' if row.at_least else '≤'} {bar}" + (f" ({row.tail})" if row.tail else "")
        mark = "kept" if row.kept else "missed"
        if not row.bars:
            bar = mark = ""
        lines.append(
            f"| {row.name}, {row.unit} | {_show(median)} | {_show(p95)} | {_show(p99)} | {count} | {bar} | {mark} |"
        )
    return "\n".join(lines)


def _show(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
