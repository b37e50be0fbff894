"""Clips of frames, and files of frames."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from vggish import ClipFrames, write_frames
from vggish.params import EMBEDDING_SIZE


def write_labelled_frames(
    path: Path,
    n_clips: int = 40,
    *,
    n_classes: int = 4,
    seed: int = 0,
    embedder: str = "",
    n_frames: tuple[int, int] = (2, 6),
) -> Path:
    """Write a TFRecord file of clips whose frames show their class.

    Clip `i` has the class `i % n_classes`, and every fifth clip also the next class. Each class
    adds its own pattern to noise. Ids and noise depend on the seed, patterns do not.
    """
    rng = np.random.default_rng(seed)
    patterns = np.random.default_rng(99).normal(scale=60, size=(n_classes, EMBEDDING_SIZE))
    metadata: dict[str, Any] = {"embedder": {"name": embedder}} if embedder else {}
    clips = []
    for i in range(n_clips):
        labels = (i % n_classes, (i + 1) % n_classes)[: 1 + (i % 5 == 0)]
        n = int(rng.integers(*n_frames, endpoint=True))
        values = (
            128 + patterns[list(labels)].sum(0) + rng.normal(scale=20, size=(n, EMBEDDING_SIZE))
        )
        frames = values.clip(0, 255).astype(np.uint8)
        clips.append(ClipFrames(f"clip{seed}-{i}", frames, np.arange(float(n)), metadata, labels))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_frames(path, clips)
    return path


AWKWARD = [
    "",
    "a,b",
    'say "x"',
    "two\nlines",
    "50%d %s %%",
    "naïve 日本語 🎵",
    "# {",
    " x ",
    "a\r\nb",
]


def metadata(values: str = "uint8", hop_seconds: float = 0.96, **own: Any) -> dict[str, Any]:
    embedder = {"name": "vggish", "weights_sha256": "5" * 64, "precision": "float32"}
    return {"embedder": embedder, "values": values, "hop_seconds": hop_seconds, **own}


def make_clip(
    clip_id: str = "a", n: int = 3, *, raw: bool = False, seed: int = 0, **own: Any
) -> ClipFrames:
    rng = np.random.default_rng(seed)
    frames: Any = rng.integers(0, 256, (n, 128), np.uint8)
    if raw:
        frames = rng.normal(size=(n, 128)).astype(np.float32)
    own = {"duration_seconds": n * 0.96, "source": {"name": f"{clip_id}.wav"}, **own}
    return ClipFrames(
        clip_id,
        frames,
        np.round(np.arange(n) * 0.96, 6),
        metadata("raw" if raw else "uint8", **own),
    )


def assert_same(read: ClipFrames, written: ClipFrames) -> None:
    assert read.clip_id == written.clip_id
    assert read.frames.dtype == written.frames.dtype
    np.testing.assert_array_equal(read.frames, written.frames)
    np.testing.assert_array_equal(read.start_seconds, written.start_seconds)
    assert read.start_seconds.dtype == np.float64
    assert read.metadata == written.metadata
