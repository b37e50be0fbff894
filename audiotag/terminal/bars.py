"""Progress bars on stderr."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from vggish.common.wording import clock_time, count as _count

if TYPE_CHECKING:
    from vggish.audio.inputs import Item
    from vggish.frames.clip import ClipFrames


class ProgressBar:
    """A progress bar over the bytes of the inputs, with speed in times real time.

    The sizes of files are known before any is opened, their durations are not; within a file
    the share of its seconds stands for the share of its bytes.
    """

    def __init__(self, items: Sequence[Item], what: str = "embedding") -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        self._size = {item.source: max(1, _file_size(item.source)) for item in items}
        self._total = sum(self._size.values())
        self._bytes: dict[str, float] = {}
        self._seconds: dict[str, float] = {}
        # What failed, or was done by an earlier run, takes no time and tells nothing of speed.
        self._skipped_bytes, self._done_bytes, self._done_seconds = 0.0, 0.0, 0.0
        self._n_done = 0
        self._lock = threading.Lock()
        self._started = time.perf_counter()
        self._bar = Progress(
            TextColumn(what),
            BarColumn(bar_width=None),
            TextColumn("{task.percentage:>3.0f}%  {task.fields[state]}"),
            console=Console(stderr=True),
            expand=True,
            transient=True,
            redirect_stdout=False,  # it would break lines of results; see `hidden`
        )
        self._task = self._bar.add_task("", total=self._total, state="")
        self._show()

    def __enter__(self) -> ProgressBar:
        self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Take the bar off the screen."""
        self._bar.stop()

    @contextlib.contextmanager
    def hidden(self) -> Iterator[None]:
        """Off the screen meanwhile, for results that go to the same terminal, if they do."""
        if sys.stdout is None or not sys.stdout.isatty():
            yield
            return
        self._bar.stop()
        try:
            yield
        finally:
            self._bar.start()

    def progress(self, item: Item, seconds: float, total_seconds: float | None) -> None:
        with self._lock:
            self._seconds[item.source] = seconds
            if total_seconds:
                share = min(1.0, seconds / total_seconds)
                self._bytes[item.source] = share * self._size[item.source]
            self._show()

    def finished(self, item: Item, clip: ClipFrames | None) -> None:
        self.done(item, skipped=clip is None)

    def done(self, item: Item, *, skipped: bool) -> None:
        with self._lock:
            self._bytes.pop(item.source, None)
            seconds = self._seconds.pop(item.source, 0.0)
            if skipped:
                self._skipped_bytes += self._size[item.source]
            else:
                self._done_bytes += self._size[item.source]
                self._done_seconds += seconds
            self._n_done += 1
            self._show()

    def _show(self) -> None:
        elapsed = max(time.perf_counter() - self._started, 1e-3)
        speed = (self._done_seconds + sum(self._seconds.values())) / elapsed
        embedded = self._done_bytes + sum(self._bytes.values())
        left = self._total - self._skipped_bytes - embedded
        seconds_left = left * elapsed / embedded if embedded else None
        count = f"{self._n_done}/{_count(len(self._size), 'file')}"
        self._bar.update(
            self._task,
            completed=self._total - left,
            state=f"{count}  {speed:.0f}x real time  {clock_time(seconds_left)} left",
        )


def _file_size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


@contextlib.contextmanager
def counting_bar(
    options: argparse.Namespace, what: str, total: int | None
) -> Iterator[Callable[[int], None]]:
    """A progress bar over a count on a terminal, and nothing elsewhere."""
    if options.quiet or not sys.stderr.isatty():
        yield lambda done: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=total)
        yield lambda done: bar.update(task, completed=done)


@contextlib.contextmanager
def download_bar(options: argparse.Namespace) -> Iterator[Callable[[int, int], None] | None]:
    """A progress bar for a download on a terminal, and nothing elsewhere."""
    if options.quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None, visible=False)

        def show(done: int, total: int) -> None:
            if not bar.tasks[0].visible:
                # Another file; what an earlier attempt brought must not count as speed.
                bar.reset(task, total=total, completed=done)
            bar.update(task, completed=done, visible=done < total)

        yield show
