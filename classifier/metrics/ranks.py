"""Ranks of labels within lists of scores."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from classifier.metrics.arrays import Bools, Counts, Floats, divide


@dataclass(frozen=True, eq=False)
class _HitRanks:
    """Ranks of the hits within their rows, each row a list; one entry per hit, by row.

    `above` counts the scores strictly above that of the hit; `down_to` also those equal to it,
    including itself. All metrics are sums over hits, so they need nothing else of the order.
    """

    row: Counts
    score: Floats
    above: Counts
    down_to: Counts
    hits_above: Counts
    hits_down_to: Counts
    n_hits: Counts  # per row
    row_length: int

    @property
    def precision(self) -> Floats:
        """Precision of the list down to each hit."""
        return self.hits_down_to / self.down_to

    def average_precision(self) -> Floats:
        """Average precision of each row."""
        sums = np.bincount(self.row, self.precision, minlength=len(self.n_hits))
        return divide(sums, self.n_hits)

    def auc(self) -> Floats:
        """Area under the ROC curve of each row."""
        misses_above = self.above - self.hits_above
        misses_down_to = self.down_to - self.hits_down_to
        # A miss above a hit counts as lost, one equal to it as half lost.
        lost = np.bincount(
            self.row, (misses_above + misses_down_to) / 2, minlength=len(self.n_hits)
        )
        return 1 - divide(lost, self.n_hits * (self.row_length - self.n_hits))

    def best_threshold(self) -> tuple[Floats, Floats]:
        """Threshold of the best F1 of each row, and that F1."""
        # Between two hits each miss lowers F1, so the best threshold is a hit's score.
        f1 = 2 * self.hits_down_to / (self.down_to + self.n_hits[self.row])
        order = np.lexsort((-self.score, -f1, self.row))
        rows, first = np.unique(self.row[order], return_index=True)
        best = np.full((2, len(self.n_hits)), np.nan)
        best[:, rows] = self.score[order[first]], f1[order[first]]
        return best[0], best[1]


def rank_clips(scores: Floats, labels: Bools) -> _HitRanks:
    """Rank all clips, separately for each class."""
    return rank_hits(scores.T, labels.T)


def rank_hits(scores: Floats, labels: Bools) -> _HitRanks:
    """Rank all columns, separately for each row."""
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


def top_k_mask(scores: Floats, k: int | Counts) -> Bools:
    """Mask of the k highest scores of each row; the first columns win ties."""
    n_rows, n_columns = scores.shape
    n_taken = np.broadcast_to(np.minimum(k, n_columns), n_rows)
    most = int(n_taken.max(initial=1))
    # Only the best need sorting; a partition is several times as fast where no SIMD sorts.
    best = np.partition(scores, n_columns - most, axis=1)[:, n_columns - most :]
    best.sort(axis=1)
    cut = best[np.arange(n_rows), most - np.maximum(n_taken, 1)][:, None]
    above, level = scores > cut, scores == cut
    room = n_taken - np.count_nonzero(above, axis=1)
    crowded = np.count_nonzero(level, axis=1) > room
    level[crowded] &= np.cumsum(level[crowded], axis=1) <= room[crowded, None]
    mask: Bools = above | level
    return mask
