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
from typing import Any

import numpy as np
import numpy.typing as npt

from vggish.errors import OptionError

TOP_K = 20
N_BINS = 15

Floats = npt.NDArray[np.floating]
Bools = npt.NDArray[np.bool_]
Counts = npt.NDArray[np.int64]


def validate(scores: npt.ArrayLike, labels: npt.ArrayLike) -> tuple[Floats, Bools]:
    """Check scores and labels, and give them their types.

    Args:
        scores: finite numbers [n_clips, n_classes].
        labels: booleans, or 0 and 1, of the same shape.

    Returns:
        scores as float32 if they were, else as float64; labels as bool.

    Raises:
        OptionError: they are no such arrays; the message guesses the mistake.
    """
    given_scores, given_labels = _numbers(scores, "scores"), _numbers(labels, "labels")
    _check_shapes(given_scores, given_labels)
    dtype = np.float32 if given_scores.dtype == np.float32 else np.float64
    values = given_scores.astype(dtype, copy=False)
    finite = np.isfinite(values)
    if not finite.all():
        clip, class_index = np.argwhere(~finite)[0]
        raise OptionError(
            f"scores must be finite numbers. Received: {values[clip, class_index]} for clip "
            f"{clip}, class {class_index}, and {np.count_nonzero(~finite)} such in all (did "
            "training diverge?)"
        )
    if given_labels.dtype != np.bool_ and not _is_binary(given_labels):
        raise OptionError(
            "labels must be 0 or 1. Received values "
            f"{given_labels.min():g} to {given_labels.max():g} "
            f"{_guess_at_labels(given_labels, values)}"
        )
    return values, given_labels.astype(np.bool_, copy=False)


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
    return _mean(truth[np.arange(len(truth)), best])


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
    hits = _top(values, n_labels) & truth & (values > 0)
    return _mean(np.count_nonzero(hits, axis=1) / np.maximum(n_labels, 1))


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
    _check_count(k, "k")
    taken = _top(values, k)
    pooled = _rank_hits(values[taken][None], truth[taken][None])
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
    return _mean_defined(_rank_clips(*validate(scores, labels)).average_precision())


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
    _check_count(k, "k")
    taken = _top(values, k)
    # Below all that is left, what was cut away changes no rank.
    left = _rank_clips(np.where(taken, values, -np.inf), truth & taken)
    sums = np.bincount(left.row, left.precision, minlength=truth.shape[1])
    return _mean_defined(_divide(sums, np.count_nonzero(truth, axis=0)))


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
    return _mean_defined(_rank_clips(*validate(scores, labels)).auc())


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
    return _mean(_rank_hits(*validate(scores, labels)).precision)


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
    ranks = _rank_clips(*validate(scores, labels))
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


@dataclass(frozen=True, eq=False)
class Reliability:
    """What a reliability diagram shows, by bins of equal width.

    Attributes:
        edges: float64 [n_bins + 1], from 0 to 1; a bin holds its lower edge, the last both.
        n_pairs: pairs of clip and class in each bin, int64 [n_bins].
        mean_score: of those pairs, float64 [n_bins]; NaN in an empty bin.
        share_positive: of those pairs, float64 [n_bins]; NaN in an empty bin.
    """

    edges: Floats
    n_pairs: Counts
    mean_score: Floats
    share_positive: Floats

    @property
    def error(self) -> float:
        """Expected calibration error: mean gap of score and share, weighted by pairs."""
        filled = self.n_pairs > 0
        gaps = np.abs(self.mean_score - self.share_positive)[filled]
        return float(_divide(gaps @ self.n_pairs[filled], self.n_pairs.sum()))


def reliability(scores: npt.ArrayLike, labels: npt.ArrayLike, n_bins: int = N_BINS) -> Reliability:
    """How scores, taken as probabilities, compare with how often they come true.

    Args:
        scores: [n_clips, n_classes], 0 to 1.
        labels: [n_clips, n_classes].
        n_bins: bins of equal width.

    Raises:
        OptionError: a score is below 0 or above 1.
    """
    values, truth = validate(scores, labels)
    _check_count(n_bins, "n_bins")
    if not _are_probabilities(values):
        raise OptionError(
            "calibration needs probabilities, 0 to 1. Received scores "
            f"{values.min():g} to {values.max():g} (are these logits? apply the sigmoid first)"
        )
    n_pairs, n_positives = np.zeros((2, n_bins), np.int64)
    total_score = np.zeros(n_bins)
    # Blocks that fit into a cache are twice as fast as all at once.
    step = max(1, 2**16 // values.shape[1])
    for start in range(0, len(values), step):
        block = values[start : start + step].ravel()
        bins = np.minimum((block * n_bins).astype(np.int32), n_bins - 1)
        n_pairs += np.bincount(bins, minlength=n_bins)
        total_score += np.bincount(bins, block, minlength=n_bins)
        hit_bins = bins[truth[start : start + step].ravel()]
        n_positives += np.bincount(hit_bins, minlength=n_bins)
    return Reliability(
        edges=np.arange(n_bins + 1) / n_bins,
        n_pairs=n_pairs,
        mean_score=_divide(total_score, n_pairs),
        share_positive=_divide(n_positives, n_pairs),
    )


def calibration_error(scores: npt.ArrayLike, labels: npt.ArrayLike, n_bins: int = N_BINS) -> float:
    """Expected calibration error over all pairs of clip and class.

    Where most scores are near 0, as with hundreds of classes, so is this; compare it only
    between heads on the same clips.

    Args:
        scores: [n_clips, n_classes], 0 to 1.
        labels: [n_clips, n_classes].
        n_bins: bins of equal width.

    Returns:
        0 to 1; NaN without clips.

    Raises:
        OptionError: a score is below 0 or above 1.

    Source:
        Guo et al., "On calibration of modern neural networks", 2017; each pair is one binary
        prediction here.
    """
    return reliability(scores, labels, n_bins).error


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
    ranks = _rank_clips(values, truth)
    m_auc = _mean_defined(ranks.auc())
    return {
        "mAP": _mean_defined(ranks.average_precision()),
        "mAUC": m_auc,
        "d_prime": d_prime_of(m_auc),
        "lwlrap": lwlrap(values, truth),
        "GAP": gap(values, truth),
        "Hit@1": hit_at_1(values, truth),
        "PERR": perr(values, truth),
        f"mAP@{TOP_K}": truncated_mean_average_precision(values, truth),
        "ECE": calibration_error(values, truth) if _are_probabilities(values) else math.nan,
        "n_clips": len(values),
        "n_classes": int(np.count_nonzero(ranks.n_hits)),
        "n_positives": len(ranks.row),
    }


# --- Ranks -------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _HitRanks:
    """Where the hits stand in their rows, each row a list: one entry a hit, by row.

    `above` counts scores strictly above the hit's own; `down_to` also those equal to it, itself
    included. All these metrics are sums over hits, so nothing else of the order is needed.
    """

    row: Counts
    score: Floats
    above: Counts
    down_to: Counts
    hits_above: Counts
    hits_down_to: Counts
    n_hits: Counts  # of each row
    row_length: int

    @property
    def precision(self) -> Floats:
        """Of the list down to each hit."""
        return self.hits_down_to / self.down_to

    def average_precision(self) -> Floats:
        """Of each row."""
        sums = np.bincount(self.row, self.precision, minlength=len(self.n_hits))
        return _divide(sums, self.n_hits)

    def auc(self) -> Floats:
        """Of each row."""
        misses_above = self.above - self.hits_above
        misses_down_to = self.down_to - self.hits_down_to
        # A miss above a hit is lost, one that equals it half lost.
        lost = np.bincount(
            self.row, (misses_above + misses_down_to) / 2, minlength=len(self.n_hits)
        )
        return 1 - _divide(lost, self.n_hits * (self.row_length - self.n_hits))

    def best_threshold(self) -> tuple[Floats, Floats]:
        """Of each row: the threshold of the best F1, and that F1."""
        # Down from one hit to the next, each miss lowers F1: the best is at a hit's score.
        f1 = 2 * self.hits_down_to / (self.down_to + self.n_hits[self.row])
        order = np.lexsort((-self.score, -f1, self.row))
        rows, first = np.unique(self.row[order], return_index=True)
        best = np.full((2, len(self.n_hits)), np.nan)
        best[:, rows] = self.score[order[first]], f1[order[first]]
        return best[0], best[1]


def _rank_clips(scores: Floats, labels: Bools) -> _HitRanks:
    """A list for each class, of all clips."""
    return _rank_hits(scores.T, labels.T)


def _rank_hits(scores: Floats, labels: Bools) -> _HitRanks:
    """A list for each row, of all columns."""
    ordered = np.array(scores, order="C")
    truth = np.ascontiguousarray(labels)
    n_hits = np.count_nonzero(truth, axis=1)
    hit_score = ordered[truth]
    ordered.sort(axis=1)
    below, up_to, hits_below, hits_up_to = np.empty((4, len(hit_score)), np.int64)
    stop = 0
    for row in np.flatnonzero(n_hits).tolist():
        part = slice(stop, stop := stop + int(n_hits[row]))
        own = hit_score[part]
        own.sort()
        below[part] = ordered[row].searchsorted(own, "left")
        up_to[part] = ordered[row].searchsorted(own, "right")
        hits_below[part] = own.searchsorted(own, "left")
        hits_up_to[part] = own.searchsorted(own, "right")
    row_of_hit = np.repeat(np.arange(len(n_hits)), n_hits)
    n_own = n_hits[row_of_hit]
    row_length = truth.shape[1]
    return _HitRanks(
        row=row_of_hit,
        score=hit_score,
        above=row_length - up_to,
        down_to=row_length - below,
        hits_above=n_own - hits_up_to,
        hits_down_to=n_own - hits_below,
        n_hits=n_hits,
        row_length=row_length,
    )


def _top(scores: Floats, k: int | Counts) -> Bools:
    """Mask of each row's k highest scores; of those equal at the cut, the first ones."""
    n_rows, n_columns = scores.shape
    n_taken = np.broadcast_to(np.minimum(k, n_columns), n_rows)
    most = int(n_taken.max(initial=1))
    # Only the best need an order; a partition is several times as fast where no SIMD sorts.
    best = np.partition(scores, n_columns - most, axis=1)[:, n_columns - most :]
    best.sort(axis=1)
    cut = best[np.arange(n_rows), most - np.maximum(n_taken, 1)][:, None]
    above, level = scores > cut, scores == cut
    room = n_taken - np.count_nonzero(above, axis=1)
    crowded = np.count_nonzero(level, axis=1) > room
    level[crowded] &= np.cumsum(level[crowded], axis=1) <= room[crowded, None]
    mask: Bools = above | level
    return mask


# --- Means that may be of nothing --------------------------------------------------------


def _mean(values: npt.NDArray[Any]) -> float:
    return float(np.mean(values)) if values.size else math.nan


def _mean_defined(values: Floats) -> float:
    return _mean(values[~np.isnan(values)])


def _divide(sums: npt.ArrayLike, counts: npt.ArrayLike) -> Floats:
    """NaN where the count is 0."""
    totals, n = np.asarray(sums, np.float64), np.asarray(counts)
    quotients: Floats = np.divide(totals, n, out=np.full(n.shape, np.nan), where=n > 0)
    return quotients


# --- Checks ------------------------------------------------------------------------------


def _numbers(values: npt.ArrayLike, what: str) -> npt.NDArray[Any]:
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise OptionError(
            f"{what} must be an array [n_clips, n_classes]; the rows received differ in length "
            "(are these lists of class indices?)"
        ) from error
    if array.dtype.kind not in "biuf":
        raise OptionError(f"{what} must be numbers. Received dtype: {array.dtype}")
    return array


def _check_shapes(scores: npt.NDArray[Any], labels: npt.NDArray[Any]) -> None:
    for what, shape in (("scores", scores.shape), ("labels", labels.shape)):
        if len(shape) != 2:
            guess = "is this one clip? give it as [array]"
            if what == "labels" and scores.ndim == 2 and shape == scores.shape[:1]:
                guess = "are these class indices? give 0 or 1 for each class"
            raise OptionError(
                f"{what} must have the shape [n_clips, n_classes]. Received: {shape} ({guess})"
            )
    if scores.shape != labels.shape:
        guess = "do they come from the same clips and the same list of classes?"
        if scores.shape == labels.shape[::-1]:
            guess = "is one of them transposed?"
        elif scores.shape[1] == labels.shape[1]:
            guess = "were clips left out of one of them?"
        raise OptionError(
            "scores and labels must have the same shape. Received: "
            f"{scores.shape} and {labels.shape} ({guess})"
        )
    if scores.shape[1] == 0:
        raise OptionError(f"there must be a class at least. Received the shape {scores.shape}")


def _guess_at_labels(labels: npt.NDArray[Any], scores: Floats) -> str:
    if np.isnan(labels).any():
        return "(are some clips unlabelled? leave those out)"
    if (labels == np.round(labels)).all():
        return "(are these class indices, or counts? give 0 or 1 for each class)"
    if _is_binary(scores):
        return "(are the arguments swapped?)"
    if not _are_probabilities(labels):
        return "(are these logits?)"
    return "(are these scores, or soft labels? compare them with a threshold first)"


def _check_count(value: int, name: str) -> None:
    if value < 1:
        raise OptionError(f"`{name}` must be 1 at least. Received: {value}")


def _is_binary(values: npt.NDArray[Any]) -> bool:
    return bool(((values == 0) | (values == 1)).all())


def _are_probabilities(values: npt.NDArray[Any]) -> bool:
    return bool(((values >= 0) & (values <= 1)).all())
