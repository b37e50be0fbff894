"""Decode with ffmpeg, in a process of its own.

Files may come from untrusted sources. ffmpeg therefore opens no other file and no network
connection, decodes audio only, and can be killed at any time.
"""

from __future__ import annotations

from vggish.audio.ffmpeg.decoder import FfmpegDecoder, no_such_stream
from vggish.audio.ffmpeg.program import FFMPEG_HINT, find_ffmpeg

__all__ = ["FFMPEG_HINT", "FfmpegDecoder", "find_ffmpeg", "no_such_stream"]
