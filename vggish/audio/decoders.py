"""Decode audio files to blocks of samples, with libsndfile or ffmpeg.

libsndfile (through `soundfile`) reads WAV, FLAC, Ogg Vorbis and Opus, MP3, AIFF and related
formats. All others (m4a, webm, video) are read through ffmpeg if it is installed.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path

from vggish.audio.chain import ChainDecoder
from vggish.audio.containers import Layout, Link, examine
from vggish.audio.decoder import Decoder
from vggish.audio.ffmpeg import FFMPEG_HINT, FfmpegDecoder, find_ffmpeg, no_such_stream
from vggish.audio.sndfile import SoundFileDecoder
from vggish.common.wording import count
from vggish.errors import AudioError, NoSuchStreamError

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
_MAX_FFMPEG_FAILURES = 3
_GUESSED_END = "libsndfile guesses the length of this MP3"


def open_decoder(
    path: str, name: str, deadline: float | None = None, stream: int | None = None
) -> Decoder:
    """Open a file with libsndfile or, if that cannot read it, with ffmpeg.

    Messages call it `name`. `stream` is the number of an audio stream, from 1; None chooses. At the
    deadline (of `time.monotonic()`) ffmpeg is killed; its output until then looks like that of a
    damaged file.
    """
    decoder = _open(path, name, deadline, stream)
    is_single = not isinstance(decoder, FfmpegDecoder)
    if is_single and stream is not None and stream > 1:
        decoder.close()
        raise NoSuchStreamError(f"cannot read {name}: {no_such_stream(stream, 1)}")
    return decoder


def _open(path: str, name: str, deadline: float | None, stream: int | None) -> Decoder:
    suffix = Path(path).suffix.lower()
    sndfile = None
    try:
        layout = examine(path)
        if layout.n_streams == 1 and len(layout.links or ()) > 1:
            return _open_chain(path, layout, deadline)
        if layout.n_streams == 1:
            link = layout.links[0] if layout.links else None
            sndfile = SoundFileDecoder(path, _as_it_is(path, link))
            sndfile.warnings += [*layout.warnings, *_wrong_suffix(suffix, sndfile.container)]
            # Without the structure of an MP3, libsndfile guesses its length.
            if sndfile.n_guessed is None and (link or sndfile.container != "MP3"):
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
        decoder = FfmpegDecoder(path, ffmpeg, deadline, stream)
    except NoSuchStreamError as error:
        raise NoSuchStreamError(f"cannot read {name}: {error}") from error
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


def _open_chain(path: str, layout: Layout, deadline: float | None) -> Decoder:
    """Open the links of a file, each with libsndfile or ffmpeg."""
    assert layout.links is not None
    opener = _LinkOpener(path, deadline)
    warnings = list(layout.warnings)
    n_failed = 0
    for number, link in enumerate(layout.links, 1):
        try:
            first = opener.open(link)
        except AudioError as error:
            n_failed = number
            reason = error
            continue
        if n_failed:
            warnings.append(f"the first {count(n_failed, 'part')} could not be decoded ({reason})")
        following = [functools.partial(opener.open, link) for link in layout.links[number:]]
        return ChainDecoder(first, following, warnings)
    raise reason


class _LinkOpener:
    """Opens links of a file with libsndfile, or else with ffmpeg."""

    def __init__(self, path: str, deadline: float | None) -> None:
        self._path, self._deadline = path, deadline
        self._n_failures = 0  # of ffmpeg; a hostile file must not start it thousands of times

    def open(self, link: Link) -> Decoder:
        try:
            return SoundFileDecoder(self._path, link, as_float=True)
        except AudioError as error:
            ffmpeg = find_ffmpeg() if self._n_failures < _MAX_FFMPEG_FAILURES else None
            if ffmpeg is None or link.prefix:
                raise
            span = (link.start, link.end)
            try:
                return FfmpegDecoder(self._path, ffmpeg, self._deadline, span=span)
            except (AudioError, OSError) as ffmpeg_error:
                self._n_failures += 1
                raise AudioError(f"{error}; ffmpeg: {ffmpeg_error}") from error


def _as_it_is(path: str, link: Link | None) -> Link | None:
    """None for a link that is the whole file, which libsndfile reads faster by its path."""
    is_whole = link == Link(0, os.path.getsize(path))
    return None if is_whole else link


def _wrong_suffix(suffix: str, container: str) -> list[str]:
    if container in _FORMATS_BY_SUFFIX.get(suffix, {container}):
        return []
    return [f"named {suffix}, but it is {container}"]
