"""Random access to the bytes of a file, and links as files of their own."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING, BinaryIO

from vggish.audio.containers.layout import Link

if TYPE_CHECKING:
    from typing_extensions import Buffer

_WINDOW_BYTES = 1 << 18


class FileBytes:
    """The bytes of a file, read in windows; memory does not grow with the file."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.size = os.fstat(file.fileno()).st_size
        self._window = b""
        self._window_start = 0

    def at(self, position: int, n_bytes: int) -> bytes:
        """Return up to `n_bytes` bytes from a position; fewer at the end, none before the start."""
        if position < 0:
            return b""
        if n_bytes > _WINDOW_BYTES:
            return self._read(position, n_bytes)
        offset = self._offset(position, n_bytes)
        return self._window[offset : offset + n_bytes]

    def find(self, pattern: bytes, start: int, end: int | None = None) -> int:
        """Position of the first occurrence of a pattern in [start, end), or -1."""
        end = self.size if end is None else min(end, self.size)
        while start + len(pattern) <= end:
            offset = self._offset(start, len(pattern))
            place = self._window.find(pattern, offset, offset + end - start)
            if place >= 0:
                return self._window_start + place
            following = self._window_start + len(self._window) - len(pattern) + 1
            if following <= start:
                return -1
            start = following
        return -1

    def is_zero(self, start: int, end: int) -> bool:
        """Whether all bytes of [start, end) are 0."""
        while start < end:
            window = self.at(start, min(_WINDOW_BYTES, end - start))
            if not window or window.count(0) < len(window):
                return not window
            start += len(window)
        return True

    def _offset(self, position: int, n_bytes: int) -> int:
        """Place of a position in the window, which is moved to hold `n_bytes` bytes from there."""
        offset = position - self._window_start
        if not 0 <= offset <= len(self._window) - n_bytes:
            self._window, self._window_start = self._read(position, _WINDOW_BYTES), position
            offset = 0
        return offset

    def _read(self, position: int, n_bytes: int) -> bytes:
        self._file.seek(position)
        return self._file.read(n_bytes)


class LinkFile(io.RawIOBase):
    """A link as a file: its header, followed by its stretch of the file at `path`."""

    def __init__(self, path: str, link: Link) -> None:
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115 closed by close()
        self._prefix = link.prefix
        self._shift = link.start - len(link.prefix)
        self._size = link.end - self._shift
        self._position = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a position, see `io.IOBase.seek`."""
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = max(0, origin + offset)
        return self._position

    def readinto(self, buffer: Buffer) -> int:
        """Fill the buffer as far as possible; return the number of bytes."""
        target = memoryview(buffer).cast("B")
        n_read = 0
        if self._position < len(self._prefix):
            head = self._prefix[self._position : self._position + len(target)]
            target[: len(head)] = head
            n_read = len(head)
        position = self._position + n_read
        n_left = min(len(target) - n_read, self._size - position)
        if n_left > 0:
            self._file.seek(position + self._shift)
            n_read += self._file.readinto(target[n_read : n_read + n_left]) or 0
        self._position += n_read
        return n_read

    def close(self) -> None:
        """Close the underlying file."""
        self._file.close()
        super().close()
