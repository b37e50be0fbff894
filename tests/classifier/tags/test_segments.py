"""Windows over long clips, and detected segments."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from classifier.tags.segments import find_segments, relative_thresholds
from classifier.tags.types import Tag, TagSegment
from classifier.tags.windows import WindowedScores, window_starts
from vggish.errors import OptionError

# --- Windows -----------------------------------------------------------------------------


@pytest.mark.parametrize("window", [1, 2, 3, 10, 11])
def test_windows_cover_every_frame_evenly_and_stay_inside(window: int) -> None:
    for n_frames in range(1, 60):
        starts = window_starts(n_frames, window)
        assert starts[0] == 0
        if n_frames <= window:
            assert len(starts) == 1
            continue
        assert starts[-1] == n_frames - window
        steps = np.diff(starts)
        assert (steps >= 1).all()
        assert (steps <= max(1, window // 2)).all()
        assert steps.max() - steps.min() <= 1


def test_clip_score_is_the_maximum_and_frame_score_the_mean_of_windows(
    rng: np.random.Generator,
) -> None:
    n_frames, window, n_classes = 23, 7, 4
    starts = window_starts(n_frames, window)
    scores = rng.random((len(starts), n_classes)).astype(np.float32)
    frame_scores = rng.random((len(starts), window, n_classes)).astype(np.float32)
    found = WindowedScores(n_frames, n_classes, window, of_frames=True)
    for first in range(0, len(starts), 2):
        part = slice(first, first + 2)
        found.add(starts[part], scores[part], frame_scores[part])
    clip, frames = found.result()
    np.testing.assert_array_equal(clip, scores.max(0))
    assert frames is not None
    for frame in range(n_frames):
        heard = [
            frame_scores[i, frame - start]
            for i, start in enumerate(starts)
            if start <= frame < start + window
        ]
        np.testing.assert_allclose(frames[frame], np.mean(heard, 0), rtol=1e-6)


# --- Segments ----------------------------------------------------------------------------


def tag(index: int) -> Tag:
    return Tag(f"class {index}", f"/m/{index}", index, 0.5)


def spans(scores: Any, starts: Any, threshold: float = 0.5, duration: float = 1e9) -> Any:
    found = find_segments(
        [tag(0)],
        np.asarray(scores, np.float32)[:, None],
        np.asarray(starts, np.float64),
        duration,
        thresholds=np.array([threshold]),
    )
    return [(segment.start_seconds, segment.end_seconds, segment.score) for segment in found]


def test_adjacent_frames_make_one_span() -> None:
    scores = [0.1, 0.6, 0.9, 0.2, 0.5, 0.4]
    starts = np.round(np.arange(6) * 0.96, 6)
    assert spans(scores, starts) == [(0.96, 2.88, 0.9), (3.84, 4.8, 0.5)]
    assert spans(scores, starts, threshold=0.95) == []
    assert spans(scores, starts, threshold=0.0) == [(0.0, 5.76, 0.9)]


def test_overlapping_frames_make_one_span_and_a_gap_ends_it() -> None:
    assert spans([0.9] * 4, [0, 0.48, 0.96, 1.44]) == [(0.0, 2.4, 0.9)]
    assert spans([0.9, 0.1, 0.9], [0, 0.48, 0.96]) == [(0.0, 1.92, 0.9)]
    assert spans([0.9, 0.9], [0, 1.0]) == [(0.0, 0.96, 0.9), (1.0, 1.96, 0.9)]


def test_spans_end_within_the_audio() -> None:
    assert spans([0.9, 0.9], [0, 0.96], duration=1.5) == [(0.0, 1.5, 0.9)]


def test_frame_is_in_a_span_if_and_only_if_its_score_reaches_the_threshold(
    rng: np.random.Generator,
) -> None:
    frame_scores = rng.random((50, 3)).astype(np.float32)
    starts = np.round(np.arange(50) * 0.96, 6)
    thresholds = relative_thresholds(frame_scores, 0.7)
    np.testing.assert_allclose(thresholds, 0.7 * frame_scores.max(0), rtol=1e-6)
    found = find_segments([tag(2), tag(0)], frame_scores, starts, 100, thresholds=thresholds)
    assert [s.index for s in found] == sorted((s.index for s in found), reverse=True)
    for index in (0, 2):
        for start, score in zip(starts, frame_scores[:, index], strict=True):
            inside = [
                s for s in found if s.index == index and s.start_seconds <= start < s.end_seconds
            ]
            assert len(inside) == (score >= thresholds[index])
    assert not any(s.index == 1 for s in found)


def test_spans_equal_a_slow_reference(rng: np.random.Generator) -> None:
    for n_frames, hop_seconds in ((1, 0.96), (7, 0.48), (30, 0.96), (40, 0.25), (25, 1.5)):
        frame_scores = rng.random((n_frames, 6)).astype(np.float32)
        starts = np.round(np.arange(n_frames) * hop_seconds, 6)
        thresholds = np.array([0.0, 0.3, 0.5, 0.8, 0.99, 1.1])
        duration_seconds = float(starts[-1]) + 0.5
        expected = []
        for index in (4, 0, 5, 2, 3):
            span: list[int] = []
            for frame in np.flatnonzero(frame_scores[:, index] >= thresholds[index]).tolist():
                if not span or starts[frame] > starts[span[-1]] + 0.96 + 1e-6:
                    span = []
                    expected.append((index, span))
                span.append(frame)
        tags = [tag(index) for index in (4, 0, 5, 2, 3)]
        found = find_segments(tags, frame_scores, starts, duration_seconds, thresholds=thresholds)
        assert list(found) == [
            TagSegment(
                float(starts[span[0]]),
                round(
                    max(float(starts[span[0]]), min(starts[span[-1]] + 0.96, duration_seconds)), 6
                ),
                f"class {index}",
                f"/m/{index}",
                index,
                float(str(frame_scores[span, index].max())),
            )
            for index, span in expected
        ]


def test_mismatched_shapes_are_rejected() -> None:
    with pytest.raises(OptionError, match=r"2 frames of 3 classes.*\[1\] and \[3\]"):
        find_segments(
            [tag(0)], np.zeros((2, 3), np.float32), np.zeros(1), 1, thresholds=np.zeros(3)
        )
