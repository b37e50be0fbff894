"""When something is heard: scores of frames -> spans of time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from classifier.clip_tags import Tag, TagSegment
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
    segments = []
    for index in indices:
        heard = np.flatnonzero(frame_scores[:, index] >= thresholds[index])
        if not len(heard):
            continue
        starts = start_seconds[heard]
        # Times have six decimals.
        breaks = np.flatnonzero(starts[1:] > starts[:-1] + frame_seconds + 1e-6) + 1
        for span in np.split(heard, breaks):
            end = min(float(start_seconds[span[-1]]) + frame_seconds, duration_seconds)
            start = float(start_seconds[span[0]])
            best = float(str(frame_scores[span, index].max()))
            segments.append(Segment(start, round(max(start, end), 6), index, best))
    return segments


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
