"""Score long clips in windows of the length that the head was trained on."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]


def window_starts(n_frames: int, window: int) -> npt.NDArray[np.int64]:
    """Start frames of evenly spaced windows that cover all frames and overlap by about half.

    The last window ends with the last frame. A clip that fits into a window has one.

    >>> window_starts(25, 10).tolist()
    [0, 5, 10, 15]
    >>> window_starts(7, 10).tolist()
    [0]
    """
    if n_frames <= window:
        return np.zeros(1, np.int64)
    n_windows = 1 + math.ceil((n_frames - window) / max(1, window // 2))
    evenly = np.linspace(0, n_frames - window, n_windows)
    return np.asarray(evenly.round(), np.int64)


class WindowedScores:
    """Combines the scores of windows into scores of the clip and its frames.

    A clip's score is the maximum over its windows, because a tag tells whether a sound occurs, not
    how long. A frame's score is the mean over the windows that contain it.
    """

    def __init__(self, n_frames: int, n_classes: int, window: int, *, of_frames: bool) -> None:
        self._window = window
        self._clip = np.zeros(n_classes, np.float32)
        self._sums = np.zeros((n_frames, n_classes), np.float32) if of_frames else None
        self._counts = np.zeros((n_frames, 1), np.float32)

    def add(
        self, starts: npt.NDArray[np.int64], scores: Floats, frame_scores: Floats | None
    ) -> None:
        """Add windows: start frames [W], scores [W, C] and frame scores [W, window, C]."""
        np.maximum(self._clip, scores.max(axis=0), out=self._clip)
        if self._sums is None or frame_scores is None:
            return
        for start, rows in zip(starts.tolist(), frame_scores, strict=True):
            where = slice(start, start + self._window)
            self._sums[where] += rows
            self._counts[where] += 1

    def result(self) -> tuple[Floats, Floats | None]:
        """Scores of the clip, [C], and of its frames, [n, C]."""
        if self._sums is None:
            return self._clip, None
        return self._clip, self._sums / self._counts
