"""The ordered thread pool."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from vggish.common.ordered import ITEMS_AHEAD_PER_JOB, StoppedError, map_in_order


def test_results_are_in_the_order_of_the_items() -> None:
    def work(item: int, check_stop: Callable[[], None]) -> int:
        time.sleep(0.01 if item % 3 == 0 else 0.0)
        return item * item

    results = [
        (item, future.result()) for item, future in map_in_order(work, range(20), jobs=4, name="t")
    ]
    assert results == [(item, item * item) for item in range(20)]


def test_error_is_returned_with_its_item() -> None:
    def work(item: int, check_stop: Callable[[], None]) -> float:
        return 1 / item

    results = map_in_order(work, [1, 0, 2], jobs=2, name="t")
    errors = [future.exception() for _, future in results]
    assert [type(error) for error in errors] == [type(None), ZeroDivisionError, type(None)]


def test_items_are_read_a_bounded_number_ahead() -> None:
    read: list[int] = []

    def items() -> Iterator[int]:
        for item in range(100):
            read.append(item)
            yield item

    results = map_in_order(lambda item, check_stop: item, items(), jobs=2, name="t")
    for n_taken in (1, 2, 3):
        next(results)
        assert len(read) == 2 * ITEMS_AHEAD_PER_JOB + n_taken - 1
    results.close()


def test_closing_stops_running_items_and_cancels_waiting_ones() -> None:
    started: list[int] = []
    stopped: list[int] = []
    running = threading.Event()

    def work(item: int, check_stop: Callable[[], None]) -> None:
        started.append(item)
        if item == 0:
            return
        running.set()
        try:
            while True:
                check_stop()
                time.sleep(0.001)
        except StoppedError:
            stopped.append(item)
            raise

    results = map_in_order(work, range(8), jobs=2, name="t")
    next(results)
    assert running.wait(10)
    results.close()
    assert stopped
    assert set(started) - {0} == set(stopped)
    assert len(started) < 8


def test_a_consumer_that_fails_ends_the_threads() -> None:
    def consume() -> None:
        for _ in map_in_order(lambda item, check_stop: item, range(9), jobs=3, name="consumed"):
            raise KeyError

    with pytest.raises(KeyError):
        consume()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("consumed")]
