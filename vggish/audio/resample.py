"""Resampling to 16 kHz, in blocks.

`soxr` is the default: fast, and its output does not depend on the block size. `resampy`
(kaiser_best) is the resampler of the reference implementation. From sources at 20 kHz and
above, the two differ by 3e-4 at most in the mean over log-mel bands 0..61, and by 0.03 and 0.35
in the last two bands (7.3 to 7.5 kHz), where resampy's filter rolls off. From slower sources
they differ in the few bands around half the source's rate, for the same reason.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from vggish.common.choices import RESAMPLERS
from vggish.common.extras import import_extra
from vggish.errors import OptionError
from vggish.params import MAX_SOURCE_RATE_HZ, MIN_SOURCE_RATE_HZ, SAMPLE_RATE_HZ

Waveform = npt.NDArray[np.float32]


class Resampler(Protocol):
    """Turns blocks of a waveform into blocks of the same waveform at 16 kHz."""

    def feed(self, block: Waveform) -> Waveform:
        """What can be said of the output once `block` [n] is known: float32 [m]."""

    def flush(self) -> Waveform:
        """The rest of the output when no more input comes: float32 [m]."""


class SoxrResampler:
    """soxr, quality HQ: as near to resampy in log-mel as VHQ is, and a fifth faster.

    Shape:
        n samples in all -> round(n * 16000 / rate_hz), halves up, samples in all.
    """

    def __init__(self, rate_hz: int) -> None:
        import soxr

        self._stream = soxr.ResampleStream(
            rate_hz, SAMPLE_RATE_HZ, num_channels=1, dtype="float32", quality="HQ"
        )

    def feed(self, block: Waveform) -> Waveform:
        """See `Resampler`."""
        resampled: Waveform = self._stream.resample_chunk(block)
        return resampled

    def flush(self) -> Waveform:
        """See `Resampler`."""
        resampled: Waveform = self._stream.resample_chunk(np.zeros(0, np.float32), last=True)
        return resampled


class ResampyResampler:
    """resampy's kaiser_best, cut into blocks that overlap by the filter's length.

    A block may only begin where an input and an output sample coincide, every
    `rate_hz / gcd` input samples; then the filter phases are those of the whole waveform, and
    so is the result.

    Shape:
        n samples in all -> floor(n * 16000 / rate_hz) samples in all.
    """

    # kaiser_best reaches 64 zero crossings to each side (resampy.filters).
    _ZERO_CROSSINGS = 64

    def __init__(self, rate_hz: int) -> None:
        self._resampy: Any = import_extra(
            "resampy", extra="reference", purpose="the resampler 'resampy'"
        )
        self._rate_hz = rate_hz
        divisor = math.gcd(rate_hz, SAMPLE_RATE_HZ)
        self._period_in = rate_hz // divisor
        self._period_out = SAMPLE_RATE_HZ // divisor
        self._reach = math.ceil(self._ZERO_CROSSINGS * max(1.0, rate_hz / SAMPLE_RATE_HZ)) + 1
        self._buffer = np.zeros(0, np.float32)
        self._buffer_period = 0  # the buffer begins at input sample _buffer_period * _period_in
        self._n_out = 0

    def feed(self, block: Waveform) -> Waveform:
        """See `Resampler`."""
        self._buffer = np.concatenate([self._buffer, block])
        n_in = self._buffer_period * self._period_in + len(self._buffer)
        n_ready = max(0, (n_in - self._reach) // self._period_in) * self._period_out
        return self._emit(n_ready)

    def flush(self) -> Waveform:
        """See `Resampler`."""
        n_in = self._buffer_period * self._period_in + len(self._buffer)
        return self._emit(n_in * SAMPLE_RATE_HZ // self._rate_hz)

    def _emit(self, n_total: int) -> Waveform:
        """Output samples from `_n_out` up to `n_total`, and forget the input they alone needed."""
        if n_total <= self._n_out:
            return np.zeros(0, np.float32)
        first = self._n_out - self._buffer_period * self._period_out
        count = n_total - self._n_out
        resampled: Waveform = self._resampy.resample(self._buffer, self._rate_hz, SAMPLE_RATE_HZ)
        self._n_out = n_total
        next_in = n_total * self._rate_hz // SAMPLE_RATE_HZ
        keep_period = max(self._buffer_period, (next_in - self._reach) // self._period_in)
        drop = (keep_period - self._buffer_period) * self._period_in
        self._buffer = self._buffer[drop:]
        self._buffer_period = keep_period
        return resampled[first : first + count]


class _Unchanged:
    """A waveform that is at 16 kHz already."""

    def feed(self, block: Waveform) -> Waveform:
        return block

    def flush(self) -> Waveform:
        return np.zeros(0, np.float32)


_RESAMPLER_CLASSES: dict[str, Callable[[int], Resampler]] = {
    "soxr": SoxrResampler,
    "resampy": ResampyResampler,
}


def make_resampler(rate_hz: int, name: str = "soxr") -> Resampler:
    """A streaming resampler from `rate_hz` to 16 kHz.

    Raises:
        OptionError: unknown resampler, or a rate outside 4 to 384 kHz.
        MissingPackageError: resampy is asked for and not installed.
    """
    if name not in RESAMPLERS:
        raise OptionError(f"resampler must be one of {sorted(RESAMPLERS)}. Received: {name!r}")
    if not MIN_SOURCE_RATE_HZ <= rate_hz <= MAX_SOURCE_RATE_HZ:
        raise OptionError(
            f"the sample rate must be {MIN_SOURCE_RATE_HZ} to {MAX_SOURCE_RATE_HZ} Hz. "
            f"Received: {rate_hz} Hz"
        )
    return _Unchanged() if rate_hz == SAMPLE_RATE_HZ else _RESAMPLER_CLASSES[name](rate_hz)


def resample(waveform: npt.ArrayLike, rate_hz: int, resampler: str = "soxr") -> Waveform:
    """Resample a whole mono waveform [n] from `rate_hz` to 16 kHz: float32 [m].

    m = n * 16000 / rate_hz, rounded (halves up) with soxr and rounded down with resampy.

    >>> len(resample(np.zeros(44_100, np.float32), 44_100))
    16000

    Raises:
        OptionError: unknown resampler, or a rate outside 4 to 384 kHz.
        MissingPackageError: resampy is asked for and not installed.
    """
    stream = make_resampler(rate_hz, resampler)
    return np.concatenate([stream.feed(np.asarray(waveform, np.float32)), stream.flush()])
