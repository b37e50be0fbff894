"""Reports of a training run: plotted curves and TensorBoard events."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from classifier.heads.backend import tf
from classifier.reports.curves import CurveWriter
from classifier.training.observers import CurveReports
from classifier.training.runs import Run
from tests.support.curves import COLUMNS, row
from vggish.errors import MissingPackageError, RunError


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Record the number of rows of each plot instead of drawing it."""
    pictures: list[int] = []

    def draw(rows: Any, path: Path) -> None:
        pictures.append(len(rows))

    monkeypatch.setattr("classifier.training.observers.plot_curves", draw)
    return pictures


def report(run: Run, rows: Iterable[dict[str, float]], *, resume_after: int = 0) -> None:
    """Report these rows as finished epochs in one session of a run."""
    run.directory.mkdir(exist_ok=True)
    curves = CurveWriter(run.curves, COLUMNS, resume_after=resume_after)
    with CurveReports(run) as reports:
        for each in rows:
            curves.append(each)
            reports.on_epoch(each, False)


def scalars(run: Run) -> dict[int, dict[str, float]]:
    """Read the scalars in all event files of a run, by step and tag."""
    found: dict[int, dict[str, float]] = {}
    for path in sorted(run.tensorboard.iterdir()):
        version, *events = tf.compat.v1.train.summary_iterator(str(path))
        assert version.file_version == "brain.Event:2"
        for event in events:
            assert event.wall_time > 1.6e9
            for value in event.summary.value:
                assert value.metadata.plugin_data.plugin_name == "scalars"
                assert value.tag not in found.setdefault(event.step, {})
                found[event.step][value.tag] = float(tf.make_ndarray(value.tensor))
    return found


def test_tensorboard_contains_finite_values_by_epoch(tmp_path: Path, drawn: list[int]) -> None:
    run = Run(tmp_path / "run")
    report(run, [row(epoch, val_loss=math.nan, mAP=np.float32(0.25)) for epoch in (1, 200)])
    found = scalars(run)
    assert list(found) == [1, 200]
    for epoch, values in found.items():
        expected = row(epoch, mAP=0.25)
        del expected["epoch"], expected["val_loss"]
        assert values == pytest.approx(expected, rel=1e-6)
    assert list(run.tensorboard.glob("events.out.tfevents.*"))


def test_resuming_removes_later_epochs_from_tensorboard(tmp_path: Path, drawn: list[int]) -> None:
    run = Run(tmp_path / "run")
    report(run, map(row, (1, 2, 3)))
    report(run, [row(2, loss=0.5)], resume_after=1)
    found = scalars(run)
    assert list(found) == [1, 2]
    assert found[1]["loss"] == pytest.approx(row(1)["loss"])
    assert found[2]["loss"] == pytest.approx(0.5)
    assert set(found[2]) == set(COLUMNS[1:])
    assert drawn[-1] == 2


def test_training_does_not_wait_for_the_plot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training_goes_on, pictures = threading.Event(), []

    def draw(rows: Any, path: Path) -> None:
        assert training_goes_on.wait(10)
        pictures.append(len(rows))

    monkeypatch.setattr("classifier.training.observers.plot_curves", draw)
    run = Run(tmp_path)
    curves = CurveWriter(run.curves, COLUMNS)
    with CurveReports(run) as reports:
        for epoch in (1, 2, 3):
            curves.append(row(epoch))
            reports.on_epoch(row(epoch), False)
        assert pictures == []
        training_goes_on.set()
    assert pictures[-1] == 3
    assert list(scalars(run)) == [1, 2, 3]


def test_missing_matplotlib_does_not_stop_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(rows: Any, path: Path) -> None:
        path.write_bytes(b"drawn")
        raise MissingPackageError("no matplotlib")

    monkeypatch.setattr("classifier.training.observers.plot_curves", missing)
    run = Run(tmp_path)
    report(run, [row(1)])
    assert run.picture.exists()


def test_run_without_an_epoch_gets_no_reports(tmp_path: Path, drawn: list[int]) -> None:
    report(Run(tmp_path), [])
    assert drawn == []
    assert [path.name for path in tmp_path.iterdir()] == ["curves.csv"]


def test_unwritable_directory_is_an_error(tmp_path: Path, drawn: list[int]) -> None:
    run = Run(tmp_path)
    run.tensorboard.write_text("a file")
    with pytest.raises(RunError, match=r"cannot write .*tensorboard"):
        report(run, [row(1)])
