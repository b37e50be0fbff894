"""Observers of a training run: their events, and the pictures that one of them draws."""

from __future__ import annotations

import contextlib
import math
import shutil
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

from classifier.heads.backend import tf
from classifier.reports.curves import EPOCH, Row, read_curves
from classifier.reports.curves_plot import plot_curves
from classifier.training.runs import Run
from vggish.errors import MissingPackageError, RunError


@dataclass(frozen=True)
class TrainingProgress:
    """The position of a training run; epochs and steps count from 1."""

    epoch: int
    n_epochs: int
    step: int
    n_steps: int
    loss: float  # mean of this epoch so far
    examples_per_second: float
    mean_average_precision: float  # of the best epoch so far; NaN before the first validation
    seconds_left: float  # unless training stops early


class Observer(Protocol):
    """Receives the events of a training run."""

    def on_step(self, progress: TrainingProgress) -> None:
        """Called after each step."""

    def on_epoch(self, row: Mapping[str, float], is_best: bool) -> None:
        """Called after each epoch, with its row of the learning curves."""


class CurveReports:
    """Draws the learning curves of a run and writes them for TensorBoard, in another thread.

    Use it as a context; its end waits until both show the last epoch. An epoch that ends while the
    one before is still drawn is drawn with the next one. Raises a `RunError` if files cannot be
    written.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._n_written = 0
        self._writer: Any = None
        self._thread = ThreadPoolExecutor(1, "audiotag-curves")
        self._update: Future[None] | None = None

    def __enter__(self) -> CurveReports:
        return self

    def __exit__(self, *exception: object) -> None:
        try:
            if self._update is not None:
                self._thread.submit(self._write).result()
        finally:
            self._thread.shutdown()
            if self._writer is not None:
                self._writer.close()

    def on_step(self, progress: TrainingProgress) -> None:
        """Do nothing: curves have one point per epoch."""

    def on_epoch(self, row: Mapping[str, float], is_best: bool) -> None:
        """Draw in the background, unless an earlier epoch is being drawn."""
        if self._update is None or self._update.done():
            if self._update is not None:
                self._update.result()
            self._update = self._thread.submit(self._write)

    def _write(self) -> None:
        rows = read_curves(self._run.curves)
        if len(rows) == self._n_written:
            return
        self._write_tensorboard(rows[self._n_written :])
        self._n_written = len(rows)
        with contextlib.suppress(MissingPackageError):  # only the picture needs matplotlib
            plot_curves(rows, self._run.picture)

    def _write_tensorboard(self, rows: list[dict[str, float]]) -> None:
        directory = self._run.tensorboard
        try:
            if self._writer is None:
                # All rows are written again, so that nothing is left of epochs that are repeated.
                if directory.exists():
                    shutil.rmtree(directory)
                directory.parent.mkdir(parents=True, exist_ok=True)
                self._writer = tf.summary.create_file_writer(str(directory))
            with self._writer.as_default():
                for row in rows:
                    _write_scalars(row)
            self._writer.flush()
        except (OSError, tf.errors.OpError) as error:
            raise RunError(f"cannot write {directory}: {error}") from error


def _write_scalars(row: Row) -> None:
    """Write the finite values of a row as TensorBoard's scalars."""
    # `tf.summary.scalar` would do the same, but needs the package tensorboard.
    metadata = tf.compat.v1.SummaryMetadata(
        plugin_data=tf.compat.v1.SummaryMetadata.PluginData(plugin_name="scalars")
    )
    for name, value in row.items():
        if name != EPOCH and math.isfinite(value):
            value = tf.constant(value, tf.float32)
            tf.summary.write(name, value, step=int(row[EPOCH]), metadata=metadata)
