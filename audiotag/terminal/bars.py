"""Progress bars on stderr, where that is a terminal.

rich is imported when a bar is shown: it takes 60 ms, which a pipeline need not pay.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from vggish.common.wording import count

if TYPE_CHECKING:  # loads numpy, which `audiotag weights --help` need not
    from vggish.audio.inputs import Item


def shows_bars(*, quiet: bool) -> bool:
    """Whether to show progress bars."""
    return sys.stderr.isatty() and not quiet


def make_bar(*columns: Any, **options: Any) -> Any:
    """A `rich.progress.Progress` on stderr that disappears at its end."""
    from rich.console import Console
    from rich.progress import Progress

    return Progress(*columns, console=Console(stderr=True), transient=True, **options)


class ClipBar:
    """A progress bar over the bytes of audio files, with the speed in times real time.

    The sizes of files are known before any file is opened, their durations are not; within a
    file, the share of its seconds stands for the share of its bytes.

    `verb` is what is done with the files, such as "embedding".
    """

    def __init__(self, items: Sequence[Item], verb: str, *, quiet: bool) -> None:
        self._bar: Any = None
        if not shows_bars(quiet=quiet):
            return
        from rich.progress import BarColumn, TimeRemainingColumn

        self._sizes = {item.source: max(1, _file_size(item.source)) for item in items}
        # Of files under way: bytes, and seconds of audio.
        self._bytes: dict[str, float] = {}
        self._seconds: dict[str, float] = {}
        self._done_bytes, self._done_seconds, self._n_done = 0, 0.0, 0
        self._lock = threading.Lock()
        self._started = time.perf_counter()
        self._bar = make_bar(
            verb,
            BarColumn(None),
            "{task.percentage:>3.0f}%  {task.fields[state]} ",
            TimeRemainingColumn(compact=True),
            "left",
            expand=True,
            redirect_stdout=False,  # it would break lines of results; see `hidden`
        )
        self._task = self._bar.add_task("", total=sum(self._sizes.values()), state="")
        self._update()

    def __enter__(self) -> ClipBar:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    @contextlib.contextmanager
    def hidden(self) -> Iterator[None]:
        """Hide the bar while results are printed to the same terminal."""
        if self._bar is None or sys.stdout is None or not sys.stdout.isatty():
            yield
            return
        self._bar.stop()
        try:
            yield
        finally:
            self._bar.start()

    def progress(self, item: Item, seconds: float, total_seconds: float | None) -> None:
        """Advance within a file."""
        if self._bar is None:
            return
        with self._lock:
            self._seconds[item.source] = seconds
            if total_seconds:
                share = min(1.0, seconds / total_seconds)
                self._bytes[item.source] = share * self._sizes[item.source]
            self._update()

    def finished(self, item: Item, result: object | None) -> None:
        """Count a file as done; without a result it was skipped."""
        if self._bar is None:
            return
        with self._lock:
            self._bytes.pop(item.source, None)
            seconds = self._seconds.pop(item.source, 0.0)
            if result is None:
                # It took no time, and must not count as speed.
                self._bar.tasks[0].total -= self._sizes[item.source]
            else:
                self._done_bytes += self._sizes[item.source]
                self._done_seconds += seconds
            self._n_done += 1
            self._update()

    def _update(self) -> None:
        elapsed = max(time.perf_counter() - self._started, 1e-3)
        speed = (self._done_seconds + sum(self._seconds.values())) / elapsed
        files = f"{self._n_done}/{count(len(self._sizes), 'file')}"
        self._bar.update(
            self._task,
            completed=self._done_bytes + sum(self._bytes.values()),
            state=f"{files}  {speed:.0f}x real time",
        )


def _file_size(path: str) -> int:
    with contextlib.suppress(OSError):
        return os.stat(path).st_size
    return 0


@contextlib.contextmanager
def counting_bar(verb: str, *, quiet: bool) -> Iterator[Callable[..., None]]:
    """Show a bar over clips; yields the function that sets how many are done, and of how many."""
    if not shows_bars(quiet=quiet):
        yield lambda n_done, n_clips=None: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn

    bar = make_bar(verb, BarColumn(), MofNCompleteColumn())
    task = bar.add_task("", total=None)

    def count_clips(n_done: int, n_clips: int | None = None) -> None:
        bar.start()
        bar.update(task, completed=n_done, total=n_clips)

    try:
        yield count_clips
    finally:
        bar.stop()


@contextlib.contextmanager
def download_bar(*, quiet: bool) -> Iterator[Callable[[int, int], None] | None]:
    """Show a bar for downloads; yields the function that sets bytes done and bytes in total."""
    if not shows_bars(quiet=quiet):
        yield None
        return
    from rich import progress

    speed, left = progress.TransferSpeedColumn(), progress.TimeRemainingColumn()
    with make_bar(progress.BarColumn(), progress.DownloadColumn(), speed, left) as bar:
        task = bar.add_task("", total=None, visible=False)

        def on_progress(done: int, total: int) -> None:
            if not bar.tasks[0].visible:
                # Another file; bytes of an earlier attempt must not count as speed.
                bar.reset(task, total=total, completed=done)
            bar.update(task, completed=done, visible=done < total)

        yield on_progress
