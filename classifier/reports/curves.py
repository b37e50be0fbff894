"""Learning curves: a row an epoch, as CSV, as a picture, and as TensorBoard reads them."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from vggish.common.files import atomic_write
from vggish.errors import RunError, unwritable_as

EPOCH = "epoch"

Row = Mapping[str, float]


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


def _text(value: float) -> str:
    if math.isnan(value):
        return ""
    # Nine digits give back every float32; counts may have more.
    return f"{value:.9g}" if value % 1 else f"{value:.0f}"


def _csv_line(values: Iterable[str]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue().encode()
