"""Frames as CSV."""

from __future__ import annotations

import csv
import io
import itertools
import json
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vggish.errors import FrameFileError
from vggish.frames.clip import ClipFrames, FrameArray, frame_array
from vggish.frames.joint_metadata import as_clips, joint_metadata, split_metadata
from vggish.params import EMBEDDING_SIZE

if TYPE_CHECKING:
    from vggish.frames.joint_metadata import Clips


_CSV_COLUMNS = ["clip", "start_seconds", *(f"e{i}" for i in range(EMBEDDING_SIZE))]


# --- CSV ---------------------------------------------------------------------------------


def write_csv(file: IO[bytes], clips: ClipFrames | Clips) -> None:
    each = as_clips(clips)
    joint, dtype = joint_metadata(each)
    file.write(f"# {json.dumps({'dtype': str(dtype), **joint})}\n".encode())
    file.write((",".join(_CSV_COLUMNS) + "\n").encode())
    # Nine digits give back every float32.
    number = "%d" if dtype == np.uint8 else "%.9g"
    for clip in each:
        name = _csv_quoted(clip.clip_id).replace("%", "%%")
        row_format = ",".join([name, "%r", *[number] * EMBEDDING_SIZE]) + "\n"
        for seconds, row in zip(clip.start_seconds.tolist(), clip.frames, strict=True):
            file.write((row_format % (seconds, *row.tolist())).encode())


def _csv_quoted(text: str) -> str:
    special = any(character in text for character in ',"\r\n')
    return '"' + text.replace('"', '""') + '"' if special else text


def read_csv(file: IO[bytes], name: str) -> Iterator[ClipFrames]:
    with io.TextIOWrapper(file, "utf-8", newline="") as text:
        first = text.readline()
        if not first.startswith("# {"):
            raise FrameFileError(f"{name}, line 1: it is no line of metadata ('# {{...}}')")
        joint = json.loads(first[2:])
        quantised = joint.pop("dtype") == "uint8"
        rows = csv.reader(text)
        if next(rows, None) != _CSV_COLUMNS:
            raise FrameFileError(f"{name}, line 2: the columns must be clip, start_seconds, e0 ...")
        yield from split_metadata(joint, _csv_clips(joint, rows, quantised, name))
        if next(rows, None) is not None:
            raise ValueError("it has more rows than its metadata tells of")


def _csv_clips(
    joint: dict[str, Any], rows: Any, quantised: bool, name: str
) -> Iterator[tuple[FrameArray, npt.NDArray[np.float64]]]:
    for entry in joint["clips"]:
        times: list[float] = []
        frames: list[list[float]] = []
        for row in itertools.islice(rows, entry["n_frames"]):
            if len(row) != len(_CSV_COLUMNS) or row[0] != entry["clip"]:
                where = f"{name}, line {rows.line_num + 1}"
                raise FrameFileError(f"{where}: no whole row of the clip {entry['clip']!r}")
            times.append(float(row[1]))
            frames.append([float(value) for value in row[2:]])
        if len(frames) != entry["n_frames"]:
            raise FrameFileError(f"{name} ends within the clip {entry['clip']!r}")
        yield frame_array(frames, quantised), np.array(times, np.float64)
