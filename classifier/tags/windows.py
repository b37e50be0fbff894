"""Long sounds in windows: a head judges as much at once as it was trained on."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]


def window_starts(n_frames: int, window: int) -> npt.NDArray[np.int64]:
    """Where windows of `window` frames begin that cover all frames: evenly, half overlapping.

    The last one ends with the last frame; there is one window if the frames fit into it.

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
    """Gathers the scores of windows into those of the clip.

    A clip's score is the highest of its windows, for a tag says that something is heard in a
    clip, not how much of it. A frame's score is the mean over the windows that it is in.

    Args:
        n_frames: of the clip.
        n_classes: number of classes.
        window: frames a window.
        of_frames: whether there are scores of frames.
    """

    def __init__(self, n_frames: int, n_classes: int, window: int, *, of_frames: bool) -> None:
        self._window = window
        self._clip = np.zeros(n_classes, np.float32)
        self._sums = np.zeros((n_frames, n_classes), np.float32) if of_frames else None
        self._counts = np.zeros((n_frames, 1), np.float32)

    def add(
        self, starts: npt.NDArray[np.int64], scores: Floats, frame_scores: Floats | None
    ) -> None:
        """Add windows [W] with their scores [W, C] and frame scores [W, window, C]."""
        np.maximum(self._clip, scores.max(axis=0), out=self._clip)
        if self._sums is None or frame_scores is None:
            return
        for start, rows in zip(starts.tolist(), frame_scores, strict=True):
            where = slice(start, start + self._window)
            self._sums[where] += rows
            self._counts[where] += 1

    def result(self) -> tuple[Floats, Floats | None]:
        """Scores of the clip [C] and of its frames [n, C]."""
        if self._sums is None:
            return self._clip, None
        return self._clip, self._sums / self._counts


def batches(starts: npt.NDArray[np.int64], size: int) -> Iterator[npt.NDArray[np.int64]]:
    """The starts in groups of `size`."""
    for first in range(0, len(starts), size):
        yield starts[first : first + size]
