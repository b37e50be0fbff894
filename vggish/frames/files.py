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

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from vggish.common.choices import FRAME_FORMATS
from vggish.common.files import atomic_write
from vggish.errors import FrameFileError
from vggish.frames.clip import ClipFrames
from vggish.frames.csv import read_csv, write_csv
from vggish.frames.joint_metadata import DAMAGED, as_clips
from vggish.frames.jsonl import read_jsonl, write_jsonl
from vggish.frames.npz import read_npz, write_npz
from vggish.frames.parquet import import_arrow, read_parquet, write_parquet
from vggish.frames.tfrecord import decode_clip, encode_clip, frame_record, read_records

if TYPE_CHECKING:
    from vggish.frames.joint_metadata import Clips


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
        file_format: one of `FRAME_FORMATS`; by the file's suffix when None.
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
        file_format: one of `FRAME_FORMATS`; by the file's suffix when None.

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
    except DAMAGED as error:
        raise FrameFileError(f"{path} is damaged, or no file of frames: {error}") from error


def format_of(path: str | Path, file_format: str | None = None) -> str:
    """The format to use for `path`.

    Raises:
        FrameFileError: neither the suffix nor `file_format` says one of `FRAME_FORMATS`.
        MissingPackageError: it is Parquet, and pyarrow is not installed.
    """
    name = Path(path).suffix.lower().lstrip(".") if file_format is None else file_format
    if name not in _FORMATS:
        raise FrameFileError(
            f"cannot tell the format of {path}: {name!r} is none of {', '.join(FRAME_FORMATS)}"
        )
    if name == "parquet":
        import_arrow()
    return name


# --- TFRecord ----------------------------------------------------------------------------


def _write_tfrecord(file: IO[bytes], clips: ClipFrames | Clips) -> None:
    for clip in as_clips(clips):
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
    "npz": (write_npz, read_npz),
    "csv": (write_csv, read_csv),
    "parquet": (write_parquet, read_parquet),
    "jsonl": (write_jsonl, read_jsonl),
    "tfrecord": (_write_tfrecord, _read_tfrecord),
}
