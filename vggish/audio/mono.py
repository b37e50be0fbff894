"""Mix channels to mono, and detect clipping, silence and invalid samples."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import numpy as np

from vggish.audio.decoder import Block
from vggish.audio.resample import Waveform
from vggish.common.wording import count

# 16-bit recordings clip at these values; a lossy codec may overshoot them.
FULL_SCALE = 1.0 - 2.0**-15
# A normalised recording reaches full scale now and then; a clipped one stays there.
CLIPPED_SHARE_TO_REPORT = 1e-3
# -60 dBFS: the noise of a recorder with its microphone off is quieter.
SILENT_PEAK = 1e-3
SILENCE = "silence: no sample is beyond -60 dBFS"
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


class MonoMix:
    """Mean over channels of audio that arrives in blocks.

    Float samples are divided by the peak of their `level`, or by a `limiter` where that is not
    known before the end. NaN, infinite and corrupt samples become 0; what then is beyond [-1, 1]
    is clipped. `warnings` reports all of it.
    """

    def __init__(self, level: Level | None = None, limiter: Limiter | None = None) -> None:
        self.n_samples = 0  # over all channels
        self.level = Level() if level is None else level
        self._limiter = limiter
        self._n_non_finite = 0
        self._n_corrupt = 0
        self._n_full_scale = 0
        self._n_adjacent = 0  # samples at full scale that follow another one
        self._peak = 0.0
        self._live_peak = 0.0

    def __call__(self, block: Block) -> Waveform:
        """Mix samples [n, n_channels], n >= 1, float32 or int16, to float32 [n] in [-1, 1]."""
        self.n_samples += block.size
        scale = 2.0**-15
        if block.dtype != np.int16:
            scale = 1.0
            block = self._scaled(cast(Waveform, block))
        full_scale = FULL_SCALE / scale
        high, low = float(block.max()), float(block.min())
        self._peak = max(self._peak, max(high, -low) * scale)
        if high >= full_scale or low <= -full_scale:
            at_full_scale = (block >= full_scale) | (block <= -full_scale)
            self._n_full_scale += int(np.count_nonzero(at_full_scale))
            self._n_adjacent += int(np.count_nonzero(at_full_scale[1:] & at_full_scale[:-1]))
            if scale == 1.0:
                block = cast(Waveform, np.clip(block, np.float32(-1.0), np.float32(1.0)))
        # Adding columns is many times faster than numpy's mean over a short axis.
        total = block[:, 0].astype(np.float32)
        for channel in range(1, block.shape[1]):
            total += block[:, channel]
        total *= np.float32(scale / block.shape[1])
        return total

    def _scaled(self, block: Waveform) -> Waveform:
        """Float samples without invalid ones, at the level."""
        peak = max(float(block.max()), -float(block.min()))
        if not math.isfinite(peak):
            self._n_non_finite += block.size - int(np.count_nonzero(np.isfinite(block)))
            block = cast(Waveform, np.nan_to_num(block, nan=0.0, posinf=0.0, neginf=0.0))
            peak = max(float(block.max()), -float(block.min()))
        limit = self.level.limit if self._limiter is None else MAX_LIVE_PEAK
        if peak > limit:
            is_corrupt = np.abs(block) > limit
            self._n_corrupt += int(np.count_nonzero(is_corrupt))
            block = np.where(is_corrupt, np.float32(0.0), block)
        if self._limiter is not None:
            self._live_peak = max(self._live_peak, float(np.abs(block).max()))
            return self._limiter(block)
        return block / np.float32(self.level.peak) if self.level.peak > 1.0 else block

    @property
    def warnings(self) -> list[str]:
        """Sentences about defects of the samples so far."""
        warnings = []
        if self.n_samples and self._peak < SILENT_PEAK:
            warnings.append(SILENCE)
        if self._n_non_finite:
            warnings.append(f"{self._n_non_finite} samples are NaN or infinite; taken as 0")
        if self._n_corrupt:
            warnings.append(
                f"{count(self._n_corrupt, 'corrupt sample')}, thousands of times beyond all "
                "others; taken as 0"
            )
        for peak, remedy in (
            (self.level.peak, "scaled to full scale"),
            (self._live_peak, "scaled by a limiter, as the peak of live audio is not known before"),
        ):
            if peak > 1.0:
                warnings.append(_beyond_full_scale(peak) + remedy)
        is_clipped = 2 * self._n_adjacent > self._n_full_scale
        if is_clipped and self._n_full_scale > CLIPPED_SHARE_TO_REPORT * self.n_samples:
            share = 100.0 * self._n_full_scale / self.n_samples
            warnings.append(f"clipped: {share:.1f} % of the samples are at or beyond full scale")
        return warnings


def _beyond_full_scale(peak: float) -> str:
    hint = " (integers saved as float without dividing by 32768?)" if peak > 100.0 else ""
    return f"samples reach {peak:.6g} ({20 * math.log10(peak):+.1f} dBFS){hint}; "
