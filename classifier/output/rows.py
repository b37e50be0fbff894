"""Tags as JSON documents and CSV rows."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

from classifier.tags.types import ClipTags, Tag, TagSegment, in_time_order

CSV_COLUMNS = ("file", "label", "mid", "index", "score")

CSV_FRAME_COLUMNS = ("file", "start_seconds", *CSV_COLUMNS[1:])

CSV_SEGMENT_COLUMNS = ("file", "start_seconds", "end_seconds", *CSV_COLUMNS[1:])


def as_json(
    name: str, tags: ClipTags, *, frames: bool = False, segments: bool = False
) -> dict[str, Any]:
    """One JSON-ready object, in the words of all outputs; frames and segments on demand."""
    whole = tags.as_json()
    more = (*(("frames",) * frames), *(("segments",) * segments))
    keys = ("duration_seconds", "model", "embedder", "tags", *more, "warnings")
    return {"file": name, **{key: whole[key] for key in keys}}


def csv_header(*, frames: bool = False, segments: bool = False) -> str:
    """The first line of a CSV, with its end."""
    columns = CSV_SEGMENT_COLUMNS if segments else CSV_FRAME_COLUMNS if frames else CSV_COLUMNS
    return _csv([columns])


def as_csv(name: str, tags: ClipTags, *, frames: bool = False, segments: bool = False) -> str:
    """Rows, a tag each; with `frames` or `segments`, of each of these instead of the whole."""
    if segments:
        spans = in_time_order(tags)
        return _csv([(name, s.start_seconds, s.end_seconds, *_cells(s)) for s in spans])
    if not frames:
        return _csv([(name, *_cells(tag)) for tag in tags.tags])
    return _csv(
        [
            (name, frame.start_seconds, *_cells(tag))
            for frame in tags.frames or ()
            for tag in frame.tags
        ]
    )


def _cells(tag: Tag | TagSegment) -> tuple[str, str, int, float]:
    return (tag.label, tag.mid, tag.index, tag.score)


def _csv(rows: Sequence[Sequence[Any]]) -> str:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
