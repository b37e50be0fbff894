"""Frames as Parquet: one row per frame, metadata in the schema."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import IO, Any

import numpy as np

from vggish.common.extras import import_extra
from vggish.errors import FrameFileError
from vggish.frames.clip import ClipFrames
from vggish.frames.shared_metadata import Clips, as_clips, merge_metadata, split_table
from vggish.params import EMBEDDING_SIZE

_METADATA_KEY = b"audiotag"


def import_arrow() -> tuple[Any, Any]:
    """Import `pyarrow` and `pyarrow.parquet`."""
    names = ("pyarrow", "pyarrow.parquet")
    arrow, parquet = (import_extra(n, extra="parquet", purpose="a Parquet file") for n in names)
    return arrow, parquet


def write_parquet(file: IO[bytes], clips: ClipFrames | Clips) -> None:
    """Write clips, which are iterated twice."""
    arrow, parquet = import_arrow()
    each = as_clips(clips)
    metadata, dtype = merge_metadata(each)
    value_type = arrow.from_numpy_dtype(dtype)
    schema = arrow.schema(
        [
            ("clip", arrow.string()),
            ("start_seconds", arrow.float64()),
            ("frame", arrow.list_(value_type, EMBEDDING_SIZE)),
        ],
        metadata={_METADATA_KEY: json.dumps(metadata).encode()},
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
    """Read clips; errors call the file `name`."""
    _, parquet = import_arrow()
    table = parquet.ParquetFile(file)
    stored = table.schema_arrow.metadata or {}
    if _METADATA_KEY not in stored:
        raise FrameFileError(f"{name}: its schema has no metadata 'audiotag'")
    columns = table.read(columns=["start_seconds", "frame"])
    values = columns["frame"].combine_chunks().flatten().to_numpy()
    times = columns["start_seconds"].to_numpy()
    yield from split_table(
        json.loads(stored[_METADATA_KEY]), values.reshape(-1, EMBEDDING_SIZE), times
    )
