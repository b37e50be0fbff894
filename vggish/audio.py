"""Decoding: files, bytes, file objects and standard input -> blocks of a mono waveform.

Memory does not grow with the length of the sound.

What is odd about a file but can be lived with (clipping, NaN, truncation, a wrong extension)
becomes a sentence in `AudioStream.warnings`; the rest is an `AudioError`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import numpy.typing as npt

from vggish.decoders import AUDIO_SUFFIXES, Block, Decoder, open_decoder
from vggish.errors import AudioError, EmptyAudioError, OptionError
from vggish.params import MAX_SOURCE_RATE_HZ, MIN_SOURCE_RATE_HZ
from vggish.resample import Waveform, make_resampler

Source = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO

# Samples decoded at once, over all channels: large enough to be fast, small enough to forget.
BLOCK_SAMPLES = 1 << 18
MIN_BLOCK_FRAMES = 1 << 10

# 16-bit recordings clip at these values; a lossy codec may overshoot them.
FULL_SCALE = 1.0 - 2.0**-15
# A normalised recording touches full scale here and there; a clipped one sits there.
CLIPPED_SHARE_TO_REPORT = 1e-3

# -60 dBFS: quieter than this is the noise of a recorder whose microphone was off.
SILENT_PEAK = 1e-3
SILENCE = "silence: no sample is beyond -60 dBFS"


@dataclasses.dataclass
class _SampleCounts:
    """What was noticed about the samples of a file, over all channels."""

    total: int = 0
    non_finite: int = 0
    full_scale: int = 0
    peak: float = 0.0


class AudioStream:
    """A sound being read, block by block. Made by `open_audio`; a context manager.

    Attributes:
        name: what to call the source in messages.
        sample_rate_hz: of the file.
        n_channels: of the file.
        seconds_in_header: duration as the header has it, None when it does not say.
        format: container and encoding.
    """

    def __init__(self, name: str, decoder: Decoder, temporary: str | None) -> None:
        self.name = name
        self.sample_rate_hz = decoder.sample_rate_hz
        self.n_channels = decoder.n_channels
        self.seconds_in_header = (
            None if decoder.n_frames is None else decoder.n_frames / decoder.sample_rate_hz
        )
        self.format = decoder.format
        self._decoder = decoder
        self._temporary = temporary
        self._counts = _SampleCounts()

    @property
    def warnings(self) -> list[str]:
        """Sentences about what is odd; complete once all blocks were read."""
        return [*self._decoder.warnings, *_sample_warnings(self._counts)]

    @property
    def seconds_read(self) -> float:
        """Duration of what the blocks so far held."""
        return self._counts.total / self.n_channels / self.sample_rate_hz

    def blocks(self, block_frames: int | None = None) -> Iterator[Waveform]:
        """The mean over channels at the file's own rate, in blocks float32 [n], once.

        NaN and infinite samples become 0, samples beyond [-1, 1] are clipped to it; both are
        told in `warnings`.

        Raises:
            EmptyAudioError: the file holds no samples.
        """
        if block_frames is None:
            block_frames = max(MIN_BLOCK_FRAMES, BLOCK_SAMPLES // self.n_channels)
        while True:
            block = self._decoder.read(block_frames)
            if len(block) == 0:
                break
            yield _mono(block, self._counts)
        if self._counts.total == 0:
            reasons = "".join(f"; {warning}" for warning in self.warnings)
            raise EmptyAudioError(f"{self.name} holds no sound: 0 samples{reasons}")

    def close(self) -> None:
        """Stop decoding, and remove the temporary copy if there is one."""
        try:
            self._decoder.close()
        finally:
            if self._temporary is not None:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self._temporary)

    def __enter__(self) -> AudioStream:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def open_audio(source: Source, name: str | None = None) -> AudioStream:
    """Open a sound for reading in blocks.

    Args:
        source: a path, `-` for standard input, the bytes of a file, or a binary file object
            (read from where it stands; left open).
        name: what to call the source in messages; the path by default.

    Raises:
        OptionError: the source is of another type.
        AudioError: no such file, an unknown or damaged format, a sample rate outside 4 to
            384 kHz, or a format that needs ffmpeg where there is none.
    """
    path, name, temporary = _as_file(source, name)
    try:
        decoder = open_decoder(path, name)
        if not MIN_SOURCE_RATE_HZ <= decoder.sample_rate_hz <= MAX_SOURCE_RATE_HZ:
            decoder.close()
            raise AudioError(
                f"{name}: the sample rate must be {MIN_SOURCE_RATE_HZ} to {MAX_SOURCE_RATE_HZ} Hz."
                f" Received: {decoder.sample_rate_hz} Hz"
            )
    except BaseException:
        if temporary is not None:
            os.unlink(temporary)
        raise
    return AudioStream(name, decoder, temporary)


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

    def close(self) -> None:
        """The array is the caller's."""


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


def load_audio(source: Source, resampler: str = "soxr") -> Waveform:
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


def source_name(source: Source, name: str | None = None) -> str:
    """What to call a source in messages and outputs."""
    if name is not None:
        return name
    if isinstance(source, (str, os.PathLike)):
        return "standard input" if os.fspath(source) == "-" else os.fspath(source)
    return str(getattr(source, "name", "audio bytes"))


def _as_file(source: Source, name: str | None) -> tuple[str, str, str | None]:
    """Path, name, and the path again if it is a temporary file that must be removed."""
    name = source_name(source, name)
    if isinstance(source, (str, os.PathLike)):
        path = os.fspath(source)
        if path == "-":
            if sys.stdin is None:
                raise AudioError(f"cannot read {name}: it is closed")
            return _spool(sys.stdin.buffer, name)
        try:
            status = os.stat(path)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise AudioError(f"cannot open {name}: {reason}") from error
        if stat.S_ISDIR(status.st_mode):
            raise AudioError(f"{name} is a directory, not a sound file")
        if stat.S_ISFIFO(status.st_mode):
            with open(path, "rb") as pipe:
                return _spool(pipe, name)
        if not stat.S_ISREG(status.st_mode):
            raise AudioError(f"{name} is not a regular file")
        if not os.access(path, os.R_OK):
            raise AudioError(f"cannot open {name}: Permission denied")
        if status.st_size == 0:
            raise EmptyAudioError(f"{name} is empty: 0 bytes")
        return path, name, None
    if not isinstance(source, (bytes, bytearray, memoryview)) and not hasattr(source, "read"):
        hint = ""
        if isinstance(source, np.ndarray):
            hint = " (a waveform goes to open_waveform)"
        raise OptionError(
            "a sound must be a path, the bytes of a file, or a binary file object. "
            f"Received: {type(source).__name__}{hint}"
        )
    return _spool(source, name)


def _spool(source: Any, name: str) -> tuple[str, str, str]:
    """Copy bytes or a stream to a temporary file: formats need to seek, and ffmpeg a path."""
    suffix = Path(name).suffix.lower()
    suffix = suffix if suffix in AUDIO_SUFFIXES else ""
    path = None
    try:
        descriptor, path = tempfile.mkstemp(prefix="audiotag-", suffix=suffix)
        with os.fdopen(descriptor, "wb") as copy:
            if isinstance(source, (bytes, bytearray, memoryview)):
                copy.write(source)
            else:
                shutil.copyfileobj(source, copy, 1 << 20)
            if copy.tell() == 0:
                raise EmptyAudioError(f"{name} is empty: 0 bytes")
    except BaseException as error:
        if path is not None:
            os.unlink(path)
        if isinstance(error, (TypeError, ValueError)):
            raise AudioError(
                f"cannot read {name}: {error} (is it closed, or not opened in binary mode?)"
            ) from error
        if isinstance(error, OSError):
            raise AudioError(f"cannot copy {name} to a temporary file: {error}") from error
        raise
    return path, name, path


def _mono(block: Block, counts: _SampleCounts) -> Waveform:
    """Mean over the channels of a block [n, n_channels], float32 [n] in [-1, 1]."""
    n_channels = block.shape[1]
    counts.total += block.size
    scale = 2.0**-15 if block.dtype == np.int16 else 1.0
    full_scale = FULL_SCALE / scale
    high, low = float(block.max()), float(block.min())
    if not (np.isfinite(high) and np.isfinite(low)):
        finite = np.isfinite(block)
        counts.non_finite += block.size - int(np.count_nonzero(finite))
        block = cast(Waveform, np.nan_to_num(block, nan=0.0, posinf=0.0, neginf=0.0))
        high, low = float(block.max()), float(block.min())
    counts.peak = max(counts.peak, max(high, -low) * scale)
    if high >= full_scale or low <= -full_scale:
        counts.full_scale += int(np.count_nonzero((block >= full_scale) | (block <= -full_scale)))
        if scale == 1.0:
            block = cast(Waveform, np.clip(block, np.float32(-1.0), np.float32(1.0)))
    # A sum column by column is many times faster than numpy's mean over a short axis.
    total = block[:, 0].astype(np.float32)
    for channel in range(1, n_channels):
        total += block[:, channel]
    total *= np.float32(scale / n_channels)
    return total


def _sample_warnings(counts: _SampleCounts) -> list[str]:
    warnings = []
    if counts.total and counts.peak < SILENT_PEAK:
        warnings.append(SILENCE)
    if counts.non_finite:
        warnings.append(f"{counts.non_finite} samples are NaN or infinite; taken as 0")
    if counts.peak > 100.0:
        warnings.append(
            f"samples reach {counts.peak:g}, clipped to 1 (were integers saved as float without"
            " dividing by 32768?)"
        )
    elif counts.full_scale > CLIPPED_SHARE_TO_REPORT * counts.total:
        share = 100.0 * counts.full_scale / counts.total
        warnings.append(f"clipped: {share:.1f} % of the samples are at or beyond full scale")
    return warnings
