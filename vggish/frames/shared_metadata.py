"""Metadata of formats that store clips as one table: common fields once, the rest per clip."""

from __future__ import annotations

import csv
import itertools
import zipfile
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from vggish.errors import FrameFileError
from vggish.frames.clip import ClipFrames, FrameArray

# Fields of a clip's own; all clips of a file share the others.
CLIP_KEYS = ("duration_seconds", "source", "warnings")

# Exceptions that parsers raise for damaged files.
DAMAGED = (
    *(ValueError, TypeError, LookupError, AttributeError, EOFError, OverflowError),
    *(NotImplementedError, csv.Error, zipfile.BadZipFile),
)

Clips = Iterable[ClipFrames]
# Frames [n, 128] and start times [n] of one clip.
ClipRows = tuple[FrameArray, npt.NDArray[np.float64]]


def as_clips(clips: ClipFrames | Clips) -> Clips:
    """One clip or several, as an iterable."""
    return [clips] if isinstance(clips, ClipFrames) else clips


def merge_metadata(clips: Clips) -> tuple[dict[str, Any], np.dtype[Any]]:
    """Metadata of a file of clips, and the dtype of their frames.

    The metadata hold the common fields, and in "clips" the id, number of frames and own fields of
    each clip. Clips that differ in a common field or in dtype, or have labels, are an error.
    """
    common: dict[str, Any] = {}
    dtype: np.dtype[Any] = np.dtype(np.uint8)
    entries: list[dict[str, Any]] = []
    for clip in clips:
        if clip.labels:
            raise FrameFileError(
                f"clip {clip.clip_id!r} has labels, which only jsonl and tfrecord files can hold"
            )
        fields = {k: v for k, v in clip.metadata.items() if k not in CLIP_KEYS}
        if not entries:
            common, dtype = fields, clip.frames.dtype
        if (fields, clip.frames.dtype) != (common, dtype):
            raise FrameFileError(
                f"clip {clip.clip_id!r} was made with options that differ from those of the first "
                "clip; write such clips to a jsonl or tfrecord file, which holds the options of "
                "each clip"
            )
        own = {k: v for k, v in clip.metadata.items() if k in CLIP_KEYS}
        entries.append({"clip": clip.clip_id, "n_frames": len(clip), **own})
    return {**common, "clips": entries}, dtype


def split_clips(metadata: dict[str, Any], rows: Iterable[ClipRows]) -> Iterator[ClipFrames]:
    """The clips of a file from its merged metadata and the rows of each clip."""
    common = {k: v for k, v in metadata.items() if k != "clips"}
    for entry, (frames, times) in zip(metadata["clips"], rows, strict=True):
        own = {k: v for k, v in entry.items() if k in CLIP_KEYS}
        yield ClipFrames(entry["clip"], frames, times, {**common, **own})


def split_table(
    metadata: dict[str, Any], frames: FrameArray, times: npt.NDArray[np.float64]
) -> Iterator[ClipFrames]:
    """The clips of a file from its merged metadata, all frames [n, 128] and all times [n]."""
    stops = np.cumsum([entry["n_frames"] for entry in metadata["clips"]], dtype=np.int64)
    n_expected = stops[-1] if len(stops) else 0
    if not len(frames) == len(times) == n_expected:
        raise ValueError(f"its metadata says {n_expected} frames, but it holds {len(frames)}")
    bounds = itertools.pairwise([0, *stops.tolist()])
    return split_clips(metadata, ((frames[i:j], times[i:j]) for i, j in bounds))
