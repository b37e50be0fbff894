"""Decode audio files to blocks of samples, with libsndfile or ffmpeg.

libsndfile (through `soundfile`) reads WAV, FLAC, Ogg Vorbis and Opus, MP3, AIFF and related
formats. All others (m4a, webm, video) are read through ffmpeg if it is installed.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Protocol

from vggish.audio.chain import ChainDecoder
from vggish.audio.containers import Layout, Link, examine
from vggish.audio.ffmpeg import FFMPEG_HINT, FfmpegDecoder, find_ffmpeg
from vggish.audio.sndfile import Block, SoundFileDecoder
from vggish.errors import AudioError

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
_GUESSED_END = "libsndfile guesses the length of this MP3"


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


def open_decoder(
    path: str, name: str, deadline: float | None = None, stream: int | None = None
) -> Decoder:
    """Open a file with libsndfile or, if that cannot read it, with ffmpeg.

    Messages call it `name`. `stream` is the number of an audio stream, from 1; None chooses. At the
    deadline (of `time.monotonic()`) ffmpeg is killed; its output until then looks like that of a
    damaged file.
    """
    suffix = Path(path).suffix.lower()
    sndfile = None
    try:
        layout = examine(path)
        if layout.n_streams == 1:
            sndfile, is_whole = _open_links(path, layout)
            sndfile.warnings += _wrong_suffix(suffix, sndfile)
            if is_whole:
                return sndfile
        sndfile_reason = _GUESSED_END if sndfile else f"{layout.n_streams} audio streams at once"
    except OSError as error:
        raise AudioError(f"cannot read {name}: {error.strerror or error}") from error
    except AudioError as error:
        sndfile_reason = str(error).rstrip(".")
    ffmpeg = find_ffmpeg()
    if ffmpeg is None:
        if sndfile is not None:
            sndfile.warnings.append(f"{_GUESSED_END}; to read it to its end, {FFMPEG_HINT}")
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
    return decoder


def _open_links(path: str, layout: Layout) -> tuple[Decoder, bool]:
    """Open a file with libsndfile; return the decoder, and whether it decodes all of it."""
    links = layout.links
    if links is None:
        decoder = SoundFileDecoder(path, None)
        # Without the structure of an MP3, libsndfile guesses its length.
        return decoder, decoder.container != "MP3"
    if not links:
        raise AudioError("no audio in it")
    as_float = len(links) > 1
    first = SoundFileDecoder(path, _as_it_is(path, links[0]), as_float=as_float)
    if len(links) == 1:
        first.warnings += layout.warnings
        return first, first.n_guessed is None
    following = [
        functools.partial(SoundFileDecoder, path, link, as_float=True) for link in links[1:]
    ]
    return ChainDecoder(first, following, list(layout.warnings)), True


def _as_it_is(path: str, link: Link) -> Link | None:
    """None for a link that is the whole file, which libsndfile reads faster by its path."""
    is_whole = link == Link(0, os.path.getsize(path))
    return None if is_whole else link


def _wrong_suffix(suffix: str, decoder: Decoder) -> list[str]:
    container = decoder.format.split("/", 1)[0]
    if container in _FORMATS_BY_SUFFIX.get(suffix, {container}):
        return []
    return [f"named {suffix}, but it is {container}"]
