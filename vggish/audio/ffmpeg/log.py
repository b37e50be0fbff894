"""What ffmpeg's log says about a file: its streams, its times, and errors.

Each line begins with its level, as in "[mov @ 0x55] [error] moov atom not found". Text from the
file cannot begin a line: ffmpeg puts the name of its field in front.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

LOG_LEVEL = "level+info"

_INPUT = re.compile(r"\[info\] Input #0, (\S+), from ")
_DURATION = re.compile(
    r"\[info\]\s+Duration: (?:N/A|(\d+):(\d\d):(\d\d\.\d+))(?:, start: (-?\d+\.\d+))?"
)
_STREAM = re.compile(
    r"\[info\]\s+Stream #0:\d+(?:\[0x[0-9a-f]+\])?(?:\(\w+\))?: (Audio|Video): (.*)"
)
_ERROR = re.compile(r"(?:\[[^]]* @ [^]]*\] )*\[(?:error|fatal|panic)\] (.*)")
# A whitelist excludes the decoders of pictures.
_ABOUT_VIDEO = re.compile(r"not on whitelist|Last message repeated")
_FLOAT_PCM = re.compile(r"pcm_f\d|wavpack\b.*\bflt")


@dataclass(frozen=True)
class AudioTrack:
    """An audio stream of a file."""

    is_default: bool
    is_float_pcm: bool
    description: str


@dataclass(frozen=True)
class FileInfo:
    """The streams and times of a file.

    Attributes:
        tracks: the audio streams.
        has_video: whether there are moving pictures.
        origin_seconds: the time in the file that is 0 for a player.
        duration_seconds: as the file states it; None if it does not.
        start_seconds: of the stream that begins first.
    """

    tracks: tuple[AudioTrack, ...]
    has_video: bool
    origin_seconds: float
    duration_seconds: float | None
    start_seconds: float


def read_info(log: str) -> FileInfo:
    """Parse what ffmpeg prints about its input."""
    containers: Sequence[str] = ()
    start, duration = 0.0, None
    tracks: list[AudioTrack] = []
    has_video = False
    for line in log.splitlines():
        if line.startswith("[info] Output #0"):
            break
        if found := _INPUT.match(line):
            containers = found[1].split(",")
        elif found := _DURATION.match(line):
            hours, minutes, seconds, begin = found.groups()
            start = float(begin or 0)
            if hours is not None:
                duration = 3600 * int(hours) + 60 * int(minutes) + float(seconds)
        elif found := _STREAM.match(line):
            kind, text = found.groups()
            if kind == "Audio":
                is_float = _FLOAT_PCM.match(text) is not None
                tracks.append(AudioTrack("(default)" in text, is_float, text))
            elif "(attached pic)" not in text:
                has_video = True
    # AVI from a pipe states a placeholder, which ffmpeg does not recognise.
    if "Estimating duration from bitrate" in log or "avi" in containers:
        duration = None
    # These count from 0, also if nothing begins there; but a live recording in Matroska may begin
    # at any time of its day.
    is_live = duration is None or start > duration
    is_zero_based = "mov" in containers or ("matroska" in containers and not is_live)
    origin = 0.0 if is_zero_based else max(0.0, start)
    return FileInfo(tuple(tracks), has_video, origin, duration, start)


def first_error(log: str, url: str) -> str:
    """The first error about audio, "" if there is none."""
    errors = [found[1] for line in log.splitlines() if (found := _ERROR.match(line))]
    errors = [error for error in errors if error.strip() and not _ABOUT_VIDEO.search(error)]
    if any("matches no streams" in error for error in errors):
        return "there is no audio stream in it"
    return errors[0].replace(f"{url}: ", "").strip() if errors else ""
