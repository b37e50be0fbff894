"""Metadata shared by the clips of a file."""

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

# What differs from clip to clip in a metadata dictionary; the rest is common to a file.
CLIP_KEYS = ("duration_seconds", "source", "warnings")

# What parsers raise at files that are not what they should be.
DAMAGED = (
    *(ValueError, TypeError, LookupError, AttributeError, EOFError, OverflowError),
    *(NotImplementedError, csv.Error, zipfile.BadZipFile),
)

Clips = Iterable[ClipFrames]


def as_clips(clips: ClipFrames | Clips) -> Clips:
    return [clips] if isinstance(clips, ClipFrames) else clips


def joint_metadata(clips: Clips) -> tuple[dict[str, Any], np.dtype[Any]]:
    """What is common to the clips, with a list of what is not, and the dtype of their frames."""
    common: dict[str, Any] = {}
    dtype: np.dtype[Any] = np.dtype(np.uint8)
    each: list[dict[str, Any]] = []
    for clip in clips:
        if clip.labels:
            raise FrameFileError(
                f"the clip {clip.clip_id!r} has labels, which only jsonl and tfrecord files hold"
            )
        of_all = {k: v for k, v in clip.metadata.items() if k not in CLIP_KEYS}
        if not each:
            common, dtype = of_all, clip.frames.dtype
        if (of_all, clip.frames.dtype) != (common, dtype):
            raise FrameFileError(
                f"the clip {clip.clip_id!r} was made in another way than the first one; such clips "
                "can share a jsonl or tfrecord file, which say of each how it was made"
            )
        own = {k: v for k, v in clip.metadata.items() if k in CLIP_KEYS}
        each.append({"clip": clip.clip_id, "n_frames": len(clip), **own})
    return {**common, "clips": each}, dtype


def split_metadata(
    joint: dict[str, Any], rows: Iterable[tuple[FrameArray, npt.NDArray[np.float64]]]
) -> Iterator[ClipFrames]:
    """The clips of a file with `joint` metadata; `rows` are the frames and times of each."""
    common = {k: v for k, v in joint.items() if k != "clips"}
    for entry, (frames, times) in zip(joint["clips"], rows, strict=True):
        own = {k: v for k, v in entry.items() if k in CLIP_KEYS}
        yield ClipFrames(entry["clip"], frames, times, {**common, **own})


def cut_clips(
    joint: dict[str, Any], frames: FrameArray, times: npt.NDArray[np.float64]
) -> Iterator[tuple[FrameArray, npt.NDArray[np.float64]]]:
    """Frames and times of all clips -> of each, as `n_frames` of the metadata says."""
    stops = np.cumsum([entry["n_frames"] for entry in joint["clips"]], dtype=np.int64)
    if len(frames) != len(times) or len(frames) != (stops[-1] if len(stops) else 0):
        raise ValueError(f"{len(frames)} frames are there, its metadata tells of another number")
    for start, stop in itertools.pairwise([0, *stops.tolist()]):
        yield frames[start:stop], times[start:stop]
