"""Private temporary directories that are removed even after a process is killed."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from pathlib import Path

from filelock import FileLock, Timeout

from vggish.errors import OptionError


class ScratchDirectory:
    """A directory with a random name, readable by this user only.

    It is locked while it is in use. A directory without a lock is an orphan of a process that was
    killed; it is removed when the next directory is made. The parent None is the system's
    temporary directory. Raises OptionError if it cannot be made.
    """

    def __init__(self, prefix: str, parent: Path | None = None) -> None:
        try:
            parent = Path(tempfile.gettempdir() if parent is None else parent)
            _remove_orphans(prefix, parent)
            self.path = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        except OSError as error:
            where = "" if parent is None else f" in {parent}"
            raise OptionError(
                f"cannot make a temporary directory{where}: {error.strerror or error}; set "
                "temporary_directory to a directory with free space"
            ) from error
        self._lock = FileLock(self.path / "lock")
        self._lock.acquire()

    def close(self) -> None:
        """Remove the directory and everything in it."""
        self._lock.release()
        shutil.rmtree(self.path, ignore_errors=True)


def _remove_orphans(prefix: str, parent: Path) -> None:
    for directory in parent.glob(f"{prefix}*"):
        lock = FileLock(directory / "lock")
        with contextlib.suppress(OSError, Timeout):
            # The age of the lock, because the directory changes with each file in it.
            age_seconds = time.time() - (directory / "lock").stat().st_mtime
            if age_seconds < 2:
                continue  # a lock file this young may not be locked yet
            lock.acquire(timeout=0)
            lock.release()
            shutil.rmtree(directory, ignore_errors=True)
