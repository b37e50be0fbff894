"""Decoding: files, bytes, file objects and standard input -> blocks of a mono waveform.

Memory does not grow with the length of the sound.

What is odd about a file but can be lived with (clipping, NaN, truncation, a wrong extension)
becomes a sentence in `AudioStream.warnings`; the rest is an `AudioError`.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from vggish.audio.decoders import Block, Decoder, open_decoder
from vggish.audio.limits import AudioLimits
from vggish.audio.mono import MonoMix
from vggish.audio.resample import Waveform, make_resampler
from vggish.audio.sources import as_file
from vggish.errors import AudioError, EmptyAudioError, OptionError
from vggish.params import MAX_SOURCE_RATE_HZ, MIN_SOURCE_RATE_HZ

if TYPE_CHECKING:
    from vggish.audio.sources import AudioSource


# Samples decoded at once, over all channels: large enough to be fast, small enough to forget.
BLOCK_SAMPLES = 1 << 18

MIN_BLOCK_FRAMES = 1 << 10


class AudioStream:
    """A sound being read, block by block. Made by `open_audio`; a context manager.

    Attributes:
        name: what to call the source in messages.
        sample_rate_hz: of the file.
        n_channels: of the file.
        seconds_in_header: duration as the header has it, None when it does not say.
        format: container and encoding.
        decode_seconds: time spent on opening and decoding so far.
    """

    def __init__(
        self,
        name: str,
        decoder: Decoder,
        temporary: str | None,
        limits: AudioLimits | None = None,
    ) -> None:
        self.name = name
        self.sample_rate_hz = decoder.sample_rate_hz
        self.n_channels = decoder.n_channels
        self.seconds_in_header = (
            None if decoder.n_frames is None else decoder.n_frames / decoder.sample_rate_hz
        )
        self.format = decoder.format
        self._decoder = decoder
        self._temporary = temporary
        self._limits = AudioLimits() if limits is None else limits
        self._mono = MonoMix()
        self.decode_seconds = 0.0
        # A decoder is never closed while it reads: libsndfile would not survive that.
        self._reading = threading.Lock()
        self._is_closed = False

    @property
    def warnings(self) -> list[str]:
        """Sentences about what is odd; complete once all blocks were read."""
        return [*self._decoder.warnings, *self._mono.warnings]

    @property
    def seconds_read(self) -> float:
        """Duration of what the blocks so far held."""
        return self._mono.n_samples / self.n_channels / self.sample_rate_hz

    def blocks(self, block_frames: int | None = None) -> Iterator[Waveform]:
        """The mean over channels at the file's own rate, in blocks float32 [n], once.

        NaN and infinite samples become 0, samples beyond [-1, 1] are clipped to it; both are
        told in `warnings`.

        Raises:
            EmptyAudioError: the file holds no samples.
            AudioLimitError: it holds more than the limits allow.
            AudioTimeoutError: the deadline is over.
            AudioError: the stream was closed.
        """
        if block_frames is None:
            block_frames = max(MIN_BLOCK_FRAMES, BLOCK_SAMPLES // self.n_channels)
        n_frames = 0
        while True:
            block = self._read(block_frames)
            if len(block) == 0:
                break
            n_frames += len(block)
            self._limits.check_length(self.name, n_frames, self.sample_rate_hz, self.n_channels)
            yield self._mono(block)
        if self._mono.n_samples == 0:
            reasons = "".join(f"; {warning}" for warning in self.warnings)
            raise EmptyAudioError(f"{self.name} holds no sound: 0 samples{reasons}")

    def close(self) -> None:
        """Stop decoding, and remove the temporary copy if there is one.

        Another thread may call it: what reads blocks gets an `AudioError` then.
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

    def _read(self, n_frames: int) -> Block:
        began = time.perf_counter()
        with self._reading:
            if not self._is_closed:
                block = self._decoder.read(n_frames)
        self.decode_seconds += time.perf_counter() - began
        if self._is_closed:
            raise AudioError(f"{self.name} was closed before it was read to its end")
        self._limits.check_time(self.name)
        return block

    def __enter__(self) -> AudioStream:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def open_audio(
    source: AudioSource, name: str | None = None, limits: AudioLimits | None = None
) -> AudioStream:
    """Open a sound for reading in blocks.

    Args:
        source: a path, `-` for standard input, the bytes of a file, or a binary file object
            (read from where it stands; left open).
        name: what to call the source in messages; the path by default.
        limits: what it may be at most; anything by default.

    Raises:
        OptionError: the source is of another type.
        AudioError: no such file, an unknown or damaged format, a sample rate outside 4 to
            384 kHz, or a format that needs ffmpeg where there is none.
        AudioLimitError: its header says that it is more than the limits allow.
        AudioTimeoutError: the deadline is over.
    """
    limits = AudioLimits() if limits is None else limits
    path, name, temporary = as_file(source, name)
    began = time.perf_counter()
    decoder = None
    try:
        try:
            decoder = open_decoder(path, name, limits.deadline)
        except AudioError:
            limits.check_time(name)  # ffmpeg was ended
            raise
        _check_header(decoder, name, limits)
    except BaseException:
        if decoder is not None:
            decoder.close()
        if temporary is not None:
            os.unlink(temporary)
        raise
    stream = AudioStream(name, decoder, temporary, limits)
    stream.decode_seconds = time.perf_counter() - began
    return stream


def open_waveform(
    waveform: npt.NDArray[Any], sample_rate_hz: float | None, name: str = "the waveform"
) -> AudioStream:
    """Open samples that are in memory as `open_audio` opens a file.

    Args:
        waveform: [n] or [n, channels]; float in [-1, 1], or int16 or int32, which are scaled.
        sample_rate_hz: 4 to 384 kHz, a whole number.
        name: what to call it in messages.

    Raises:
        OptionError: it has another shape or dtype, or the rate is missing or out of range.
    """
    rate = _checked_rate(sample_rate_hz)
    if waveform.dtype.kind != "f" and waveform.dtype not in (np.int16, np.int32):
        raise OptionError(
            "a waveform must be float in [-1, 1], int16 or int32. "
            f"Received: {waveform.dtype} {list(waveform.shape)}"
        )
    columns = waveform[:, None] if waveform.ndim == 1 else waveform
    if columns.ndim != 2 or columns.shape[1] == 0:
        raise OptionError(
            f"a waveform must have the shape [n] or [n, channels]. Received: {list(waveform.shape)}"
        )
    if 0 < columns.shape[0] < columns.shape[1]:
        raise OptionError(
            f"a waveform [n, channels] has more samples than channels. Received: "
            f"{list(waveform.shape)} (is it [channels, n]? Then give waveform.T)"
        )
    return AudioStream(name, _ArrayDecoder(columns, rate), None)


class _ArrayDecoder:
    """Samples [n, channels] in memory, as an `AudioStream` reads a file. See `Decoder`."""

    def __init__(self, samples: npt.NDArray[Any], sample_rate_hz: int) -> None:
        self.sample_rate_hz = sample_rate_hz
        self.n_frames: int | None
        self.n_frames, self.n_channels = samples.shape
        self.format = f"array/{samples.dtype}"
        self.warnings: list[str] = []
        self._rest = samples

    def read(self, n_frames: int) -> Block:
        block, self._rest = self._rest[:n_frames], self._rest[n_frames:]
        if block.dtype == np.int16:
            return block
        if block.dtype == np.int32:
            return cast(Block, block.astype(np.float32) * np.float32(2.0**-31))
        with np.errstate(over="ignore"):  # infinite samples are told
            return block.astype(np.float32)

    def interrupt(self) -> None:
        """Reading does not wait."""

    def close(self) -> None:
        """The array is the caller's."""


def _check_header(decoder: Decoder, name: str, limits: AudioLimits) -> None:
    rate = decoder.sample_rate_hz
    if not MIN_SOURCE_RATE_HZ <= rate <= MAX_SOURCE_RATE_HZ:
        raise AudioError(
            f"{name}: the sample rate must be {MIN_SOURCE_RATE_HZ} to {MAX_SOURCE_RATE_HZ} Hz."
            f" Received: {rate} Hz"
        )
    limits.check_format(name, rate, decoder.n_channels)
    limits.check_length(name, decoder.n_frames or 0, rate, decoder.n_channels)


def _checked_rate(sample_rate_hz: float | None) -> int:
    if sample_rate_hz is None:
        raise OptionError("a waveform needs its sample_rate in Hz, such as sample_rate=16000")
    try:
        rate = int(sample_rate_hz)
        is_whole = rate == sample_rate_hz
    except (TypeError, ValueError, OverflowError):
        rate, is_whole = 0, False
    if not is_whole or not MIN_SOURCE_RATE_HZ <= rate <= MAX_SOURCE_RATE_HZ:
        hint = " (kHz?)" if 0 < rate < 1000 else ""
        raise OptionError(
            f"the sample rate must be a whole number from {MIN_SOURCE_RATE_HZ} to "
            f"{MAX_SOURCE_RATE_HZ} Hz. Received: {sample_rate_hz!r}{hint}"
        )
    return rate


def load_audio(source: AudioSource, resampler: str = "soxr") -> Waveform:
    """A whole sound as the network's front end wants it: float32 [n_samples], mono, 16 kHz.

    Raises:
        AudioError: the source cannot be read, or holds no samples.
        OptionError: unknown resampler.
        MissingPackageError: resampy is asked for and not installed.
    """
    with open_audio(source) as stream:
        return np.concatenate(list(waveform_blocks(stream, resampler)))


def waveform_blocks(stream: AudioStream, resampler: str = "soxr") -> Iterator[Waveform]:
    """The sound of `stream` at 16 kHz, in blocks float32 [n]; at least one sample in all."""
    resample = make_resampler(stream.sample_rate_hz, resampler)
    n_samples = 0
    for block in stream.blocks():
        resampled = resample.feed(block)
        n_samples += len(resampled)
        yield resampled
    rest = resample.flush()
    # A sample or two at 384 kHz is less than one at 16 kHz; it is still sound.
    yield rest if n_samples + len(rest) else np.zeros(1, np.float32)
