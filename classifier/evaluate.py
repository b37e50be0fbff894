"""Evaluate a head on labelled clips, once or at each checkpoint of a run."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from classifier import metrics
from classifier.bundles.bundle import Bundle, Scorer, score_batches
from classifier.labels import Labels
from classifier.reports.evaluation import Evaluation
from classifier.tags.types import Scores
from classifier.training.runs import Run, read_arrays
from vggish.errors import FrameFileError, OptionError, RunError

if TYPE_CHECKING:
    from classifier.frame_data.clips import Clip

Checkpoint = TypeVar("Checkpoint")
Result = TypeVar("Result")


def evaluate(
    scorer: Scorer,
    clips: Iterable[Clip],
    labels: Labels,
    *,
    force: bool = False,
    on_progress: Callable[[int], None] | None = None,
) -> Evaluation:
    """Score labelled clips with a bundle or a head in training, and compute all metrics.

    Of an iterator of clips only the scores are kept. Clips without labels are counted and left out.
    The labels are in the order of the scores. `force` accepts frames of an embedder that a bundle
    is not for. `on_progress` is called with the number of clips scored so far.

    Raises an `OptionError` if no clip has labels, a `FrameFileError` for a label that is not one of
    the classes, and a `BundleError` for frames of another embedder.
    """
    started = time.perf_counter()
    tally: Counter[str | None] = Counter()  # by embedder; None counts clips without labels
    scores: list[Scores] = [np.zeros((0, len(labels)), np.float32)]
    truth = [np.zeros((0, len(labels)), np.bool_)]
    n_scored = 0
    labelled = _labelled(clips, scorer, len(labels), force, tally)
    for batch, batch_scores in score_batches(scorer, labelled):
        if batch_scores.shape[1] != len(labels):
            raise OptionError(
                f"there are {len(labels)} labels, but {batch_scores.shape[1]} scores per clip; "
                "give the labels that the head was trained with"
            )
        scores.append(batch_scores)
        rows = np.zeros((len(batch), len(labels)), np.bool_)
        for row, clip in zip(rows, batch, strict=True):
            row[list(clip.labels or ())] = True
        truth.append(rows)
        n_scored += len(batch)
        if on_progress is not None:
            on_progress(n_scored)
    all_scores, all_truth = np.concatenate(scores), np.concatenate(truth)
    if not all_truth.any():
        n_clips = n_scored + tally[None]
        raise OptionError(
            f"none of the {n_clips} clips has labels, so there is nothing to compare with.\n"
            "To score clips without labels, use: audiotag predict"
        )
    return Evaluation(
        metrics=metrics.evaluate(all_scores, all_truth),
        per_class=metrics.per_class(all_scores, all_truth),
        labels=labels,
        scores=all_scores,
        truth=all_truth,
        embedders={name: n for name, n in tally.items() if name is not None},
        n_unlabelled=tally[None],
        seconds=time.perf_counter() - started,
    )


def watch(
    list_checkpoints: Callable[[], Iterable[Checkpoint]],
    evaluate_one: Callable[[Checkpoint], Result],
    stop: threading.Event,
    poll_seconds: float = 1.0,
    *,
    is_finished: Callable[[], bool] = lambda: False,
) -> Iterator[tuple[Checkpoint, Result]]:
    """Evaluate every checkpoint of a run as training writes it, each once and in order.

    `list_checkpoints` returns the present ones, hashable; one that is removed between two polls is
    missed. The loop ends after the remaining checkpoints if training `is_finished`, or when `stop`
    is set, at the next checkpoint or immediately while it waits.
    """
    seen: set[Checkpoint] = set()
    while not stop.is_set():
        # Asked first, so that a checkpoint written between the two calls is not missed.
        finished = is_finished()
        new = [checkpoint for checkpoint in list_checkpoints() if checkpoint not in seen]
        for checkpoint in new:
            if stop.is_set():
                return
            seen.add(checkpoint)
            yield checkpoint, evaluate_one(checkpoint)
        if finished:
            return
        if not new:
            stop.wait(poll_seconds)


def watch_run(
    run: Run,
    clips: Iterable[Clip],
    stop: threading.Event,
    *,
    force: bool = False,
    log: Callable[[str], None] = lambda line: None,
) -> Iterator[tuple[int, Evaluation]]:
    """Evaluate each checkpoint of a training run, until training ends or `stop` is set.

    `clips` are labelled, and iterated over repeatedly. `log` is called with a note about
    checkpoints that training removed too early. Yields the epoch of each checkpoint, and its
    evaluation.
    """
    # These import TensorFlow.
    from classifier.training.network import Network
    from classifier.training.transfer import set_weights

    config, labels = run.config(), run.labels()
    network = Network([config], len(labels))

    def evaluate_one(path: Path) -> tuple[int, Evaluation] | None:
        try:
            weights, facts = read_arrays(path)
        except RunError:
            if path.exists():
                raise
            return None  # training removed it
        set_weights(network.model, weights)
        return int(facts["epoch"]), evaluate(network, clips, labels, force=force)

    results = watch(run.checkpoints, evaluate_one, stop, is_finished=lambda: run.is_finished)
    expected = 1
    for _, result in results:
        if result is None:
            continue
        epoch, found = result
        if epoch > expected:
            missed = f"{expected}" if epoch == expected + 1 else f"{expected} to {epoch - 1}"
            log(f"note: not evaluated: epoch {missed}; a run keeps its latest checkpoints only")
        expected = epoch + 1
        yield epoch, found


def _labelled(
    clips: Iterable[Clip], scorer: Scorer, n_classes: int, force: bool, tally: Counter[str | None]
) -> Iterator[Clip]:
    for clip in clips:
        if clip.labels is None:
            tally[None] += 1
            continue
        beyond = [index for index in clip.labels if not 0 <= index < n_classes]
        if beyond:
            raise FrameFileError(
                f"the clip {clip.clip_id!r} ({clip.source}) has the label {beyond[0]}, but there "
                f"are {n_classes} classes, 0 to {n_classes - 1}. Was the head trained for the "
                "classes of these clips?"
            )
        if isinstance(scorer, Bundle):
            scorer.check_embedder(clip.embedder, force, what=clip.source)
        tally[clip.embedder] += 1
        yield clip
