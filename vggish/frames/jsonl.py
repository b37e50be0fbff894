"""Frames as JSON Lines."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING

import numpy as np

from vggish.errors import FrameFileError
from vggish.frames.clip import ClipFrames, frame_array
from vggish.frames.joint_metadata import DAMAGED, as_clips

if TYPE_CHECKING:
    from vggish.frames.joint_metadata import Clips


# --- JSON lines --------------------------------------------------------------------------


def write_jsonl(file: IO[bytes], clips: ClipFrames | Clips) -> None:
    for clip in as_clips(clips):
        # Python prints the float64 of a float32 with digits enough to give it back.
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
            raise FrameFileError(f"{name}, line {number}: no clip of frames ({error})") from error
