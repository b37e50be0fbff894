"""Learning curves: a row an epoch, as CSV, as a picture, and as TensorBoard reads them."""

from __future__ import annotations

import csv
import io
import math
import os
import struct
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from classifier.pictures import BLUE, ORANGE, new_figure, save_figure
from vggish.errors import RunError, unwritable_as
from vggish.frame_files import atomic_write
from vggish.tfrecord import frame_record

EPOCH = "epoch"

_GREY = "0.45"
# A curve of so many points has marks at its epochs; more would be a band.
_MAX_MARKED = 40

Row = Mapping[str, float]


class _Panel(NamedTuple):
    """A part of the picture: its curves as column -> (label, colour)."""

    title: str
    height: float
    curves: Mapping[str, tuple[str, str]]


_PANELS = (
    _Panel("loss", 3.4, {"loss": ("training", BLUE), "val_loss": ("validation", ORANGE)}),
    _Panel("validation mAP", 3.4, {"mAP": ("validation", ORANGE)}),
    _Panel("learning rate", 1.5, {"learning_rate": ("learning rate", _GREY)}),
)


class CurveWriter:
    """Appends rows to a CSV file. A crash leaves whole rows, and `read_curves` skips half ones.

    Args:
        path: of the file; a new run replaces it.
        columns: of the file; the first is "epoch".
        resume_after: the epoch that training goes on from. Rows up to it are kept, and later
            ones, of epochs that are done again, are dropped. 0 begins anew.

    Raises:
        RunError: the file cannot be written, is damaged, or has other columns.
    """

    def __init__(self, path: Path, columns: Sequence[str], *, resume_after: int = 0) -> None:
        self._path = path
        self._columns = tuple(columns)
        kept: list[dict[str, float]] = []
        if resume_after and path.exists():
            kept = [row for row in read_curves(path) if row[EPOCH] <= resume_after]
        if kept and tuple(kept[0]) != self._columns:
            raise RunError(
                f"{path} has the columns {', '.join(kept[0])}, and this run writes "
                f"{', '.join(columns)}: was it made by another version? Move it away to go on"
            )
        with unwritable_as(RunError, path), atomic_write(path) as file:
            file.write(_csv_line(self._columns))
            file.writelines(map(self._line, kept))

    def append(self, row: Row) -> None:
        """Write one row; columns that it lacks, and NaN, are left empty.

        Raises:
            RunError: the file cannot be written.
        """
        # Without a buffer the line is one write, which a crash does not cut.
        with unwritable_as(RunError, self._path), open(self._path, "ab", buffering=0) as file:
            file.write(self._line(row))

    def _line(self, row: Row) -> bytes:
        values = [row.get(column, math.nan) for column in self._columns]
        return _csv_line(_text(value) for value in values)


def read_curves(path: Path) -> list[dict[str, float]]:
    """The rows of a file that `CurveWriter` wrote: column -> value, NaN where it is empty.

    Raises:
        RunError: there is no such file, or it is damaged; the message names the line.
    """
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(f"cannot read the learning curves {path}: {error}") from error
    # What follows the last line break was cut off.
    lines = list(csv.reader(text[: text.rfind("\n") + 1].splitlines()))
    if not lines or lines[0][:1] != [EPOCH]:
        raise RunError(f"{path} holds no learning curves: its first column must be {EPOCH!r}")
    rows = []
    for number, line in enumerate(lines[1:], start=2):
        try:
            values = [float(value) if value else math.nan for value in line]
            rows.append(dict(zip(lines[0], values, strict=True)))
        except ValueError as error:
            raise RunError(f"{path}, line {number} is damaged: {','.join(line)}") from error
    return rows


def best_epoch(rows: Sequence[Row], metric: str = "mAP") -> Row | None:
    """The row with the highest `metric`, the first of several; None where no row has one."""
    measured = [row for row in rows if not math.isnan(row.get(metric, math.nan))]
    return max(measured, key=lambda row: row[metric], default=None)


def plot_curves(rows: Sequence[Row], path: Path) -> None:
    """Draw loss, validation mAP with its best epoch, and learning rate against the epoch.

    Args:
        rows: as `read_curves` gives them; of `loss`, `val_loss`, `mAP` and `learning_rate`, what
            is there is drawn.
        path: of the PNG; it has its name only when it is whole.

    Raises:
        RunError: there are no rows, or the file cannot be written.
        MissingPackageError: matplotlib is not installed.
    """
    panels = [panel for panel in _PANELS if any(_points(rows, name) for name in panel.curves)]
    if not panels:
        raise RunError(f"cannot draw {path}: there is no epoch with a loss yet")
    heights = [panel.height for panel in panels]
    figure = new_figure(path, purpose="the picture of learning curves", figsize=(9, sum(heights)))
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.08)
    grid = figure.subplots(len(panels), sharex=True, height_ratios=heights, squeeze=False)
    for panel, axes in zip(panels, grid[:, 0], strict=True):
        _draw(axes, panel, rows)
    epochs = [row[EPOCH] for row in rows]
    margin = max(0.5, 0.02 * (max(epochs) - min(epochs)))
    axes.set_xlim(min(epochs) - margin, max(epochs) + margin)
    axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    axes.set_xlabel("epoch")
    figure.align_ylabels()
    save_figure(figure, path, RunError)


def _points(rows: Sequence[Row], column: str) -> list[tuple[float, float]]:
    """(epoch, value) where there is a finite value."""
    return [(row[EPOCH], row[column]) for row in rows if math.isfinite(row.get(column, math.nan))]


def _draw(axes: Any, panel: _Panel, rows: Sequence[Row]) -> None:
    for column, (label, colour) in panel.curves.items():
        points = _points(rows, column)
        if points:
            marker = "o" if len(points) <= _MAX_MARKED else None
            axes.plot(*zip(*points, strict=True), color=colour, label=label, marker=marker, ms=4)
    axes.set_ylabel(panel.title)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    best = best_epoch(rows)
    if best is not None and "learning_rate" not in panel.curves:
        axes.axvline(best[EPOCH], color=_GREY, linewidth=1, linestyle=":", zorder=1)
    if best is not None and "mAP" in panel.curves:
        _mark(axes, best[EPOCH], best["mAP"], is_late=best[EPOCH] > rows[-1][EPOCH] / 2)
    if "learning_rate" in panel.curves:
        axes.set_ylim(bottom=0)
        axes.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3), useMathText=True)
    if len(panel.curves) > 1:
        axes.legend(frameon=False)


def _mark(axes: Any, epoch: float, score: float, *, is_late: bool) -> None:
    axes.plot([epoch], [score], marker="*", ms=17, color=ORANGE, mec="white", zorder=3)
    # Room for the words above the star, which is the highest point there is.
    low, high = axes.get_ylim()
    axes.set_ylim(low, high + 0.12 * (high - low))
    axes.annotate(
        f"best: {score:.4f}, epoch {epoch:g}",
        (epoch, score),
        xytext=(-10 if is_late else 10, 10),
        textcoords="offset points",
        horizontalalignment="right" if is_late else "left",
    )


class TensorBoardWriter:
    """Writes rows as TensorBoard's scalars; needs neither TensorFlow nor TensorBoard.

    Args:
        directory: where `tensorboard --logdir` finds them.
        resume_after: as `CurveWriter`'s; TensorBoard forgets what it has of later epochs.

    Source: tensorflow/core/util/event.proto and framework/summary.proto.

    Raises:
        RunError: the file cannot be written.
    """

    def __init__(self, directory: Path, *, resume_after: int = 0) -> None:
        # Files are read in the order of their names.
        self._path = directory / f"events.out.tfevents.{time.time_ns()}.{os.getpid()}.audiotag"
        session_start = _field(7, _field(1, 1))
        with unwritable_as(RunError, directory):
            directory.mkdir(parents=True, exist_ok=True)
        self._write(_field(3, b"brain.Event:2"))
        if resume_after:
            self._write(_field(2, resume_after + 1) + session_start)

    def append(self, row: Row) -> None:
        """Write the finite values of one row, at the step that is its epoch.

        Raises:
            RunError: the file cannot be written.
        """
        values = [
            _field(1, _field(1, name.encode()) + _field(2, float(value)))
            for name, value in row.items()
            if name != EPOCH and math.isfinite(value)
        ]
        self._write(_field(2, int(row[EPOCH])) + _field(5, b"".join(values)))

    def _write(self, event: bytes) -> None:
        wall_time = b"\x09" + struct.pack("<d", time.time())
        with unwritable_as(RunError, self._path), open(self._path, "ab", buffering=0) as file:
            file.write(frame_record(wall_time + event))


def _field(number: int, value: int | float | bytes) -> bytes:
    """A field of a protocol buffer message: a varint, a 32-bit float, or bytes."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    if isinstance(value, float):
        return _varint(number << 3 | 5) + struct.pack("<f", value)
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    data = bytearray()
    while value > 0x7F:
        data.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*data, value])


def _text(value: float) -> str:
    if math.isnan(value):
        return ""
    # Nine digits give back every float32; counts may have more.
    return f"{value:.9g}" if value % 1 else f"{value:.0f}"


def _csv_line(values: Iterable[str]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue().encode()
