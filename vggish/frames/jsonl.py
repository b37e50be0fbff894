"""Frames as JSON Lines: one clip per line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import IO

import numpy as np

from vggish.errors import FrameFileError
from vggish.frames.clip import ClipFrames, frame_array
from vggish.frames.shared_metadata import DAMAGED, Clips, as_clips


def write_jsonl(file: IO[bytes], clips: ClipFrames | Clips) -> None:
    """Write clips."""
    for clip in as_clips(clips):
        # The float64 that Python prints for a float32 has enough digits to restore it.
        line = {
            "clip": clip.clip_id,
            "dtype": str(clip.frames.dtype),
            "start_seconds": clip.start_seconds.tolist(),
            "frames": clip.frames.tolist(),
            "labels": list(clip.labels),
            "metadata": clip.metadata,
        }
        file.write(json.dumps(line, separators=(",", ":")).encode() + b"\n")


def read_jsonl(file: IO[bytes], name: str) -> Iterator[ClipFrames]:
    """Read clips; errors call the file `name`."""
    for number, line in enumerate(file, start=1):
        try:
            entry = json.loads(line)
            yield ClipFrames(
                entry["clip"],
                frame_array(entry["frames"], entry["dtype"] == "uint8"),
                np.array(entry["start_seconds"], np.float64),
                entry["metadata"],
                tuple(entry["labels"]),
            )
        except DAMAGED as error:
            raise FrameFileError(
                f"{name}, line {number}: not a clip of frames ({error})"
            ) from error
