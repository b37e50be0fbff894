"""Audio sources: paths, file objects, bytes and pipes."""

from __future__ import annotations

import os
import shutil
import stat
import sys
import tempfile
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from vggish.audio.decoders import AUDIO_SUFFIXES
from vggish.errors import AudioError, EmptyAudioError, OptionError

AudioSource = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO


def source_name(source: AudioSource, name: str | None = None) -> str:
    """What to call a source in messages and outputs."""
    if name is not None:
        return name
    if isinstance(source, (str, os.PathLike)):
        return "standard input" if os.fspath(source) == "-" else os.fspath(source)
    return str(getattr(source, "name", "audio bytes"))


def as_file(source: AudioSource, name: str | None) -> tuple[str, str, str | None]:
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
