"""Which text is written of tags, and the text of one file of them. Nothing here writes files."""

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
from vggish.audio.inputs import STDIN
from vggish.errors import OptionError

# What files of each format are called.
SUFFIXES = {
    "table": ".txt",
    "json": ".json",
    "csv": ".csv",
    "srt": ".srt",
    "audacity": ".txt",
    "raven": ".selections.txt",
}

LABEL_TRACKS = ("srt", "audacity", "raven")

# These have no place for the name of a file, and so they are of one.
SINGLE_CLIP_TRACKS = ("srt", "audacity")


def format_of(path: str) -> str:
    """The format that the name of a file asks for: a table, if it has no suffix.

    Raises:
        OptionError: it has another suffix.

    >>> [format_of(name) for name in ("a.CSV", "a.jsonl", "a.srt", "a.selections.txt", "a.txt")]
    ['csv', 'json', 'srt', 'raven', 'table']
    """
    name = Path(path).name.lower()
    if name.endswith(".jsonl"):
        return "json"
    found = (
        kind for kind in ("raven", "json", "csv", "srt", "table") if name.endswith(SUFFIXES[kind])
    )
    suffix = Path(name).suffix
    kind = next(found, None if suffix else "table")
    if kind is None:
        raise OptionError(
            f"tags are not written as {suffix}: {path} must end in .csv, .json, .jsonl, .srt, "
            ".selections.txt or .txt; or say how, as --csv does"
        )
    return kind


@dataclass(frozen=True)
class TagFormat:
    """What is told of each sound.

    Attributes:
        file_format: one of `SUFFIXES`.
        frames: in JSON and CSV, what is heard in each frame.
        segments: in JSON, CSV and tables, when each tag is heard.
    """

    file_format: str
    frames: bool = False
    segments: bool = False

    @property
    def shows_times(self) -> bool:
        """Whether it says when each tag is heard, if that is known."""
        return self.segments or self.file_format in ("table", *LABEL_TRACKS)

    @property
    def requires_times(self) -> bool:
        """Whether it makes no sense of a head that scores whole clips only."""
        return self.frames or self.segments or self.file_format in LABEL_TRACKS


class TagFormatter:
    """The text of one file of tags, sound by sound.

    Args:
        content: what is told of each sound.
        look: how tables are drawn.
        n_sounds: how many there will be; the JSON of one is easier to read.
        sample_rate_hz: tells that of a sound by its path, for Raven; None where it is not known.
    """

    def __init__(
        self,
        content: TagFormat,
        look: TableStyle,
        n_sounds: int,
        sample_rate_hz: Callable[[str], float | None] = lambda path: None,
    ) -> None:
        self._content = content
        self._look = look
        self._indent = 2 if n_sounds == 1 else None
        self._sample_rate_hz = sample_rate_hz
        self._n_sounds, self._n_rows, self._seconds = 0, 0, 0.0

    def begin(self) -> str:
        """What stands before the first sound."""
        content = self._content
        if content.file_format == "csv":
            return csv_header(frames=content.frames, segments=content.segments)
        return raven_header() if content.file_format == "raven" else ""

    def add(self, path: str, name: str, tags: ClipTags) -> str:
        """What is told of a sound.

        Args:
            path: of the sound.
            name: what to call it in a table.
            tags: what is heard in it.
        """
        self._n_sounds += 1
        content = self._content
        wanted = {"frames": content.frames, "segments": content.segments}
        match content.file_format:
            case "csv":
                return as_csv(path, tags, **wanted)
            case "json":
                found = as_json(path, tags, **wanted)
                text = json.dumps(found, indent=self._indent, ensure_ascii=False, allow_nan=False)
                return text + "\n"
            case "srt":
                return as_srt(tags)
            case "audacity":
                return as_audacity(tags)
            case "raven":
                return self._add_to_raven(path, tags)
        draw = as_segment_table if content.segments else as_table
        lines = draw(name, tags, self._look)
        return "\n" * (self._n_sounds > 1) + "\n".join(lines) + "\n"

    def _add_to_raven(self, path: str, tags: ClipTags) -> str:
        """Rows of a sound that follows those before, as Raven opens several files."""
        rows = as_raven(
            path if path == STDIN else os.path.abspath(path),  # for Raven to find it
            tags,
            sample_rate_hz=self._sample_rate_hz(path),
            first_selection=self._n_rows + 1,
            begin_seconds=self._seconds,
        )
        self._n_rows += rows.count("\n")
        self._seconds += tags.duration_seconds
        return rows
