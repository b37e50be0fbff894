"""The frames of one clip."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from vggish.common.wording import as_text
from vggish.errors import OptionError
from vggish.params import EMBEDDING_SIZE

# Quantised embeddings, [n, 128] or [batch, time, 128].
Frames = npt.NDArray[np.uint8]
FrameArray = Frames | npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class ClipFrames:
    """The frames of one clip, with their start times and provenance.

    Attributes:
        clip_id: name of the clip.
        frames: [n, 128]; uint8 if quantised, float32 if raw or PCA.
        start_seconds: float64 [n], start of the 0.96 s of audio that each frame describes.
        metadata: provenance, ready for JSON: embedder, checksum of the weights, precision,
            resampler, hop, tail, values, version, duration, source, warnings.
        labels: class indices, if known.
        timings: seconds spent on "decode", "front_end" (resampling and log-mel) and "embed", if
            known; not stored in files. The stages of a long clip overlap.

    Raises:
        OptionError: an attribute has another shape, dtype or type, or the metadata uses a key
            reserved for files.
    """

    clip_id: str
    frames: FrameArray
    start_seconds: npt.NDArray[np.float64]
    metadata: dict[str, Any] = field(default_factory=dict)
    labels: tuple[int, ...] = ()
    timings: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n = len(self.start_seconds)
        if self.frames.shape != (n, EMBEDDING_SIZE) or self.start_seconds.shape != (n,):
            raise OptionError(
                f"frames must be [n, {EMBEDDING_SIZE}] and start_seconds [n]. Received: "
                f"{self.frames.shape} and {self.start_seconds.shape}"
            )
        # Frames files add these keys to the metadata of their clips.
        reserved = {"clip", "clips", "dtype"} & self.metadata.keys()
        if reserved:
            raise OptionError(f"metadata keys reserved for files: {sorted(reserved)}; rename them")
        if self.frames.dtype not in (np.uint8, np.float32):
            raise OptionError(f"frames must be uint8 or float32. Received: {self.frames.dtype}")
        if self.clip_id != as_text(self.clip_id):
            raise OptionError(f"clip_id must be valid Unicode. Received: {self.clip_id!r}")

    def __len__(self) -> int:
        return len(self.frames)


Clips = Iterable[ClipFrames]


def as_clips(clips: ClipFrames | Clips) -> Clips:
    """One clip or several, as an iterable."""
    return [clips] if isinstance(clips, ClipFrames) else clips


def frame_array(rows: npt.ArrayLike, quantised: bool) -> FrameArray:
    """Convert rows of 128 numbers, possibly none, to frames [n, 128]; ValueError for others."""
    values = np.asarray(rows, np.float32).reshape(-1, EMBEDDING_SIZE)
    if not quantised:
        return values
    if not ((values >= 0) & (values <= 255) & (values == np.floor(values))).all():
        raise ValueError("quantised frames must be whole numbers from 0 to 255")
    return values.astype(np.uint8)
