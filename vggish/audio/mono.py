"""Mix channels to mono, and detect clipping, silence and invalid samples."""

from __future__ import annotations

from typing import cast

import numpy as np

from vggish.audio.decoder import Block
from vggish.audio.resample import Waveform

# 16-bit recordings clip at these values; a lossy codec may overshoot them.
FULL_SCALE = 1.0 - 2.0**-15
# A normalised recording reaches full scale now and then; a clipped one stays there.
CLIPPED_SHARE_TO_REPORT = 1e-3
# -60 dBFS: the noise of a recorder with its microphone off is quieter.
SILENT_PEAK = 1e-3
SILENCE = "silence: no sample is beyond -60 dBFS"


class MonoMix:
    """Mean over channels of audio that arrives in blocks.

    NaN and infinite samples become 0, samples beyond [-1, 1] are clipped; `warnings` reports both.
    """

    def __init__(self) -> None:
        self.n_samples = 0  # over all channels
        self._n_non_finite = 0
        self._n_full_scale = 0
        self._peak = 0.0

    def __call__(self, block: Block) -> Waveform:
        """Mix samples [n, n_channels], n >= 1, float32 or int16, to float32 [n] in [-1, 1]."""
        self.n_samples += block.size
        scale = 2.0**-15 if block.dtype == np.int16 else 1.0
        full_scale = FULL_SCALE / scale
        high, low = float(block.max()), float(block.min())
        if not (np.isfinite(high) and np.isfinite(low)):
            self._n_non_finite += block.size - int(np.count_nonzero(np.isfinite(block)))
            block = cast(Waveform, np.nan_to_num(block, nan=0.0, posinf=0.0, neginf=0.0))
            high, low = float(block.max()), float(block.min())
        self._peak = max(self._peak, max(high, -low) * scale)
        if high >= full_scale or low <= -full_scale:
            at_full_scale = (block >= full_scale) | (block <= -full_scale)
            self._n_full_scale += int(np.count_nonzero(at_full_scale))
            if scale == 1.0:
                block = cast(Waveform, np.clip(block, np.float32(-1.0), np.float32(1.0)))
        # Adding columns is many times faster than numpy's mean over a short axis.
        total = block[:, 0].astype(np.float32)
        for channel in range(1, block.shape[1]):
            total += block[:, channel]
        total *= np.float32(scale / block.shape[1])
        return total

    @property
    def warnings(self) -> list[str]:
        """Sentences about defects of the samples so far."""
        warnings = []
        if self.n_samples and self._peak < SILENT_PEAK:
            warnings.append(SILENCE)
        if self._n_non_finite:
            warnings.append(f"{self._n_non_finite} samples are NaN or infinite; taken as 0")
        if self._peak > 100.0:
            warnings.append(
                f"samples reach {self._peak:g}, clipped to 1 (were integers saved as float without"
                " dividing by 32768?)"
            )
        elif self._n_full_scale > CLIPPED_SHARE_TO_REPORT * self.n_samples:
            share = 100.0 * self._n_full_scale / self.n_samples
            warnings.append(f"clipped: {share:.1f} % of the samples are at or beyond full scale")
        return warnings
