"""Work in a bounded pool of threads: a bounded queue before it, a deadline for each job."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from service.problems import Problem
from vggish.errors import AudiotagError

T = TypeVar("T")

# Of the time that a job takes, by which the queue's length becomes a time to wait.
_SMOOTHING = 0.1

_FIRST_GUESS_SECONDS = 0.1


class JobCancelledError(AudiotagError):
    """Nobody waits for the result of this job any more."""


class Job:
    """One piece of work, as the work itself sees it.

    Attributes:
        queue_seconds: how long it waited for a thread.
        deadline: by `time.monotonic()`, when nobody waits for it any more.
    """

    def __init__(self, deadline: float) -> None:
        self.queue_seconds = 0.0
        self.deadline = deadline
        self._is_cancelled = False
        self._created = time.monotonic()

    def start(self) -> None:
        """A thread has taken the job up."""
        self.queue_seconds = time.monotonic() - self._created
        self.check()

    def cancel(self) -> None:
        """Nobody waits any more; the work ends at its next `check`."""
        self._is_cancelled = True

    def check(self, *_: object) -> None:
        """Go on, or not: called by the work again and again, also as an `on_progress`.

        Raises:
            JobCancelledError: nobody waits any more.
            Problem: the deadline has passed.
        """
        if self._is_cancelled:
            raise JobCancelledError("nobody waits for this any more")
        if time.monotonic() > self.deadline:
            raise deadline_exceeded()


class Engine:
    """A pool of threads with a bounded queue. Used from one event loop.

    Args:
        n_threads: jobs at once.
        queue_size: jobs that may wait for a thread; one more is refused.
        timeout_seconds: from a job's arrival to its end.
        on_change: called whenever `n_waiting` or `n_running` have changed.
    """

    def __init__(
        self,
        n_threads: int,
        queue_size: int,
        timeout_seconds: float,
        on_change: Callable[[Engine], object] = lambda engine: None,
    ) -> None:
        self.n_threads = n_threads
        self.queue_size = queue_size
        self._timeout_seconds = timeout_seconds
        self._on_change = on_change
        self._pool = ThreadPoolExecutor(self.n_threads, "audiotag-worker")
        self._lock = threading.Lock()
        self._n_jobs = 0
        self._n_running = 0
        self._seconds_a_job = _FIRST_GUESS_SECONDS

    @property
    def n_waiting(self) -> int:
        """Jobs that wait for a thread."""
        return max(0, self._n_jobs - self.n_threads)

    @property
    def n_running(self) -> int:
        """Jobs that a thread is at work on."""
        return self._n_running

    @property
    def is_full(self) -> bool:
        """Whether one more job would be refused."""
        return self.n_waiting >= self.queue_size

    @property
    def retry_after_seconds(self) -> float:
        """By when those that wait now will be served."""
        return (self.n_waiting + 1) * self._seconds_a_job / self.n_threads

    def check_room(self) -> None:
        """Refuse work that would wait too long.

        Raises:
            Problem: the queue is full.
        """
        if self.is_full:
            raise Problem(
                "overloaded",
                f"{self.n_waiting} requests are waiting already; try again in a while",
                retry_after_seconds=self.retry_after_seconds,
            )

    async def run(
        self,
        work: Callable[[Job], T],
        on_end: Callable[[], object] | None = None,
        *,
        is_admitted: bool = False,
    ) -> T:
        """Run `work` in a thread and wait for it.

        Args:
            work: called with its job, which it must `check` again and again.
            on_end: called once work is over or was dropped, whatever became of it.
            is_admitted: wait also where the queue is full; for those of whom there are few, each
                with one job at a time.

        Raises:
            Problem: the queue is full, or the deadline has passed.
            Exception: what the work raises.
        """
        try:
            if not is_admitted:
                self.check_room()
        except Problem:
            if on_end is not None:
                on_end()
            raise
        job = Job(time.monotonic() + self._timeout_seconds)
        self._count(jobs=1)

        def ended(_: Future[T]) -> None:
            self._count(jobs=-1)
            if on_end is not None:
                on_end()

        future = self._pool.submit(self._run, work, job)
        future.add_done_callback(ended)
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), self._timeout_seconds)
        except (TimeoutError, asyncio.TimeoutError) as error:  # two classes before Python 3.11
            raise deadline_exceeded() from error
        finally:
            job.cancel()

    async def close(self) -> None:
        """Wait for the jobs that are running; those that wait are dropped."""
        await asyncio.to_thread(self._pool.shutdown, wait=True, cancel_futures=True)

    def _run(self, work: Callable[[Job], T], job: Job) -> T:
        began = time.monotonic()
        self._count(running=1)
        try:
            job.start()
            return work(job)
        finally:
            seconds = time.monotonic() - began
            self._seconds_a_job += _SMOOTHING * (seconds - self._seconds_a_job)
            self._count(running=-1)

    def _count(self, *, jobs: int = 0, running: int = 0) -> None:
        with self._lock:
            self._n_jobs += jobs
            self._n_running += running
        self._on_change(self)


def deadline_exceeded() -> Problem:
    """The problem of work that takes too long."""
    return Problem(
        "deadline-exceeded",
        "the sound could not be tagged in time; send less of it, or try again later",
    )
