from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from classifier.reports.curves import CurveWriter, best_epoch, read_curves
from classifier.reports.curves_plot import plot_curves
from tests.support.curves import COLUMNS, row
from vggish.errors import MissingPackageError, RunError


def write(path: Path, epochs: Any, **options: Any) -> CurveWriter:
    writer = CurveWriter(path, COLUMNS, **options)
    for epoch in epochs:
        writer.append(row(epoch))
    return writer


def assert_rows(path: Path, epochs: Any) -> None:
    rows = read_curves(path)
    assert [each["epoch"] for each in rows] == list(epochs)
    for each in rows:
        assert tuple(each) == COLUMNS
        assert each == pytest.approx(row(int(each["epoch"])), rel=1e-8)


def test_rows_can_be_read_as_soon_as_they_are_written(tmp_path: Path) -> None:
    path = tmp_path / "run" / "curves.csv"
    writer = write(path, [])
    for epoch in (1, 2, 3):
        writer.append(row(epoch))
        assert_rows(path, range(1, epoch + 1))
    assert path.read_text().splitlines()[:2] == [
        "epoch,examples,seconds,learning_rate,loss,val_loss,mAP",
        "1,20000,3.21,0.001,0.07,0.08,0.1",
    ]


def test_missing_values_are_empty_and_read_as_nan(tmp_path: Path) -> None:
    path = tmp_path / "curves.csv"
    writer = CurveWriter(path, COLUMNS)
    writer.append({"epoch": 1, "loss": np.float32(0.5), "mAP": math.nan, "not a column": 3.0})
    writer.append({"epoch": 2, "examples": 12_345_678_901, "loss": math.inf})
    assert path.read_text().splitlines()[1:] == ["1,,,,0.5,,", "2,12345678901,,,inf,,"]
    first, second = read_curves(path)
    assert math.isnan(first["mAP"])
    assert (first["epoch"], first["loss"]) == (1, 0.5)
    assert (second["examples"], second["loss"]) == (12_345_678_901, math.inf)


def test_resuming_drops_the_rows_of_later_epochs(tmp_path: Path) -> None:
    path = tmp_path / "curves.csv"
    write(path, range(1, 8))
    writer = write(path, [], resume_after=4)
    assert_rows(path, range(1, 5))
    writer.append(row(5))
    assert_rows(path, range(1, 6))


def test_partial_row_is_ignored(tmp_path: Path) -> None:
    path = tmp_path / "curves.csv"
    write(path, (1, 2))
    whole = path.read_bytes()
    with open(path, "ab") as file:
        file.write(b"3,60000,9.")
    assert_rows(path, (1, 2))
    write(path, [], resume_after=3)
    assert path.read_bytes() == whole


def test_new_run_replaces_the_file(tmp_path: Path) -> None:
    path = tmp_path / "curves.csv"
    write(path, (1, 2))
    write(path, [])
    assert_rows(path, [])
    # A run can be resumed after its curves were deleted.
    path.unlink()
    write(path, [5], resume_after=4)
    assert_rows(path, [5])


def test_resuming_with_other_columns_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "curves.csv"
    write(path, (1, 2))
    before = path.read_bytes()
    with pytest.raises(RunError, match=r"has the columns epoch, .* this run writes epoch, loss"):
        CurveWriter(path, ("epoch", "loss"), resume_after=1)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"curves\.csv has no learning curves: its first column must be 'epoch'"),
        ("a,b\n", "has no learning curves"),
        ("epoch,loss\n1,0.5\n2,x\n", "line 3 is damaged: 2,x"),
        ("epoch,loss\n1\n", "line 2 is damaged: 1"),
    ],
)
def test_damaged_curves_error_names_the_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "curves.csv"
    path.write_text(text)
    with pytest.raises(RunError, match=message):
        read_curves(path)


def test_unreadable_or_unwritable_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"cannot read .*nowhere\.csv"):
        read_curves(tmp_path / "nowhere.csv")
    (tmp_path / "file").write_text("")
    for make in (
        lambda: CurveWriter(tmp_path / "file" / "curves.csv", COLUMNS),
        lambda: plot_curves([row(1)], tmp_path / "file" / "curves.png"),
    ):
        with pytest.raises(RunError, match=r"cannot write .*file"):
            make()


def test_best_epoch_is_the_first_with_the_highest_score() -> None:
    scores = [math.nan, 0.1, 0.3, 0.2, 0.3]
    rows = [row(epoch, mAP=score) for epoch, score in enumerate(scores, start=1)]
    best = best_epoch(rows)
    assert best is not None
    assert best["epoch"] == 3
    assert best_epoch(rows[:1]) is None
    assert best_epoch([{"epoch": 1, "loss": 1.0}]) is None


# --- Plots -------------------------------------------------------------------------------


@pytest.mark.parametrize("n_epochs", [1, 2, 60])
def test_plot_is_written_atomically_as_png(tmp_path: Path, n_epochs: int) -> None:
    image = pytest.importorskip("matplotlib.image")
    path = tmp_path / "curves.png"
    path.write_text("old")
    plot_curves([row(epoch) for epoch in range(1, n_epochs + 1)], path)
    pixels = image.imread(path)
    assert pixels.shape[0] > 800
    assert pixels.shape[1] == 1080
    assert [file.name for file in tmp_path.iterdir()] == ["curves.png"]


def test_missing_values_are_not_plotted(tmp_path: Path) -> None:
    image = pytest.importorskip("matplotlib.image")
    plot_curves([row(1), row(2)], tmp_path / "all.png")
    plot_curves([row(1, mAP=math.nan), row(2, mAP=math.nan)], tmp_path / "no-mAP.png")
    plot_curves([{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": math.inf}], tmp_path / "loss.png")
    heights = [
        image.imread(tmp_path / name).shape[0] for name in ("all.png", "no-mAP.png", "loss.png")
    ]
    assert heights == sorted(heights, reverse=True)
    assert len(set(heights)) == 3
    for rows in ([], [{"epoch": 1, "loss": math.nan}]):
        with pytest.raises(RunError, match="no epoch has a loss yet"):
            plot_curves(rows, tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()


def test_missing_matplotlib_error_contains_the_pip_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingPackageError, match=r"pip install .*'audiotag\[plot\]'"):
        plot_curves([row(1)], tmp_path / "curves.png")
