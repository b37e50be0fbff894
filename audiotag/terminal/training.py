"""The progress display of a training run."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vggish.common.wording import clock_time, printable as _printable, score

if TYPE_CHECKING:
    from classifier.training.observers import TrainingProgress


class TrainingDisplay:
    """Epochs as lines on stderr, and on a terminal a bar with the steps between them."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._quiet = options.quiet
        self._bar: Any = None
        self._n_epochs, self._rate = 0, 0.0
        self._left: float | None = None
        if sys.stderr.isatty() and not options.quiet:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn

            self._bar = Progress(
                TextColumn("epoch {task.fields[epoch]}"),
                BarColumn(bar_width=None),
                TextColumn("{task.fields[state]}"),
                console=Console(stderr=True),
                expand=True,
                transient=True,
            )
            self._task = self._bar.add_task("", epoch="1", state="starting")

    def __enter__(self) -> TrainingDisplay:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def log(self, message: str) -> None:
        """Print a line."""
        if not self._quiet:
            self._print(f"audiotag: {message}")

    def on_step(self, progress: TrainingProgress) -> None:
        """Move the bar."""
        self._n_epochs, self._rate = progress.n_epochs, progress.examples_per_second
        self._left = progress.seconds_left
        if self._bar is not None:
            self._bar.update(
                self._task,
                total=progress.n_steps,
                completed=progress.step,
                epoch=f"{progress.epoch}/{progress.n_epochs}",
                state=f"loss {progress.loss:.3f}  {self._score(progress.mean_average_precision)}"
                f"{progress.examples_per_second:,.0f} examples/s  {clock_time(self._left)} left",
            )

    @staticmethod
    def _score(mean_average_precision: float) -> str:
        measured = mean_average_precision == mean_average_precision  # NaN before the first epoch
        return f"mAP {mean_average_precision:.4f}  " if measured else ""

    def on_epoch(self, row: Mapping[str, float], is_best: bool) -> None:
        """Print the epoch's line."""
        if self._quiet:
            return
        names = [name for name in ("mAP", "mAUC") if name in row]
        scores = "  ".join(f"{name} {score(row[name])}" for name in names)
        self._print(
            f"epoch {row['epoch']:>3.0f}/{self._n_epochs}  loss {row['loss']:.3f}  {scores}"
            f"{' *' if is_best and scores else '  '}  {self._rate:,.0f} examples/s  "
            f"{clock_time(self._left)} left"
        )

    def _print(self, line: str) -> None:
        if self._bar is not None:
            self._bar.console.print(_printable(line), markup=False, highlight=False)
        else:
            print(_printable(line), file=sys.stderr, flush=True)
