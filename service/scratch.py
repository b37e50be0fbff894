"""Private directories for what does not outlive the service, not even when it is killed."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from pathlib import Path

from filelock import FileLock, Timeout

from vggish.errors import OptionError

_LOCK = "lock"
# So long after it was made a lock may be one that is not held yet.
_BEING_MADE_SECONDS = 2.0


class ScratchDirectory:
    """A directory under a random name, for this user only.

    It is locked while it is in use. So a directory that nobody has locked was left by a process
    that was killed, and is removed when the next one is made.

    Args:
        prefix: of the name.
        place: where to make it; None for the system's place for temporary files.

    Attributes:
        path: of the directory.

    Raises:
        OptionError: it cannot be made.
    """

    def __init__(self, prefix: str, place: Path | None = None) -> None:
        try:
            place = Path(tempfile.gettempdir() if place is None else place)
            _remove_orphans(prefix, place)
            self.path = Path(tempfile.mkdtemp(prefix=prefix, dir=place))
        except OSError as error:
            where = "" if place is None else f" in {place}"
            raise OptionError(
                f"cannot make a directory for temporary files{where}: {error.strerror or error}; "
                "the setting temporary_directory says where there is room"
            ) from error
        self._lock = FileLock(self.path / _LOCK)
        self._lock.acquire()

    def close(self) -> None:
        """Remove the directory and all that is in it."""
        self._lock.release()
        shutil.rmtree(self.path, ignore_errors=True)


def _remove_orphans(prefix: str, place: Path) -> None:
    """Directories whose process is gone: nobody holds their lock."""
    for directory in place.glob(f"{prefix}*"):
        lock = FileLock(directory / _LOCK)
        with contextlib.suppress(OSError, Timeout):
            # Of the lock, not of the directory, which changes with each file in it.
            age_seconds = time.time() - (directory / _LOCK).stat().st_mtime
            if age_seconds < _BEING_MADE_SECONDS:
                continue
            lock.acquire(timeout=0)
            lock.release()
            shutil.rmtree(directory, ignore_errors=True)
