"""Mix channels to mono, and detect clipping, silence and invalid samples."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import cast

import numpy as np

from vggish.audio.decoder import Block
from vggish.audio.mono.channels import ChannelMixer
from vggish.audio.mono.levels import MAX_LIVE_PEAK, Level, Limiter
from vggish.audio.resample import Waveform
from vggish.common.wording import count

# 16-bit recordings clip at these values; a lossy codec may overshoot them.
FULL_SCALE = 1.0 - 2.0**-15
# A normalised recording reaches full scale now and then; a clipped one stays there.
CLIPPED_SHARE_TO_REPORT = 1e-3
# -60 dBFS: the noise of a recorder with its microphone off is quieter.
SILENT_PEAK = 1e-3
SILENCE = "silence: no sample is beyond -60 dBFS"


class MonoMix:
    """Mean over channels of audio that arrives in blocks.

    Channels of opposite polarity are inverted before they cancel, see `ChannelMixer`; therefore
    several channels are mixed in parts of about a second.
    Float samples are divided by the peak of their `level`, or by a `limiter` where that is not
    known before the end. NaN, infinite and corrupt samples become 0; what then is beyond [-1, 1]
    is clipped. `warnings` reports all of it.
    """

    def __init__(
        self, sample_rate_hz: int, level: Level | None = None, limiter: Limiter | None = None
    ) -> None:
        self._rate_hz = sample_rate_hz
        self._mixers: list[ChannelMixer] = []  # the last one is in use
        self.n_samples = 0  # over all channels
        self.level = Level() if level is None else level
        self._limiter = limiter
        self._n_non_finite = 0
        self._n_corrupt = 0
        self._n_full_scale = 0
        self._n_adjacent = 0  # samples at full scale that follow another one
        self._peak = 0.0
        self._live_peak = 0.0

    def feed(self, block: Block) -> Waveform:
        """Mix samples [n, n_channels], n >= 1, float32 or int16; return float32 [m] in [-1, 1].

        The number of channels may change from block to block, in live audio.
        """
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
        n_channels = block.shape[1]
        rest = np.zeros(0, np.float32)
        if self._mixers and self._mixers[-1].n_channels != n_channels:
            rest = self.flush()
        if not self._mixers or self._mixers[-1].n_channels != n_channels:
            self._mixers.append(ChannelMixer(self._rate_hz, n_channels))
        mixed = self._mixers[-1].feed(block, scale)
        return np.concatenate([rest, mixed]) if len(rest) else mixed

    def flush(self) -> Waveform:
        """Return the mix of the last samples, float32 [m]."""
        return self._mixers[-1].flush() if self._mixers else np.zeros(0, np.float32)

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
            are = "sample is" if self._n_non_finite == 1 else "samples are"
            warnings.append(f"{self._n_non_finite} {are} NaN or infinite; taken as 0")
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
        return warnings + [mixer.warning for mixer in self._mixers if mixer.warning]


def in_pieces(waveform: Waveform, n: int) -> Iterator[Waveform]:
    """Cut a waveform into pieces of at most `n` samples, none of them empty."""
    return (waveform[start : start + n] for start in range(0, len(waveform), n))


def _beyond_full_scale(peak: float) -> str:
    hint = " (integers saved as float without dividing by 32768?)" if peak > 100.0 else ""
    return f"samples reach {peak:.6g} ({20 * math.log10(peak):+.1f} dBFS){hint}; "
