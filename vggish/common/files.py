"""Checksums of files, atomic writes, and the directory for weights and caches."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in lower-case hexadecimal."""
    with open(path, "rb") as file:  # hashlib.file_digest needs Python 3.11
        digest = hashlib.sha256()
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def file_problem(path: Path, size: int, sha256: str | None = None) -> str:
    """Difference between a file and the expected one, such as "is missing"; "" if there is none.

    With a sha256 of None only the size in bytes is checked, which is fast.
    """
    if not path.is_file():
        return "is missing"
    if path.stat().st_size != size:
        return f"has {path.stat().st_size:,} bytes, not {size:,}"
    digest = sha256 and sha256_of(path)
    return "" if digest == sha256 else f"has the sha256 {digest}, not {sha256}"


@contextmanager
def atomic_write(path: Path, partial: Path | None = None) -> Iterator[IO[bytes]]:
    """Open a binary file that gets the name `path` when the block succeeds, or is deleted.

    Missing directories are created. `partial` is the name while writing, in the same directory; by
    default it is random, and a killed process leaves it behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and not path.is_file():
        # A device or a pipe must not be replaced by a file.
        with tempfile.TemporaryFile() as file:
            yield file
            file.seek(0)
            with open(path, "wb") as out:
                shutil.copyfileobj(file, out)
        return
    if partial is None:
        path = Path(os.path.realpath(path))  # replace the target of a link, not the link
        partial = path.with_name(f".audiotag-{secrets.token_hex(8)}.partial")
    try:
        with open(partial, "wb") as file:
            yield file
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def audiotag_home() -> Path:
    """Directory for weights and caches: `$AUDIOTAG_HOME`, or `~/.cache/audiotag`."""
    configured = os.environ.get("AUDIOTAG_HOME")
    return Path(configured).expanduser() if configured else Path.home() / ".cache" / "audiotag"
