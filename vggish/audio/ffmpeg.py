"""Decode with ffmpeg, in a process of its own.

Files may come from untrusted sources. ffmpeg therefore opens no other file and no network
connection, decodes audio only, and can be killed at any time.
"""

from __future__ import annotations

import functools
import importlib
import os
import re
import shutil
import struct
import subprocess
import tempfile
import threading
import time
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from vggish.errors import AudioError, first_line

# Containers only: playlist and script formats could make ffmpeg open other files. Of these, only
# mov can refer to another file, which ffmpeg does not open by default.
_DEMUXERS = (
    "aac,ac3,aiff,amr,amrnb,amrwb,ape,asf,au,avi,caf,dts,eac3,flac,flv,gsm,matroska,webm,mov,mp4,"
    "m4a,3gp,3g2,mj2,mp3,mpeg,mpegts,mpegvideo,mpc,mpc8,oga,ogg,opus,rm,tta,voc,w64,wav,wv,xwma"
)

_NO_REASON = "no reason given"
FFMPEG_HINT = "install ffmpeg (or: pip install imageio-ffmpeg)"


class FfmpegDecoder:
    """A `Decoder` that reads big-endian floats with a short header (AU) from ffmpeg.

    At the deadline (of `time.monotonic()`) ffmpeg is killed. If it cannot decode the file, the
    message of the `AudioError` is only the reason; if it does not run, an `OSError` is raised.
    `span` limits the bytes of the file that ffmpeg sees: [start, end).
    """

    n_frames: int | None = None
    is_float_pcm = False

    def __init__(
        self,
        path: str,
        executable: str,
        deadline: float | None,
        span: tuple[int, int] | None = None,
    ) -> None:
        self._url = "file:" + os.path.abspath(path)
        if span is not None:
            self._url = f"subfile,,start,{span[0]},end,{span[1]},,:{self._url}"
        command = [executable, "-v", "error", "-nostdin", "-protocol_whitelist", "file,subfile"]
        # A header may request an allocation of any size.
        command += ["-format_whitelist", _DEMUXERS, "-max_alloc", str(1 << 28)]
        # Otherwise it would decode pictures to probe them: gigabytes from a few kilobytes.
        command += ["-codec_whitelist", _audio_codecs(executable), "-i", self._url]
        command += ["-map", "0:a:0", "-c:a", "pcm_f32be", "-f", "au", "pipe:1"]
        # The log goes to a file: a pipe that nobody reads could block ffmpeg.
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 closed by close()
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self._log
            )
        except OSError:
            self._log.close()
            raise
        # Kills an ffmpeg that hangs.
        self._killer: threading.Timer | None = None
        if deadline is not None:
            seconds_left = max(0.0, deadline - time.monotonic())
            self._killer = threading.Timer(seconds_left, self._process.kill)
            self._killer.daemon = True
            self._killer.start()
        assert self._process.stdout is not None
        self._pipe: IO[bytes] = self._process.stdout
        header = self._pipe.read(24)
        if len(header) < 24 or header[:4] != b".snd":
            reason = self._error_message()
            self.close()
            raise AudioError(reason or _NO_REASON)
        offset, _, _, self.sample_rate_hz, self.n_channels = struct.unpack(">5I", header[4:])
        self._pipe.read(offset - 24)
        self.format = "ffmpeg"
        self.warnings: list[str] = []

    def read(self, n_frames: int) -> npt.NDArray[np.float32]:
        """See `Decoder`."""
        frame_bytes = 4 * self.n_channels
        data = self._pipe.read(n_frames * frame_bytes)
        whole = data[: len(data) - len(data) % frame_bytes]
        if not whole:
            # ffmpeg decodes what it can of a damaged file, and logs the errors.
            message = self._error_message()
            if self._process.returncode != 0 or message:
                self.warnings.append(f"ffmpeg reports damage: {message or _NO_REASON}")
        return np.frombuffer(whole, ">f4").astype(np.float32).reshape(-1, self.n_channels)

    def interrupt(self) -> None:
        """See `Decoder`."""
        self._process.kill()

    def close(self) -> None:
        """See `Decoder`."""
        if self._killer is not None:
            self._killer.cancel()
        self._process.kill()
        self._process.wait()
        self._pipe.close()
        self._log.close()

    def _error_message(self) -> str:
        """The first line of the log about audio, "" if there is none."""
        self._process.wait()
        self._log.seek(0)
        lines = self._log.read(1 << 20).decode("utf-8", "replace").splitlines()
        about_video = re.compile(r"not on whitelist|Last message repeated")
        lines = [line for line in lines if line.strip() and not about_video.search(line)]
        if any("matches no streams" in line for line in lines):
            return "there is no audio stream in it"
        if not lines:
            return ""
        return re.sub(r"^\[[^]]*\]\s*", "", lines[0]).replace(f"{self._url}: ", "").strip()


@functools.cache
def _audio_codecs(executable: str) -> str:
    """Names of the audio decoders of this ffmpeg, separated by commas as its options expect."""
    command = [executable, "-v", "quiet", "-decoders"]
    try:
        listed = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=30, check=True
        ).stdout
    except subprocess.SubprocessError as error:
        raise OSError(first_line(error)) from error
    names = re.findall(r"^ A\S+ (\w+)", listed.decode("utf-8", "replace"), re.MULTILINE)
    if not names:
        raise OSError("it lists no decoders")
    return ",".join(names)


def find_ffmpeg() -> str | None:
    """Path of ffmpeg: `$AUDIOTAG_FFMPEG`, the one on the PATH, or imageio-ffmpeg's; or None."""
    found = os.environ.get("AUDIOTAG_FFMPEG") or shutil.which("ffmpeg")
    if found:
        return found
    try:
        package: Any = importlib.import_module("imageio_ffmpeg")
        return str(package.get_ffmpeg_exe())
    except (ImportError, RuntimeError):
        return None
