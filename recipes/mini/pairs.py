"""Pairs of a second of audio from an AudioSet clip and its released embedding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from vggish.frames.clip import Frames
from vggish.params import PATCH_SAMPLES, SAMPLE_RATE_HZ
from vggish.postprocess import dequantize

FloatArray = npt.NDArray[np.float32]


def cut_pairs(
    waveform: FloatArray, frames: Frames, shifts_seconds: Sequence[float] = (0.0,)
) -> Iterator[tuple[FloatArray, FloatArray]]:
    """Yield the audio [15600] of each released frame with its embedding [128].

    Args:
        waveform: [n_samples], waveform of the clip.
        frames: uint8 [n, 128], one frame each second; frames beyond the waveform are skipped.
        shifts_seconds: offsets at which to cut the audio of each frame, one pair for each.
    """
    for second, embedding in enumerate(dequantize(frames)):
        for shift in shifts_seconds:
            start = round((second + shift) * SAMPLE_RATE_HZ)
            if start >= 0 and start + PATCH_SAMPLES <= len(waveform):
                yield waveform[start : start + PATCH_SAMPLES], embedding
