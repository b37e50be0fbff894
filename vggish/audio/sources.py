"""Audio sources: paths, pipes, standard input, file objects and bytes."""

from __future__ import annotations

import contextlib
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
    """Name of a source in messages and outputs; `name` overrides it."""
    if name is not None:
        return name
    if isinstance(source, (str, os.PathLike)):
        return "standard input" if os.fspath(source) == "-" else os.fspath(source)
    return str(getattr(source, "name", "audio bytes"))


def as_file(source: AudioSource, name: str | None) -> tuple[str, str, bool]:
    """Make a source available as a file.

    Returns its path, the name of the source, and whether it is a temporary copy that the caller
    must delete.
    """
    name = source_name(source, name)
    if isinstance(source, (str, os.PathLike)):
        return _from_path(os.fspath(source), name)
    if not isinstance(source, (bytes, bytearray, memoryview)) and not hasattr(source, "read"):
        hint = " (use open_waveform for a waveform)" if isinstance(source, np.ndarray) else ""
        raise OptionError(
            "audio must be a path, the bytes of a file, or a binary file object. "
            f"Received: {type(source).__name__}{hint}"
        )
    return _copy(source, name)


def _from_path(path: str, name: str) -> tuple[str, str, bool]:
    if path == "-":
        if sys.stdin is None:
            raise AudioError(f"cannot read {name}: it is closed")
        return _copy(sys.stdin.buffer, name)
    try:
        status = os.stat(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise AudioError(f"cannot open {name}: {reason}") from error
    if stat.S_ISDIR(status.st_mode):
        raise AudioError(f"{name} is a directory, not an audio file")
    if stat.S_ISFIFO(status.st_mode):
        with open(path, "rb") as pipe:
            return _copy(pipe, name)
    if not stat.S_ISREG(status.st_mode):
        raise AudioError(f"{name} is not a regular file")
    if not os.access(path, os.R_OK):
        raise AudioError(f"cannot open {name}: Permission denied")
    if status.st_size == 0:
        raise EmptyAudioError(f"{name} is empty: 0 bytes")
    return path, name, False


def _copy(source: Any, name: str) -> tuple[str, str, bool]:
    """Copy bytes or a stream to a temporary file: decoders need to seek, and ffmpeg a path."""
    suffix = Path(name).suffix.lower()
    suffix = suffix if suffix in AUDIO_SUFFIXES else ""
    with contextlib.ExitStack() as on_error:
        try:
            descriptor, path = tempfile.mkstemp(prefix="audiotag-", suffix=suffix)
            on_error.callback(os.unlink, path)
            with os.fdopen(descriptor, "wb") as copy:
                if isinstance(source, (bytes, bytearray, memoryview)):
                    copy.write(source)
                else:
                    shutil.copyfileobj(source, copy, 1 << 20)
                if copy.tell() == 0:
                    raise EmptyAudioError(f"{name} is empty: 0 bytes")
        except (TypeError, ValueError) as error:
            raise AudioError(
                f"cannot read {name}: {error} (is it closed, or not opened in binary mode?)"
            ) from error
        except OSError as error:
            raise AudioError(f"cannot copy {name} to a temporary file: {error}") from error
        on_error.pop_all()
    return path, name, True
