"""Frames as CSV: a comment line of metadata, a header line, and one row per frame."""

from __future__ import annotations

import csv
import io
import itertools
import json
from collections.abc import Iterator
from typing import IO, Any

import numpy as np

from vggish.errors import FrameFileError
from vggish.frames.clip import ClipFrames, frame_array
from vggish.frames.shared_metadata import ClipRows, Clips, as_clips, merge_metadata, split_clips
from vggish.params import EMBEDDING_SIZE

_COLUMNS = ["clip", "start_seconds", *(f"e{i}" for i in range(EMBEDDING_SIZE))]


def write_csv(file: IO[bytes], clips: ClipFrames | Clips) -> None:
    """Write clips, which are iterated twice."""
    each = as_clips(clips)
    metadata, dtype = merge_metadata(each)
    file.write(f"# {json.dumps({'dtype': str(dtype), **metadata})}\n".encode())
    file.write((",".join(_COLUMNS) + "\n").encode())
    # Formatting whole rows is several times faster than csv.writer. Nine digits restore float32.
    number = "%d" if dtype == np.uint8 else "%.9g"
    for clip in each:
        name = _quoted(clip.clip_id).replace("%", "%%")
        row_format = ",".join([name, "%r", *[number] * EMBEDDING_SIZE]) + "\n"
        for seconds, row in zip(clip.start_seconds.tolist(), clip.frames, strict=True):
            file.write((row_format % (seconds, *row.tolist())).encode())


def _quoted(text: str) -> str:
    special = any(character in text for character in ',"\r\n')
    return '"' + text.replace('"', '""') + '"' if special else text


def read_csv(file: IO[bytes], name: str) -> Iterator[ClipFrames]:
    """Read clips; errors call the file `name`."""
    with io.TextIOWrapper(file, "utf-8", newline="") as text:
        first = text.readline()
        if not first.startswith("# {"):
            raise FrameFileError(f"{name}, line 1: not a line of metadata ('# {{...}}')")
        metadata = json.loads(first[2:])
        quantised = metadata.pop("dtype") == "uint8"
        rows = csv.reader(text)
        if next(rows, None) != _COLUMNS:
            raise FrameFileError(f"{name}, line 2: the columns must be clip, start_seconds, e0 ...")
        yield from split_clips(metadata, _read_rows(metadata, rows, quantised, name))
        if next(rows, None) is not None:
            raise ValueError("it has more rows than its metadata says")


def _read_rows(
    metadata: dict[str, Any], rows: Any, quantised: bool, name: str
) -> Iterator[ClipRows]:
    for entry in metadata["clips"]:
        times: list[float] = []
        frames: list[list[float]] = []
        for row in itertools.islice(rows, entry["n_frames"]):
            if len(row) != len(_COLUMNS) or row[0] != entry["clip"]:
                where = f"{name}, line {rows.line_num + 1}"
                raise FrameFileError(f"{where}: not a complete row of clip {entry['clip']!r}")
            times.append(float(row[1]))
            frames.append([float(value) for value in row[2:]])
        if len(frames) != entry["n_frames"]:
            raise FrameFileError(f"{name} ends within clip {entry['clip']!r}")
        yield frame_array(frames, quantised), np.array(times, np.float64)
