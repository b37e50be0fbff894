"""From labelled clips to a bundle: split, train, export; also by cross-validation."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from classifier.bundles.bundle import Bundle, load, read_weights
from classifier.export import export
from classifier.frame_data.clip_store import ClipStore
from classifier.labels import Labels
from classifier.names import RELEASED_EMBEDDER
from classifier.reports.curves import read_curves
from classifier.training.config import TrainingConfig
from classifier.training.loop import Clips, Observer, Result, Training, check_labels
from classifier.training.runs import Run
from classifier.training.splits import (
    DEFAULT_SHARE,
    Indices,
    check_given_folds,
    folds,
    given_folds,
    hold_out,
)
from vggish.errors import OptionError, TrainingError

_SAMPLE_CLIPS = 64


@dataclass(frozen=True, eq=False)
class LabelledClips:
    """Clips to learn from or to validate on.

    Attributes:
        store: the clips; those without labels are left out of training.
        labels: the classes.
        sources: where they come from, as the user named it.
        fold_of_clip: of each clip of the store, where the data names folds.
    """

    store: ClipStore
    labels: Labels
    sources: Sequence[str]
    fold_of_clip: Sequence[int] | None = None

    @property
    def labelled(self) -> Indices:
        """Indices of the clips whose labels are known, if only that they have none."""
        return np.flatnonzero(self.store.is_labelled)

    def facts(self) -> dict[str, Any]:
        """What a run remembers of them, JSON-ready."""
        embedders = {name or RELEASED_EMBEDDER for name in self.store.embedders}
        return {
            "sources": list(self.sources),
            "n_clips": len(self.labelled),
            "fingerprint": _fingerprint(self.store),
            "classes": f"{len(self.labels)} {_digest(*self.labels.names, *self.labels.mids)}",
            "embedders": sorted(embedders),
        }


@dataclass(frozen=True, eq=False)
class Fitted:
    """A finished or stopped training.

    Attributes:
        results: one, or one a fold.
        bundle: of the best weights; None if training stopped before the first epoch ended.
    """

    results: Sequence[Result]
    bundle: Bundle | None

    @property
    def is_finished(self) -> bool:
        """Whether no training was stopped from outside."""
        return all(result.is_finished for result in self.results)


@dataclass(frozen=True)
class Options:
    """How a run is made, apart from the configuration.

    Attributes:
        validation_share: of the clips that are held out; 0 trains on all, for all epochs.
        initial: a bundle to start from.
        licence: of the data, for the card.
        resume: go on with the run that is there.
        observer: is told of the progress.
        should_stop: asked after each step.
        tell: is told what happens, in sentences.
    """

    validation_share: float = DEFAULT_SHARE
    initial: Bundle | None = None
    licence: str = ""
    resume: bool = False
    observer: Observer | None = None
    should_stop: Callable[[], bool] = lambda: False
    tell: Callable[[str], None] = lambda line: None


def fit(
    config: TrainingConfig,
    data: LabelledClips,
    validation: LabelledClips | None,
    run: Run,
    options: Options,
) -> Fitted:
    """Train one head and export its best weights to the run's bundle.

    Args:
        config: of the training.
        data: to learn from.
        validation: to choose the best epoch by; None holds out a share of `data`.
        run: its directory.
        options: see there.

    Raises:
        OptionError: the initial bundle has another head than the configuration.
        TrainingError: too little data, or a loss that is no number.
        RunError: the run exists, or does not fit what is to be resumed.
        ConversionError: the exported head differs from the trained one.
    """
    _check_labelled(data)
    training, held = _split(config, data, validation, options.validation_share)
    facts = data.facts()
    if validation is not None:
        facts["validation"] = validation.facts()
    else:
        facts["validation"] = {"share": options.validation_share, "n_clips": len(held or ())}
    return _fit(config, data, training, held, facts, run, options)


def cross_validate(
    config: TrainingConfig, data: LabelledClips, n_folds: int, run: Run, options: Options
) -> Fitted:
    """Train a head a fold, each validated on its fold, and export all as one ensemble.

    The folds that the data names are used; else clips are assigned by id. The run of fold 2
    lies in the directory `fold-2` of the run.

    Args and errors are those of `fit`.
    """
    _check_labelled(data)
    labelled = data.labelled
    if data.fold_of_clip is not None:
        fold_of_clip = [data.fold_of_clip[index] for index in labelled]
        check_given_folds(fold_of_clip, n_folds)
        pairs = given_folds(fold_of_clip)
    else:
        pairs = folds(_ids(data, labelled), _labels(data, labelled), n_folds, config.seed)
    results: list[Result] = []
    parts = [Run(run.directory / f"fold-{number}") for number in range(1, n_folds + 1)]
    for number, (part, (train_on, hold)) in enumerate(zip(parts, pairs, strict=True), start=1):
        options.tell(f"fold {number} of {n_folds}")
        training, held = (Clips(data.store, labelled[where]) for where in (train_on, hold))
        facts = {
            **data.facts(),
            "validation": {"fold": f"{number}/{n_folds}", "n_clips": len(held)},
        }
        resume = options.resume and (part.directory / "config.json").exists()
        of_fold = replace(options, resume=resume)
        fitted = _fit(config, data, training, held, facts, part, of_fold)
        results += fitted.results
        if not fitted.is_finished:
            return Fitted(results, None)
    bundle = export(
        parts, run.bundle, name=run.directory.name, licence=options.licence, overwrite=True
    )
    return Fitted(results, bundle)


def start_config(config: TrainingConfig, initial: Bundle, head_was_given: bool) -> TrainingConfig:
    """The configuration with the head of the bundle that training starts from.

    Raises:
        OptionError: another head was asked for, or the bundle is an ensemble.
    """
    head = initial.card["head"]
    if head["name"] == "ensemble":
        raise OptionError(f"{initial.directory} is an ensemble; fine-tune one of its members")
    if head_was_given and (config.head, dict(config.settings)) != (head["name"], head["settings"]):
        raise OptionError(
            f"--head and --set ask for another head than {initial.directory} has "
            f"({head['name']}); leave them out to fine-tune it"
        )
    return replace(config, head=head["name"], settings=head["settings"])


def _fit(
    config: TrainingConfig,
    data: LabelledClips,
    training: Clips,
    held: Clips | None,
    facts: dict[str, Any],
    run: Run,
    options: Options,
) -> Fitted:
    start, classes = options.initial, data.labels
    if start is not None:
        facts["initial"] = {"name": start.name, "sha256": start.sha256}
        weights = read_weights(start)
        strangers = [name for name in facts["embedders"] if not start.accepts(name)]
        if strangers:
            known = ", ".join(start.card["embedders"])
            options.tell(
                f"warning: {start.name} has learnt from frames of {known}, these are of "
                f"{', '.join(strangers)}; it has to learn them anew"
            )
    check_labels(training, held, len(classes))
    if options.resume:
        run.check_same(config, facts)
    else:
        run.check_free()

    def give_weights(model: Any) -> None:
        from classifier.training.transfer import start_from

        assert start is not None
        n = start_from(model, weights, start.labels, classes)
        options.tell(f"starting from {start.name}, which knows {n} of the {len(classes)} classes")

    resume = options.resume and run.state.exists()
    # Without a bundle it was killed, or refused, while that was made.
    if run.is_finished and run.bundle.exists():
        options.tell(f"{run.directory} is finished; there is nothing to resume")
        return Fitted([_finished(run)], load(run.bundle))
    trainer = Training(
        config,
        len(classes),
        training,
        held,
        run,
        initial=None if start is None or resume else give_weights,
        resume=resume,
    )
    # What could be refused has been: a run that is begun is in the way of the next try.
    if not options.resume:
        ids = [] if held is None else [held.store.ids[index] for index in held.indices]
        run.begin(config, facts, classes, ids)
    if not run.sample.exists():
        sample = held or training
        run.write_sample(*sample.store.gather(sample.indices[:_SAMPLE_CLIPS]))
    result = trainer.run(options.observer, options.should_stop)
    if not run.best.exists():
        return Fitted([result], None)
    bundle = export(
        [run], run.bundle, name=run.directory.name, licence=options.licence, overwrite=True
    )
    return Fitted([result], bundle)


def _finished(run: Run) -> Result:
    metrics = run.metrics()
    epoch = int(metrics.pop("epoch"))
    n_epochs = int(read_curves(run.curves)[-1]["epoch"])
    known = {k: float("nan") if v is None else v for k, v in metrics.items()}
    return Result(epoch, n_epochs, True, known)


def _check_labelled(data: LabelledClips) -> None:
    if not len(data.labelled):
        raise TrainingError(
            f"none of the {len(data.store)} clips has labels; are these frames to predict from? "
            "Labels come with AudioSet's records, or by: audiotag embed --format tfrecord "
            "--labels labels.csv"
        )


def _split(
    config: TrainingConfig,
    data: LabelledClips,
    validation: LabelledClips | None,
    share: float,
) -> tuple[Clips, Clips | None]:
    labelled = data.labelled
    if validation is not None:
        return Clips(data.store, labelled), Clips(validation.store, validation.labelled)
    if not share:
        return Clips(data.store, labelled), None
    train_on, hold = hold_out(_ids(data, labelled), _labels(data, labelled), share, config.seed)
    return Clips(data.store, labelled[train_on]), Clips(data.store, labelled[hold])


def _ids(data: LabelledClips, indices: Indices) -> list[str]:
    return [data.store.ids[index] for index in indices]


def _labels(data: LabelledClips, indices: Indices) -> list[list[int]]:
    store = data.store
    values = store.label_values.tolist()
    offsets = store.label_offsets.tolist()
    return [values[offsets[index] : offsets[index + 1]] for index in indices]


def _digest(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()


def _fingerprint(store: ClipStore) -> str:
    """Tells one set of clips from another: ids, lengths and labels."""
    digest = hashlib.sha256("\0".join(store.ids).encode())
    for array in (store.lengths, store.label_offsets, store.label_values):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
