"""From labelled clips to a bundle: split, train, export; also by cross-validation."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from classifier.bundles.bundle import Bundle, load, read_weights
from classifier.bundles.files import Weights
from classifier.export import ExportOptions, export
from classifier.frame_data.clip_store import ClipStore
from classifier.labels import Labels
from classifier.names import RELEASED_EMBEDDER
from classifier.reports.curves import read_curves
from classifier.training.config import TrainingConfig
from classifier.training.examples import FrameExamples, Indices
from classifier.training.loop import Training
from classifier.training.observers import CurveReports, Observer
from classifier.training.runs import Fitted, Result, Run
from classifier.training.splits import (
    DEFAULT_SHARE,
    check_given_folds,
    folds,
    given_folds,
    hold_out,
)
from classifier.training.transfer import start_from
from vggish.errors import TrainingError

# Enough to compare the exported head with the trained one.
_SAMPLE_CLIPS = 64


@dataclass(frozen=True, eq=False)
class LabelledClips:
    """Clips to train or to validate on; training ignores those without labels."""

    store: ClipStore
    labels: Labels
    sources: Sequence[str]  # files or directories that the user gave
    fold_of_clip: Sequence[int] | None = None  # of each clip of the store

    @property
    def labelled(self) -> Indices:
        """Indices of the clips whose labels are known; a clip may be known to have none."""
        return np.flatnonzero(self.store.is_labelled)

    def examples(self, indices: Indices) -> FrameExamples:
        """Some of the clips, by their indices in the store, as examples."""
        return FrameExamples(self.store, indices, len(self.labels))

    def facts(self) -> dict[str, Any]:
        """Description to save with a run, JSON-ready."""
        embedders = {name or RELEASED_EMBEDDER for name in self.store.embedders}
        classes = "\0".join((*self.labels.names, *self.labels.mids)).encode()
        return {
            "sources": list(self.sources),
            "n_clips": len(self.labelled),
            "fingerprint": _fingerprint(self.store),
            "classes": f"{len(self.labels)} {hashlib.sha256(classes).hexdigest()}",
            "embedders": sorted(embedders),
        }


@dataclass(frozen=True)
class FitOptions:
    """Options of a training run, apart from its configuration.

    A `validation_share` of 0 trains on all clips, for all epochs. `should_stop` is called before
    each step.
    """

    validation_share: float = DEFAULT_SHARE
    initial: Bundle | None = None
    licence: str = ""
    resume: bool = False
    observer: Observer | None = None
    should_stop: Callable[[], bool] = lambda: False
    log: Callable[[str], None] = lambda message: None


def fit(
    config: TrainingConfig,
    data: LabelledClips,
    validation: LabelledClips | None,
    run: Run,
    options: FitOptions,
) -> Fitted:
    """Train one head and export its best weights to the run's bundle.

    Without `validation`, a share of `data` is held out. Errors are those of `classifier.api.train`.
    """
    _check_labelled(data)
    labelled, share = data.labelled, options.validation_share
    if validation is None and share:
        train_on, hold = hold_out(*_ids_and_labels(data), share, config.seed)
        training, held_out = data.examples(labelled[train_on]), data.examples(labelled[hold])
    else:
        training, held_out = data.examples(labelled), None
    if validation is None:
        used: dict[str, Any] = {"share": share, "n_clips": len(held_out or ())}
    else:
        held_out = FrameExamples(validation.store, validation.labelled, len(data.labels))
        used = validation.facts()
    facts = {**data.facts(), "validation": used}
    return _fit(config, data.labels, training, held_out, facts, run, options)


def cross_validate(
    config: TrainingConfig, data: LabelledClips, n_folds: int, run: Run, options: FitOptions
) -> Fitted:
    """Train a head per fold, each validated on its fold, and export them as one ensemble.

    The folds that the data names are used; else clips are assigned by id. The run of fold 2 is in
    the directory `fold-2` of the run.
    """
    _check_labelled(data)
    labelled = data.labelled
    if data.fold_of_clip is not None:
        fold_of_clip = [data.fold_of_clip[index] for index in labelled]
        check_given_folds(fold_of_clip, n_folds)
        pairs = given_folds(fold_of_clip)
    else:
        pairs = folds(*_ids_and_labels(data), n_folds, config.seed)
    results: list[Result] = []
    parts = [Run(run.directory / f"fold-{number}") for number in range(1, n_folds + 1)]
    for number, (part, pair) in enumerate(zip(parts, pairs, strict=True), start=1):
        options.log(f"fold {number} of {n_folds}")
        training, held_out = (data.examples(labelled[positions]) for positions in pair)
        validation = {"fold": f"{number}/{n_folds}", "n_clips": len(held_out)}
        facts = {**data.facts(), "validation": validation}
        resume = options.resume and (part.directory / "config.json").exists()
        of_fold = replace(options, resume=resume)
        fitted = _fit(config, data.labels, training, held_out, facts, part, of_fold)
        results += fitted.results
        if not fitted.is_finished:
            return Fitted(results, None)
    return Fitted(results, _export(parts, run, options))


def _fit(
    config: TrainingConfig,
    classes: Labels,
    training: FrameExamples,
    held_out: FrameExamples | None,
    facts: dict[str, Any],
    run: Run,
    options: FitOptions,
) -> Fitted:
    initialise = None
    if options.initial is not None:
        start = options.initial
        facts["initial"] = {"name": start.name, "sha256": start.sha256}
        initialise = functools.partial(
            _initialise, start, read_weights(start), classes, options.log
        )
        unknown = [name for name in facts["embedders"] if not start.accepts(name)]
        if unknown:
            options.log(
                f"warning: {start.name} was trained on frames of "
                f"{', '.join(start.card['embedders'])}, but these are of {', '.join(unknown)}; it "
                "has to learn them from scratch"
            )
    if options.resume:
        run.check_same(config, facts)
    else:
        run.check_free()
    # A run that was killed while its bundle was made has none.
    if run.is_finished and run.bundle.exists():
        options.log(f"{run.directory} is finished; there is nothing to resume")
        return Fitted([_finished(run)], load(run.bundle))
    resume = options.resume and run.state.exists()
    trainer = Training(
        config, training, held_out, run, initialise=None if resume else initialise, resume=resume
    )
    # Only now, because a run that has been begun blocks the next attempt.
    if not options.resume:
        run.begin(config, facts, classes, [] if held_out is None else held_out.ids)
    if not run.sample.exists():
        sample = held_out or training
        frames, n_frames, _ = sample.gather(np.arange(min(len(sample), _SAMPLE_CLIPS)))
        run.write_sample(frames, n_frames)
    with CurveReports(run) as reports:
        observers = [reports, *filter(None, [options.observer])]
        result = trainer.run(observers, options.should_stop)
    return Fitted([result], _export([run], run, options) if run.best.exists() else None)


def _initialise(
    start: Bundle, weights: Weights, classes: Labels, log: Callable[[str], None], model: Any
) -> None:
    n = start_from(model, weights, start.labels, classes)
    log(f"starting from {start.name}, which knows {n} of the {len(classes)} classes")


def _export(runs: Sequence[Run], run: Run, options: FitOptions) -> Bundle:
    contents = ExportOptions(name=run.directory.name, licence=options.licence, overwrite=True)
    return export(runs, run.bundle, contents)


def _finished(run: Run) -> Result:
    metrics = {k: float("nan") if v is None else v for k, v in run.metrics().items()}
    n_epochs = int(read_curves(run.curves)[-1]["epoch"])
    return Result(int(metrics.pop("epoch")), n_epochs, True, metrics)


def _check_labelled(data: LabelledClips) -> None:
    if not len(data.labelled):
        raise TrainingError(
            f"none of the {len(data.store)} clips has labels; are these frames to predict from? "
            "Labels come with AudioSet's records, or by: audiotag embed --format tfrecord "
            "--labels labels.csv"
        )


def _ids_and_labels(data: LabelledClips) -> tuple[list[str], list[list[int]]]:
    store, indices = data.store, data.labelled
    values, offsets = store.label_values.tolist(), store.label_offsets.tolist()
    ids = [store.ids[index] for index in indices]
    return ids, [values[offsets[index] : offsets[index + 1]] for index in indices]


def _fingerprint(store: ClipStore) -> str:
    """Hash of the ids, lengths and labels of clips."""
    digest = hashlib.sha256("\0".join(store.ids).encode())
    for array in (store.lengths, store.label_offsets, store.label_values):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
