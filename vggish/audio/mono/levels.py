"""Level of float samples: their peak, lone corrupt samples apart, and a limiter of live audio."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import numpy as np

from vggish.audio.decoder import Block
from vggish.audio.resample import Waveform

# Few samples, this far above all others, are corrupt: a sound of that level would also pass
# through the levels between, as it rises and fades.
CORRUPT_GAP_OCTAVES = 12
CORRUPT_SHARE = 1e-4
MIN_CORRUPT = 4
# Floats at or beyond 1.0 have the exponents 1 to 128.
_N_OCTAVES = 129
# The limiter of live audio returns to full scale by 12 dB a second.
RELEASE_OCTAVES_PER_SECOND = 2.0
# 32-bit integers saved as floats end at 2^31; no audio is beyond.
MAX_LIVE_PEAK = 2.0**32


@dataclass(frozen=True)
class Level:
    """Level of float samples: they are divided by `peak`; those beyond `limit` are corrupt."""

    peak: float = 1.0  # at least 1
    limit: float = math.inf


class PeakMeter:
    """Peak of float samples that arrive in blocks, lone corrupt samples apart."""

    def __init__(self) -> None:
        self._n_samples = 0
        # Number and largest magnitude of the samples of each exponent; 0 stands for all below 1.
        self._counts = np.zeros(_N_OCTAVES, np.int64)
        self._peaks = np.zeros(_N_OCTAVES, np.float32)

    def feed(self, block: Block) -> None:
        """Measure float samples of any shape."""
        self._n_samples += block.size
        peak = max(float(block.max()), -float(block.min()))
        if peak < 1.0:  # False for NaN
            self._peaks[0] = max(self._peaks[0], peak)
            return
        magnitudes = np.abs(block[np.isfinite(block)])
        octaves = np.maximum(np.frexp(magnitudes)[1], 0)
        self._counts += np.bincount(octaves, minlength=_N_OCTAVES)
        np.maximum.at(self._peaks, octaves, magnitudes)

    @property
    def level(self) -> Level:
        """Level of the samples so far."""
        used = np.flatnonzero(self._peaks).tolist()
        if not used:
            return Level()
        peak, is_corrupt = float(self._peaks[used[-1]]), False
        most = max(MIN_CORRUPT, CORRUPT_SHARE * self._n_samples)
        for below, octave in zip(used[-2::-1], used[:0:-1], strict=True):
            if self._counts[octave:].sum() > most:
                break
            if octave - math.frexp(self._peaks[below])[1] > CORRUPT_GAP_OCTAVES:
                peak, is_corrupt = float(self._peaks[below]), True
        return Level(max(1.0, peak), peak if is_corrupt else math.inf)


class Limiter:
    """Scales live audio beyond full scale by its recent peak, whatever the blocks it arrives in."""

    def __init__(self, sample_rate_hz: int) -> None:
        self._release = RELEASE_OCTAVES_PER_SECOND / sample_rate_hz
        self._n_frames = 0
        self._envelope = -math.inf  # log2 of the peak, as if there were no release

    def __call__(self, block: Waveform) -> Waveform:
        """Scale samples [n, n_channels] to [-1, 1]."""
        released = self._release * np.arange(self._n_frames, self._n_frames + len(block))
        self._n_frames += len(block)
        peaks = np.abs(block).max(axis=1).astype(np.float64)
        if peaks.max() <= 1.0 and self._envelope <= released[0]:
            return block
        # max(peak[n], envelope[n - 1] * release), as a running maximum of logarithms.
        logs = np.log2(np.maximum(peaks, 1.0)) + released
        logs[0] = max(logs[0], self._envelope)
        envelope = np.maximum.accumulate(logs)
        self._envelope = float(envelope[-1])
        return cast(Waveform, (block / np.exp2(envelope - released)[:, None]).astype(np.float32))
