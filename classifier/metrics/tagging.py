"""Metrics of AudioSet, YouTube-8M and Freesound, in plain numpy.

Conventions
-----------
Each metric takes the same two arrays and returns one number.

    scores  float [n_clips, n_classes]   finite; a higher score means more certain
    labels  bool  [n_clips, n_classes]   True (or 1) where the clip has the class

- Only the order of scores matters, except for PERR, which ignores scores of 0 or less, and for
  calibration, which needs probabilities.
- A **positive** is a pair of clip and class whose label is True; a **hit** is a positive within
  a ranked list.
- Equal scores share a rank, and the precision at that rank counts all of them, so neither the
  order of clips nor that of classes matters. Hit@1 and everything that takes the top k of a clip
  have to break ties, and take the first classes.
- Undefined results are NaN, such as a mean over no clips or no classes. Only GAP without
  positives is 0, as in YouTube-8M.
- `OptionError` is raised for arrays of another shape or type; see `arrays.validate`.

Example:
    >>> scores = [[0.9, 0.1, 0.4, 0.3], [0.2, 0.8, 0.7, 0.1], [0.5, 0.5, 0.5, 0.5]]
    >>> labels = [[1, 0, 1, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
    >>> round(gap(scores, labels), 7), round(hit_at_1(scores, labels), 7)
    (0.6805556, 0.3333333)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from classifier.metrics.arrays import (
    are_probabilities,
    check_count,
    divide,
    mean,
    nan_mean,
    validate,
)
from classifier.metrics.calibration import calibration_error
from classifier.metrics.ranks import rank_clips, rank_hits, top_k_mask
from vggish.errors import OptionError

if TYPE_CHECKING:
    from classifier.metrics.arrays import Counts, Floats

TOP_K = 20


def hit_at_1(scores: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Share of clips whose highest score is that of a label; clips without labels are misses.

    Source: `calculate_hit_at_one` of the YouTube-8M starter code.
    """
    values, truth = validate(scores, labels)
    best = values.argmax(axis=1)
    return mean(truth[np.arange(len(truth)), best])


def perr(scores: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Precision at equal recall rate: precision within a clip's top |labels| scores, averaged.

    Scores of 0 or less are never hits; clips without labels count as 0.

    Source: `calculate_precision_at_equal_recall_rate` of the YouTube-8M starter code.
    """
    values, truth = validate(scores, labels)
    n_labels = np.count_nonzero(truth, axis=1)
    hits = top_k_mask(values, n_labels) & truth & (values > 0)
    return mean(np.count_nonzero(hits, axis=1) / np.maximum(n_labels, 1))


def gap(scores: npt.ArrayLike, labels: npt.ArrayLike, k: int = TOP_K) -> float:
    """Global average precision: that of one list of the top k scores of all clips.

    It is the sum of the precisions at the hits, divided by the number of all positives, including
    those outside the list; 0 without positives.

    Source: `calculate_gap` of the YouTube-8M starter code, which orders equal scores at random.
    """
    values, truth = validate(scores, labels)
    check_count(k, "k")
    taken = top_k_mask(values, k)
    pooled = rank_hits(values[taken][None], truth[taken][None])
    return float(pooled.precision.sum()) / max(int(np.count_nonzero(truth)), 1)


def mean_average_precision(scores: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """mAP: non-interpolated average precision, averaged over the classes with a positive.

    Source: `sklearn.metrics.average_precision_score`, as used for AudioSet.
    """
    return nan_mean(rank_clips(*validate(scores, labels)).average_precision())


def truncated_mean_average_precision(
    scores: npt.ArrayLike, labels: npt.ArrayLike, k: int = TOP_K
) -> float:
    """Truncated mAP: that of the top k scores of each clip, as in YouTube-8M.

    A positive outside the top k adds no precision to its class, but counts as a positive.

    Source: `top_k_by_class` and `MeanAveragePrecisionCalculator` of the YouTube-8M starter code.
    """
    values, truth = validate(scores, labels)
    check_count(k, "k")
    taken = top_k_mask(values, k)
    # Below all other scores, those that are left out change no rank.
    left = rank_clips(np.where(taken, values, -np.inf), truth & taken)
    sums = np.bincount(left.row, left.precision, minlength=truth.shape[1])
    return nan_mean(divide(sums, np.count_nonzero(truth, axis=0)))


def mean_auc(scores: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """mAUC: area under the ROC curve, averaged over the classes with a positive and a negative.

    Chance is 0.5.

    Source: `sklearn.metrics.roc_auc_score`: how often a positive scores above a negative; a tie
    counts half.
    """
    return nan_mean(rank_clips(*validate(scores, labels)).auc())


def d_prime(scores: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """The d' of the mean AUC: the distance of two unit normal distributions with that AUC.

    Source: Hershey et al., "CNN architectures for large-scale audio classification", 2017.
    """
    return d_prime_of(mean_auc(scores, labels))


def d_prime_of(auc: float) -> float:
    """The d' of an AUC from 0 to 1: `sqrt(2) * inverse normal distribution of the AUC`.

    It is 0 at chance, infinity at AUC 1, minus infinity at AUC 0, NaN for NaN.
    """
    if math.isnan(auc):
        return math.nan
    if not 0 <= auc <= 1:
        raise OptionError(f"an AUC must be 0 to 1. Received: {auc} (is it a percentage?)")
    if auc in (0, 1):
        return math.inf if auc else -math.inf
    return math.sqrt(2) * NormalDist().inv_cdf(auc)


def lwlrap(scores: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Label-weighted label-ranking average precision.

    It is the precision of a clip's ranked classes down to a label, averaged over all labels of all
    clips.

    Source: Fonseca et al., "Audio tagging with noisy labels and minimal supervision", 2019; ties
    as in `sklearn.metrics.label_ranking_average_precision_score`.
    """
    return mean(rank_hits(*validate(scores, labels)).precision)


@dataclass(frozen=True, eq=False)
class PerClass:
    """Metrics [n_classes]; NaN for a class without the positives or negatives they need."""

    ap: Floats  # average precision
    auc: Floats  # area under the ROC curve
    d_prime: Floats  # `d_prime_of` the AUC
    threshold: Floats  # the lowest score to accept for the best F1; the highest of several
    f1: Floats  # at that threshold on these clips
    n_positives: Counts


def per_class(scores: npt.ArrayLike, labels: npt.ArrayLike) -> PerClass:
    """Average precision, AUC, d', best threshold and number of positives of each class."""
    ranks = rank_clips(*validate(scores, labels))
    auc = ranks.auc()
    threshold, f1 = ranks.best_threshold()
    return PerClass(
        ap=ranks.average_precision(),
        auc=auc,
        d_prime=np.array([d_prime_of(value) for value in auc.tolist()]),
        threshold=threshold,
        f1=f1,
        n_positives=ranks.n_hits,
    )


def evaluate(scores: npt.ArrayLike, labels: npt.ArrayLike) -> dict[str, float]:
    """Compute all metrics, by name.

    Returns:
        mAP, mAUC, d_prime, lwlrap, GAP, Hit@1, PERR, mAP@20, ECE; and the counts n_clips,
        n_classes (only those with a positive) and n_positives. ECE is NaN unless all scores are
        from 0 to 1.
    """
    values, truth = validate(scores, labels)
    ranks = rank_clips(values, truth)
    m_auc = nan_mean(ranks.auc())
    return {
        "mAP": nan_mean(ranks.average_precision()),
        "mAUC": m_auc,
        "d_prime": d_prime_of(m_auc),
        "lwlrap": lwlrap(values, truth),
        "GAP": gap(values, truth),
        "Hit@1": hit_at_1(values, truth),
        "PERR": perr(values, truth),
        f"mAP@{TOP_K}": truncated_mean_average_precision(values, truth),
        "ECE": calibration_error(values, truth) if are_probabilities(values) else math.nan,
        "n_clips": len(values),
        "n_classes": int(np.count_nonzero(ranks.n_hits)),
        "n_positives": len(ranks.row),
    }
