"""Atomic writes, and the directory for weights and caches."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


@contextmanager
def atomic_write(path: Path, partial: Path | None = None) -> Iterator[IO[bytes]]:
    """A binary file that takes the name `path` when the block ends well, and else vanishes.

    Until then it is called `partial`, in the same directory; by default it has a name of its
    own that a killed process leaves behind. A `partial` left behind is written over.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and not path.is_file():
        # A device or a pipe has a name that no file may take.
        with tempfile.TemporaryFile() as file:
            yield file
            file.seek(0)
            with open(path, "wb") as out:
                shutil.copyfileobj(file, out)
        return
    if partial is None:
        path = Path(os.path.realpath(path))  # a link stays, and its target is written
        partial = path.with_name(f".audiotag-{secrets.token_hex(8)}.partial")
    try:
        with open(partial, "wb") as file:
            yield file
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def audiotag_home() -> Path:
    """`$AUDIOTAG_HOME`, or `~/.cache/audiotag`."""
    configured = os.environ.get("AUDIOTAG_HOME")
    return Path(configured).expanduser() if configured else Path.home() / ".cache" / "audiotag"
