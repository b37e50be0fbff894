"""Temporary files of uploads: in a private directory, under random names, always removed."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from service.problems import Problem
from service.scratch import ScratchDirectory
from vggish.audio.decoders import AUDIO_SUFFIXES

_PREFIX = "audiotag-serve-"

# What a body may have in memory before it goes to the disk.
SPOOL_BYTES = 1 << 20

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class Storage:
    """A directory for the uploads of one process; what a killed process left is removed, too.

    Args:
        parent: where to make it; None for the system's place for temporary files.

    Raises:
        OptionError: it cannot be made.
    """

    def __init__(self, parent: Path | None = None) -> None:
        self._scratch = ScratchDirectory(_PREFIX, parent)
        self.directory = self._scratch.path

    def new_file(self, file_name: str | None) -> Upload:
        """An upload to be written. Of the client's name only a known suffix is used."""
        suffix = Path(file_name or "").suffix.lower()
        return Upload(self.directory, file_name, suffix if suffix in AUDIO_SUFFIXES else "")

    def close(self) -> None:
        """Remove the directory and all that is in it."""
        self._scratch.close()


class Upload:
    """A sound that was sent: in memory as long as it is small, then in a file.

    Attributes:
        name: as the client calls it, without directories; None if it does not say.
        size: in bytes.
        bytes_in_memory: that are not in the file yet.
    """

    def __init__(self, directory: Path, file_name: str | None, suffix: str) -> None:
        self.name = _base_name(file_name)
        self.size = 0
        self._directory = directory
        self._suffix = suffix
        self._in_memory: list[bytes] = []
        self.bytes_in_memory = 0
        self._path: Path | None = None

    def add(self, data: bytes) -> None:
        """Take more of the body."""
        self._in_memory.append(data)
        self.bytes_in_memory += len(data)
        self.size += len(data)

    def flush(self) -> None:
        """Write what is in memory to the file. It may take a while: not for the event loop.

        Raises:
            Problem: there is no room on the disk.
        """
        with _no_room_told():
            if self._path is None:
                descriptor, path = tempfile.mkstemp(suffix=self._suffix, dir=self._directory)
                self._path = Path(path)
            else:
                descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | _BINARY)
            with os.fdopen(descriptor, "wb") as file:
                file.writelines(self._in_memory)
        self._in_memory.clear()
        self.bytes_in_memory = 0

    def path(self) -> Path:
        """The file, with all of it.

        Raises:
            Problem: there is no room on the disk.
        """
        if self._path is None or self._in_memory:
            self.flush()
        assert self._path is not None
        return self._path

    def remove(self) -> None:
        """Forget it. May be called again."""
        self._in_memory.clear()
        if self._path is not None:
            # Windows keeps a file that is being read: who reads it removes it at the end.
            with contextlib.suppress(FileNotFoundError, PermissionError):
                self._path.unlink()


_BINARY = getattr(os, "O_BINARY", 0)  # Windows


def _base_name(file_name: str | None) -> str | None:
    """A client's name for a file, from any system, without its directories."""
    if file_name is None:
        return None
    name = file_name.replace("\\", "/").rsplit("/", 1)[-1]
    return name[-255:] or None


@contextlib.contextmanager
def _no_room_told() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        raise Problem(
            "storage-full", "the service has no room for this upload; try again later"
        ) from error
