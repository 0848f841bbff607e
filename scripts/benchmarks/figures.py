"""What many measurements of one thing come to: median, 95th and 99th percentile, and how many there were."""

import math
from collections.abc import Sequence
from typing import NamedTuple


class Figure(NamedTuple):
    """In the unit of its measurements. A median of two values in the middle lies between them."""

    median: float
    p95: float
    p99: float
    count: int  # type: ignore[assignment]  # hides tuple.count, which nobody needs here

    @classmethod
    def of(cls, values: Sequence[float]) -> "Figure":
        """Raises ValueError where nothing was measured: there is no figure then."""
        if not values:
            raise ValueError("nothing was measured")
        return cls(percentile(values, 50), percentile(values, 95), percentile(values, 99), len(values))


def percentile(values: Sequence[float], percent: float) -> float:
    """With straight lines between neighbours, as spreadsheets do."""
    ordered = sorted(values)
    place = (len(ordered) - 1) * percent / 100
    below = math.floor(place)
    above = math.ceil(place)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)
