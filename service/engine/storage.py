"""Temporary files of uploads, in a private directory and under random names."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from pathlib import Path

from service.problems import Problem
from service.scratch import ScratchDirectory
from vggish.audio.decoders import AUDIO_SUFFIXES

SPOOL_BYTES = 1 << 20  # of a body that stay in memory before they are written to the disk
_DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_BINARY = getattr(os, "O_BINARY", 0)  # Windows


class Storage:
    """The directory for the uploads of one process, see `ScratchDirectory`."""

    def __init__(self, parent: Path | None = None) -> None:
        self._scratch = ScratchDirectory("audiotag-serve-", parent)
        self.directory = self._scratch.path
        self.close = self._scratch.close

    def new_file(self, file_name: str | None) -> Upload:
        """Create an empty upload. Only a known suffix of the client's file name is used."""
        suffix = Path(file_name or "").suffix.lower()
        return Upload(self.directory, file_name, suffix if suffix in AUDIO_SUFFIXES else "")


class Upload:
    """An uploaded clip: in memory while it is small, then in a file.

    Attributes:
        name: the client's file name without directories; None if there is none.
        size: size in bytes, of which `bytes_in_memory` are not in the file yet.
    """

    def __init__(self, directory: Path, file_name: str | None, suffix: str) -> None:
        # The last part of the client's file name, with the separators of any system.
        self.name = (file_name or "").replace("\\", "/").rsplit("/", 1)[-1][-255:] or None
        self.size = self.bytes_in_memory = 0
        self._directory, self._suffix = directory, suffix
        self._in_memory: list[bytes] = []
        self._path: Path | None = None

    def add(self, data: bytes) -> None:
        """Append data."""
        self._in_memory.append(data)
        self.bytes_in_memory += len(data)
        self.size += len(data)

    def flush(self) -> None:
        """Write the data in memory to the file. This blocks; raises Problem if the disk is full."""
        try:
            if self._path is None:
                descriptor, path = tempfile.mkstemp(suffix=self._suffix, dir=self._directory)
                self._path = Path(path)
            else:
                descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | _BINARY)
            with os.fdopen(descriptor, "wb") as file:
                file.writelines(self._in_memory)
        except OSError as error:
            if error.errno not in _DISK_FULL:
                raise
            detail = "the service has no disk space for this upload; try again later"
            raise Problem("storage-full", detail) from error
        self._in_memory.clear()
        self.bytes_in_memory = 0

    def path(self) -> Path:
        """Return the path of the file, after `flush`."""
        if self._path is None or self._in_memory:
            self.flush()
        assert self._path is not None
        return self._path

    def remove(self) -> None:
        """Remove the file and the data. May be called again."""
        self._in_memory.clear()
        if self._path is not None:
            # Windows does not remove a file while it is read; the reader removes it at its end.
            with contextlib.suppress(FileNotFoundError, PermissionError):
                self._path.unlink()
