"""Frames as Parquet."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from vggish.common.extras import import_extra
from vggish.errors import FrameFileError
from vggish.frames.clip import ClipFrames
from vggish.frames.joint_metadata import as_clips, cut_clips, joint_metadata, split_metadata
from vggish.params import EMBEDDING_SIZE

if TYPE_CHECKING:
    from vggish.frames.joint_metadata import Clips


_PARQUET_KEY = b"audiotag"


# --- Parquet -----------------------------------------------------------------------------


def write_parquet(file: IO[bytes], clips: ClipFrames | Clips) -> None:
    arrow, parquet = import_arrow()
    each = as_clips(clips)
    joint, dtype = joint_metadata(each)
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


def read_parquet(file: IO[bytes], name: str) -> Iterator[ClipFrames]:
    _, parquet = import_arrow()
    table = parquet.ParquetFile(file)
    stored = table.schema_arrow.metadata or {}
    if _PARQUET_KEY not in stored:
        raise FrameFileError(f"{name}: its schema has no metadata 'audiotag'")
    joint = json.loads(stored[_PARQUET_KEY])
    columns = table.read(columns=["start_seconds", "frame"])
    values = columns["frame"].combine_chunks().flatten().to_numpy()
    frames = values.reshape(-1, EMBEDDING_SIZE)
    yield from split_metadata(joint, cut_clips(joint, frames, columns["start_seconds"].to_numpy()))


def import_arrow() -> tuple[Any, Any]:
    purpose = "a Parquet file"
    return (
        import_extra("pyarrow", extra="parquet", purpose=purpose),
        import_extra("pyarrow.parquet", extra="parquet", purpose=purpose),
    )
