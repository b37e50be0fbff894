"""Decode audio files to blocks of samples, with libsndfile or ffmpeg.

libsndfile (through `soundfile`) reads WAV, FLAC, Ogg Vorbis and Opus, MP3, AIFF and related
formats. All others (m4a, webm, video) are read through ffmpeg if it is installed.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
import numpy.typing as npt

from vggish.audio.ffmpeg import FFMPEG_HINT, FfmpegDecoder, find_ffmpeg
from vggish.errors import AudioError

if TYPE_CHECKING:
    import soundfile  # imported late: it loads libsndfile

# File name suffix -> the libsndfile formats that belong to it.
_FORMATS_BY_SUFFIX: dict[str, frozenset[str]] = {
    **dict.fromkeys((".wav", ".wave"), frozenset({"WAV", "WAVEX", "RF64", "W64"})),
    ".rf64": frozenset({"RF64"}),
    ".w64": frozenset({"W64"}),
    ".flac": frozenset({"FLAC", "OGG"}),
    **dict.fromkeys((".ogg", ".oga", ".opus"), frozenset({"OGG"})),
    ".mp3": frozenset({"MP3"}),
    **dict.fromkeys((".aif", ".aiff", ".aifc"), frozenset({"AIFF"})),
    **dict.fromkeys((".au", ".snd"), frozenset({"AU"})),
    ".caf": frozenset({"CAF"}),
}
_FFMPEG_SUFFIXES = {
    *(".3gp", ".aac", ".ac3", ".amr", ".ape", ".asf", ".avi", ".dts", ".flv", ".m4a", ".m4b"),
    *(".m4v", ".mka", ".mkv", ".mov", ".mp2", ".mp4", ".mpeg", ".mpg", ".mts", ".ts", ".tta"),
    *(".webm", ".weba", ".wma", ".wmv", ".wv"),
}

# Files that are read from a directory; a file that is named is read whatever its suffix.
AUDIO_SUFFIXES = frozenset(_FORMATS_BY_SUFFIX) | _FFMPEG_SUFFIXES
# A read that reaches damage returns nothing; audio before it is read in steps of this size.
_SALVAGE_FRAMES = 64
Block = npt.NDArray[np.float32] | npt.NDArray[np.int16]


class Decoder(Protocol):
    """A file being decoded: its properties, and `read` until it returns no frames."""

    sample_rate_hz: int
    n_channels: int
    n_frames: int | None  # as the header states it
    format: str
    is_float_pcm: bool  # samples are stored as floats, which may lawfully exceed full scale
    warnings: list[str]

    def read(self, n_frames: int) -> Block:
        """Read up to `n_frames` more frames, [n, n_channels]; n is 0 only at the end."""

    def interrupt(self) -> None:
        """End a `read` that waits in another thread."""

    def close(self) -> None:
        """Stop decoding."""


class _SoundFileDecoder:
    """libsndfile, read strictly forward."""

    def __init__(self, path: str, suffix: str) -> None:
        import soundfile

        class ForwardFile(soundfile.SoundFile):  # type: ignore[misc]
            def seekable(self) -> bool:
                # soundfile would seek after each read. That fails in FLAC of unknown length, and
                # resets an MP3 decoder, so that each block would begin with noise.
                return False

        # Bytes, as names need not be valid UTF-8; Windows expects text.
        native = path if os.name == "nt" else os.fsencode(path)
        self._open: Callable[[], soundfile.SoundFile] = lambda: ForwardFile(native)
        self._library_error = soundfile.LibsndfileError
        try:
            self._file = self._open()
        except TypeError as error:
            # For names of headerless formats, soundfile asks for the rate and channels.
            raise AudioError("raw samples without a header; convert them to WAV first") from error
        except soundfile.LibsndfileError as error:
            reason = error.error_string
            # libsndfile says "does not exist" of files too short to have a format.
            raise AudioError("unknown format" if "not exist" in reason else reason) from error
        self.sample_rate_hz = self._file.samplerate
        self.n_channels = self._file.channels
        self.format = f"{self._file.format}/{self._file.subtype}"
        log = self._file.extra_info
        # Why the file may continue after the end that libsndfile assumes; or None.
        self.guessed_end = _guessed_end(self._file.format, log, path)
        self.is_float_pcm = self._file.subtype in {"FLOAT", "DOUBLE"}
        # libsndfile reports 2^63 - 1 frames if the header does not state their number.
        unknown = self.guessed_end is not None or self._file.frames >= 1 << 62
        self.n_frames: int | None = None if unknown else self._file.frames
        # 16-bit samples skip a conversion: the mean over channels is exact in float32.
        self._dtype = "int16" if self._file.subtype == "PCM_16" else "float32"
        self._n_read = 0
        self._at_end = False
        self.warnings = []
        if self._file.format not in _FORMATS_BY_SUFFIX.get(suffix, {self._file.format}):
            self.warnings.append(f"named {suffix}, but it is {self._file.format}")
        self.warnings += _shortfall(self._file.format, log, path)

    def read(self, n_frames: int) -> Block:
        if self.n_frames is not None:
            # Tags may follow the last frame; they must not be reported as damage.
            n_frames = min(n_frames, self.n_frames - self._n_read)
        if self._at_end or n_frames <= 0:
            return np.zeros((0, self.n_channels), self._dtype)
        try:
            block = self._read(n_frames)
        except self._library_error as error:
            self._at_end = True
            block = self._before_damage(n_frames)
            self._n_read += len(block)
            if self._n_read == 0:
                raise AudioError(f"damaged from the start: {error.error_string}") from error
            self._warn_damaged(error.error_string)
            return block
        self._n_read += len(block)
        if len(block) == 0:
            self._at_end = True
            if self.n_frames and self._n_read < self.n_frames:
                self._warn_damaged("the rest is missing")
            if self.guessed_end is not None and self._n_read == self._file.frames:
                self.warnings.append(f"{self.guessed_end}; to read it to its end, {FFMPEG_HINT}")
        return block

    def interrupt(self) -> None:
        """Do nothing: reading takes milliseconds."""

    def close(self) -> None:
        self._file.close()

    def _read(self, n_frames: int) -> Block:
        block: Block = self._file.read(n_frames, dtype=self._dtype, always_2d=True)
        return block

    def _before_damage(self, n_frames: int) -> Block:
        """Read the block again, up to the damage."""
        self._file.close()
        self._file = self._open()
        blocks: list[npt.NDArray[Any]] = [np.zeros((0, self.n_channels), self._dtype)]
        with contextlib.suppress(self._library_error):
            n_left = self._n_read
            while n_left > 0:
                n_left -= len(self._read(min(n_left, n_frames))) or n_left
            for _ in range(0, n_frames, _SALVAGE_FRAMES):
                blocks.append(self._read(_SALVAGE_FRAMES))
        return cast("Block", np.concatenate(blocks))

    def _warn_damaged(self, reason: str) -> None:
        read = f"{self._n_read / self.sample_rate_hz:.2f} s"
        if self.n_frames is not None:
            read += f" of {self.n_frames / self.sample_rate_hz:.2f} s"
        self.warnings.append(f"truncated or damaged: {read} could be read ({reason.rstrip('.')})")


def open_decoder(
    path: str, name: str, deadline: float | None = None, stream: int | None = None
) -> Decoder:
    """Open a file with libsndfile or, if that cannot read it, with ffmpeg.

    Messages call it `name`. `stream` is the number of an audio stream, from 1; None chooses. At the deadline (of `time.monotonic()`) ffmpeg is killed; its output
    until then looks like that of a damaged file.
    """
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
        decoder = FfmpegDecoder(path, ffmpeg, deadline)
    except (OSError, AudioError) as error:
        if sndfile is not None:
            return sndfile
        reason = f"neither libsndfile ({sndfile_reason}) nor ffmpeg ({error}) can"
        if isinstance(error, OSError):
            # The path is on a second line, which the service does not send to its clients.
            why = error.strerror or error
            reason = f"ffmpeg does not run: {why}\nIt was expected at {ffmpeg}"
        raise AudioError(f"cannot read {name}: {reason}") from error
    if sndfile is not None:
        sndfile.close()
        decoder.warnings += sndfile.warnings
    elif suffix in _FORMATS_BY_SUFFIX:
        decoder.warnings.append(f"libsndfile cannot read it ({sndfile_reason}); ffmpeg did")
    return decoder


def _guessed_end(format_name: str, log: str, path: str) -> str | None:
    """Why libsndfile may end an intact file too early, or None."""
    if format_name == "MP3" and not _mp3_states_length(path):
        return "libsndfile guesses the length of this MP3, which has no Xing header"
    # Writers that cannot seek back leave a size of 0. libsndfile then parses the samples as
    # chunks, and does not find an end.
    if format_name in {"WAV", "WAVEX"} and "\ndata : 0\n" in log and "\nEnd\n" not in log:
        return "the header says 0 bytes of audio, but more follow"
    return None


def _mp3_states_length(path: str) -> bool:
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
    return header is not None and bool(header[1][0] & 0x01)  # the flag of the number of frames


def _shortfall(format_name: str, log: str, path: str) -> list[str]:
    """A warning if the header states more audio than the file holds."""
    if format_name == "OGG":
        return _ogg_shortfall(path)
    # libsndfile silently reads what is there, but its log compares the sizes.
    sizes = r"^\s*(?:data|SSND|Data Size|riff|Riff size)\s*: (\d+) \(should be (\d+)\)"
    found = re.search(sizes, log, re.MULTILINE)
    if found is None:
        return []
    stated, held = int(found[1]), int(found[2])
    # Writers that cannot seek back leave a size near 2^31 or 2^32 in the header.
    is_placeholder = min(abs(stated - (1 << 31)), abs(stated - (1 << 32))) <= 1 << 13
    if stated <= held or is_placeholder:
        return []
    return [f"truncated: the header states {stated} bytes of audio, the file holds {held}"]


def _ogg_shortfall(path: str) -> list[str]:
    """An Ogg header states no length, but the last page is marked."""
    longest_page = 65_307
    with open(path, "rb") as file:
        file.seek(max(0, os.path.getsize(path) - longest_page))
        tail = file.read()
    page = tail[max(0, tail.rfind(b"OggS\x00")) :]
    end_of_stream, header_bytes = 0x04, 27
    if len(page) < header_bytes or not page[5] & end_of_stream:
        return ["truncated: the Ogg stream has no last page"]
    body_start = header_bytes + page[26]  # the number of segments
    if len(page) < body_start + sum(page[header_bytes:body_start]):
        return ["truncated: the last page of the Ogg stream is incomplete"]
    return []
