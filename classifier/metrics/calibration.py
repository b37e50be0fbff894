"""Calibration: reliability diagrams and the expected calibration error."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from classifier.metrics.arrays import (
    Counts,
    Floats,
    are_probabilities,
    check_count,
    divide,
    validate,
)
from vggish.errors import OptionError

N_BINS = 15


@dataclass(frozen=True, eq=False)
class Reliability:
    """The data of a reliability diagram, by bins of equal width; NaN in an empty bin."""

    edges: Floats  # [n_bins + 1], from 0 to 1; a bin includes its lower edge, the last both
    n_pairs: Counts  # of clip and class in each bin, [n_bins]
    mean_score: Floats  # of those pairs, [n_bins]
    share_positive: Floats  # in those pairs, [n_bins]

    @property
    def error(self) -> float:
        """Expected calibration error: mean gap of score and share, weighted by pairs."""
        filled = self.n_pairs > 0
        gaps = np.abs(self.mean_score - self.share_positive)[filled]
        return float(divide(gaps @ self.n_pairs[filled], self.n_pairs.sum()))


def reliability(scores: npt.ArrayLike, labels: npt.ArrayLike, n_bins: int = N_BINS) -> Reliability:
    """Compare scores, as probabilities, with the share of positives among similar scores.

    Scores from 0 to 1 and labels are [n_clips, n_classes].
    """
    values, truth = validate(scores, labels)
    check_count(n_bins, "n_bins")
    if not are_probabilities(values):
        raise OptionError(
            "calibration needs probabilities, 0 to 1. Received scores "
            f"{values.min():g} to {values.max():g} (are these logits? apply the sigmoid first)"
        )
    n_pairs, n_positives = np.zeros((2, n_bins), np.int64)
    total_score = np.zeros(n_bins)
    # Blocks that fit into the cache are twice as fast as all at once.
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
        mean_score=divide(total_score, n_pairs),
        share_positive=divide(n_positives, n_pairs),
    )


def calibration_error(scores: npt.ArrayLike, labels: npt.ArrayLike, n_bins: int = N_BINS) -> float:
    """Expected calibration error over all pairs of clip and class; see `reliability`.

    With hundreds of classes most scores are near 0, and so is the error; compare it only between
    heads on the same clips. It is NaN without clips.

    Source: Guo et al., "On calibration of modern neural networks", 2017; each pair is one binary
    prediction here.
    """
    return reliability(scores, labels, n_bins).error
