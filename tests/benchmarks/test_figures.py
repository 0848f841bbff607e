"""Percentiles as everybody knows them, ratios of neighbours only, and nothing out of nothing."""

import pytest

from scripts.benchmarks.figures import Figure, paired, percentile


def test_a_figure_is_median_tail_and_count() -> None:
    assert Figure.of([float(n) for n in range(1, 101)]) == pytest.approx((50.5, 95.05, 99.01, 100))


def test_one_value_is_its_own_median_and_tail() -> None:
    assert Figure.of([3.0]) == (3.0, 3.0, 3.0, 1)


def test_order_does_not_matter() -> None:
    assert percentile([3, 1, 2], 50) == 2


def test_nothing_measured_is_no_figure() -> None:
    with pytest.raises(ValueError, match="nothing"):
        Figure.of([])


def test_ratios_are_of_pairs_so_a_slow_minute_cancels_out() -> None:
    assert paired([2.0, 20.0, 200.0], [1.0, 10.0, 100.0]).p95 == 2.0


def test_pairs_are_complete() -> None:
    with pytest.raises(ValueError, match="zip"):
        paired([1.0, 2.0], [1.0])
