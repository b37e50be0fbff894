"""A thread pool that works ahead and gives results in the order of the items."""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")
# How many items per thread are started before the result of the first one is taken.
ITEMS_AHEAD_PER_JOB = 4


class StoppedError(BaseException):
    """Raised in a worker thread whose result is no longer needed.

    Not an `Exception`, so that no handler for the errors of one item catches it.
    """


def map_in_order(
    work: Callable[[ItemT, Callable[[], None]], ResultT],
    items: Iterable[ItemT],
    *,
    jobs: int,
    name: str,
) -> Generator[tuple[ItemT, Future[ResultT]]]:
    """Apply a function to items in threads; yield each item with its future, in order.

    `Executor.map` submits all items at once before Python 3.14, and ends at the first error.
    Here each error stays in the future of its item. Closing the generator cancels the items that
    wait, stops those that run, and returns when all threads have ended.

    `work(item, check_stop)` should call `check_stop()` now and then, which raises `StoppedError`
    once the generator is closed. The items are read in the calling thread, at most
    `ITEMS_AHEAD_PER_JOB` ahead for each of the `jobs` threads, whose names begin with `name`.
    """
    stopping = threading.Event()

    def check_stop() -> None:
        if stopping.is_set():
            raise StoppedError

    upcoming = iter(items)
    pending: deque[tuple[ItemT, Future[ResultT]]] = deque()
    pool = ThreadPoolExecutor(jobs, name)
    try:
        while True:
            for item in itertools.islice(upcoming, jobs * ITEMS_AHEAD_PER_JOB - len(pending)):
                pending.append((item, pool.submit(work, item, check_stop)))
            if not pending:
                return
            yield pending.popleft()
    finally:
        stopping.set()
        pool.shutdown(wait=True, cancel_futures=True)
