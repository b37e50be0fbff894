"""Decode one audio stream of a file with ffmpeg, at the times of its container."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from typing import IO

import numpy as np
import numpy.typing as npt

from vggish.audio.ffmpeg.log import LOG_LEVEL, AudioTrack, FileInfo, first_error, read_info
from vggish.audio.ffmpeg.matroska import MatroskaPcm
from vggish.audio.ffmpeg.program import audio_codecs
from vggish.common.wording import count
from vggish.errors import AudioError, NoSuchStreamError

# Containers only: playlist and script formats could make ffmpeg open other files. Of these, only
# mov can refer to another file, which ffmpeg does not open by default.
_DEMUXERS = (
    "aac,ac3,aiff,amr,amrnb,amrwb,ape,asf,au,avi,caf,dts,eac3,flac,flv,gsm,matroska,webm,mov,mp4,"
    "m4a,3gp,3g2,mj2,mp3,mpeg,mpegts,mpegvideo,mpc,mpc8,oga,ogg,opus,rm,tta,voc,w64,wav,wv,xwma"
)
_NO_REASON = "no reason given"
# Times are rounded, and codecs begin and end with incomplete packets.
_JITTER_SECONDS = 0.1
# Times that go back by more begin anew, as in a stream that was interrupted.
_STEP_BACK_SECONDS = 0.5
_LONGEST_GAP_SECONDS = 86_400.0
_SILENT_PEAK = 1e-3


class FfmpegDecoder:
    """A `Decoder` of one audio stream; what is missing in the container's time is silence.

    Args:
        path: of the file.
        executable: ffmpeg.
        deadline: of `time.monotonic()`, when ffmpeg is killed.
        stream: number of the audio stream, from 1; None for the one that is marked as default,
            else the first with sound.
        span: the bytes of the file that ffmpeg sees, [start, end); None for all.

    Raises:
        AudioError: ffmpeg cannot decode the file; the message is only the reason.
        OSError: ffmpeg does not run.
    """

    format = "ffmpeg"

    def __init__(
        self,
        path: str,
        executable: str,
        deadline: float | None,
        stream: int | None = None,
        span: tuple[int, int] | None = None,
    ) -> None:
        self.warnings: list[str] = []
        process = _Process(path, executable, deadline, stream or 1, span)
        tracks = process.info.tracks
        if stream is None and len(tracks) > 1:
            number, why = _choose(tracks, path, executable, deadline)
            self.warnings.append(
                f"{count(len(tracks), 'audio stream')}; used stream {number}, {why}. To use "
                "another, choose it by its number (--stream)"
            )
            if number != 1:
                process.close()
                process = _Process(path, executable, deadline, number, span)
            stream = number
        self._process = process
        self._info = process.info
        self.sample_rate_hz = process.audio.sample_rate_hz
        self.n_channels = process.audio.n_channels
        self.is_float_pcm = bool(tracks) and tracks[(stream or 1) - 1].is_float_pcm
        seconds = self._info.duration_seconds
        self.n_frames: int | None = None
        if seconds is not None and seconds > 0:
            self.n_frames = round(seconds * self.sample_rate_hz)
        self._pieces = self._timed()
        self._rest = np.zeros((0, self.n_channels), np.float32)
        self._silence_left = 0

    def read(self, n_frames: int) -> npt.NDArray[np.float32]:
        """See `Decoder`."""
        blocks: list[npt.NDArray[np.float32]] = []
        n_left = n_frames
        while n_left > 0:
            if self._silence_left:
                size = min(n_left, self._silence_left)
                blocks.append(np.zeros((size, self.n_channels), np.float32))
                self._silence_left -= size
            elif len(self._rest):
                blocks.append(self._rest[:n_left])
                self._rest = self._rest[n_left:]
            else:
                piece = next(self._pieces, None)
                if piece is None:
                    break
                self._silence_left, self._rest = piece
                continue
            n_left -= len(blocks[-1])
        return np.concatenate(blocks) if blocks else self._rest[:0]

    def interrupt(self) -> None:
        """See `Decoder`."""
        self._process.kill()

    def close(self) -> None:
        """See `Decoder`."""
        self._process.close()

    def _timed(self) -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
        """Packets float32 [n, n_channels], with the number of silent samples before each."""
        rate_hz, info = self.sample_rate_hz, self._info
        shift = -info.origin_seconds
        n_frames = 0
        for start, samples in self._process.audio.packets():
            ahead = start + shift - n_frames / rate_hz
            if ahead < -_STEP_BACK_SECONDS:
                shift -= ahead
            silence = 0
            if ahead > _JITTER_SECONDS:
                if n_frames / rate_hz + ahead <= self._latest_seconds():
                    silence = round(ahead * rate_hz)
                else:
                    shift -= ahead
                    self.warnings.append(
                        f"the time jumps ahead by {ahead:.1f} s at {n_frames / rate_hz:.2f} s, "
                        "beyond the end of the file; the jump was ignored"
                    )
            n_frames += silence + len(samples)
            yield silence, samples
        rest_seconds = (info.duration_seconds or 0.0) - n_frames / rate_hz
        damage = self._process.damage()
        if damage is not None:
            read = f"{n_frames / rate_hz:.2f} s"
            if info.duration_seconds is not None:
                read += f" of {info.duration_seconds:.2f} s"
            self.warnings.append(f"ffmpeg reports damage: {damage}; {read} could be decoded")
        elif rest_seconds > _JITTER_SECONDS and info.has_video:
            # The pictures go on.
            yield round(rest_seconds * rate_hz), self._rest[:0]
        elif rest_seconds > max(_JITTER_SECONDS, 0.01 * n_frames / rate_hz):
            self.warnings.append(
                f"truncated: the header states {info.duration_seconds:.2f} s of audio, "
                f"{n_frames / rate_hz:.2f} s could be decoded"
            )

    def _latest_seconds(self) -> float:
        """Latest time at which audio can begin."""
        info = self._info
        if info.duration_seconds is None:
            return _LONGEST_GAP_SECONDS
        # Some versions of ffmpeg count the duration from the start.
        return info.duration_seconds + max(0.0, info.start_seconds - info.origin_seconds) + 1.0


class _Process:
    """ffmpeg while it decodes an audio stream."""

    def __init__(
        self,
        path: str,
        executable: str,
        deadline: float | None,
        stream: int,
        span: tuple[int, int] | None = None,
    ) -> None:
        self._url = "file:" + os.path.abspath(path)
        if span is not None:
            self._url = f"subfile,,start,{span[0]},end,{span[1]},,:{self._url}"
        command = [executable, "-hide_banner", "-nostats", "-loglevel", LOG_LEVEL, "-nostdin"]
        command += ["-protocol_whitelist", "file,subfile", "-format_whitelist", _DEMUXERS]
        # A header may request an allocation of any size.
        command += ["-max_alloc", str(1 << 28)]
        # Otherwise it would decode pictures to probe them: gigabytes from a few kilobytes.
        command += ["-codec_whitelist", audio_codecs(executable), "-copyts", "-i", self._url]
        command += ["-map", f"0:a:{stream - 1}", "-c:a", "pcm_f32le", "-f", "matroska"]
        # Larger clusters than the default, which is for players: they are parsed faster.
        command += ["-cluster_size_limit", str(1 << 22), "-cluster_time_limit", "2000", "pipe:1"]
        # The log goes to a file: a pipe that nobody reads could block ffmpeg.
        descriptor, self._log_path = tempfile.mkstemp(prefix="audiotag-", suffix=".log")
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=descriptor
            )
        except OSError:
            os.unlink(self._log_path)
            raise
        finally:
            os.close(descriptor)
        # Kills an ffmpeg that hangs.
        self._killer: threading.Timer | None = None
        if deadline is not None:
            seconds_left = max(0.0, deadline - time.monotonic())
            self._killer = threading.Timer(seconds_left, self._process.kill)
            self._killer.daemon = True
            self._killer.start()
        assert self._process.stdout is not None
        self._pipe: IO[bytes] = self._process.stdout
        try:
            self.audio = MatroskaPcm(self._pipe)
        except EOFError:
            self._process.wait()
            log = self._read_log()
            self.close()
            n_streams = len(read_info(log).tracks)
            if stream > n_streams > 0:
                raise no_such_stream(stream, n_streams) from None
            raise AudioError(first_error(log, self._url) or _NO_REASON) from None
        self.info: FileInfo = read_info(self._read_log())

    def damage(self) -> str | None:
        """What ffmpeg reports about damage, once it has ended; None if there is none."""
        self._process.wait()
        message = first_error(self._read_log(), self._url)
        if self._process.returncode != 0 or message:
            return message or _NO_REASON
        return None

    def kill(self) -> None:
        """End ffmpeg at once."""
        self._process.kill()

    def close(self) -> None:
        """End ffmpeg, and release its pipe and log."""
        if self._killer is not None:
            self._killer.cancel()
        self._process.kill()
        self._process.wait()
        self._pipe.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._log_path)

    def _read_log(self) -> str:
        with open(self._log_path, "rb") as log:
            return log.read(1 << 20).decode("utf-8", "replace")


def no_such_stream(stream: int, n_streams: int) -> NoSuchStreamError:
    """The error for the number of a stream that a file does not have."""
    return NoSuchStreamError(
        f"it has {count(n_streams, 'audio stream')}, but stream {stream} was chosen"
    )


def _choose(
    tracks: tuple[AudioTrack, ...], path: str, executable: str, deadline: float | None
) -> tuple[int, str]:
    """The number of the stream to decode, and why."""
    marked = [number for number, track in enumerate(tracks, 1) if track.is_default]
    if len(marked) == 1:
        return marked[0], "which is marked as default"
    for number in marked or range(1, len(tracks) + 1):
        process = _Process(path, executable, deadline, number)
        try:
            if any(
                np.abs(samples).max(initial=0) > _SILENT_PEAK
                for _, samples in process.audio.packets()
            ):
                return number, "the first with sound"
        finally:
            process.close()
    return 1, "the first; all are silent"
