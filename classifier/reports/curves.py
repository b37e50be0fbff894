"""Learning curves in a CSV file, with one row per epoch."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from vggish.common.csv_table import csv_text
from vggish.common.files import atomic_write
from vggish.errors import RunError, write_errors_as

EPOCH = "epoch"
Row = Mapping[str, float]


class CurveWriter:
    """Appends rows to a CSV file. A crash cannot leave a partial row that `read_curves` returns.

    The first column is "epoch". Rows up to the epoch `resume_after` are kept, later ones dropped; 0
    starts a new file. Raises a `RunError` if the file is damaged, has other columns, or cannot be
    written.
    """

    def __init__(self, path: Path, columns: Sequence[str], *, resume_after: int = 0) -> None:
        self._path = path
        self._columns = tuple(columns)
        kept: list[dict[str, float]] = []
        if resume_after and path.exists():
            kept = [row for row in read_curves(path) if row[EPOCH] <= resume_after]
        if kept and tuple(kept[0]) != self._columns:
            raise RunError(
                f"{path} has the columns {', '.join(kept[0])}, but this run writes "
                f"{', '.join(columns)}. Was it made by another version? Move it away to continue"
            )
        with write_errors_as(RunError, path), atomic_write(path) as file:
            file.write(csv_text(self._columns).encode())
            file.writelines(map(self._line, kept))

    def append(self, row: Row) -> None:
        """Write one row; missing columns and NaN are left empty."""
        # Without a buffer a row is a single write, which a crash cannot split.
        with write_errors_as(RunError, self._path), open(self._path, "ab", buffering=0) as file:
            file.write(self._line(row))

    def _line(self, row: Row) -> bytes:
        return csv_text([_text(row.get(column, math.nan)) for column in self._columns]).encode()


def read_curves(path: Path) -> list[dict[str, float]]:
    """Read the rows that a `CurveWriter` wrote, with NaN for empty cells.

    Raises a `RunError` if the file is missing or damaged; the message names the line.
    """
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(f"cannot read the learning curves {path}: {error}") from error
    # Text after the last line break is a partial row.
    lines = list(csv.reader(text[: text.rfind("\n") + 1].splitlines()))
    if not lines or lines[0][:1] != [EPOCH]:
        raise RunError(f"{path} has no learning curves: its first column must be {EPOCH!r}")
    rows = []
    for number, line in enumerate(lines[1:], start=2):
        try:
            values = [float(value) if value else math.nan for value in line]
            rows.append(dict(zip(lines[0], values, strict=True)))
        except ValueError as error:
            raise RunError(f"{path}, line {number} is damaged: {','.join(line)}") from error
    return rows


def best_epoch(rows: Sequence[Row], metric: str = "mAP") -> Row | None:
    """The first row with the highest value of a metric; None if no row has the metric."""
    measured = [row for row in rows if not math.isnan(row.get(metric, math.nan))]
    return max(measured, key=lambda row: row[metric], default=None)


def _text(value: float) -> str:
    if math.isnan(value):
        return ""
    # Nine digits identify every float32; counts may have more.
    return f"{value:.9g}" if value % 1 else f"{value:.0f}"
