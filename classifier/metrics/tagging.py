"""How good scores are: the metrics of AudioSet, YouTube-8M and Freesound, in plain numpy.

Conventions
-----------
Each metric takes the same two arrays and returns one number.

    scores  float [n_clips, n_classes]   the higher, the surer; finite
    labels  bool  [n_clips, n_classes]   True (or 1) where the class is in the clip

- Only order matters, save for PERR, which counts no score of 0 or less, and for calibration, which
  needs probabilities.
- A **positive** is a pair of clip and class whose label is True. A **hit** is a positive seen
  from the list that ranks it.
- Equal scores share a rank: those of one list are all taken or all left, and its precision there
  counts them all. So neither the order of clips nor that of classes matters. Two metrics must
  cut through ties, and take the first classes: Hit@1, and whatever takes the top k of a clip.
- What is not defined is NaN: a mean over no clips or no classes. GAP without positives is 0, as
  YouTube-8M has it.

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
from classifier.metrics.ranks import rank_clips, rank_hits, top_k_mask
from classifier.metrics.reliability import calibration_error
from vggish.errors import OptionError

if TYPE_CHECKING:
    from classifier.metrics.arrays import Counts, Floats


TOP_K = 20


def hit_at_1(scores: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Share of clips whose highest score is a label; of equal scores, the first class's.

    Args:
        scores: [n_clips, n_classes].
        labels: [n_clips, n_classes]; a clip without labels counts as a miss.

    Returns:
        0 to 1; NaN without clips.

    Source:
        `calculate_hit_at_one` of the YouTube-8M starter code.
    """
    values, truth = validate(scores, labels)
    best = values.argmax(axis=1)
    return mean(truth[np.arange(len(truth)), best])


def perr(scores: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Precision at equal recall rate: precision within a clip's top |labels| scores, averaged.

    Args:
        scores: [n_clips, n_classes]; those of 0 or less are never hits.
        labels: [n_clips, n_classes]; a clip without labels counts 0.

    Returns:
        0 to 1; NaN without clips.

    Source:
        `calculate_precision_at_equal_recall_rate` of the YouTube-8M starter code.
    """
    values, truth = validate(scores, labels)
    n_labels = np.count_nonzero(truth, axis=1)
    hits = top_k_mask(values, n_labels) & truth & (values > 0)
    return mean(np.count_nonzero(hits, axis=1) / np.maximum(n_labels, 1))


def gap(scores: npt.ArrayLike, labels: npt.ArrayLike, k: int = TOP_K) -> float:
    """Global average precision: of one list that pools the top k scores of all clips.

    Args:
        scores: [n_clips, n_classes].
        labels: [n_clips, n_classes].
        k: scores that each clip puts into the list.

    Returns:
        0 to 1: the sum of the precisions at the hits, divided by all positives, those outside
        the list included. 0 without positives.

    Source:
        `calculate_gap` of the YouTube-8M starter code, which orders equal scores at random.
    """
    values, truth = validate(scores, labels)
    check_count(k, "k")
    taken = top_k_mask(values, k)
    pooled = rank_hits(values[taken][None], truth[taken][None])
    return float(pooled.precision.sum()) / max(int(np.count_nonzero(truth)), 1)


def mean_average_precision(scores: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """mAP: non-interpolated average precision, averaged over the classes with a positive.

    Args:
        scores: [n_clips, n_classes].
        labels: [n_clips, n_classes].

    Returns:
        0 to 1; NaN without positives.

    Source:
        the area of `sklearn.metrics.average_precision_score`, as AudioSet's papers use it.
    """
    return nan_mean(rank_clips(*validate(scores, labels)).average_precision())


def truncated_mean_average_precision(
    scores: npt.ArrayLike, labels: npt.ArrayLike, k: int = TOP_K
) -> float:
    """Truncated mAP: after each clip has been cut to its top k scores, as YouTube-8M has it.

    Args:
        scores: [n_clips, n_classes].
        labels: [n_clips, n_classes].
        k: scores that are left of each clip; a positive that is cut away adds nothing to its
            class and still counts as one.

    Returns:
        0 to 1; NaN without positives.

    Source:
        `top_k_by_class` and `MeanAveragePrecisionCalculator` of the YouTube-8M starter code.
    """
    values, truth = validate(scores, labels)
    check_count(k, "k")
    taken = top_k_mask(values, k)
    # Below all that is left, what was cut away changes no rank.
    left = rank_clips(np.where(taken, values, -np.inf), truth & taken)
    sums = np.bincount(left.row, left.precision, minlength=truth.shape[1])
    return nan_mean(divide(sums, np.count_nonzero(truth, axis=0)))


def mean_auc(scores: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """mAUC: area under the ROC curve, averaged over the classes with a positive and a negative.

    Args:
        scores: [n_clips, n_classes].
        labels: [n_clips, n_classes].

    Returns:
        0 to 1, chance being 0.5; NaN where no class has both.

    Source:
        `sklearn.metrics.roc_auc_score`: how often a positive beats a negative, a tie being half.
    """
    return nan_mean(rank_clips(*validate(scores, labels)).auc())


def d_prime(scores: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """The d' of the mean AUC: how far apart two unit normal distributions of that AUC are.

    Args:
        scores: [n_clips, n_classes].
        labels: [n_clips, n_classes].

    Returns:
        see `d_prime_of`; NaN where no class has both a positive and a negative.

    Source:
        Hershey et al., "CNN architectures for large-scale audio classification", 2017.
    """
    return d_prime_of(mean_auc(scores, labels))


def d_prime_of(auc: float) -> float:
    """`sqrt(2) * inverse normal distribution of the AUC`.

    Args:
        auc: 0 to 1.

    Returns:
        0 at chance, infinity at AUC 1, minus infinity at AUC 0, NaN for NaN.
    """
    if math.isnan(auc):
        return math.nan
    if not 0 <= auc <= 1:
        raise OptionError(f"an AUC must be 0 to 1. Received: {auc} (is it a percentage?)")
    if auc in (0, 1):
        return math.inf if auc else -math.inf
    return math.sqrt(2) * NormalDist().inv_cdf(auc)


def lwlrap(scores: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Label-weighted label-ranking average precision: of classes within a clip, over positives.

    Args:
        scores: [n_clips, n_classes].
        labels: [n_clips, n_classes]; a clip without labels is skipped.

    Returns:
        0 to 1: the precision of the clip's list down to a label, averaged over all labels of all
        clips; NaN without positives.

    Source:
        Fonseca et al., "Audio tagging with noisy labels and minimal supervision", 2019; with
        ties as `sklearn.metrics.label_ranking_average_precision_score` has them.
    """
    return mean(rank_hits(*validate(scores, labels)).precision)


@dataclass(frozen=True, eq=False)
class PerClass:
    """Metrics of each class; NaN where a class lacks the positives or negatives for it.

    Attributes:
        ap: average precision, float64 [n_classes].
        auc: area under the ROC curve, float64 [n_classes].
        d_prime: `d_prime_of` it, float64 [n_classes].
        threshold: the score from which on to say yes, for the best F1, float64 [n_classes]; the
            highest of several.
        f1: the F1 that it reaches on these clips, float64 [n_classes].
        n_positives: int64 [n_classes].
    """

    ap: Floats
    auc: Floats
    d_prime: Floats
    threshold: Floats
    f1: Floats
    n_positives: Counts


def per_class(scores: npt.ArrayLike, labels: npt.ArrayLike) -> PerClass:
    """Average precision, AUC, d', best threshold and count of each class.

    Args:
        scores: [n_clips, n_classes].
        labels: [n_clips, n_classes].
    """
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
    """All metrics, by name.

    Args:
        scores: [n_clips, n_classes].
        labels: [n_clips, n_classes].

    Returns:
        mAP, mAUC, d_prime, lwlrap, GAP, Hit@1, PERR, mAP@20, ECE; and the counts n_clips,
        n_classes (those with a positive) and n_positives. ECE is NaN for scores that are no
        probabilities, since logits rank as well.

    Raises:
        OptionError: the arrays are not as `validate` wants them.
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
