"""Steps of a long task: bars on a terminal, one line each elsewhere."""

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from tqdm import tqdm


def follow(steps: Iterable[dict[str, Any]]) -> None:
    """Show steps until they end."""
    if sys.stdout.isatty():
        _draw(steps)
    else:
        _list(steps)


Count = Callable[[int], object]
"""Told how many bytes have come since it was told last."""


@contextmanager
def counted(status: str, total: int) -> Iterator[Count]:
    """Show how far a step of so many bytes is."""
    if not sys.stdout.isatty():
        print(f"{status} ({total} bytes)", flush=True)
        yield lambda _: None
        return
    with _bar(status, total) as bar:
        yield bar.update


def _bar(status: str, total: int, begun: int = 0) -> Any:
    """`begun` bytes were there already, and don't count as speed."""
    return tqdm(total=total, initial=begun, desc=status, unit="B", unit_scale=True, file=sys.stdout, dynamic_ncols=True)


def _draw(steps: Iterable[dict[str, Any]]) -> None:
    bars: dict[str, Any] = {}
    last = ""
    with ExitStack() as stack:
        for step in steps:
            status = step["status"]
            if "total" not in step:
                if status != last:
                    tqdm.write(status, file=sys.stdout)
            else:
                if status not in bars:
                    bars[status] = stack.enter_context(_bar(status, step["total"], step.get("completed", 0)))
                bar = bars[status]
                bar.update(step.get("completed", 0) - bar.n)
            last = status


def _list(steps: Iterable[dict[str, Any]]) -> None:
    last = ""
    for step in steps:
        if step["status"] != last:
            last = step["status"]
            total = f" ({step['total']} bytes)" if "total" in step else ""
            print(f"{last}{total}", flush=True)
