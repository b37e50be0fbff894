"""Find the ffmpeg program, and what it can decode."""

from __future__ import annotations

import functools
import importlib
import os
import re
import shutil
import subprocess
from typing import Any

from vggish.errors import first_line

FFMPEG_HINT = "install ffmpeg (or: pip install imageio-ffmpeg)"


@functools.cache
def audio_codecs(executable: str) -> str:
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
