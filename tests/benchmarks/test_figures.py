"""Percentiles as everybody knows them, and nothing out of nothing."""

import pytest

from scripts.benchmarks.bars import Row, table
from scripts.benchmarks.figures import Figure, percentile


def test_a_figure_is_median_tail_and_count() -> None:
    assert Figure.of([float(n) for n in range(1, 101)]) == pytest.approx((50.5, 95.05, 99.01, 100))


def test_one_value_is_its_own_median_and_tail() -> None:
    assert Figure.of([3.0]) == (3.0, 3.0, 3.0, 1)


def test_order_does_not_matter() -> None:
    assert percentile([3, 1, 2], 50) == 2


def test_nothing_measured_is_no_figure() -> None:
    with pytest.raises(ValueError, match="nothing"):
        Figure.of([])


@pytest.mark.parametrize(("median", "tail", "kept"), [(1.0, 2.0, True), (1.1, 2.0, False), (1.0, 2.1, False)])
def test_a_bar_is_kept_only_if_median_and_tail_keep_it(median: float, tail: float, kept: bool) -> None:
    assert Row("lag", "ms", Figure(median, tail, 9.0, 5), (1.0, 2.0), "p95").kept is kept


def test_more_can_be_better() -> None:
    assert Row("rate", "/s", Figure(12.0, 12.0, 12.0, 1), (10.0,), at_least=True).kept
    assert "| ≥ 10 | kept |" in table([Row("rate", "/s", Figure(12.0, 12.0, 12.0, 1), (10.0,), at_least=True)])
