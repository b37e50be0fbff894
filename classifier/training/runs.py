"""The directory of a training run.

config.json        configuration and data; a resumed run must have the same
labels.csv         the classes
split.csv          the held-out clips
curves.csv, .png   learning curves, a row per epoch
tensorboard/       learning curves for TensorBoard
checkpoints/       state.npz: everything that training needs to continue
                   best.npz: the weights with the best validation mAP
                   validation.npz: their scores of validation clips, for the calibration
                   epoch-0007.npz: the weights after the latest epochs, for `evaluate --watch`
metrics.json       metrics of the best weights on the validation clips
bundle/            the best weights, exported
"""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from classifier.labels import Labels, read_labels, write_labels
from classifier.training.config import TrainingConfig, differences
from vggish.common.csv_table import csv_text
from vggish.common.files import atomic_write
from vggish.errors import AudiotagError, OptionError, RunError, write_errors_as

if TYPE_CHECKING:
    from classifier.bundles.bundle import Bundle
    from classifier.bundles.files import Weights

FORMAT = 1
DEFAULT_PARENT = Path("runs")
# Enough for `evaluate --watch`, which polls every few seconds.
KEPT_CHECKPOINTS = 3
_META = "meta"
_CHECKPOINT = re.compile(r"epoch-(\d{4,})\.npz")


class Validation(NamedTuple):
    """Scores [n, C] of clips that a head was not trained on, and their labels."""

    scores: npt.NDArray[np.float32]
    truth: npt.NDArray[np.bool_]
    ids: tuple[str, ...]


@dataclass(frozen=True)
class Result:
    """The outcome of a training run."""

    best_epoch: int
    n_epochs: int  # finished ones
    is_finished: bool  # False if it was stopped from outside
    metrics: Mapping[str, float]  # of the best weights on the validation examples


@dataclass(frozen=True, eq=False)
class Fitted:
    """A finished or stopped training run.

    Attributes:
        results: one, or one per fold.
        bundle: of the best weights; None if training stopped before the first epoch ended.
    """

    results: Sequence[Result]
    bundle: Bundle | None

    @property
    def is_finished(self) -> bool:
        """Whether no training run was stopped from outside."""
        return all(result.is_finished for result in self.results)


class Run:
    """The directory of a training run, and its files."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.curves, self.picture = directory / "curves.csv", directory / "curves.png"
        self.tensorboard, self.bundle = directory / "tensorboard", directory / "bundle"
        checkpoints = directory / "checkpoints"
        self.state, self.best = checkpoints / "state.npz", checkpoints / "best.npz"
        self.validation = checkpoints / "validation.npz"
        # Some clips, to compare the exported head with the trained one.
        self.sample = directory / "sample.npz"

    @property
    def is_finished(self) -> bool:
        """Whether training has finished."""
        return (self.directory / "metrics.json").exists()

    def check_free(self) -> None:
        """Raise a `RunError` unless a run can begin here: the directory is new or empty."""
        place = next(p for p in (self.directory, *self.directory.parents) if p.exists())
        if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
            reason = "Permission denied" if place.is_dir() else f"{place} is not a directory"
            raise RunError(f"cannot write {self.directory}: {reason}")
        if place != self.directory:
            return
        names = {path.name for path in place.iterdir() if not path.name.startswith(".")}
        if names & {"config.json", "fold-1"}:
            raise RunError(
                f"{place} already contains a run; continue it with --resume, or choose another "
                "directory with -o"
            )
        # A killed `begin` may have left the files that it writes before config.json.
        others = sorted(names - {"checkpoints", "labels.csv", "split.csv"})
        if others:
            raise RunError(
                f"{place} contains other files than a run ({', '.join(others[:3])}"
                f"{', ...' if len(others) > 3 else ''}); choose a new directory with -o"
            )

    def begin(
        self, config: TrainingConfig, data: Mapping[str, Any], labels: Labels, held: Sequence[str]
    ) -> None:
        """Make the directory and write the run: configuration, data, classes, held-out ids."""
        self.check_free()
        described = {"format": FORMAT, "training": config.as_json(), "data": dict(data)}
        with write_errors_as(RunError, self.directory):
            self.state.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(self.directory / "labels.csv") as file:
                write_labels(file, labels)
            self._write("split.csv", csv_text(["clip"], *([clip] for clip in held)))
            # Last, because it makes the directory a run.
            self._write("config.json", _as_text(described))

    def check_same(self, config: TrainingConfig, data: Mapping[str, Any]) -> None:
        """Raise a `RunError` that shows each difference, unless the options and data are these."""
        now = {"training": config.as_json(), "data": json.loads(json.dumps(dict(data)))}
        before = {key: self.described()[key] for key in now}
        changed = differences(before, now)
        if changed:
            raise RunError(
                f"{self.directory} was begun with other options or data, so it cannot be "
                "resumed:\n  "
                + "\n  ".join(changed)
                + "\nGive the same options, or begin a new run with -o"
                + (f" (from its weights: --init-from {self.directory})" if self.is_finished else "")
            )

    def described(self) -> dict[str, Any]:
        """Read `training` and `data` from `config.json`, or raise a `RunError`."""
        path = self.directory / "config.json"
        try:
            described = json.loads(path.read_text("utf-8"))
            if described["format"] != FORMAT:
                raise RunError(f"{path} has the format {described['format']}, not {FORMAT}")
            return {"training": dict(described["training"]), "data": dict(described["data"])}
        except FileNotFoundError as error:
            raise RunError(
                f"{self.directory} is not a training run: it has no config.json. Make one with: "
                "audiotag train"
            ) from error
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(f"{path} is damaged: {error}") from error

    def config(self) -> TrainingConfig:
        """Read the configuration of the training."""
        values = self.described()["training"]
        try:
            return TrainingConfig.from_json(values)
        except (OptionError, TypeError, AttributeError) as error:
            raise RunError(f"{self.directory / 'config.json'} is damaged: {error}") from error

    def labels(self) -> Labels:
        """Read the classes, or raise a `RunError`."""
        self.described()  # raises if this is not a run
        try:
            return read_labels(self.directory / "labels.csv")
        except AudiotagError as error:
            raise RunError(f"the run {self.directory} is damaged: {error}") from error

    def held_out(self) -> list[str]:
        """Read the ids of the held-out clips."""
        path = self.directory / "split.csv"
        try:
            with open(path, encoding="utf-8", newline="") as file:
                return [row[0] for row in csv.reader(file) if row][1:]
        except (OSError, ValueError, csv.Error) as error:
            raise RunError(f"the run {self.directory} is damaged: {path}: {error}") from error

    def write_metrics(self, metrics: Mapping[str, Any]) -> None:
        """Write the metrics of the best weights, which marks the run as finished."""
        self._write("metrics.json", _as_text(metrics))

    def metrics(self) -> dict[str, Any]:
        """Read the metrics of the best weights; empty until the run is finished."""
        path = self.directory / "metrics.json"
        try:
            return dict(json.loads(path.read_text("utf-8"))) if self.is_finished else {}
        except (OSError, ValueError) as error:
            raise RunError(f"{path} is damaged: {error}") from error

    def write_sample(self, frames: npt.NDArray[np.uint8], n_frames: npt.NDArray[np.int32]) -> None:
        """Write clips, uint8 [B, T, 128] and int32 [B], for `sample`."""
        write_arrays(self.sample, {"frames": frames, "n_frames": n_frames}, {})

    def write_validation(
        self, scores: npt.NDArray[np.float32], truth: npt.NDArray[np.bool_], ids: Sequence[str]
    ) -> None:
        """Write the best weights' scores of clips, and their labels: both [n, C]."""
        packed = np.packbits(truth, axis=1)
        write_arrays(self.validation, {"scores": scores, "truth": packed}, {"ids": list(ids)})

    def read_validation(self) -> Validation | None:
        """Read the result of `write_validation`; None if there is none."""
        if not self.validation.exists():
            return None
        arrays, meta = read_arrays(self.validation)
        scores = arrays["scores"]
        truth = np.unpackbits(arrays["truth"], axis=1, count=scores.shape[1]).astype(np.bool_)
        return Validation(scores, truth, tuple(meta["ids"]))

    def add_checkpoint(self, epoch: int, weights: Weights) -> None:
        """Write the weights after an epoch, and delete all but the latest `KEPT_CHECKPOINTS`."""
        path = self.state.with_name(f"epoch-{epoch:04}.npz")
        write_arrays(path, weights, {"epoch": epoch})
        for old in self.checkpoints()[:-KEPT_CHECKPOINTS]:
            old.unlink(missing_ok=True)

    def checkpoints(self) -> list[Path]:
        """The weights after the latest `KEPT_CHECKPOINTS` epochs, oldest first."""
        found = {
            int(match[1]): path
            for path in self.state.parent.glob("epoch-*.npz")
            if (match := _CHECKPOINT.fullmatch(path.name))
        }
        return [found[epoch] for epoch in sorted(found)]

    def _write(self, name: str, text: str) -> None:
        path = self.directory / name
        with write_errors_as(RunError, path), atomic_write(path) as file:
            file.write(text.encode())


def new_run(head: str, parent: Path = DEFAULT_PARENT) -> Run:
    """A run with the next free name for a head: `runs/gru-1`, `runs/gru-2`, ..."""
    number = 1 + max((n for n, _ in _runs_of(head, parent)), default=0)
    return Run(parent / f"{head}-{number}")


def latest_run(head: str, parent: Path = DEFAULT_PARENT) -> Run:
    """The latest run of a head; a `RunError` if there is none."""
    runs = [path for _, path in sorted(_runs_of(head, parent))]
    if not runs:
        raise RunError(
            f"there is no run of {head} in {parent}{os.sep} to resume; choose one with -o"
        )
    return Run(runs[-1])


def _runs_of(head: str, parent: Path) -> list[tuple[int, Path]]:
    return [
        (int(number), path)
        for path in parent.glob(f"{head}-*")
        if (number := path.name.removeprefix(f"{head}-")).isdigit()
    ]


def write_arrays(path: Path, arrays: Weights, meta: Mapping[str, Any]) -> None:
    """Write arrays by name and JSON-ready metadata atomically as an `.npz` file."""
    with write_errors_as(RunError, path), atomic_write(path) as file:
        facts = {_META: np.array(json.dumps(dict(meta)))}
        np.savez(file, **facts, **arrays)  # type: ignore[arg-type]  # no array is called allow_pickle


def read_arrays(path: Path) -> tuple[Weights, dict[str, Any]]:
    """Read the result of `write_arrays`; a `RunError` if it is missing or damaged."""
    try:
        # Opened here, because numpy does not close a file that is not an archive.
        with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        return arrays, dict(json.loads(str(arrays.pop(_META))))
    except FileNotFoundError as error:
        raise RunError(
            f"{path} does not exist: the run stopped before its first checkpoint"
        ) from error
    except Exception as error:  # zipfile, zlib and numpy each have their own
        raise RunError(f"{path} is damaged: {error}") from error


def _as_text(values: Mapping[str, Any]) -> str:
    return json.dumps(dict(values), indent=2, ensure_ascii=False) + "\n"
