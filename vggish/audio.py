"""Decoding: files, bytes, file objects and standard input -> blocks of a mono waveform.

libsndfile (through `soundfile`) reads WAV, FLAC, Ogg Vorbis and Opus, MP3, AIFF and their
kin. Whatever it cannot read (m4a, webm, video) goes through ffmpeg when there is one. Memory
does not grow with the length of the sound.

What is odd about a file but can be lived with (clipping, NaN, truncation, a wrong extension)
becomes a sentence in `AudioStream.warnings`; the rest is an `AudioError`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import os
import re
import shutil
import stat
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO, Protocol, cast

import numpy as np
import numpy.typing as npt

from vggish.errors import AudioError, EmptyAudioError
from vggish.params import MAX_SOURCE_RATE_HZ, MIN_SOURCE_RATE_HZ
from vggish.resample import Waveform, make_resampler

if TYPE_CHECKING:
    import soundfile

Source = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO

# Samples decoded at once, over all channels: large enough to be fast, small enough to forget.
BLOCK_SAMPLES = 1 << 18
MIN_BLOCK_FRAMES = 1 << 10

# 16-bit recordings clip at these values; a lossy codec may overshoot them.
FULL_SCALE = 1.0 - 2.0**-15
# A normalised recording touches full scale here and there; a clipped one sits there.
CLIPPED_SHARE_TO_REPORT = 1e-3

# File name extension -> the libsndfile formats that belong under it.
_FORMATS_BY_SUFFIX = {
    ".wav": {"WAV", "WAVEX", "RF64", "W64"},
    ".wave": {"WAV", "WAVEX", "RF64", "W64"},
    ".rf64": {"RF64"},
    ".w64": {"W64"},
    ".flac": {"FLAC", "OGG"},
    ".ogg": {"OGG"},
    ".oga": {"OGG"},
    ".opus": {"OGG"},
    ".mp3": {"MP3"},
    ".aif": {"AIFF"},
    ".aiff": {"AIFF"},
    ".aifc": {"AIFF"},
    ".au": {"AU"},
    ".snd": {"AU"},
    ".caf": {"CAF"},
}
# Read through ffmpeg.
_FFMPEG_SUFFIXES = {
    *(".3gp", ".aac", ".ac3", ".amr", ".ape", ".asf", ".avi", ".dts", ".flv", ".m4a", ".m4b"),
    *(".m4v", ".mka", ".mkv", ".mov", ".mp2", ".mp4", ".mpeg", ".mpg", ".mts", ".ts", ".tta"),
    *(".webm", ".weba", ".wma", ".wmv", ".wv"),
}
# What is taken from a directory; a file that is named is tried whatever its name.
AUDIO_SUFFIXES = frozenset(_FORMATS_BY_SUFFIX) | _FFMPEG_SUFFIXES

# Containers only: no playlist or script format, which could make ffmpeg open other files.
_FFMPEG_DEMUXERS = (
    "aac,ac3,aiff,amr,amrnb,amrwb,ape,asf,au,avi,caf,dts,eac3,flac,flv,gsm,matroska,webm,mov,mp4,"
    "m4a,3gp,3g2,mj2,mp3,mpeg,mpegts,mpegvideo,mpc,mpc8,oga,ogg,opus,rm,tta,voc,w64,wav,wv,xwma"
)
FFMPEG_HINT = "install ffmpeg (or: pip install imageio-ffmpeg)"

# What libsndfile says where a header does not tell the number of frames is 2^63 - 1.
_UNKNOWN_FRAMES = 1 << 62
# A read that meets damage returns nothing, so the sound before it is read in such steps.
_SALVAGE_FRAMES = 64


_Block = npt.NDArray[np.float32] | npt.NDArray[np.int16]


class _Decoder(Protocol):
    """A file being decoded: its facts, and `read` until it returns no frames."""

    sample_rate_hz: int
    n_channels: int
    n_frames: int | None  # as the header has it
    format: str
    warnings: list[str]

    def read(self, n_frames: int) -> _Block: ...

    def close(self) -> None: ...


class _SoundFileDecoder:
    """libsndfile, read strictly forward.

    Attributes:
        guessed_end: why the file may go on where libsndfile takes it to end; None if it cannot.
    """

    def __init__(self, path: str, suffix: str) -> None:
        import soundfile

        class ForwardFile(soundfile.SoundFile):  # type: ignore[misc]
            def seekable(self) -> bool:
                # soundfile would seek after each read: that fails in FLAC of unknown length, and
                # loses the state of an MP3 decoder, so that each block would begin with noise.
                return False

        self._open: Callable[[], soundfile.SoundFile] = lambda: ForwardFile(os.fsencode(path))
        self._library_error = soundfile.LibsndfileError
        try:
            self._file = self._open()
        except TypeError as error:
            # soundfile asks for rate and channels where the name says that there is no header.
            raise AudioError("raw samples without a header; convert them to WAV first") from error
        except soundfile.LibsndfileError as error:
            reason = error.error_string
            # That is what it says of files too short to have a format.
            raise AudioError("unknown format" if "not exist" in reason else reason) from error
        self.sample_rate_hz = self._file.samplerate
        self.n_channels = self._file.channels
        self.format = f"{self._file.format}/{self._file.subtype}"
        log = self._file.extra_info
        self.guessed_end = _guessed_end(self._file.format, log, path)
        unknown = self.guessed_end is not None or self._file.frames >= _UNKNOWN_FRAMES
        self.n_frames: int | None = None if unknown else self._file.frames
        # 16-bit samples skip a conversion: the mean over channels is exact in float32.
        self._dtype = "int16" if self._file.subtype == "PCM_16" else "float32"
        self._n_read = 0
        self._at_end = False
        self.warnings = []
        expected = _FORMATS_BY_SUFFIX.get(suffix)
        if expected is not None and self._file.format not in expected:
            self.warnings.append(f"named {suffix}, but it is {self._file.format}")
        self.warnings += _shortfall(self._file.format, log, path)

    def read(self, n_frames: int) -> _Block:
        if self.n_frames is not None:
            # Beyond the last frame there may be tags, which are no damage.
            n_frames = min(n_frames, self.n_frames - self._n_read)
        if self._at_end or n_frames <= 0:
            return np.zeros((0, self.n_channels), self._dtype)
        try:
            block = self._read(n_frames)
        except self._library_error as error:
            self._at_end = True
            block = self._before_damage(n_frames)
            if self._n_read + len(block) == 0:
                raise AudioError(f"damaged from the start: {error.error_string}") from error
            self._n_read += len(block)
            self._warn_damaged(error.error_string)
            return block
        self._n_read += len(block)
        if len(block) == 0:
            self._at_end = True
            if self.n_frames and self._n_read < self.n_frames:
                self._warn_damaged("the rest is missing")
            if self.guessed_end is not None and self._n_read == self._file.frames:
                self.warnings.append(f"{self.guessed_end}; to be sure of its end, {FFMPEG_HINT}")
        return block

    def close(self) -> None:
        self._file.close()

    def _read(self, n_frames: int) -> _Block:
        block: _Block = self._file.read(n_frames, dtype=self._dtype, always_2d=True)
        return block

    def _before_damage(self, n_frames: int) -> _Block:
        """Of the block whose reading failed, what comes before the damage."""
        self._file.close()
        self._file = self._open()
        blocks = [np.zeros((0, self.n_channels), self._dtype)]
        with contextlib.suppress(self._library_error):
            n_left = self._n_read
            while n_left > 0:
                n_left -= len(self._read(min(n_left, n_frames))) or n_left
            for _ in range(0, n_frames, _SALVAGE_FRAMES):
                blocks.append(self._read(_SALVAGE_FRAMES))
        return cast("_Block", np.concatenate(blocks))

    def _warn_damaged(self, reason: str) -> None:
        read = f"{self._n_read / self.sample_rate_hz:.2f} s"
        if self.n_frames is not None:
            read += f" of {self.n_frames / self.sample_rate_hz:.2f} s"
        self.warnings.append(f"truncated or damaged: {read} could be read ({reason.rstrip('.')})")


class _FfmpegDecoder:
    """ffmpeg, asked for a stream of big-endian floats with the shortest header there is (AU)."""

    n_frames: int | None = None

    def __init__(self, path: str, executable: str) -> None:
        # The log goes to a file: a pipe that nobody reads could block ffmpeg.
        self._url = "file:" + os.path.abspath(path)
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 closed by close()
        command = [executable, "-v", "error", "-nostdin", "-protocol_whitelist", "file"]
        command += ["-format_whitelist", _FFMPEG_DEMUXERS, "-i", self._url]
        command += ["-map", "0:a:0", "-c:a", "pcm_f32be", "-f", "au", "pipe:1"]
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self._log
            )
        except OSError:
            self._log.close()
            raise
        assert self._process.stdout is not None
        self._pipe: IO[bytes] = self._process.stdout
        header = self._pipe.read(24)
        if len(header) < 24 or header[:4] != b".snd":
            reason = self._log_line()
            self.close()
            raise AudioError(reason)
        offset, _, _, self.sample_rate_hz, self.n_channels = struct.unpack(">5I", header[4:])
        self._pipe.read(offset - 24)
        self.format = "ffmpeg"
        self.warnings: list[str] = []

    def read(self, n_frames: int) -> npt.NDArray[np.float32]:
        frame_bytes = 4 * self.n_channels
        data = self._pipe.read(n_frames * frame_bytes)
        whole = data[: len(data) - len(data) % frame_bytes]
        if not whole:
            self._process.wait()
            # ffmpeg decodes what it can of a damaged file, and complains in the log.
            if self._process.returncode != 0 or self._log.tell():
                self.warnings.append(f"ffmpeg reports damage: {self._log_line()}")
        return np.frombuffer(whole, ">f4").astype(np.float32).reshape(-1, self.n_channels)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._pipe.close()
        self._log.close()

    def _log_line(self) -> str:
        self._process.wait()
        self._log.seek(0)
        lines = self._log.read(1 << 16).decode("utf-8", "replace").strip().splitlines()
        if any("matches no streams" in line for line in lines):
            return "there is no audio stream in it"
        if not lines:
            return "no reason given"
        return re.sub(r"^\[[^]]*\]\s*", "", lines[0]).replace(f"{self._url}: ", "").strip()


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

    def __init__(self, name: str, decoder: _Decoder, temporary: str | None) -> None:
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
        AudioError: no such file, an unknown or damaged format, a sample rate outside 4 to
            384 kHz, or a format that needs ffmpeg where there is none.
    """
    path, name, temporary = _as_file(source, name)
    try:
        decoder = _open_decoder(path, name)
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


def find_ffmpeg() -> str | None:
    """The ffmpeg to use: `AUDIOTAG_FFMPEG`, the one on the PATH, or that of imageio-ffmpeg."""
    configured = os.environ.get("AUDIOTAG_FFMPEG")
    if configured:
        return configured
    found = shutil.which("ffmpeg")
    if found:
        return found
    try:
        package: Any = importlib.import_module("imageio_ffmpeg")
        return str(package.get_ffmpeg_exe())
    except (ImportError, RuntimeError):
        return None


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
        if isinstance(error, OSError):
            raise AudioError(f"cannot copy {name} to a temporary file: {error}") from error
        raise
    return path, name, path


def _open_decoder(path: str, name: str) -> _Decoder:
    suffix = Path(path).suffix.lower()
    sndfile = None
    try:
        sndfile = _SoundFileDecoder(path, suffix)
        if sndfile.guessed_end is None:
            return sndfile
        sndfile_reason = sndfile.guessed_end
    except AudioError as error:
        sndfile_reason = str(error).rstrip(".")
    ffmpeg = find_ffmpeg()
    if ffmpeg is None:
        if sndfile is not None:
            return sndfile
        raise AudioError(
            f"cannot read {name}: {sndfile_reason}. Formats beyond WAV, FLAC, Ogg, MP3 and AIFF "
            f"(m4a, webm, video) need ffmpeg, and none was found: {FFMPEG_HINT}"
        )
    try:
        decoder = _FfmpegDecoder(path, ffmpeg)
    except (OSError, AudioError) as error:
        if sndfile is not None:
            return sndfile
        if isinstance(error, OSError):
            reason = f"ffmpeg at {ffmpeg} does not run: {error}"
        else:
            reason = f"neither libsndfile ({sndfile_reason}) nor ffmpeg ({error}) can"
        raise AudioError(f"cannot read {name}: {reason}") from error
    if sndfile is not None:
        sndfile.close()
        decoder.warnings += sndfile.warnings
    elif suffix in _FORMATS_BY_SUFFIX:
        decoder.warnings.append(f"libsndfile cannot read it ({sndfile_reason}); ffmpeg did")
    return decoder


def _guessed_end(format_name: str, log: str, path: str) -> str | None:
    """Why libsndfile may take a whole file to end early, if it may."""
    if format_name == "MP3" and not _mp3_tells_length(path):
        return "libsndfile guesses the length of this MP3, which has no Xing header"
    # Writers that cannot seek back leave a size of 0. Then libsndfile takes the samples for
    # chunks, and does not come to an end of them.
    if format_name in {"WAV", "WAVEX"} and "\ndata : 0\n" in log and "\nEnd\n" not in log:
        return "the header says 0 bytes of sound, but more than that follows"
    return None


def _mp3_tells_length(path: str) -> bool:
    """Whether the first MPEG frame is a Xing or Info header with the number of frames."""
    with open(path, "rb") as file:
        head = file.read(10)
        if head[:3] == b"ID3":
            # Four bytes of seven bits each.
            size = sum((byte & 0x7F) << 7 * place for place, byte in enumerate(head[:5:-1]))
            file.seek(10 + size)
        else:
            file.seek(0)
        first_frame = file.read(1 << 11)
    header = re.search(rb"(?:Xing|Info)...(.)", first_frame, re.DOTALL)
    has_frame_count = 0x01
    return header is not None and bool(header[1][0] & has_frame_count)


def _shortfall(format_name: str, log: str, path: str) -> list[str]:
    """A warning if the container promises more sound than the file holds."""
    if format_name == "OGG":
        return _ogg_shortfall(path)
    # libsndfile quietly takes what is there, but its log compares the sizes.
    found = re.search(
        r"^\s*(?:data|SSND|Data Size|riff|Riff size)\s*: (\d+) \(should be (\d+)\)",
        log,
        re.MULTILINE,
    )
    if found is None:
        return []
    promised, held = int(found[1]), int(found[2])
    # Writers that cannot seek back leave a size near 2^31 or 2^32 in the header.
    is_placeholder = min(abs(promised - (1 << 31)), abs(promised - (1 << 32))) <= 1 << 13
    if promised <= held or is_placeholder:
        return []
    return [f"truncated: the header promises {promised} bytes of sound, the file holds {held}"]


def _ogg_shortfall(path: str) -> list[str]:
    """Ogg has no length in its header, but its last page is marked as the last."""
    longest_page = 65_307
    with open(path, "rb") as file:
        file.seek(max(0, os.path.getsize(path) - longest_page))
        tail = file.read()
    page = tail[max(0, tail.rfind(b"OggS\x00")) :]
    end_of_stream, header_bytes = 0x04, 27
    if len(page) < header_bytes or not page[5] & end_of_stream:
        return ["truncated: the Ogg stream has no last page"]
    n_segments = page[26]
    body_start = header_bytes + n_segments
    if len(page) < body_start + sum(page[header_bytes:body_start]):
        return ["truncated: the last page of the Ogg stream is not complete"]
    return []


def _mono(block: _Block, counts: _SampleCounts) -> Waveform:
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
