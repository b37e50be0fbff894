"""Format tags as JSON documents and CSV rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from classifier.tags.types import ClipTags, Tag, TagSegment, in_time_order
from vggish.common.csv_table import csv_text

_TAG_COLUMNS = ("label", "mid", "index", "score")


def as_json(
    name: str, tags: ClipTags, *, frames: bool = False, segments: bool = False
) -> dict[str, Any]:
    """Convert to a JSON object, with frames and segments on request."""
    document = tags.as_json()
    optional = (*(("frames",) * frames), *(("segments",) * segments))
    keys = ("duration_seconds", "model", "embedder", "tags", *optional, "warnings")
    return {"file": name, **{key: document[key] for key in keys}}


def csv_header(*, frames: bool = False, segments: bool = False) -> str:
    """The header line of a CSV file."""
    times = (*(("start_seconds",) * (frames or segments)), *(("end_seconds",) * segments))
    return csv_text(("file", *times, *_TAG_COLUMNS))


def as_csv(name: str, tags: ClipTags, *, frames: bool = False, segments: bool = False) -> str:
    """CSV rows of the tags of the clip, of each frame, or of each segment."""
    rows: Iterable[Sequence[Any]]
    if segments:
        rows = ((name, s.start_seconds, s.end_seconds, *_cells(s)) for s in in_time_order(tags))
    elif frames:
        rows = (
            (name, frame.start_seconds, *_cells(tag))
            for frame in tags.frames or ()
            for tag in frame.tags
        )
    else:
        rows = ((name, *_cells(tag)) for tag in tags.tags)
    return csv_text(*rows)


def _cells(tag: Tag | TagSegment) -> tuple[Any, ...]:
    return tuple(getattr(tag, column) for column in _TAG_COLUMNS)
