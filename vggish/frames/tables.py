"""Frames as NPZ, CSV and Parquet: formats that store clips as one table.

The fields of metadata that all clips share are stored once, the rest per clip.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from vggish.common.extras import import_extra
from vggish.errors import FrameFileError
from vggish.frames.clip import ClipFrames, Clips, FrameArray, as_clips, frame_array
from vggish.params import EMBEDDING_SIZE

# Fields of a clip's own; all clips of a file share the others.
CLIP_KEYS = ("duration_seconds", "source", "warnings")
_CSV_COLUMNS = ["clip", "start_seconds", *(f"e{i}" for i in range(EMBEDDING_SIZE))]
_PARQUET_KEY = b"audiotag"


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


def split_clips(
    metadata: dict[str, Any], rows: Iterable[tuple[FrameArray, npt.NDArray[np.float64]]]
) -> Iterator[ClipFrames]:
    """The clips of a file from its merged metadata, and the frames and times of each clip."""
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


def write_npz(file: IO[bytes], clips: ClipFrames | Clips) -> None:
    """Write clips, which are iterated three times; `np.savez` would need all frames in memory."""
    each = as_clips(clips)
    metadata, dtype = merge_metadata(each)
    names = [entry["clip"] for entry in metadata["clips"]]
    counts = [entry["n_frames"] for entry in metadata["clips"]]
    shape = (sum(counts), EMBEDDING_SIZE)

    def write(name: str, shape: tuple[int, ...], dtype: Any, parts: Iterable[Any]) -> None:
        # A fixed date, so that equal contents give equal files.
        member = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
        npy: Any = np.lib.format  # some versions of numpy have no types here
        descr = npy.dtype_to_descr(np.dtype(dtype))
        header = {"descr": descr, "fortran_order": False, "shape": shape}
        with archive.open(member, "w", force_zip64=True) as out:
            npy.write_array_header_1_0(out, header)
            for part in parts:
                out.write(np.ascontiguousarray(part, dtype).tobytes())

    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        write("frames", shape, dtype, (clip.frames for clip in each))
        write("start_seconds", shape[:1], np.float64, (clip.start_seconds for clip in each))
        if isinstance(clips, ClipFrames):
            metadata = {"clip": clips.clip_id, **clips.metadata}
        else:
            index = np.repeat(np.arange(len(counts)), counts)
            for name, array in {"clips": np.array(names, np.str_), "clip_index": index}.items():
                write(name, array.shape, array.dtype, [array])
        text = np.array(json.dumps(metadata))
        write("metadata", text.shape, text.dtype, [text])


def read_npz(file: IO[bytes], name: str) -> Iterator[ClipFrames]:
    """Read clips; a clip without a name gets the stem of the file's `name`."""
    with np.load(file, allow_pickle=False) as arrays:
        frames, times = arrays["frames"], arrays["start_seconds"]
        metadata = json.loads(str(arrays["metadata"]))
    if "clips" in metadata:
        yield from split_table(metadata, frames, times)
    else:
        yield ClipFrames(metadata.pop("clip", Path(name).stem), frames, times, metadata)


def write_csv(file: IO[bytes], clips: ClipFrames | Clips) -> None:
    """Write clips, which are iterated twice: metadata in a comment, a header, a row per frame."""
    each = as_clips(clips)
    metadata, dtype = merge_metadata(each)
    file.write(f"# {json.dumps({'dtype': str(dtype), **metadata})}\n".encode())
    file.write((",".join(_CSV_COLUMNS) + "\n").encode())
    # Formatting whole rows is several times faster than csv.writer. Nine digits restore float32.
    number = "%d" if dtype == np.uint8 else "%.9g"
    for clip in each:
        name = clip.clip_id
        if any(character in name for character in ',"\r\n'):
            name = '"' + name.replace('"', '""') + '"'
        row_format = ",".join([name.replace("%", "%%"), "%r", *[number] * EMBEDDING_SIZE]) + "\n"
        for seconds, row in zip(clip.start_seconds.tolist(), clip.frames, strict=True):
            file.write((row_format % (seconds, *row.tolist())).encode())


def read_csv(file: IO[bytes], name: str) -> Iterator[ClipFrames]:
    """Read clips; errors call the file `name`."""
    with io.TextIOWrapper(file, "utf-8", newline="") as text:
        first = text.readline()
        if not first.startswith("# {"):
            raise FrameFileError(f"{name}, line 1: not a line of metadata ('# {{...}}')")
        metadata = json.loads(first[2:])
        quantised = metadata.pop("dtype") == "uint8"
        rows = csv.reader(text)
        if next(rows, None) != _CSV_COLUMNS:
            raise FrameFileError(f"{name}, line 2: the columns must be clip, start_seconds, e0 ...")
        yield from split_clips(metadata, _read_csv_rows(metadata, rows, quantised, name))
        if next(rows, None) is not None:
            raise ValueError("it has more rows than its metadata says")


def _read_csv_rows(
    metadata: dict[str, Any], rows: Any, quantised: bool, name: str
) -> Iterator[tuple[FrameArray, npt.NDArray[np.float64]]]:
    for entry in metadata["clips"]:
        times: list[float] = []
        frames: list[list[float]] = []
        for row in itertools.islice(rows, entry["n_frames"]):
            if len(row) != len(_CSV_COLUMNS) or row[0] != entry["clip"]:
                where = f"{name}, line {rows.line_num + 1}"
                raise FrameFileError(f"{where}: not a complete row of clip {entry['clip']!r}")
            times.append(float(row[1]))
            frames.append([float(value) for value in row[2:]])
        if len(frames) != entry["n_frames"]:
            raise FrameFileError(f"{name} ends within clip {entry['clip']!r}")
        yield frame_array(frames, quantised), np.array(times, np.float64)


def import_arrow() -> tuple[Any, Any]:
    """Import `pyarrow` and `pyarrow.parquet`."""
    names = ("pyarrow", "pyarrow.parquet")
    arrow, parquet = (import_extra(n, extra="parquet", purpose="a Parquet file") for n in names)
    return arrow, parquet


def write_parquet(file: IO[bytes], clips: ClipFrames | Clips) -> None:
    """Write clips, which are iterated twice: one row per frame, metadata in the schema."""
    arrow, parquet = import_arrow()
    each = as_clips(clips)
    metadata, dtype = merge_metadata(each)
    value_type = arrow.from_numpy_dtype(dtype)
    frame_type = arrow.list_(value_type, EMBEDDING_SIZE)
    schema = arrow.schema(
        [("clip", arrow.string()), ("start_seconds", arrow.float64()), ("frame", frame_type)],
        metadata={_PARQUET_KEY: json.dumps(metadata).encode()},
    )
    with parquet.ParquetWriter(file, schema) as writer:
        for batch in _row_batches(each):
            names = [clip.clip_id for clip in batch for _ in range(len(clip))]
            values = np.concatenate([clip.frames for clip in batch]).reshape(-1)
            flat = arrow.array(values, value_type)
            columns = [
                arrow.array(names, arrow.string()),
                arrow.array(np.concatenate([clip.start_seconds for clip in batch])),
                arrow.FixedSizeListArray.from_arrays(flat, EMBEDDING_SIZE),
            ]
            writer.write_table(arrow.Table.from_arrays(columns, schema=schema))


def _row_batches(clips: Clips, min_rows: int = 1 << 14) -> Iterator[Sequence[ClipFrames]]:
    """Clips in groups of enough rows: a row group for each short clip would be wasteful."""
    batch: list[ClipFrames] = []
    n_rows = 0
    for clip in clips:
        batch.append(clip)
        n_rows += len(clip)
        if n_rows >= min_rows:
            yield batch
            batch, n_rows = [], 0
    if batch:
        yield batch


def read_parquet(file: IO[bytes], name: str) -> Iterator[ClipFrames]:
    """Read clips; errors call the file `name`."""
    _, parquet = import_arrow()
    table = parquet.ParquetFile(file)
    stored = table.schema_arrow.metadata or {}
    if _PARQUET_KEY not in stored:
        raise FrameFileError(f"{name}: its schema has no metadata 'audiotag'")
    columns = table.read(columns=["start_seconds", "frame"])
    values = columns["frame"].combine_chunks().flatten().to_numpy()
    times = columns["start_seconds"].to_numpy()
    frames = values.reshape(-1, EMBEDDING_SIZE)
    yield from split_table(json.loads(stored[_PARQUET_KEY]), frames, times)
