"""Files at remote places ("gs://..."), which TensorFlow's file systems reach."""

from __future__ import annotations

import io
from typing import Any

from vggish.common.extras import import_extra


def is_remote(path: str) -> bool:
    """Whether a path names a place that only TensorFlow's file systems reach."""
    return "://" in path


def gfile() -> Any:
    """TensorFlow's module of file systems.

    Raises:
        MissingPackageError: TensorFlow is not installed.
    """
    return import_extra("tensorflow", extra="train", purpose="reading remote files").io.gfile


def open_remote(path: str) -> io.BufferedReader:
    """A remote file to read from.

    Raises:
        MissingPackageError: TensorFlow is not installed.
    """
    return io.BufferedReader(_RemoteFile(path))


class _RemoteFile(io.RawIOBase):
    """A file of TensorFlow's file systems, as Python's buffered readers want it."""

    def __init__(self, path: str) -> None:
        self._file = gfile().GFile(path, "rb")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()
