"""The VGGish front end: waveform -> log-mel patches, in numpy.

    waveform     [n_samples]          mono, [-1, 1], 16 kHz
    STFT frames  [n_frames, 400]      25 ms every 10 ms, no padding
    magnitude    [n_frames, 257]      periodic Hann window, 512-point FFT
    mel          [n_frames, 64]       triangles on the HTK mel scale, 125 to 7500 Hz
    log-mel      [n_frames, 64]       ln(mel + 0.01)
    patches      [n_patches, 96, 64]  0.96 s each

Computed in float64 for a float64 waveform, otherwise in float32. float32 is within 3e-4 of
float64, and within 1e-5 for most audio; log-mel values span about -4.6 to 5. Rounding is relative
to the loudest bin of a frame, so the largest differences are in silent bands beside a full-scale
tone.

Source: `mel_features` of Google's VGGish release. Unlike it, short input is no error: see
`n_patches`.
"""

from __future__ import annotations

import functools
import numbers
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from vggish.common.choices import Tail
from vggish.errors import OptionError
from vggish.params import (
    FFT_LENGTH,
    LOG_OFFSET,
    MEL_MAX_HZ,
    MEL_MIN_HZ,
    MIN_TAIL_SAMPLES,
    N_BANDS,
    N_BINS,
    PATCH_FRAMES,
    PATCH_SAMPLES,
    PATCH_SECONDS,
    SAMPLE_RATE_HZ,
    STFT_HOP_SAMPLES,
    STFT_HOP_SECONDS,
    STFT_WINDOW_SAMPLES,
)

FloatArray = npt.NDArray[np.floating]


def n_stft_frames(n_samples: int) -> int:
    """Number of whole STFT frames in `n_samples`: `1 + floor((n_samples - 400) / 160)`, or 0."""
    return max(0, 1 + (n_samples - STFT_WINDOW_SAMPLES) // STFT_HOP_SAMPLES)


def hop_to_frames(hop_seconds: float) -> int:
    """Number of STFT hops in `hop_seconds`, a positive multiple of 10 ms."""
    received: object = hop_seconds
    is_number = isinstance(received, numbers.Real) and not isinstance(received, bool)
    if not is_number or not np.isfinite(hop_seconds):
        raise OptionError(f"the hop must be a number of seconds. Received: {hop_seconds!r}")
    n_frames = round(hop_seconds / STFT_HOP_SECONDS)
    if n_frames < 1 or abs(n_frames * STFT_HOP_SECONDS - hop_seconds) > 1e-6:
        nearest = max(1, n_frames) * STFT_HOP_SECONDS
        raise OptionError(
            f"the hop must be a positive multiple of {STFT_HOP_SECONDS:g} s (one STFT hop). "
            f"Received: {hop_seconds:g}; the nearest is {nearest:g}"
        )
    return n_frames


def n_patches(n_samples: int, hop_seconds: float = PATCH_SECONDS, tail: Tail = "pad") -> int:
    """Number of patches in a waveform of `n_samples` at 16 kHz.

    A patch starts every `hop_seconds`, from sample 0. With `tail="drop"` only whole patches
    (15600 samples) count, as in the reference. With `tail="pad"` a patch also counts if at least
    half of it (0.48 s) is audio, and any clip with a sample has one patch.
    """
    hop_samples = hop_to_frames(hop_seconds) * STFT_HOP_SAMPLES
    if tail == "drop":
        return max(0, 1 + (n_samples - PATCH_SAMPLES) // hop_samples)
    if tail != "pad":
        raise OptionError(f"tail must be 'pad' or 'drop'. Received: {tail!r}")
    if n_samples <= 0:
        return 0
    return max(1, 1 + (n_samples - MIN_TAIL_SAMPLES) // hop_samples)


def hertz_to_mel(hertz: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """HTK mel scale: `1127 ln(1 + f / 700)`."""
    return 1127.0 * np.log1p(np.asarray(hertz, np.float64) / 700.0)


@functools.cache
def mel_matrix() -> npt.NDArray[np.float64]:
    """Mel filter bank, float64 [257, 64]: triangles linear in mel, peak 1, no area norm.

    The row of the zero frequency is 0. The array is shared: do not write to it.
    """
    bin_mel = hertz_to_mel(np.linspace(0.0, SAMPLE_RATE_HZ / 2, N_BINS))[:, None]
    edges = np.linspace(hertz_to_mel(MEL_MIN_HZ), hertz_to_mel(MEL_MAX_HZ), N_BANDS + 2)
    lower, centre, upper = edges[:-2], edges[1:-1], edges[2:]
    rising = (bin_mel - lower) / (centre - lower)
    falling = (upper - bin_mel) / (upper - centre)
    matrix: npt.NDArray[np.float64] = np.maximum(0.0, np.minimum(rising, falling))
    matrix[0] = 0.0
    matrix.flags.writeable = False
    return matrix


class _Tables(NamedTuple):
    """Constants of the front end, in one dtype."""

    window: FloatArray  # [400], periodic Hann
    bins: npt.NDArray[np.intp]  # [461], the FFT bin of each non-zero mel weight, band by band
    weights: FloatArray  # [461], those weights
    band_starts: npt.NDArray[np.intp]  # [64], index of the first weight of each band


@functools.cache
def _tables(dtype: np.dtype[np.floating]) -> _Tables:
    phase = 2.0 * np.pi * np.arange(STFT_WINDOW_SAMPLES) / STFT_WINDOW_SAMPLES
    matrix = mel_matrix()
    bands, bins = np.nonzero(matrix.T)
    return _Tables(
        window=(0.5 - 0.5 * np.cos(phase)).astype(dtype),
        bins=bins,
        weights=matrix[bins, bands].astype(dtype),
        band_starts=np.searchsorted(bands, np.arange(N_BANDS)),
    )


def log_mel_spectrogram(waveform: npt.ArrayLike, log_offset: float = LOG_OFFSET) -> FloatArray:
    """Log-mel spectrogram of a 16 kHz waveform.

    Args:
        waveform: mono samples [n_samples] in [-1, 1] at 16 kHz.
        log_offset: added before the logarithm (VGGish 0.01, YAMNet 0.001).

    Shape:
        [n_samples] -> [n_frames, 64], n_frames = 1 + floor((n_samples - 400) / 160), at least 0.

    >>> log_mel_spectrogram(np.zeros(16_000, np.float32)).shape
    (98, 64)

    Raises:
        OptionError: the waveform is not one-dimensional, or not floating point.
    """
    return _log_mel(_stft_frames(_as_waveform(waveform)), log_offset)


def _stft_frames(samples: FloatArray) -> FloatArray:
    """The whole STFT frames [n, 400] of a waveform [n_samples], a view."""
    if len(samples) < STFT_WINDOW_SAMPLES:
        return np.zeros((0, STFT_WINDOW_SAMPLES), samples.dtype)
    frames = np.lib.stride_tricks.sliding_window_view(samples, STFT_WINDOW_SAMPLES)
    return frames[::STFT_HOP_SAMPLES]


def _log_mel(frames: FloatArray, log_offset: float) -> FloatArray:
    """Log-mel spectrogram [n, 64] of STFT frames [n, 400]."""
    tables = _tables(frames.dtype)
    magnitude = np.abs(np.fft.rfft(frames * tables.window, FFT_LENGTH))
    # Not a matrix product: most weights are zero, and BLAS threads would spin on the cores of the
    # network (measured: 261 instead of 404 times real time, end to end).
    weighted = magnitude[:, tables.bins] * tables.weights
    log_mel = np.add.reduceat(weighted, tables.band_starts, axis=1)
    log_mel += frames.dtype.type(log_offset)
    result: FloatArray = np.log(log_mel, out=log_mel)
    return result


def log_mel_patches(
    waveform: npt.ArrayLike, hop_seconds: float = PATCH_SECONDS, tail: Tail = "pad"
) -> FloatArray:
    """Log-mel patches of a whole 16 kHz waveform.

    Args:
        waveform: mono samples [n_samples] in [-1, 1] at 16 kHz.
        hop_seconds: time from one patch to the next, a multiple of 10 ms.
        tail: "pad" completes the last patch with silence, "drop" omits it.

    Shape:
        [n_samples] -> [n_patches(n_samples, hop_seconds, tail), 96, 64]

    >>> log_mel_patches(np.zeros(15_360, np.float32)).shape
    (1, 96, 64)
    >>> log_mel_patches(np.zeros(15_360, np.float32), tail="drop").shape
    (0, 96, 64)

    Raises:
        OptionError: the hop is not a positive multiple of 10 ms, `tail` is unknown, or the
            waveform is not one-dimensional or not floating point.
    """
    samples = _as_waveform(waveform)
    stream = PatchStream(hop_seconds, tail, samples.dtype)
    return np.concatenate([stream.feed(samples), stream.flush()])


class PatchStream:
    """Log-mel patches of a waveform that arrives in blocks of any size; see `log_mel_patches`.

    The patches do not depend on the sizes of the blocks, to the last bit, because the spectrogram
    is always computed in the same groups of frames. `dtype` is that of the arithmetic and the
    patches, float32 or float64.
    """

    def __init__(
        self,
        hop_seconds: float = PATCH_SECONDS,
        tail: Tail = "pad",
        dtype: npt.DTypeLike = np.float32,
    ) -> None:
        n_patches(0, hop_seconds, tail)  # raises for invalid options
        self._hop_seconds = hop_seconds
        self._tail = tail
        self._hop_frames = hop_to_frames(hop_seconds)
        # The smallest multiple of the hop that is at least a patch.
        self._group_frames = -(-PATCH_FRAMES // self._hop_frames) * self._hop_frames
        self._dtype = np.dtype(dtype)
        self._samples: FloatArray = np.zeros(0, self._dtype)
        self._frames: FloatArray = np.zeros((0, N_BANDS), self._dtype)
        self._n_samples = 0
        self._n_patches = 0

    def feed(self, waveform: npt.ArrayLike) -> FloatArray:
        """Add samples [n_samples]; return the patches [n, 96, 64] that are complete."""
        samples = _as_waveform(waveform).astype(self._dtype, copy=False)
        self._n_samples += len(samples)
        self._samples = np.concatenate([self._samples, samples])
        n_groups = n_stft_frames(len(self._samples)) // self._group_frames
        self._compute_frames(n_groups * self._group_frames)
        n_ready = max(0, 1 + (len(self._frames) - PATCH_FRAMES) // self._hop_frames)
        return self._take(n_ready)

    def flush(self) -> FloatArray:
        """Return the remaining patches [n, 96, 64] at the end of the waveform."""
        n_left = n_patches(self._n_samples, self._hop_seconds, self._tail) - self._n_patches
        n_frames = max(0, (n_left - 1) * self._hop_frames + PATCH_FRAMES) if n_left else 0
        n_missing = max(0, n_frames - len(self._frames))
        n_needed = (n_missing - 1) * STFT_HOP_SAMPLES + STFT_WINDOW_SAMPLES if n_missing else 0
        silence = np.zeros(max(0, n_needed - len(self._samples)), self._dtype)
        self._samples = np.concatenate([self._samples, silence])
        self._compute_frames(n_missing)
        return self._take(n_left)

    def _compute_frames(self, n_frames: int) -> None:
        """Move `n_frames` STFT frames from the waveform buffer to the log-mel buffer."""
        stft_frames = _stft_frames(self._samples)
        groups = (
            stft_frames[start : min(start + self._group_frames, n_frames)]
            for start in range(0, n_frames, self._group_frames)
        )
        log_mels = (_log_mel(group, LOG_OFFSET) for group in groups)
        self._frames = np.concatenate([self._frames, *log_mels])
        self._samples = self._samples[n_frames * STFT_HOP_SAMPLES :]

    def _take(self, n: int) -> FloatArray:
        """Remove the next `n` patches from the log-mel buffer."""
        if n == 0:
            return np.zeros((0, PATCH_FRAMES, N_BANDS), self._dtype)
        windows = np.lib.stride_tricks.sliding_window_view(self._frames, PATCH_FRAMES, axis=0)
        patches = windows[:: self._hop_frames][:n].transpose(0, 2, 1)
        # Groups are multiples of the hop. For a hop longer than a patch, the frames between two
        # patches are therefore in the buffer and can be dropped (except at the end).
        self._frames = self._frames[n * self._hop_frames :]
        self._n_patches += n
        return np.ascontiguousarray(patches)


def _as_waveform(waveform: npt.ArrayLike) -> FloatArray:
    samples = np.asarray(waveform)
    if samples.ndim != 1:
        raise OptionError(
            f"a waveform must be one-dimensional, [n_samples]. Received shape: {samples.shape}"
            " (average the channels first)"
        )
    if samples.dtype.kind != "f":
        raise OptionError(
            f"a waveform must be floating point in [-1, 1]. Received dtype: {samples.dtype}"
            " (divide 16-bit integers by 32768)"
        )
    if samples.dtype not in (np.float32, np.float64):
        samples = samples.astype(np.float32)
    return samples
