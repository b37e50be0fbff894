"""The directory of a training run.

config.json        what is trained and on what; a resumed run must have the same
labels.csv         the classes
split.csv          the clips that are held out
curves.csv, .png   a row an epoch
tensorboard/       the same for TensorBoard
checkpoints/       state.npz: everything that training needs to go on
                   best.npz: the weights with the best validation mAP
                   validation.npz: what they say of validation clips, to calibrate by
                   epoch-0007.npz: those after the latest epochs, for `evaluate --watch`
metrics.json       of the best weights, on the validation clips
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

# For `evaluate --watch`, which looks every few seconds.
KEPT_CHECKPOINTS = 3

_META = "meta"

_CHECKPOINT = re.compile(r"epoch-(\d{4,})\.npz")


class Validation(NamedTuple):
    """What a head says of clips that it was not trained on, and what is right."""

    scores: npt.NDArray[np.float32]
    truth: npt.NDArray[np.bool_]
    ids: tuple[str, ...]


@dataclass(frozen=True)
class Result:
    """The outcome of a training run.

    Attributes:
        best_epoch: epoch whose weights are kept.
        n_epochs: number of finished epochs.
        is_finished: False if the run was stopped from outside.
        metrics: of the best weights on the validation examples, by name.
    """

    best_epoch: int
    n_epochs: int
    is_finished: bool
    metrics: Mapping[str, float]


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


@dataclass(frozen=True)
class Run:
    """A run's directory; the parts of it by name."""

    directory: Path

    @property
    def curves(self) -> Path:
        """The learning curves, CSV."""
        return self.directory / "curves.csv"

    @property
    def picture(self) -> Path:
        """The learning curves, PNG."""
        return self.directory / "curves.png"

    @property
    def tensorboard(self) -> Path:
        """The learning curves for TensorBoard."""
        return self.directory / "tensorboard"

    @property
    def bundle(self) -> Path:
        """The exported head."""
        return self.directory / "bundle"

    @property
    def state(self) -> Path:
        """What training needs to go on."""
        return self.directory / "checkpoints" / "state.npz"

    @property
    def best(self) -> Path:
        """The weights with the best validation mAP."""
        return self.directory / "checkpoints" / "best.npz"

    @property
    def validation(self) -> Path:
        """What the best weights say of validation clips."""
        return self.directory / "checkpoints" / "validation.npz"

    @property
    def sample(self) -> Path:
        """Some clips, on which the exported head is compared with the trained one."""
        return self.directory / "sample.npz"

    @property
    def is_finished(self) -> bool:
        """Whether training came to its end."""
        return (self.directory / "metrics.json").exists()

    def check_free(self) -> None:
        """Raise unless a run may begin here: in a new directory, or in an empty one.

        Raises:
            RunError: there is a run already, or something else, or nothing can be written.
        """
        place = next(p for p in (self.directory, *self.directory.parents) if p.exists())
        if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
            reason = "Permission denied" if place.is_dir() else f"{place} is no directory"
            raise RunError(f"cannot write {self.directory}: {reason}")
        if place != self.directory:
            return
        names = {path.name for path in place.iterdir() if not path.name.startswith(".")}
        if names & {"config.json", "fold-1"}:
            raise RunError(
                f"{place} holds a run already; go on with it by --resume, or choose another "
                "directory with -o"
            )
        # What `begin` writes before config.json; it may have been killed there.
        others = sorted(names - {"checkpoints", "labels.csv", "split.csv"})
        if others:
            raise RunError(
                f"{place} holds other things than a run ({', '.join(others[:3])}"
                f"{', ...' if len(others) > 3 else ''}); choose a new directory with -o"
            )

    def begin(
        self, config: TrainingConfig, data: Mapping[str, Any], labels: Labels, held: Sequence[str]
    ) -> None:
        """Make the directory and write what describes the run.

        Args:
            config: of the training.
            data: what it is trained on, JSON-ready.
            labels: the classes.
            held: ids of the clips that are held out.

        Raises:
            RunError: as of `check_free`, or the directory cannot be written.
        """
        self.check_free()
        described = {"format": FORMAT, "training": config.as_json(), "data": dict(data)}
        with write_errors_as(RunError, self.directory):
            self.state.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(self.directory / "labels.csv") as file:
                write_labels(file, labels)
            self._write("split.csv", csv_text(["clip"], *([clip] for clip in held)))
            # Last: with it the directory is a run.
            self._write("config.json", _as_text(described))

    def check_same(self, config: TrainingConfig, data: Mapping[str, Any]) -> None:
        """Raise if a run with this configuration and data is another one than this.

        Raises:
            RunError: it is; the message shows each difference.
        """
        now = {"training": config.as_json(), "data": json.loads(json.dumps(dict(data)))}
        before = {key: self.described()[key] for key in now}
        changed = differences(before, now)
        if changed:
            raise RunError(
                f"{self.directory} was begun in another way, so it cannot be resumed:\n  "
                + "\n  ".join(changed)
                + "\nGive the same options, or begin a new run with -o"
                + (f" (from its weights: --init-from {self.directory})" if self.is_finished else "")
            )

    def described(self) -> dict[str, Any]:
        """What `config.json` says: `training` and `data`.

        Raises:
            RunError: there is none, or it is damaged or of another version.
        """
        path = self.directory / "config.json"
        try:
            described = json.loads(path.read_text("utf-8"))
            if described["format"] != FORMAT:
                raise RunError(f"{path} has the format {described['format']}, not {FORMAT}")
            return {"training": dict(described["training"]), "data": dict(described["data"])}
        except FileNotFoundError as error:
            raise RunError(
                f"{self.directory} is no directory of a run: it has no config.json. Runs are "
                "made by: audiotag train"
            ) from error
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(f"{path} is damaged: {error}") from error

    def config(self) -> TrainingConfig:
        """The configuration of the training."""
        values = self.described()["training"]
        try:
            return TrainingConfig.from_json(values)
        except (OptionError, TypeError, AttributeError) as error:
            raise RunError(f"{self.directory / 'config.json'} is damaged: {error}") from error

    def labels(self) -> Labels:
        """The classes.

        Raises:
            RunError: they are missing or damaged.
        """
        self.described()  # says so if this is no run at all
        try:
            return read_labels(self.directory / "labels.csv")
        except AudiotagError as error:
            raise RunError(f"the run {self.directory} is damaged: {error}") from error

    def held_out(self) -> list[str]:
        """The ids of the clips that were held out."""
        try:
            with open(self.directory / "split.csv", encoding="utf-8", newline="") as file:
                return [row[0] for row in csv.reader(file) if row][1:]
        except (OSError, ValueError, csv.Error) as error:
            path = self.directory / "split.csv"
            raise RunError(f"the run {self.directory} is damaged: {path}: {error}") from error

    def write_metrics(self, metrics: Mapping[str, Any]) -> None:
        """Write what the best weights reach; with this the run is finished."""
        self._write("metrics.json", _as_text(metrics))

    def metrics(self) -> dict[str, Any]:
        """What the best weights reach; empty while the run is not finished."""
        path = self.directory / "metrics.json"
        try:
            return dict(json.loads(path.read_text("utf-8"))) if path.exists() else {}
        except (OSError, ValueError) as error:
            raise RunError(f"{path} is damaged: {error}") from error

    def write_sample(self, frames: npt.NDArray[np.uint8], n_frames: npt.NDArray[np.int32]) -> None:
        """Write clips, uint8 [B, T, 128] and int32 [B], for `sample`."""
        write_arrays(self.sample, {"frames": frames, "n_frames": n_frames}, {})

    def write_validation(
        self, scores: npt.NDArray[np.float32], truth: npt.NDArray[np.bool_], ids: Sequence[str]
    ) -> None:
        """Write what the best weights say of clips, and what is right: both [n, C]."""
        packed = np.packbits(truth, axis=1)
        write_arrays(self.validation, {"scores": scores, "truth": packed}, {"ids": list(ids)})

    def read_validation(self) -> Validation | None:
        """The inverse of `write_validation`; None if the run has none.

        Raises:
            RunError: the file is damaged.
        """
        if not self.validation.exists():
            return None
        arrays, meta = read_arrays(self.validation)
        scores = arrays["scores"]
        truth = np.unpackbits(arrays["truth"], axis=1, count=scores.shape[1]).astype(np.bool_)
        return Validation(scores, truth, tuple(meta["ids"]))

    def add_checkpoint(self, epoch: int, weights: Weights) -> None:
        """Write the weights after an epoch, and remove the oldest beyond `KEPT_CHECKPOINTS`."""
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
    """A run with the next free name of its head: `runs/gru-1`, `runs/gru-2`, ..."""
    number = 1 + max((n for n, _ in _runs_of(head, parent)), default=0)
    return Run(parent / f"{head}-{number}")


def latest_run(head: str, parent: Path = DEFAULT_PARENT) -> Run:
    """The run of a head that was begun last.

    Raises:
        RunError: there is none.
    """
    runs = [path for _, path in sorted(_runs_of(head, parent))]
    if not runs:
        raise RunError(
            f"there is no run of {head} in {parent}{os.sep} to resume; say which with -o"
        )
    return Run(runs[-1])


def _runs_of(head: str, parent: Path) -> list[tuple[int, Path]]:
    return [
        (int(number), path)
        for path in parent.glob(f"{head}-*")
        if (number := path.name.removeprefix(f"{head}-")).isdigit()
    ]


def write_arrays(path: Path, arrays: Weights, meta: Mapping[str, Any]) -> None:
    """Write arrays by name and JSON-ready facts as an `.npz`, whole or not at all.

    Raises:
        RunError: the file cannot be written.
    """
    with write_errors_as(RunError, path), atomic_write(path) as file:
        facts = {_META: np.array(json.dumps(dict(meta)))}
        np.savez(file, **facts, **arrays)  # type: ignore[arg-type]  # no array has its option's name


def read_arrays(path: Path) -> tuple[Weights, dict[str, Any]]:
    """The inverse of `write_arrays`.

    Raises:
        RunError: there is no such file, or it is damaged.
    """
    try:
        # Opened here: numpy leaves a file open that is no archive.
        with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        return arrays, dict(json.loads(str(arrays.pop(_META))))
    except FileNotFoundError as error:
        raise RunError(
            f"{path} is not there: the run stopped before its first checkpoint"
        ) from error
    except Exception as error:  # zipfile, zlib and numpy each have their own
        raise RunError(f"{path} is damaged: {error}") from error


def _as_text(values: Mapping[str, Any]) -> str:
    return json.dumps(dict(values), indent=2, ensure_ascii=False) + "\n"
