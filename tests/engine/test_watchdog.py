"""The watchdog: silence is found, slowness is left alone."""

import time
from _queue import Empty, SimpleQueue
from collections.abc import Iterator

import pytest

from rkllama_flask.engine.watchdog import Watchdog, prefill_allowance

LIMIT = 0.2


@pytest.fixture
def hangs() -> "SimpleQueue[float]":
    return SimpleQueue()


@pytest.fixture
def watchdog(hangs: "SimpleQueue[float]") -> Iterator[Watchdog]:
    watchdog = Watchdog(LIMIT, lambda: hangs.put(time.monotonic()))
    watchdog.start()
    yield watchdog
    watchdog.stop()


def silent(hangs: "SimpleQueue[float]") -> bool:
    try:
        hangs.get(timeout=2.5 * LIMIT)
    except Empty:
        return True
    return False


def test_a_call_that_neither_returns_nor_progresses_is_found_once(
    watchdog: Watchdog, hangs: "SimpleQueue[float]"
) -> None:
    begun = time.monotonic()
    with watchdog.watching(LIMIT):
        found = hangs.get(timeout=10) - begun
        assert 2 * LIMIT <= found < 20 * LIMIT
        assert silent(hangs)
    with watchdog.watching(0):  # and the next one is watched as well
        assert hangs.get(timeout=10)


def test_a_call_that_progresses_slowly_is_left_alone_and_found_when_it_stops(
    watchdog: Watchdog, hangs: "SimpleQueue[float]"
) -> None:
    begun = time.monotonic()

    def progress() -> int:
        return min(int((time.monotonic() - begun) / LIMIT * 2), 8)

    with watchdog.watching(0, progress):
        assert hangs.get(timeout=10) - begun > 4 * LIMIT


def test_a_call_that_is_allowed_more_and_one_that_has_returned_are_left_alone(
    watchdog: Watchdog, hangs: "SimpleQueue[float]"
) -> None:
    with watchdog.watching(100):
        assert silent(hangs)
    with watchdog.watching(0):
        pass
    assert silent(hangs)


def test_without_a_limit_nothing_is_watched(hangs: "SimpleQueue[float]") -> None:
    watchdog = Watchdog(0, lambda: hangs.put(0.0))
    watchdog.start()
    with watchdog.watching(0):
        assert silent(hangs)


def test_a_prompt_is_allowed_ten_times_what_was_measured_and_much_before() -> None:
    assert prefill_allowance(1000, None) == pytest.approx(100)
    assert prefill_allowance(1000, 5e6) == pytest.approx(50)
    assert prefill_allowance(1000, 1e3) == pytest.approx(20)
