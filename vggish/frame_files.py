"""Files of frames: NPZ, CSV, Parquet, JSON lines and TFRecord, written and read.

    format    holds                                             provenance
    npz       frames, start_seconds (+ clips, clip_index)       `metadata`, JSON text
    csv       clip, start_seconds, e0 .. e127, a row a frame    first line, after `# `
    parquet   clip, start_seconds, frame, a row a frame         schema metadata `audiotag`
    jsonl     clip, start_seconds, frames, labels, a line a clip  `metadata` in each line
    tfrecord  AudioSet's SequenceExample, one a clip            context `audiotag_metadata`

Writing is atomic: a file has its final name only when it is whole. Equal clips give equal
bytes. Memory does not grow with the number of clips, but for their names.
"""

from __future__ import annotations

import csv
import json
import os
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from vggish.errors import AudiotagError, FrameFileError
from vggish.extras import import_extra
from vggish.frames import ClipFrames, frame_array
from vggish.params import EMBEDDING_SIZE
from vggish.tfrecord import decode_clip, encode_clip, frame_record, read_records

# What differs from clip to clip in a metadata dictionary; the rest is common to a file.
CLIP_KEYS = ("duration_seconds", "source", "warnings")
_CSV_FRAME_COLUMNS = [f"e{i}" for i in range(EMBEDDING_SIZE)]
_PARQUET_KEY = b"audiotag"

Clips = Iterable[ClipFrames]


def write_frames(
    path: str | Path, clips: ClipFrames | Clips, file_format: str | None = None
) -> None:
    """Write one clip, or several into one file.

    Args:
        path: of the file; an existing one is replaced, once the new one is whole.
        clips: one clip, or an iterable that can be gone through twice (a list).
        file_format: one of `FORMATS`; by the file's suffix when None.

    Raises:
        FrameFileError: unknown format, or the file cannot be written.
        MissingPackageError: Parquet is asked for and pyarrow is not installed.
    """
    write, _ = _FORMATS[format_of(path, file_format)]
    try:
        with atomic_write(Path(path)) as file:
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
    except (ValueError, KeyError, EOFError, IndexError, zipfile.BadZipFile) as error:
        if isinstance(error, AudiotagError):
            raise
        raise FrameFileError(f"{path} is damaged, or no file of frames: {error}") from error


def format_of(path: str | Path, file_format: str | None = None) -> str:
    """The format to use for `path`.

    Raises:
        FrameFileError: neither the suffix nor `file_format` says one of `FORMATS`.
    """
    name = Path(path).suffix.lower().lstrip(".") if file_format is None else file_format
    if name not in _FORMATS:
        raise FrameFileError(
            f"cannot tell the format of {path}: {name!r} is none of {', '.join(FORMATS)}"
        )
    return name


@contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """A binary file that takes the name `path` when the block ends well, and else vanishes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, partial = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
        os.chmod(partial, 0o666 & ~_umask())
        os.replace(partial, path)
    except BaseException:
        os.unlink(partial)
        raise


def _umask() -> int:
    # mkstemp makes private files; the finished one gets the rights of any other new file.
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _as_clips(clips: ClipFrames | Clips) -> Clips:
    return [clips] if isinstance(clips, ClipFrames) else clips


def _joint_metadata(clips: ClipFrames | Clips) -> dict[str, Any]:
    """Metadata of a file: that of its one clip, or what is common and a list of the rest."""
    if isinstance(clips, ClipFrames):
        return clips.metadata
    common: dict[str, Any] = {}
    each = []
    for clip in clips:
        common = {k: v for k, v in clip.metadata.items() if k not in CLIP_KEYS}
        own = {k: v for k, v in clip.metadata.items() if k in CLIP_KEYS}
        each.append({"clip": clip.clip_id, "n_frames": len(clip), **own})
    return {**common, "clips": each}


def _split_metadata(joint: dict[str, Any]) -> Iterator[tuple[str, int, dict[str, Any]]]:
    """Undo `_joint_metadata`: (clip id, number of frames, metadata) of each clip."""
    common = {k: v for k, v in joint.items() if k != "clips"}
    for entry in joint["clips"]:
        own = {k: v for k, v in entry.items() if k in CLIP_KEYS}
        yield entry["clip"], entry["n_frames"], {**common, **own}


def _is_quantised(metadata: dict[str, Any]) -> bool:
    return bool(metadata.get("values", "uint8") == "uint8")


# --- NPZ ---------------------------------------------------------------------------------


def _write_npz(file: IO[bytes], clips: ClipFrames | Clips) -> None:
    each = _as_clips(clips)
    n = 0
    dtype: np.dtype[Any] = np.dtype(np.uint8)
    for clip in each:
        n, dtype = n + len(clip), clip.frames.dtype
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        _write_npy(archive, "frames", (n, EMBEDDING_SIZE), dtype, (c.frames for c in each))
        times = (clip.start_seconds for clip in each)
        _write_npy(archive, "start_seconds", (n,), np.dtype(np.float64), times)
        metadata = _joint_metadata(clips)
        if isinstance(clips, ClipFrames):
            metadata = {**metadata, "clip": clips.clip_id}
        else:
            names = np.array([entry["clip"] for entry in metadata["clips"]], np.str_)
            counts = [entry["n_frames"] for entry in metadata["clips"]]
            index = np.repeat(np.arange(len(counts)), counts)
            _write_npy(archive, "clips", names.shape, names.dtype, [names])
            _write_npy(archive, "clip_index", index.shape, index.dtype, [index])
        text = np.array(json.dumps(metadata))
        _write_npy(archive, "metadata", (), text.dtype, [text])


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
        frames, start_seconds = arrays["frames"], arrays["start_seconds"]
        metadata = json.loads(str(arrays["metadata"]))
    if "clips" not in metadata:
        clip_id = metadata.pop("clip", Path(name).stem)
        yield ClipFrames(clip_id, frames, start_seconds, metadata)
        return
    stop = 0
    for clip_id, n, own in _split_metadata(metadata):
        rows = slice(stop, stop := stop + n)
        yield ClipFrames(clip_id, frames[rows], start_seconds[rows], own)


# --- CSV ---------------------------------------------------------------------------------


def _write_csv(file: IO[bytes], clips: ClipFrames | Clips) -> None:
    common: dict[str, Any] | None = None
    for clip in _as_clips(clips):
        if common is None:
            common = {k: v for k, v in clip.metadata.items() if k not in CLIP_KEYS}
            file.write(f"# {json.dumps(common)}\n".encode())
            file.write((",".join(["clip", "start_seconds", *_CSV_FRAME_COLUMNS]) + "\n").encode())
        name = _csv_quoted(clip.clip_id)
        # Nine digits give back every float32.
        number = "%d" if clip.frames.dtype == np.uint8 else "%.9g"
        row_format = ",".join([name.replace("%", "%%"), "%.6g", *[number] * EMBEDDING_SIZE]) + "\n"
        for seconds, row in zip(clip.start_seconds, clip.frames, strict=True):
            file.write((row_format % (seconds, *row.tolist())).encode())


def _csv_quoted(text: str) -> str:
    special = any(character in text for character in ',"\r\n')
    return '"' + text.replace('"', '""') + '"' if special else text


def _read_csv(file: IO[bytes], name: str) -> Iterator[ClipFrames]:
    import io

    with io.TextIOWrapper(file, "utf-8", newline="") as text:
        first = text.readline()
        if not first.startswith("# {"):
            raise FrameFileError(f"{name}, line 1: it is no line of metadata ('# {{...}}')")
        metadata = json.loads(first[2:])
        rows = csv.reader(text)
        if next(rows, None) != ["clip", "start_seconds", *_CSV_FRAME_COLUMNS]:
            raise FrameFileError(f"{name}, line 2: the columns must be clip, start_seconds, e0 ...")
        quantised = _is_quantised(metadata)
        clip_id = ""
        times: list[float] = []
        frames: list[list[float]] = []
        for row in rows:
            if row[0] != clip_id and times:
                yield ClipFrames(clip_id, frame_array(frames, quantised), np.array(times), metadata)
                times, frames = [], []
            clip_id = row[0]
            times.append(float(row[1]))
            frames.append([float(value) for value in row[2:]])
        if times:
            yield ClipFrames(clip_id, frame_array(frames, quantised), np.array(times), metadata)


# --- Parquet -----------------------------------------------------------------------------


def _write_parquet(file: IO[bytes], clips: ClipFrames | Clips) -> None:
    arrow, parquet = _import_arrow()
    each = _as_clips(clips)
    joint = _joint_metadata(each)
    value_type = arrow.uint8() if _is_quantised(joint) else arrow.float32()
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
            names = np.repeat([clip.clip_id for clip in batch], [len(clip) for clip in batch])
            columns = [
                arrow.array(names.tolist(), arrow.string()),
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
    times = columns["start_seconds"].to_numpy()
    values = columns["frame"].combine_chunks().flatten().to_numpy()
    frames = frame_array(values, _is_quantised(joint))
    stop = 0
    for clip_id, n, metadata in _split_metadata(joint):
        rows = slice(stop, stop := stop + n)
        yield ClipFrames(clip_id, frames[rows], times[rows], metadata)


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
                frame_array(entry["frames"], _is_quantised(entry["metadata"])),
                np.array(entry["start_seconds"], np.float64),
                entry["metadata"],
                tuple(entry["labels"]),
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
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
