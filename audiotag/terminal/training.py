"""The progress display of a training run."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from audiotag.terminal.bars import make_bar, shows_bars
from vggish.common.wording import clock_time, printable, score

if TYPE_CHECKING:
    from classifier.training.observers import TrainingProgress


class TrainingDisplay:
    """Epochs as lines on stderr, and on a terminal a bar over the steps of an epoch."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._bar: Any = None
        self._n_epochs, self._speed, self._left = 0, "", ""
        if shows_bars(quiet=quiet):
            from rich.progress import BarColumn

            self._bar = make_bar(
                "epoch {task.fields[epoch]}", BarColumn(None), "{task.fields[state]}", expand=True
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
        """Print a line above the bar."""
        self._print(f"audiotag: {message}")

    def on_step(self, progress: TrainingProgress) -> None:
        """Advance the bar by a step."""
        self._n_epochs = progress.n_epochs
        self._speed = f"{progress.examples_per_second:,.0f} examples/s"
        self._left = f"{clock_time(progress.seconds_left)} left"
        if self._bar is None:
            return
        measured = progress.mean_average_precision
        so_far = "" if math.isnan(measured) else f"mAP {measured:.4f}  "
        self._bar.update(
            self._task,
            total=progress.n_steps,
            completed=progress.step,
            epoch=f"{progress.epoch}/{progress.n_epochs}",
            state=f"loss {progress.loss:.3f}  {so_far}{self._speed}  {self._left}",
            refresh=progress.step == 1,  # an epoch may be over before the bar is redrawn
        )

    def on_epoch(self, row: Mapping[str, float], is_best: bool) -> None:
        """Print the line of a finished epoch."""
        names = [name for name in ("mAP", "mAUC") if name in row]
        scores = "  ".join(f"{name} {score(row[name])}" for name in names)
        self._print(
            f"epoch {row['epoch']:>3.0f}/{self._n_epochs}  loss {row['loss']:.3f}  {scores}"
            f"{' *' if is_best and scores else '  '}  {self._speed}  {self._left}"
        )

    def _print(self, line: str) -> None:
        if self._quiet:
            return
        if self._bar is not None:
            self._bar.console.print(printable(line), markup=False, highlight=False)
        else:
            print(printable(line), file=sys.stderr, flush=True)
