"""Write and read frames files: NPZ, CSV, Parquet, JSON Lines and TFRecord.

    format    contents                                              metadata
    npz       frames, start_seconds (+ clips, clip_index)           `metadata`, JSON text
    csv       clip, start_seconds, e0 .. e127; one row per frame    first line, after `# `
    parquet   clip, start_seconds, frame; one row per frame         schema metadata `audiotag`
    jsonl     clip, start_seconds, frames, labels; one line per clip  `metadata` in each line
    tfrecord  AudioSet's SequenceExample, one per clip              context `audiotag_metadata`

The first three store the options that made the frames once per file, and refuse clips made with
different options. Writing is atomic: a file gets its name only when it is complete. Equal clips
give equal bytes. Memory does not grow with the number of clips, except for their ids and metadata.
"""

from __future__ import annotations

import csv
import json
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import numpy as np

from vggish.common.choices import FRAME_FORMATS
from vggish.common.files import atomic_write
from vggish.errors import FrameFileError, write_errors_as
from vggish.frames import tables
from vggish.frames.clip import ClipFrames, Clips, as_clips, frame_array
from vggish.frames.tfrecord import read_tfrecord, write_tfrecord

# Exceptions that parsers raise for damaged files.
_DAMAGED = (
    *(ValueError, TypeError, LookupError, AttributeError, EOFError, OverflowError),
    *(NotImplementedError, csv.Error, zipfile.BadZipFile),
)


def _write_jsonl(file: IO[bytes], clips: ClipFrames | Clips) -> None:
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


def _read_jsonl(file: IO[bytes], name: str) -> Iterator[ClipFrames]:
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
        except _DAMAGED as error:
            raise FrameFileError(
                f"{name}, line {number}: not a clip of frames ({error})"
            ) from error


_FORMATS: dict[str, tuple[Callable[..., None], Callable[..., Iterator[ClipFrames]]]] = {
    "npz": (tables.write_npz, tables.read_npz),
    "csv": (tables.write_csv, tables.read_csv),
    "parquet": (tables.write_parquet, tables.read_parquet),
    "jsonl": (_write_jsonl, _read_jsonl),
    "tfrecord": (write_tfrecord, read_tfrecord),
}


def write_frames(
    path: str | Path,
    clips: ClipFrames | Clips,
    file_format: str | None = None,
    *,
    partial: Path | None = None,
) -> None:
    """Write one clip, or several clips into one file.

    Args:
        path: output file; an existing file is replaced once the new one is complete.
        clips: one clip, or an iterable of clips. An iterator is first read into memory; any
            other iterable is iterated several times, one clip in memory at a time.
        file_format: "npz", "csv", "parquet", "jsonl" or "tfrecord"; None to use the suffix.
        partial: see `atomic_write`.

    Raises:
        FrameFileError: the format is unknown, the clips cannot share a file, or the file cannot
            be written.
        MissingPackageError: the format is Parquet, and pyarrow is not installed.
    """
    if isinstance(clips, Iterator):
        clips = list(clips)
    write, _ = _FORMATS[format_of(path, file_format)]
    with write_errors_as(FrameFileError, path), atomic_write(Path(path), partial) as file:
        write(file, clips)


def read_frames(path: str | Path, file_format: str | None = None) -> Iterator[ClipFrames]:
    """Read the clips of a frames file, one after the other.

    Args:
        path: file written by audiotag, or a TFRecord file in AudioSet's format.
        file_format: "npz", "csv", "parquet", "jsonl" or "tfrecord"; None to use the suffix.

    Raises:
        FrameFileError: the format is unknown, or the file does not exist or is damaged.
        MissingPackageError: the format is Parquet, and pyarrow is not installed.
    """
    _, read = _FORMATS[format_of(path, file_format)]
    try:
        with open(path, "rb") as file:
            yield from read(file, str(path))
    except OSError as error:
        raise FrameFileError(f"cannot read {path}: {error.strerror or error}") from error
    except _DAMAGED as error:
        raise FrameFileError(f"{path} is damaged, or not a frames file: {error}") from error


def format_of(path: str | Path, file_format: str | None = None) -> str:
    """Format to use for `path`: `file_format`, or the suffix if that is None; check its needs."""
    name = Path(path).suffix.lower().lstrip(".") if file_format is None else file_format
    if name not in _FORMATS:
        raise FrameFileError(
            f"unknown format of {path}: {name!r} is none of {', '.join(FRAME_FORMATS)}"
        )
    if name == "parquet":
        tables.import_arrow()
    return name
