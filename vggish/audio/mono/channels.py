"""Mix channels to mono, so that channels of opposite polarity do not cancel.

A channel that is wired with inverted polarity makes the mean over channels silent. The mix is
therefore compared with its channels, in parts of a second of the file's own time. Uncorrelated
channels add their energies; where the mean holds less than half of that, the channels that oppose
the strongest one are inverted. In stereo of equal levels this is a correlation below -0.5.

The energies are those of the octaves from 125 Hz on, with weights between those of a plain and of
a whitened signal: constant offsets and rumble decide nothing, and low notes do not hide the rest.
"""

from __future__ import annotations

from typing import cast

import numpy as np
import numpy.typing as npt

from vggish.audio.decoder import Block
from vggish.audio.resample import Waveform
from vggish.params import MEL_MIN_HZ, SAMPLE_RATE_HZ

PART_SECONDS = 1.0
# Correlation needs samples, also at low rates; and memory is bounded.
MIN_PART_FRAMES = 1 << 12
MAX_PART_SAMPLES = 1 << 21
MIN_MEASURED_FRAMES = 64
FADE_SECONDS = 0.01
# Energy of the mix, where 1 is that of uncorrelated channels: below the first, the signs are
# chosen anew; only above the second are they plain again.
CANCELLED_GAIN = 0.5
PLAIN_GAIN = 1.25
# -80 dBFS, in the mean of the channels: what is below is hardly visible to the front end.
QUIET_POWER = 1e-8
# An octave has the weight of its energy to the power of 1 - WHITENING.
WHITENING = 0.5


class ChannelMixer:
    """Mean over channels whose signs are chosen for each part of the audio."""

    def __init__(self, sample_rate_hz: int, n_channels: int) -> None:
        self.n_channels = n_channels
        longest = max(MAX_PART_SAMPLES // n_channels, MIN_PART_FRAMES // 4)
        self._part_frames = min(max(MIN_PART_FRAMES, round(PART_SECONDS * sample_rate_hz)), longest)
        self._rate_hz = sample_rate_hz
        self._part = np.empty((n_channels, self._part_frames), np.float32)
        self._n_filled = 0
        self._signs: Waveform = np.ones(n_channels, np.float32)
        self._n_frames, self._n_cancelled = 0, 0
        self._is_inverted = np.zeros(n_channels, bool)  # ever

    def feed(self, block: Block, scale: float) -> Waveform:
        """Mix `block * scale`, [n, n_channels]; return the parts that it completes, float32 [m]."""
        if self.n_channels == 1:
            return cast(Waveform, block[:, 0] * np.float32(scale))
        mixed = [np.zeros(0, np.float32)]
        start = 0
        while start < len(block):
            stop = min(len(block), start + self._part_frames - self._n_filled)
            filled = self._n_filled + stop - start
            for channel, samples in enumerate(self._part):
                np.multiply(
                    block[start:stop, channel], np.float32(scale), samples[self._n_filled : filled]
                )
            self._n_filled, start = filled, stop
            if filled == self._part_frames:
                mixed.append(self.flush())
        return np.concatenate(mixed)

    def flush(self) -> Waveform:
        """Return the mix of the samples that are left, at the end."""
        part = self._part[:, : self._n_filled]
        self._n_filled = 0
        if part.shape[1] == 0:
            return np.zeros(0, np.float32)
        before, self._signs = self._signs, self._choose_signs(part)
        if self._n_frames == 0:
            before = self._signs
        self._n_frames += part.shape[1]
        if self._signs.min() < 0.0:
            self._n_cancelled += part.shape[1]
            self._is_inverted |= self._signs < 0.0
        return _mean(part, before, self._signs, round(FADE_SECONDS * self._rate_hz))

    @property
    def warning(self) -> str:
        """A sentence about channels that were inverted so far; "" if there were none."""
        if not self._n_cancelled:
            return ""
        numbers = [str(number) for number in np.flatnonzero(self._is_inverted) + 1]
        channels = f"{'channel' if len(numbers) == 1 else 'channels'} {', '.join(numbers)}"
        cancelled, total = (n / self._rate_hz for n in (self._n_cancelled, self._n_frames))
        return (
            f"channels cancel when mixed to mono (inverted polarity, or a delay): {channels} of "
            f"{self.n_channels} inverted in {cancelled:.2f} s of {total:.2f} s"
        )

    def _choose_signs(self, part: Waveform) -> Waveform:
        """Signs of the channels [n_channels], each 1 or -1."""
        products = weighted_products(part, self._rate_hz)
        energy = float(np.trace(products))
        plain = np.ones(len(part), np.float32)
        if energy == 0.0 or plain @ products @ plain >= PLAIN_GAIN * energy:
            return plain if energy else self._signs
        if self._signs @ products @ self._signs >= CANCELLED_GAIN * energy:
            return self._signs
        strongest = int(np.argmax(np.diag(products)))
        signs = np.where(products[strongest] < 0.0, -plain, plain)
        # The polarity of most channels is kept, or that of the first.
        is_majority = signs.sum() > 0.0 or (signs.sum() == 0.0 and signs[0] > 0.0)
        return signs if is_majority else -signs


def weighted_products(part: Waveform, rate_hz: int) -> npt.NDArray[np.float32]:
    """Covariance of channels [n_channels, n] without what the front end does not hear, weighted.

    Returns float32 [n_channels, n_channels]; all zeros if the part is too quiet or too short.
    """
    octaves = octave_details(part, rate_hz)
    covariances = [octave @ octave.T / np.float32(octave.shape[1]) for octave in octaves]
    powers = np.array([float(np.trace(covariance)) for covariance in covariances])
    weighted = np.zeros((len(part), len(part)), np.float32)
    if powers.sum() >= QUIET_POWER * len(part):
        for covariance, power in zip(covariances, powers.tolist(), strict=True):
            if power > 0.0:
                weighted += covariance * np.float32(power**-WHITENING)
    return weighted


def octave_details(part: Waveform, rate_hz: int) -> list[Waveform]:
    """Details of the Haar transform of samples [n_channels, n], one array for each octave.

    The octaves reach from half the rate of the front end down to its lowest frequency.
    """
    step = max(1, round(rate_hz / SAMPLE_RATE_HZ))
    # A triangle of 2 * step samples: ultrasound would still pass through a plain mean.
    taps = np.bartlett(2 * step + 1)[1:-1] / step
    n = max(0, part.shape[1] - len(taps) + step) // step
    smooth = np.zeros((len(part), n), np.float32)
    for offset, weight in enumerate(taps.astype(np.float32)):
        smooth += weight * part[:, offset : offset + n * step : step]
    details: list[Waveform] = []
    highest_hz = rate_hz / step / 2
    while n >= MIN_MEASURED_FRAMES and (highest_hz >= 2 * MEL_MIN_HZ or not details):
        n //= 2
        even, odd = smooth[:, 0 : 2 * n : 2], smooth[:, 1 : 2 * n : 2]
        details.append((even - odd) * np.float32(0.5))
        smooth = (even + odd) * np.float32(0.5)
        highest_hz /= 2
    return details


def _mean(part: Waveform, before: Waveform, signs: Waveform, n_fade: int) -> Waveform:
    """Mean of channels [n_channels, n] times their signs, which change from those `before`."""
    total: Waveform = part[0] * signs[0]
    for samples, sign in zip(part[1:], signs[1:].tolist(), strict=True):
        if sign > 0.0:
            total += samples
        else:
            total -= samples
    if not np.array_equal(before, signs):
        start = part[:, :n_fade]
        ramp = np.linspace(0.0, 1.0, start.shape[1], endpoint=False, dtype=np.float32)
        weights = before[:, None] + (signs - before)[:, None] * ramp
        total[:n_fade] = (start * weights).sum(axis=0)
    total *= np.float32(1.0 / len(part))
    return total
