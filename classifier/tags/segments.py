"""When something is heard: scores of frames -> spans of time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from classifier.tags.types import Tag, TagSegment
from vggish.errors import OptionError
from vggish.params import PATCH_SECONDS

# A class is heard where its score is at least this share of its peak in the clip.
SHARE_OF_PEAK = 0.5


@dataclass(frozen=True)
class Segment:
    """A span of time in which one class is heard.

    Attributes:
        start_seconds: where its first frame begins.
        end_seconds: where its last frame ends.
        index: of the class.
        score: the highest of its frames.
    """

    start_seconds: float
    end_seconds: float
    index: int
    score: float


def relative_thresholds(
    frame_scores: npt.NDArray[np.float32], share: float = SHARE_OF_PEAK
) -> npt.NDArray[np.float32]:
    """A threshold for each class, a share of its peak: float32 [n, C] -> [C], n at least 1."""
    thresholds: npt.NDArray[np.float32] = (frame_scores.max(axis=0) * share).astype(np.float32)
    return thresholds


def find_segments(
    frame_scores: npt.NDArray[np.float32],
    start_seconds: npt.NDArray[np.float64],
    indices: Sequence[int],
    thresholds: npt.NDArray[np.floating],
    *,
    duration_seconds: float,
    frame_seconds: float = PATCH_SECONDS,
) -> list[Segment]:
    """The spans in which classes are heard; frames that touch or overlap are one span.

    Args:
        frame_scores: float32 [n, C].
        start_seconds: [n], ascending, where each frame begins.
        indices: the classes to look for.
        thresholds: [C], the least score with which each class counts as heard.
        duration_seconds: of the sound; no span goes beyond it.
        frame_seconds: how long a frame is.

    Returns:
        Spans in the order of `indices`, those of a class in that of time.

    Raises:
        OptionError: the arrays do not fit together.
    """
    n_frames, n_classes = frame_scores.shape
    if start_seconds.shape != (n_frames,) or thresholds.shape != (n_classes,):
        raise OptionError(
            f"{n_frames} frames of {n_classes} classes need as many times and thresholds. "
            f"Received: {list(start_seconds.shape)} and {list(thresholds.shape)}"
        )
    chosen = np.asarray(indices, np.intp)
    scores = frame_scores[:, chosen].T
    # A row for each class that is looked for; frames where it is heard, row by row.
    rows, frames = np.nonzero(scores >= thresholds[chosen, None])
    if not len(rows):
        return []
    starts, values = start_seconds[frames], scores[rows, frames]
    # Times have six decimals.
    is_late = starts[1:] > starts[:-1] + frame_seconds + 1e-6
    first = np.concatenate([[0], np.flatnonzero(is_late | (rows[1:] != rows[:-1])) + 1])
    last = np.append(first[1:], len(rows)) - 1
    ends = np.minimum(starts[last] + frame_seconds, duration_seconds)
    ends = np.maximum(starts[first], ends).round(6)
    best = np.maximum.reduceat(values, first).astype(str).astype(np.float64)
    spans = (starts[first], ends, chosen[rows[first]], best)
    return list(map(Segment, *(values.tolist() for values in spans)))


def tag_segments(
    tags: Sequence[Tag],
    frame_scores: npt.NDArray[np.float32],
    start_seconds: npt.NDArray[np.float64],
    duration_seconds: float,
) -> tuple[TagSegment, ...]:
    """When each of a clip's tags is heard: where a frame has half the score of the best one.

    Args:
        tags: of the clip.
        frame_scores: of all classes, float32 [n, C], n at least 1.
        start_seconds: [n], ascending, where each frame begins.
        duration_seconds: of the sound.

    Returns:
        Spans in the order of `tags`, those of a tag in that of time.
    """
    by_index = {tag.index: tag for tag in tags}
    found = find_segments(
        frame_scores,
        start_seconds,
        list(by_index),
        relative_thresholds(frame_scores),
        duration_seconds=duration_seconds,
    )
    segments = []
    for span in found:
        tag = by_index[span.index]
        start, end = span.start_seconds, span.end_seconds
        segments.append(TagSegment(start, end, tag.label, tag.mid, tag.index, span.score))
    return tuple(segments)
