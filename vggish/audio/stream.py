"""Read files, bytes, file objects and standard input as blocks of a mono waveform.

Memory does not grow with the duration of the audio. Defects that do not prevent reading
(clipping, NaN, levels beyond full scale, truncation, a wrong file name extension) become sentences
in `AudioStream.warnings`; all others raise `AudioError`.
"""

from __future__ import annotations

import contextlib
import functools
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from vggish.audio.decoder import Block, Decoder
from vggish.audio.decoders import open_decoder
from vggish.audio.limits import AudioLimits
from vggish.audio.mono import Level, MonoMix, PeakMeter, in_pieces
from vggish.audio.resample import Waveform, band_warnings, check_sample_rate, make_resampler
from vggish.audio.sources import AudioSource, as_file
from vggish.errors import AudioError, EmptyAudioError, OptionError

# Samples per block over all channels, and the least number per channel.
BLOCK_SAMPLES = 1 << 18
MIN_BLOCK_FRAMES = 1 << 10
# At low rates, samples become many more at 16 kHz.
MAX_BLOCK_SECONDS = 60


class AudioStream:
    """Audio that is read block by block, from `open_audio`; a context manager.

    `sample_rate_hz`, `n_channels` and `format` (container and encoding) are those of the file;
    `decode_seconds` is the time spent on opening and decoding so far.
    """

    def __init__(
        self,
        name: str,
        decoder: Decoder,
        temporary: str | None,
        limits: AudioLimits | None = None,
        reopen: Callable[[], Decoder] | None = None,
    ) -> None:
        """Read from `decoder`; `reopen` starts anew, for float samples, which are read twice."""
        self.name = name
        self.sample_rate_hz = decoder.sample_rate_hz
        self.n_channels = decoder.n_channels
        n_frames = decoder.n_frames
        # The duration as the header states it; None if it does not.
        self.seconds_in_header = None if n_frames is None else n_frames / decoder.sample_rate_hz
        self.format = decoder.format
        self.decode_seconds = 0.0
        self._decoder = decoder
        self._reopen = reopen
        self._temporary = temporary
        self._limits = AudioLimits() if limits is None else limits
        self._mono = MonoMix(self.sample_rate_hz)
        # libsndfile would crash if its file were closed during a read.
        self._reading = threading.Lock()
        self._is_closed = False

    @property
    def warnings(self) -> list[str]:
        """Sentences about defects; complete once all blocks are read."""
        of_rate = band_warnings(self.sample_rate_hz)
        return [*self._decoder.warnings, *of_rate, *self._mono.warnings]

    @property
    def seconds_read(self) -> float:
        """Duration of the blocks so far."""
        return self._mono.n_samples / self.n_channels / self.sample_rate_hz

    def blocks(self, block_frames: int | None = None) -> Iterator[Waveform]:
        """Read the mean over channels, at the file's own rate, in blocks float32 [n], once.

        Raises an `AudioError` if the file holds no samples, exceeds the limits or is closed.
        """
        if block_frames is None:
            block_frames = max(MIN_BLOCK_FRAMES, BLOCK_SAMPLES // self.n_channels)
            block_frames = min(block_frames, MAX_BLOCK_SECONDS * self.sample_rate_hz)
        if self._decoder.is_float_pcm and self._reopen is not None:
            self._mono.level = self._measure(block_frames)
        for block in self._decoded(block_frames):
            yield from in_pieces(self._mono.feed(block), block_frames)
        yield from in_pieces(self._mono.flush(), block_frames)
        if self._mono.n_samples == 0:
            reasons = "; ".join([f"{self.name} holds no audio: 0 samples", *self.warnings])
            raise EmptyAudioError(reasons)

    def close(self) -> None:
        """Stop decoding, and delete the temporary copy if there is one.

        May be called from another thread; a thread that reads blocks then gets an `AudioError`.
        """
        self._is_closed = True
        self._decoder.interrupt()
        try:
            with self._reading:
                self._decoder.close()
        finally:
            if self._temporary is not None:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self._temporary)

    def _measure(self, block_frames: int) -> Level:
        """Find the level of float samples by decoding the audio once more."""
        assert self._reopen is not None
        meter = PeakMeter()
        for block in self._decoded(block_frames):
            meter.feed(block)
        start = time.perf_counter()
        with self._reading:
            if not self._is_closed:
                self._decoder.close()
                self._decoder = self._reopen()
        self.decode_seconds += time.perf_counter() - start
        return meter.level

    def _decoded(self, block_frames: int) -> Iterator[Block]:
        """The samples of all channels, in blocks within the limits."""
        n_frames = 0
        while len(block := self._read(block_frames)):
            n_frames += len(block)
            self._limits.check_length(self.name, n_frames, self.sample_rate_hz, self.n_channels)
            yield block

    def _read(self, n_frames: int) -> Block:
        start = time.perf_counter()
        with self._reading:
            if not self._is_closed:
                block = self._decoder.read(n_frames)
        self.decode_seconds += time.perf_counter() - start
        if self._is_closed:
            raise AudioError(f"{self.name} was closed before it was read to its end")
        self._limits.check_time(self.name)
        return block

    def __enter__(self) -> AudioStream:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def open_audio(
    source: AudioSource,
    name: str | None = None,
    limits: AudioLimits | None = None,
    stream: int | None = None,
) -> AudioStream:
    """Open audio for reading in blocks.

    Args:
        source: a path, "-" for standard input, the bytes of a file, or a binary file object
            (read from its current position; left open).
        name: name of the source in messages; the path by default.
        limits: limits on the audio; none by default.
        stream: number of the audio stream of a file with several, from 1; by default the one that
            the file marks as default, else the first with sound.

    Raises:
        OptionError: the source has an unsupported type, or `stream` is less than 1.
        AudioError: no such file or stream, an unknown or damaged format, a sample rate outside 1 Hz
            to 1 MHz, or a format that needs ffmpeg, which is not installed.
        AudioLimitError: the header states more than the limits allow.
        AudioTimeoutError: the deadline has passed.
    """
    if stream is not None and stream < 1:
        raise OptionError(f"stream must be at least 1. Received: {stream!r}")
    limits = AudioLimits() if limits is None else limits
    path, name, is_temporary = as_file(source, name)
    start = time.perf_counter()
    with contextlib.ExitStack() as on_error:
        if is_temporary:
            on_error.callback(os.unlink, path)
        decode = functools.partial(open_decoder, path, name, limits.deadline, stream)
        try:
            decoder = decode()
        except AudioError:
            limits.check_time(name)  # ffmpeg was killed at the deadline
            raise
        on_error.callback(decoder.close)
        rate_hz, n_channels = decoder.sample_rate_hz, decoder.n_channels
        try:
            check_sample_rate(rate_hz)
        except OptionError as error:
            raise AudioError(f"{name}: {error}") from error
        limits.check_format(name, rate_hz, n_channels)
        limits.check_length(name, decoder.n_frames or 0, rate_hz, n_channels)
        on_error.pop_all()
    audio = AudioStream(name, decoder, path if is_temporary else None, limits, decode)
    audio.decode_seconds = time.perf_counter() - start
    return audio


def open_waveform(
    waveform: npt.NDArray[Any], sample_rate_hz: float | None, name: str = "the waveform"
) -> AudioStream:
    """Open samples in memory like a file.

    Args:
        waveform: [n] or [n, channels]; float in [-1, 1], or int16 or int32, which are scaled.
            Floats beyond 1 are divided by their peak, with a warning.
        sample_rate_hz: 1 to 1,000,000, a whole number.
        name: name in messages.

    Raises:
        OptionError: the shape or dtype is unsupported, or the rate is missing or out of range.
    """
    if sample_rate_hz is None:
        raise OptionError("a waveform needs its sample_rate in Hz, such as sample_rate=16000")
    check_sample_rate(sample_rate_hz)
    shape = list(waveform.shape)
    if waveform.dtype.kind != "f" and waveform.dtype not in (np.int16, np.int32):
        raise OptionError(
            f"a waveform must be float in [-1, 1], int16 or int32. Received: {waveform.dtype} "
            f"{shape}"
        )
    columns = waveform[:, None] if waveform.ndim == 1 else waveform
    if columns.ndim != 2 or columns.shape[1] == 0:
        raise OptionError(f"a waveform must have the shape [n] or [n, channels]. Received: {shape}")
    if 0 < columns.shape[0] < columns.shape[1]:
        raise OptionError(
            f"a waveform [n, channels] has more samples than channels. Received: {shape} "
            "(is it [channels, n]? Then pass waveform.T)"
        )
    decode = functools.partial(_ArrayDecoder, columns, int(sample_rate_hz))
    return AudioStream(name, decode(), None, reopen=decode)


class _ArrayDecoder:
    """A `Decoder` of samples [n, channels] in memory."""

    def __init__(self, samples: npt.NDArray[Any], sample_rate_hz: int) -> None:
        self.sample_rate_hz = sample_rate_hz
        self.n_frames: int | None
        self.n_frames, self.n_channels = samples.shape
        self.format = f"array/{samples.dtype}"
        self.is_float_pcm = samples.dtype.kind == "f"
        self.warnings: list[str] = []
        self._rest = samples

    def read(self, n_frames: int) -> Block:
        block, self._rest = self._rest[:n_frames], self._rest[n_frames:]
        if block.dtype == np.int16:
            return block
        if block.dtype == np.int32:
            return cast(Block, block.astype(np.float32) * np.float32(2.0**-31))
        with np.errstate(over="ignore"):  # MonoMix reports infinite samples
            return block.astype(np.float32)

    def interrupt(self) -> None: ...

    def close(self) -> None: ...


def load_audio(source: AudioSource, resampler: str = "soxr") -> Waveform:
    """Load a whole clip as the front end expects it: float32 [n_samples], mono, 16 kHz.

    Raises:
        AudioError: the source cannot be read, or holds no samples.
        OptionError: unknown resampler.
        MissingPackageError: "resampy" is requested and not installed.
    """
    with open_audio(source) as stream:
        return np.concatenate(list(waveform_blocks(stream, resampler)))


def waveform_blocks(stream: AudioStream, resampler: str = "soxr") -> Iterator[Waveform]:
    """Read audio at 16 kHz, in blocks float32 [n]; at least one sample in total."""
    resample = make_resampler(stream.sample_rate_hz, resampler)
    n_samples = 0
    for block in stream.blocks():
        resampled = resample.feed(block)
        n_samples += len(resampled)
        yield resampled
    rest = resample.flush()
    # One or two samples at 1 MHz are less than one at 16 kHz, but the clip is not empty.
    yield rest if n_samples + len(rest) else np.zeros(1, np.float32)
