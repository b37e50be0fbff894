"""Files of frames: NPZ, CSV, Parquet, JSON lines and TFRecord, written and read.

    format    holds                                             provenance
    npz       frames, start_seconds (+ clips, clip_index)       `metadata`, JSON text
    csv       clip, start_seconds, e0 .. e127, a row a frame    first line, after `# `
    parquet   clip, start_seconds, frame, a row a frame         schema metadata `audiotag`
    jsonl     clip, start_seconds, frames, labels, a line a clip  `metadata` in each line
    tfrecord  AudioSet's SequenceExample, one a clip            context `audiotag_metadata`

The first three say once how all their clips were made, and refuse a mixture. Writing is
atomic: a file has its final name only when it is whole. Equal clips give equal bytes. Memory
does not grow with the number of clips, but for their names and metadata.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import os
import secrets
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from vggish.errors import FrameFileError
from vggish.extras import import_extra
from vggish.frames import ClipFrames, FrameArray, frame_array
from vggish.params import EMBEDDING_SIZE
from vggish.tfrecord import decode_clip, encode_clip, frame_record, read_records

# What differs from clip to clip in a metadata dictionary; the rest is common to a file.
CLIP_KEYS = ("duration_seconds", "source", "warnings")
_CSV_COLUMNS = ["clip", "start_seconds", *(f"e{i}" for i in range(EMBEDDING_SIZE))]
_PARQUET_KEY = b"audiotag"

# What parsers raise at files that are not what they should be.
_DAMAGED = (
    *(ValueError, TypeError, LookupError, AttributeError, EOFError, OverflowError),
    *(NotImplementedError, csv.Error, zipfile.BadZipFile),
)

Clips = Iterable[ClipFrames]


def write_frames(
    path: str | Path,
    clips: ClipFrames | Clips,
    file_format: str | None = None,
    *,
    partial: Path | None = None,
) -> None:
    """Write one clip, or several into one file.

    Args:
        path: of the file; an existing one is replaced, once the new one is whole.
        clips: one clip, or several. Only an iterator is taken into memory as a whole; whatever
            can be gone through several times is read clip by clip.
        file_format: one of `FORMATS`; by the file's suffix when None.
        partial: see `atomic_write`.

    Raises:
        FrameFileError: unknown format, clips that cannot share a file, or the file cannot be
            written.
        MissingPackageError: Parquet is asked for and pyarrow is not installed.
    """
    if isinstance(clips, Iterator):
        clips = list(clips)
    write, _ = _FORMATS[format_of(path, file_format)]
    try:
        with atomic_write(Path(path), partial) as file:
            write(file, clips)
    except OSError as error:
        raise FrameFileError(f"cannot write {path}: {error.strerror or error}") from error


def read_frames(path: str | Path, file_format: str | None = None) -> Iterator[ClipFrames]:
    """Read the clips of a file of frames, one after the other.

    Args:
        path: of a file that audiotag wrote, or of AudioSet's TFRecords.
        file_format: one of `FORMATS`; by the file's suffix when None.

    Raises:
        FrameFileError: unknown format, no such file, or damaged.
        MissingPackageError: a Parquet file, and pyarrow is not installed.
    """
    _, read = _FORMATS[format_of(path, file_format)]
    try:
        with open(path, "rb") as file:
            yield from read(file, str(path))
    except OSError as error:
        raise FrameFileError(f"cannot read {path}: {error.strerror or error}") from error
    except _DAMAGED as error:
        raise FrameFileError(f"{path} is damaged, or no file of frames: {error}") from error


def format_of(path: str | Path, file_format: str | None = None) -> str:
    """The format to use for `path`.

    Raises:
        FrameFileError: neither the suffix nor `file_format` says one of `FORMATS`.
        MissingPackageError: it is Parquet, and pyarrow is not installed.
    """
    name = Path(path).suffix.lower().lstrip(".") if file_format is None else file_format
    if name not in _FORMATS:
        raise FrameFileError(
            f"cannot tell the format of {path}: {name!r} is none of {', '.join(FORMATS)}"
        )
    if name == "parquet":
        _import_arrow()
    return name


@contextmanager
def atomic_write(path: Path, partial: Path | None = None) -> Iterator[IO[bytes]]:
    """A binary file that takes the name `path` when the block ends well, and else vanishes.

    Until then it is called `partial`, in the same directory; by default it has a name of its
    own that a killed process leaves behind. A `partial` left behind is written over.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and not path.is_file():
        # A device or a pipe has a name that no file may take.
        with tempfile.TemporaryFile() as file:
            yield file
            file.seek(0)
            with open(path, "wb") as out:
                shutil.copyfileobj(file, out)
        return
    if partial is None:
        path = Path(os.path.realpath(path))  # a link stays, and its target is written
        partial = path.with_name(f".audiotag-{secrets.token_hex(8)}.partial")
    try:
        with open(partial, "wb") as file:
            yield file
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _as_clips(clips: ClipFrames | Clips) -> Clips:
    return [clips] if isinstance(clips, ClipFrames) else clips


def _joint_metadata(clips: Clips) -> tuple[dict[str, Any], np.dtype[Any]]:
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


def _split(
    joint: dict[str, Any], rows: Iterable[tuple[FrameArray, npt.NDArray[np.float64]]]
) -> Iterator[ClipFrames]:
    """The clips of a file with `joint` metadata; `rows` are the frames and times of each."""
    common = {k: v for k, v in joint.items() if k != "clips"}
    for entry, (frames, times) in zip(joint["clips"], rows, strict=True):
        own = {k: v for k, v in entry.items() if k in CLIP_KEYS}
        yield ClipFrames(entry["clip"], frames, times, {**common, **own})


def _cut(
    joint: dict[str, Any], frames: FrameArray, times: npt.NDArray[np.float64]
) -> Iterator[tuple[FrameArray, npt.NDArray[np.float64]]]:
    """Frames and times of all clips -> of each, as `n_frames` of the metadata says."""
    stops = np.cumsum([entry["n_frames"] for entry in joint["clips"]], dtype=np.int64)
    if len(frames) != len(times) or len(frames) != (stops[-1] if len(stops) else 0):
        raise ValueError(f"{len(frames)} frames are there, its metadata tells of another number")
    for start, stop in itertools.pairwise([0, *stops.tolist()]):
        yield frames[start:stop], times[start:stop]


# --- NPZ ---------------------------------------------------------------------------------


def _write_npz(file: IO[bytes], clips: ClipFrames | Clips) -> None:
    each = _as_clips(clips)
    joint, dtype = _joint_metadata(each)
    names = [entry["clip"] for entry in joint["clips"]]
    counts = [entry["n_frames"] for entry in joint["clips"]]
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        shape = (sum(counts), EMBEDDING_SIZE)
        _write_npy(archive, "frames", shape, dtype, (clip.frames for clip in each))
        times = (clip.start_seconds for clip in each)
        _write_npy(archive, "start_seconds", shape[:1], np.dtype(np.float64), times)
        if isinstance(clips, ClipFrames):
            joint = {"clip": clips.clip_id, **clips.metadata}
        else:
            _write_npy_whole(archive, "clips", np.array(names, np.str_))
            _write_npy_whole(archive, "clip_index", np.repeat(np.arange(len(counts)), counts))
        _write_npy_whole(archive, "metadata", np.array(json.dumps(joint)))


def _write_npy_whole(archive: zipfile.ZipFile, name: str, array: npt.NDArray[Any]) -> None:
    _write_npy(archive, name, array.shape, array.dtype, [array])


def _write_npy(
    archive: zipfile.ZipFile,
    name: str,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    parts: Iterable[npt.NDArray[Any]],
) -> None:
    """Write an array that comes in parts, as the member that `numpy.load` calls `name`."""
    # A fixed date, so that equal contents are equal files.
    member = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
    with archive.open(member, "w", force_zip64=True) as out:
        header = {
            "descr": np.lib.format.dtype_to_descr(dtype),
            "fortran_order": False,
            "shape": shape,
        }
        np.lib.format.write_array_header_1_0(out, header)
        for part in parts:
            out.write(np.ascontiguousarray(part, dtype).tobytes())


def _read_npz(file: IO[bytes], name: str) -> Iterator[ClipFrames]:
    with np.load(file, allow_pickle=False) as arrays:
        frames, times = arrays["frames"], arrays["start_seconds"]
        metadata = json.loads(str(arrays["metadata"]))
    if "clips" in metadata:
        yield from _split(metadata, _cut(metadata, frames, times))
    else:
        yield ClipFrames(metadata.pop("clip", Path(name).stem), frames, times, metadata)


# --- CSV ---------------------------------------------------------------------------------


def _write_csv(file: IO[bytes], clips: ClipFrames | Clips) -> None:
    each = _as_clips(clips)
    joint, dtype = _joint_metadata(each)
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


def _read_csv(file: IO[bytes], name: str) -> Iterator[ClipFrames]:
    with io.TextIOWrapper(file, "utf-8", newline="") as text:
        first = text.readline()
        if not first.startswith("# {"):
            raise FrameFileError(f"{name}, line 1: it is no line of metadata ('# {{...}}')")
        joint = json.loads(first[2:])
        quantised = joint.pop("dtype") == "uint8"
        rows = csv.reader(text)
        if next(rows, None) != _CSV_COLUMNS:
            raise FrameFileError(f"{name}, line 2: the columns must be clip, start_seconds, e0 ...")
        yield from _split(joint, _csv_clips(joint, rows, quantised, name))
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


# --- Parquet -----------------------------------------------------------------------------


def _write_parquet(file: IO[bytes], clips: ClipFrames | Clips) -> None:
    arrow, parquet = _import_arrow()
    each = _as_clips(clips)
    joint, dtype = _joint_metadata(each)
    value_type = arrow.from_numpy_dtype(dtype)
    schema = arrow.schema(
        [
            ("clip", arrow.string()),
            ("start_seconds", arrow.float64()),
            ("frame", arrow.list_(value_type, EMBEDDING_SIZE)),
        ],
        metadata={_PARQUET_KEY: json.dumps(joint).encode()},
    )
    with parquet.ParquetWriter(file, schema) as writer:
        for batch in _row_batches(each):
            frames = np.concatenate([clip.frames for clip in batch])
            names = [clip.clip_id for clip in batch for _ in range(len(clip))]
            columns = [
                arrow.array(names, arrow.string()),
                arrow.array(np.concatenate([clip.start_seconds for clip in batch])),
                arrow.FixedSizeListArray.from_arrays(
                    arrow.array(frames.reshape(-1), value_type), EMBEDDING_SIZE
                ),
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


def _read_parquet(file: IO[bytes], name: str) -> Iterator[ClipFrames]:
    _, parquet = _import_arrow()
    table = parquet.ParquetFile(file)
    stored = table.schema_arrow.metadata or {}
    if _PARQUET_KEY not in stored:
        raise FrameFileError(f"{name}: its schema has no metadata 'audiotag'")
    joint = json.loads(stored[_PARQUET_KEY])
    columns = table.read(columns=["start_seconds", "frame"])
    values = columns["frame"].combine_chunks().flatten().to_numpy()
    frames = values.reshape(-1, EMBEDDING_SIZE)
    yield from _split(joint, _cut(joint, frames, columns["start_seconds"].to_numpy()))


def _import_arrow() -> tuple[Any, Any]:
    purpose = "a Parquet file"
    return (
        import_extra("pyarrow", extra="parquet", purpose=purpose),
        import_extra("pyarrow.parquet", extra="parquet", purpose=purpose),
    )


# --- JSON lines --------------------------------------------------------------------------


def _write_jsonl(file: IO[bytes], clips: ClipFrames | Clips) -> None:
    for clip in _as_clips(clips):
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
            raise FrameFileError(f"{name}, line {number}: no clip of frames ({error})") from error


# --- TFRecord ----------------------------------------------------------------------------


def _write_tfrecord(file: IO[bytes], clips: ClipFrames | Clips) -> None:
    for clip in _as_clips(clips):
        file.write(frame_record(encode_clip(clip)))


def _read_tfrecord(file: Any, name: str) -> Iterator[ClipFrames]:
    for number, record in enumerate(read_records(file, name), start=1):
        yield decode_clip(record, f"{name}, record {number}")


_FORMATS: dict[
    str,
    tuple[
        Callable[[IO[bytes], ClipFrames | Clips], None],
        Callable[[IO[bytes], str], Iterator[ClipFrames]],
    ],
] = {
    "npz": (_write_npz, _read_npz),
    "csv": (_write_csv, _read_csv),
    "parquet": (_write_parquet, _read_parquet),
    "jsonl": (_write_jsonl, _read_jsonl),
    "tfrecord": (_write_tfrecord, _read_tfrecord),
}
FORMATS = tuple(_FORMATS)
