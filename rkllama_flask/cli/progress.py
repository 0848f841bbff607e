"""Steps of a long task: bars on a terminal, one line each elsewhere."""

import sys
from collections.abc import Iterable
from contextlib import ExitStack
from typing import Any

from tqdm import tqdm


def follow(steps: Iterable[dict[str, Any]]) -> None:
    """Show steps until they end."""
    if sys.stdout.isatty():
        _draw(steps)
    else:
        _list(steps)


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
                    bars[status] = stack.enter_context(
                        tqdm(
                            total=step["total"],
                            initial=step.get("completed", 0),  # what was there already doesn't count as speed
                            desc=status,
                            unit="B",
                            unit_scale=True,
                            file=sys.stdout,
                            dynamic_ncols=True,
                        )
                    )
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
