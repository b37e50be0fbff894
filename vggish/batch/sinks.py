"""Destinations of a batch: one file per clip, or one file for all clips."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from vggish.audio.inputs import Item
from vggish.batch.journal import Journal, JournalEntry, SourceState
from vggish.errors import ResumeError
from vggish.frames.clip import ClipFrames, Clips
from vggish.frames.files import write_frames
from vggish.frames.tfrecord import decode_clip, encode_clip, frame_record, read_records


@dataclass(frozen=True)
class Destination:
    """Where frames are written: a directory with one file per clip, or one file for all.

    `run_key` distinguishes the journals of different runs into one directory.
    """

    file_format: str
    directory: Path = Path()
    file: Path | None = None
    run_key: str = "run"

    def path(self, item: Item) -> Path:
        """Output file of an item."""
        return self.file or self.directory / f"{item.stem}.{self.file_format}"

    @property
    def journal(self) -> Path:
        """Journal of a run to this destination."""
        if self.file is None:
            return self.directory / f".audiotag-embed-{self.run_key}.journal"
        return self.file.with_name(f".{self.file.name}.journal")

    def write(self, path: Path, clips: ClipFrames | Clips) -> None:
        """Write an output file, under a name that is short, and the same after a resume."""
        name = hashlib.sha256(os.fsencode(path.name)).hexdigest()[:8]
        partial = path.with_name(f".audiotag-{self.run_key}-{name}.partial")
        write_frames(path, clips, self.file_format, partial=partial)


@dataclass(frozen=True)
class FilePerClip:
    """Writes each clip to a file of its own."""

    _destination: Destination
    _journal: Journal

    def holds(self, item: Item) -> bool:
        """Whether an earlier run finished `item`."""
        entry = self._journal.find(item.source, item.clip_id)
        return entry is not None and self._destination.path(item).exists()

    def write(self, item: Item, clip: ClipFrames, state: SourceState) -> None:
        """Write a clip; `state` is that of its source before it was read."""
        self._destination.write(self._destination.path(item), clip)
        self._journal.add(JournalEntry(item.source, item.clip_id, state))

    def finish(self, items: Sequence[Item]) -> None:
        """Do nothing: each clip is in its file."""

    def close(self) -> None:
        """Do nothing: no file is open."""


class SingleFile:
    """Appends clips to the spool, and writes the output from it at the end."""

    def __init__(self, destination: Destination, file: Path, journal: Journal) -> None:
        self._destination = destination
        self._file = file
        self._journal = journal
        self._start: dict[str, int] = {}  # position in the spool, by source
        # Records behind the last journal entry may be incomplete, and are overwritten.
        end = max((entry.end for entry in journal.entries.values()), default=0)
        path = spool_path(file)
        if end and (not path.exists() or path.stat().st_size < end):
            raise ResumeError(
                f"{path} is missing or truncated, but {journal.path} says that it holds finished "
                "clips: delete both to start again"
            )
        self._spool: BinaryIO = open(path, "r+b" if end else "w+b")  # noqa: SIM115 see close()
        self._spool.seek(end)

    def holds(self, item: Item) -> bool:
        """Whether an earlier run finished `item`."""
        entry = self._journal.find(item.source, item.clip_id)
        if entry is not None:
            self._start[item.source] = entry.start
        return entry is not None

    def write(self, item: Item, clip: ClipFrames, state: SourceState) -> None:
        """Append a clip; `state` is that of its source before it was read."""
        start = self._start[item.source] = self._spool.tell()
        self._spool.write(frame_record(encode_clip(clip)))
        self._spool.flush()
        end = self._spool.tell()
        self._journal.add(JournalEntry(item.source, item.clip_id, state, start, end))

    def finish(self, items: Sequence[Item]) -> None:
        """Write the output file, unless there are no clips."""
        starts = [self._start[item.source] for item in items if item.source in self._start]
        if starts:
            self._destination.write(self._file, _SpooledClips(self._spool, starts))

    def close(self) -> None:
        """Close the spool."""
        self._spool.close()


@dataclass(frozen=True)
class _SpooledClips:
    """The clips of a spool at the positions `starts`; can be iterated several times."""

    spool: BinaryIO
    starts: Sequence[int]

    def __iter__(self) -> Iterator[ClipFrames]:
        for start in self.starts:
            self.spool.seek(start)
            yield decode_clip(next(read_records(self.spool, self.spool.name)), self.spool.name)


def open_sink(destination: Destination, journal: Journal) -> FilePerClip | SingleFile:
    """Open the destination of a batch."""
    if destination.file is None:
        return FilePerClip(destination, journal)
    return SingleFile(destination, destination.file, journal)


def spool_path(file: Path) -> Path:
    """Temporary file beside `file` that holds finished clips."""
    return file.with_name(f".{file.name}.spool.tfrecord")
