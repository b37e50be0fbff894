"""The worker pool: queue, deadline, cancellation."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from service.engine.jobs import Job, JobCancelledError, WorkerPool
from service.problems import Problem
from vggish.common.cores import n_cores

Ended = list[str]


def run(
    check: Callable[[WorkerPool], Coroutine[Any, Any, None]],
    *,
    n_threads: int = 1,
    queue_size: int = 2,
    timeout_seconds: float = 30.0,
) -> None:
    """Run a coroutine with a pool."""

    async def whole() -> None:
        pool = WorkerPool(n_threads, queue_size, timeout_seconds)
        try:
            await check(pool)
        finally:
            await pool.close()

    asyncio.run(whole())


def until(event: threading.Event) -> Callable[[Job], str]:
    def work(job: Job) -> str:
        while not event.wait(0.005):
            job.raise_if_stopped()
        return "done"

    return work


async def settled(condition: Callable[[], bool]) -> None:
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("the condition was never met")


def test_results_and_errors_are_returned() -> None:
    async def check(pool: WorkerPool) -> None:
        assert await pool.run(lambda job: 7) == 7
        with pytest.raises(ZeroDivisionError):
            await pool.run(lambda job: 1 // 0)
        assert pool.n_running == pool.n_waiting == 0

    run(check)


def test_a_full_queue_refuses_jobs_with_retry_after() -> None:
    async def check(pool: WorkerPool) -> None:
        event, ended = threading.Event(), []
        tasks = [asyncio.create_task(pool.run(until(event))) for _ in range(3)]
        await settled(lambda: pool.n_running == 1 and pool.n_waiting == 2)
        assert pool.is_full
        with pytest.raises(Problem, match="2 requests are waiting") as caught:
            await pool.run(lambda job: 7, on_done=lambda: ended.append("refused"))
        assert caught.value.slug == "overloaded"
        assert int(caught.value.headers["Retry-After"]) >= 1
        assert ended == ["refused"]
        tasks.append(asyncio.create_task(pool.run(until(event), ignore_limit=True)))
        await settled(lambda: pool.n_waiting == 3)
        event.set()
        assert await asyncio.gather(*tasks) == ["done"] * 4
        assert await pool.run(lambda job: 7) == 7

    run(check)


def test_a_job_beyond_its_deadline_is_stopped() -> None:
    async def check(pool: WorkerPool) -> None:
        ended: Ended = []
        with pytest.raises(Problem) as caught:
            await pool.run(until(threading.Event()), on_done=lambda: ended.append("end"))
        assert caught.value.slug == "deadline-exceeded"
        await settled(lambda: ended == ["end"] and pool.n_running == 0)

    run(check, timeout_seconds=0.1)


def test_waiting_counts_towards_the_deadline() -> None:
    async def check(pool: WorkerPool) -> None:
        event, begun = threading.Event(), []
        first = asyncio.create_task(pool.run(lambda job: event.wait(20)))
        await settled(lambda: pool.n_running == 1)
        with pytest.raises(Problem):
            await pool.run(lambda job: begun.append("second"))
        event.set()
        with pytest.raises(Problem):
            await first
        await settled(lambda: pool.n_running == pool.n_waiting == 0)
        assert begun == []

    run(check, timeout_seconds=0.2)


def test_a_cancelled_job_is_stopped() -> None:
    async def check(pool: WorkerPool) -> None:
        ended: Ended = []
        caught: list[BaseException] = []

        def work(job: Job) -> None:
            try:
                until(threading.Event())(job)
            except JobCancelledError as error:
                caught.append(error)
                raise

        task = asyncio.create_task(pool.run(work, on_done=lambda: ended.append("end")))
        await settled(lambda: pool.n_running == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await settled(lambda: ended == ["end"] and len(caught) == 1)

    run(check)


def test_a_job_cancelled_while_waiting_never_starts() -> None:
    async def check(pool: WorkerPool) -> None:
        event, begun, ended = threading.Event(), [], []
        first = asyncio.create_task(pool.run(until(event)))
        await settled(lambda: pool.n_running == 1)
        second = asyncio.create_task(
            pool.run(lambda job: begun.append("second"), on_done=lambda: ended.append("end"))
        )
        await settled(lambda: pool.n_waiting == 1)
        second.cancel()
        await settled(lambda: ended == ["end"] and pool.n_waiting == 0)
        event.set()
        assert await first == "done"
        assert begun == []

    run(check)


def test_concurrent_jobs_are_limited_to_the_threads() -> None:
    async def check(pool: WorkerPool) -> None:
        together = threading.Barrier(3)
        seen: list[int] = []

        def work(job: Job) -> None:
            together.wait(20)
            seen.append(pool.n_running)
            together.wait(20)

        await asyncio.gather(*(pool.run(work) for _ in range(30)))
        assert seen == [3] * 30

    run(check, n_threads=3, queue_size=100)


def test_closing_waits_for_running_jobs() -> None:
    async def check(pool: WorkerPool) -> None:
        finished: list[str] = []
        begun = threading.Event()

        def work(job: Job) -> None:
            begun.set()
            time.sleep(0.1)
            finished.append("work")

        task = asyncio.create_task(pool.run(work))
        await settled(begun.is_set)
        await pool.close()
        assert finished == ["work"]
        await task

    run(check)


@pytest.mark.parametrize(
    ("text", "n"), [("50000 100000", 1), ("100000 100000", 1), ("max 100000", None), ("", None)]
)
def test_the_cpu_quota_of_a_container_is_respected(
    tmp_path: Path, text: str, n: int | None
) -> None:
    limit = tmp_path / "cpu.max"
    assert n_cores(limit) >= 1
    limit.write_text(text)
    assert n_cores(limit) == (n_cores(tmp_path / "none") if n is None else n)
