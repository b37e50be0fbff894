"""Output formats of tags, and the text of a file of tags."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from classifier.output.label_tracks import as_audacity, as_raven, as_srt, raven_header
from classifier.output.rows import as_csv, as_json, csv_header
from classifier.output.table import TableStyle, as_segment_table, as_table
from classifier.tags.types import ClipTags
from vggish.common.search import STDIN
from vggish.common.wording import as_text
from vggish.errors import OptionError

# Suffix of the files of each format.
SUFFIXES = {
    "table": ".txt",
    "json": ".json",
    "csv": ".csv",
    "srt": ".srt",
    "audacity": ".txt",
    "raven": ".selections.txt",
}
LABEL_TRACKS = ("srt", "audacity", "raven")
# These have no column for a file name, so a file of them is about one clip.
SINGLE_CLIP_TRACKS = ("srt", "audacity")


def format_of(path: str) -> str:
    """Choose the format by the suffix of a file name; no suffix means a table.

    >>> [format_of(name) for name in ("a.CSV", "a.jsonl", "a.srt", "a.selections.txt", "a.txt")]
    ['csv', 'json', 'srt', 'raven', 'table']
    """
    name = Path(path).name.lower()
    suffix = Path(name).suffix
    suffixes = {
        SUFFIXES["raven"]: "raven",
        **{SUFFIXES[name]: name for name in ("json", "csv", "srt", "table")},
        ".jsonl": "json",
    }
    for known, file_format in suffixes.items():
        if name.endswith(known):
            return file_format
    if suffix:
        raise OptionError(
            f"unknown format {suffix} of {path}: use .csv, .json, .jsonl, .srt, .selections.txt or "
            ".txt, or an option such as --csv"
        )
    return "table"


@dataclass(frozen=True)
class TagFormat:
    """Format and content of the output for each clip."""

    file_format: str  # one of `SUFFIXES`
    frames: bool = False  # write the tags of each frame, in JSON and CSV
    segments: bool = False  # write when each tag is detected, in JSON, CSV and tables

    @property
    def shows_times(self) -> bool:
        """Whether the output has times if the model has scores of frames."""
        return self.segments or self.file_format in ("table", *LABEL_TRACKS)

    @property
    def requires_times(self) -> bool:
        """Whether the output is impossible for a model that scores whole clips only."""
        return self.frames or self.segments or self.file_format in LABEL_TRACKS


class TagFormatter:
    """Formats the text of one file of tags, clip by clip.

    The JSON of a single clip is indented. `sample_rate_hz` returns the sample rate of an audio file
    by path, or None if it is unknown; only Raven tables use it.
    """

    def __init__(
        self,
        tag_format: TagFormat,
        style: TableStyle,
        n_clips: int,
        sample_rate_hz: Callable[[str], float | None] = lambda path: None,
    ) -> None:
        self._format = tag_format
        self._style = style
        self._indent = 2 if n_clips == 1 else None
        self._sample_rate_hz = sample_rate_hz
        self._n_clips, self._n_rows, self._seconds = 0, 0, 0.0

    def header(self) -> str:
        """Text before the first clip."""
        if self._format.file_format == "csv":
            return csv_header(frames=self._format.frames, segments=self._format.segments)
        return raven_header() if self._format.file_format == "raven" else ""

    def format(self, source: str, name: str, tags: ClipTags) -> str:
        """Text of the next clip; `name` is its title in a table."""
        path = as_text(source)
        self._n_clips += 1
        content = {"frames": self._format.frames, "segments": self._format.segments}
        match self._format.file_format:
            case "csv":
                return as_csv(path, tags, **content)
            case "json":
                document = as_json(path, tags, **content)
                text = json.dumps(
                    document, indent=self._indent, ensure_ascii=False, allow_nan=False
                )
                return text + "\n"
            case "srt":
                return as_srt(tags)
            case "audacity":
                return as_audacity(tags)
            case "raven":
                return self._format_raven(source, tags)
        as_lines = as_segment_table if self._format.segments else as_table
        lines = as_lines(name, tags, self._style)
        return "\n" * (self._n_clips > 1) + "\n".join(lines) + "\n"

    def _format_raven(self, source: str, tags: ClipTags) -> str:
        """Rows whose times continue after the previous clip, as Raven opens several files."""
        rows = as_raven(
            # Absolute, so that Raven finds the file.
            source if source == STDIN else as_text(os.path.abspath(source)),
            tags,
            sample_rate_hz=self._sample_rate_hz(source),
            first_selection=self._n_rows + 1,
            begin_seconds=self._seconds,
        )
        self._n_rows += rows.count("\n")
        self._seconds += tags.duration_seconds
        return rows
