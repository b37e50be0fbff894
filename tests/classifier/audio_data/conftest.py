"""Fixtures of labelled audio files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def folder(tmp_path: Path, write_sound: Any) -> Path:
    """Write 2 s of audio each to dog/a.wav, dog/far/b.flac and cat/a.wav."""
    for seed, name in enumerate(("dog/a.wav", "dog/far/b.flac", "cat/a.wav")):
        write_sound(f"sounds/{name}", seconds=2.0, seed=seed)
    return tmp_path / "sounds"


@pytest.fixture
def table(folder: Path) -> Callable[[str], Path]:
    """Return a function that writes a CSV file next to the class folders."""

    def write(text: str, encoding: str = "utf-8") -> Path:
        path = folder / "files.csv"
        path.write_bytes(text.encode(encoding))
        return path

    return write
