"""Pairs: the sound of an AudioSet clip, second by second, with its released embeddings."""

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
    """The sound of each released frame, [15600], with its embedding [128].

    Args:
        waveform: of the clip, [n_samples].
        frames: uint8 [n, 128], one a second; those beyond the sound are left out.
        shifts_seconds: how much later each is cut, once for each of these.
    """
    for second, embedding in enumerate(dequantize(frames)):
        for shift in shifts_seconds:
            start = round((second + shift) * SAMPLE_RATE_HZ)
            if start >= 0 and start + PATCH_SAMPLES <= len(waveform):
                yield waveform[start : start + PATCH_SAMPLES], embedding
