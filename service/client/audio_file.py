"""Files to upload, in the form in which httpx reads them for a multipart body."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePath
from typing import BinaryIO

from vggish.audio.sources import AudioSource, source_name
from vggish.common.wording import as_text
from vggish.errors import AudioError, OptionError


class AudioFile:
    """A clip to upload: the rest of a binary file, from its position when it was passed in.

    httpx measures it, rewinds it before each attempt and reads it in pieces, so memory does not
    grow with the file. It can be sent a second time only if `is_seekable`.
    """

    def __init__(self, file: BinaryIO, name: str, *, close: bool) -> None:
        self.name, self._file, self._close = name, file, close
        self._start = self._size = self._position = 0
        try:
            self.is_seekable = file.seekable()
            if self.is_seekable:
                self._start = file.tell()
                self._size = max(0, file.seek(0, os.SEEK_END) - self._start)
                file.seek(self._start)
        except (OSError, ValueError, AttributeError):
            self.is_seekable = False

    @property
    def file_name(self) -> str:
        """The name that the service receives, without directories."""
        return as_text(PurePath(self.name).name) or "audio"

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to an offset from the start, or from the end; see `io.IOBase.seek`."""
        self.tell()  # which raises if it is not seekable
        self._position = offset + (self._size if whence == os.SEEK_END else 0)
        with _errors_of("read", self.name):
            self._file.seek(self._start + self._position)
        return self._position

    def tell(self) -> int:
        """Return the position."""
        if not self.is_seekable:
            raise io.UnsupportedOperation(f"{self.name} is not seekable")
        return self._position

    def read(self, n_bytes: int) -> bytes:
        """Read at most `n_bytes`; empty at the end. Raises AudioError if that is impossible."""
        if self.is_seekable:
            n_bytes = min(n_bytes, self._size - self._position)
        with _errors_of("read", self.name):
            data: object = self._file.read(n_bytes)
        if not isinstance(data, bytes):
            raise AudioError(f"cannot read {self.name}: it is not opened in binary mode")
        if self.is_seekable and n_bytes and not data:
            raise AudioError(f"{self.name} became shorter while it was sent")
        self._position += len(data)
        return data

    def close(self) -> None:
        """Close the file if it was opened here."""
        if self._close:
            self._file.close()


@contextmanager
def _errors_of(action: str, name: str) -> Iterator[None]:
    try:
        yield
    except IsADirectoryError as error:
        raise AudioError(f"{name} is a directory, not an audio file") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise AudioError(f"cannot {action} {name}: {reason}") from error


def open_audio_file(source: AudioSource, name: str | None = None) -> AudioFile:
    """Open a clip to upload it; see `Client.classify`. A file object is left open."""
    name = source_name(source, name)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return AudioFile(io.BytesIO(source), name, close=True)
    if isinstance(source, (str, os.PathLike)):
        if os.fspath(source) != "-":
            with _errors_of("open", name):
                return AudioFile(open(source, "rb"), name, close=True)
        if sys.stdin is None:
            raise AudioError(f"cannot read {name}: it is closed")
        return AudioFile(sys.stdin.buffer, name, close=False)
    if not hasattr(source, "read"):
        raise OptionError(
            "the source must be a path, the bytes of a file, or a binary file object. "
            f"Received: {type(source).__name__}"
        )
    return AudioFile(source, name, close=False)
