"""Checksums of files."""

from __future__ import annotations

import hashlib
from pathlib import Path


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
