"""Detected segments: scores of frames -> spans of time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from classifier.tags.types import Tag, TagSegment
from vggish.errors import OptionError
from vggish.params import PATCH_SECONDS

# A class is detected where its score is at least this share of its peak in the clip.
SHARE_OF_PEAK = 0.5


def relative_thresholds(
    frame_scores: npt.NDArray[np.float32], share: float = SHARE_OF_PEAK
) -> npt.NDArray[np.float32]:
    """Thresholds as a share of the peak of each class: float32 [n, C] -> [C], n at least 1."""
    thresholds: npt.NDArray[np.float32] = (frame_scores.max(axis=0) * share).astype(np.float32)
    return thresholds


def find_segments(
    tags: Sequence[Tag],
    frame_scores: npt.NDArray[np.float32],
    start_seconds: npt.NDArray[np.float64],
    duration_seconds: float,
    *,
    thresholds: npt.NDArray[np.floating] | None = None,
    frame_seconds: float = PATCH_SECONDS,
) -> tuple[TagSegment, ...]:
    """Find the spans of time in which classes are detected, in the order of `tags`, then by time.

    The frames have scores of all classes, float32 [n, C], n at least 1, and ascending starts [n].
    Adjacent and overlapping frames make one span; none ends after the duration of the audio. A
    class is detected from its threshold [C], by default half of its highest score.
    """
    if thresholds is None:
        thresholds = relative_thresholds(frame_scores)
    n_frames, n_classes = frame_scores.shape
    if start_seconds.shape != (n_frames,) or thresholds.shape != (n_classes,):
        raise OptionError(
            f"{n_frames} frames of {n_classes} classes need as many times and thresholds. "
            f"Received: {list(start_seconds.shape)} and {list(thresholds.shape)}"
        )
    indices = np.array([tag.index for tag in tags], np.intp)
    scores = frame_scores[:, indices].T
    # A row for each tag: the frames in which it is detected, row by row.
    rows, frames = np.nonzero(scores >= thresholds[indices, None])
    if not len(rows):
        return ()
    starts, values = start_seconds[frames], scores[rows, frames]
    # Times have six decimals.
    is_gap = starts[1:] > starts[:-1] + frame_seconds + 1e-6
    first = np.concatenate([[0], np.flatnonzero(is_gap | (rows[1:] != rows[:-1])) + 1])
    last = np.append(first[1:], len(rows)) - 1
    ends = np.minimum(starts[last] + frame_seconds, duration_seconds)
    ends = np.maximum(starts[first], ends).round(6)
    best = np.maximum.reduceat(values, first).astype(str).astype(np.float64)
    spans = (rows[first], starts[first], ends, best)
    return tuple(
        TagSegment(start, end, tags[row].label, tags[row].mid, tags[row].index, score)
        for row, start, end, score in zip(*(each.tolist() for each in spans), strict=True)
    )
