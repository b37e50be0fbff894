"""Limits of concurrent work: slots, and a thread pool with a bounded queue and deadlines."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

from prometheus_client import Gauge

from service.problems import Problem
from vggish.errors import AudiotagError

T = TypeVar("T")


@dataclass(eq=False)
class Slots:
    """Slots for one kind of operation, `what` in messages. Used from one event loop."""

    limit: int
    what: str
    gauge: Gauge
    n_taken: int = 0

    @contextlib.contextmanager
    def take(self, retry_after_seconds: float) -> Iterator[None]:
        """Hold a slot for the duration of the block; raise Problem if all are taken."""
        if self.n_taken >= self.limit:
            raise Problem(
                "overloaded",
                f"the service is at its limit of {self.limit} {self.what}; try again later",
                retry_after_seconds=retry_after_seconds,
            )
        self.n_taken += 1
        self.gauge.inc()
        try:
            yield
        finally:
            self.n_taken -= 1
            self.gauge.dec()


class JobCancelledError(AudiotagError):
    """The caller no longer waits for the result of the job."""


@dataclass(eq=False)
class Job:
    """A job, as its work function sees it; its `deadline` is a time of `time.monotonic()`."""

    deadline: float
    queue_seconds: float = 0.0
    is_cancelled: bool = False
    created: float = field(default_factory=time.monotonic)

    def raise_if_stopped(self, *_: object) -> None:
        """Raise if nobody waits for the work any more; it calls this regularly (`on_progress`)."""
        if self.is_cancelled:
            raise JobCancelledError("the job was cancelled")
        if time.monotonic() > self.deadline:
            raise _deadline_problem()


@dataclass(eq=False)
class WorkerPool:
    """A thread pool with a bounded queue. Used from one event loop.

    Attributes:
        queue_size: maximum number of jobs that wait for a thread.
        timeout_seconds: time limit of a job, waiting included.
        on_change: called whenever `n_waiting` or `n_running` have changed.
    """

    n_threads: int
    queue_size: int
    timeout_seconds: float
    on_change: Callable[[WorkerPool], object] = lambda pool: None

    def __post_init__(self) -> None:
        self.n_running = 0
        self._executor = ThreadPoolExecutor(self.n_threads, "audiotag-worker")
        self._lock = threading.Lock()
        self._n_jobs = 0
        self._average_seconds = 0.1  # a moving average of the time that a job takes

    @property
    def n_waiting(self) -> int:
        """Number of jobs that wait for a thread."""
        return max(0, self._n_jobs - self.n_threads)

    @property
    def is_full(self) -> bool:
        """Whether the queue is full."""
        return self.n_waiting >= self.queue_size

    @property
    def retry_after_seconds(self) -> float:
        """Estimated time until the jobs that wait now are done."""
        return (self.n_waiting + 1) * self._average_seconds / self.n_threads

    def check_capacity(self) -> None:
        """Raise Problem if the queue is full."""
        if self.is_full:
            raise Problem(
                "overloaded",
                f"{self.n_waiting} requests are waiting already; try again later",
                retry_after_seconds=self.retry_after_seconds,
            )

    async def run(
        self,
        work: Callable[[Job], T],
        on_done: Callable[[], object] = lambda: None,
        *,
        ignore_limit: bool = False,
    ) -> T:
        """Run `work` in a thread and wait for it; raises what it raises, or Problem.

        Args:
            work: called with its job, whose `raise_if_stopped` it must call regularly.
            on_done: called when the work has ended or was dropped, in any case.
            ignore_limit: wait even if the queue is full; for callers that are few and run one job
                at a time.
        """
        try:
            if not ignore_limit:
                self.check_capacity()
        except Problem:
            on_done()
            raise
        job = Job(time.monotonic() + self.timeout_seconds)
        self._count(jobs=1)

        def end(_: Future[T]) -> None:
            self._count(jobs=-1)
            on_done()

        future = self._executor.submit(self._run, work, job)
        future.add_done_callback(end)
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), self.timeout_seconds)
        except (TimeoutError, asyncio.TimeoutError) as error:  # two classes before Python 3.11
            raise _deadline_problem() from error
        finally:
            job.is_cancelled = True

    async def close(self) -> None:
        """Wait for the running jobs; drop those that wait."""
        await asyncio.to_thread(self._executor.shutdown, wait=True, cancel_futures=True)

    def _run(self, work: Callable[[Job], T], job: Job) -> T:
        started = time.monotonic()
        self._count(running=1)
        try:
            job.queue_seconds = started - job.created
            job.raise_if_stopped()
            return work(job)
        finally:
            seconds = time.monotonic() - started
            self._average_seconds += 0.1 * (seconds - self._average_seconds)
            self._count(running=-1)

    def _count(self, *, jobs: int = 0, running: int = 0) -> None:
        with self._lock:
            self._n_jobs += jobs
            self.n_running += running
        self.on_change(self)


def _deadline_problem() -> Problem:
    return Problem(
        "deadline-exceeded",
        "the audio could not be processed in time; send a shorter clip, or try again later",
    )
