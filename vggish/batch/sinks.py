"""Destinations of a batch: a file per clip, or one file for all."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from vggish.audio.inputs import Item
from vggish.batch.journal import Done, Journal
from vggish.errors import ResumeError
from vggish.frames.clip import ClipFrames
from vggish.frames.files import write_frames
from vggish.frames.tfrecord import decode_clip, encode_clip, frame_record, read_records


@dataclass(frozen=True)
class Destination:
    """Where frames go: a directory with one file per sound, or one file for all.

    Attributes:
        file_format: one of `frame_files.FORMATS`.
        directory: for one file per sound.
        file: for one file for all; None otherwise.
        run_key: tells the journals of different runs into one directory apart.
    """

    file_format: str
    directory: Path = Path()
    file: Path | None = None
    run_key: str = "run"

    def path(self, item: Item) -> Path:
        """The output of one sound."""
        if self.file is not None:
            return self.file
        return self.directory / f"{item.stem}.{self.file_format}"

    @property
    def journal(self) -> Path:
        """The journal of a run to this destination."""
        if self.file is None:
            return self.directory / f".audiotag-embed-{self.run_key}.journal"
        return self.file.with_name(f".{self.file.name}.journal")

    def partial(self, path: Path) -> Path:
        """What an output is called until it is whole: short, and the same when resumed."""
        name = hashlib.sha256(os.fsencode(path.name)).hexdigest()[:8]
        return path.with_name(f".audiotag-{self.run_key}-{name}.partial")


@dataclass(frozen=True)
class Made:
    """A clip, and the `source_state` of its source before it was read."""

    clip: ClipFrames
    state: tuple[int, int] | None


class FilePerClip:
    """Writes each clip to a file of its own."""

    def __init__(self, destination: Destination, journal: Journal) -> None:
        self._destination = destination
        self._journal = journal

    def holds(self, item: Item) -> bool:
        """Whether an earlier run finished `item`."""
        done = self._journal.find(item.source, item.clip_id)
        return done is not None and self._destination.path(item).exists()

    def write(self, item: Item, made: Made) -> None:
        path = self._destination.path(item)
        partial = self._destination.partial(path)
        write_frames(path, made.clip, self._destination.file_format, partial=partial)
        self._journal.add(Done(item.source, item.clip_id, made.state))

    def finish(self, items: Sequence[Item]) -> None:
        """Every clip is where it belongs already."""

    def close(self) -> None:
        """Nothing is open."""


class SingleFile:
    """Appends clips to the spool, and writes the output from it at the end."""

    def __init__(self, destination: Destination, file: Path, journal: Journal) -> None:
        self._destination = destination
        self._file = file
        self._journal = journal
        self._records: dict[str, Done] = {}
        # What the journal does not vouch for is written over.
        end = max((done.end for done in journal.done.values()), default=0)
        path = spool_path(file)
        if end and (not path.exists() or path.stat().st_size < end):
            raise ResumeError(
                f"{path} is missing or cut short, and holds what {journal.path} says is done: "
                "delete both to begin again"
            )
        self._spool: BinaryIO = open(path, "r+b" if end else "w+b")  # noqa: SIM115 see close()
        self._spool.seek(end)

    def holds(self, item: Item) -> bool:
        """Whether an earlier run finished `item`."""
        done = self._journal.find(item.source, item.clip_id)
        if done is None:
            return False
        self._records[item.source] = done
        return True

    def write(self, item: Item, made: Made) -> None:
        start = self._spool.tell()
        self._spool.write(frame_record(encode_clip(made.clip)))
        self._spool.flush()
        done = Done(item.source, item.clip_id, made.state, start, self._spool.tell())
        self._journal.add(done)
        self._records[item.source] = done

    def finish(self, items: Sequence[Item]) -> None:
        """Write the output, unless there is nothing to write."""
        records = [self._records[item.source] for item in items if item.source in self._records]
        if records:
            clips = _SpooledClips(self._spool, [record.start for record in records])
            partial = self._destination.partial(self._file)
            write_frames(self._file, clips, self._destination.file_format, partial=partial)

    def close(self) -> None:
        self._spool.close()


class _SpooledClips:
    """The clips of a spool, in the order of `starts`, to be gone through more than once."""

    def __init__(self, spool: BinaryIO, starts: Sequence[int]) -> None:
        self._spool = spool
        self._starts = starts

    def __iter__(self) -> Iterator[ClipFrames]:
        for start in self._starts:
            self._spool.seek(start)
            yield decode_clip(next(read_records(self._spool, self._spool.name)), self._spool.name)


def open_sink(destination: Destination, journal: Journal) -> FilePerClip | SingleFile:
    if destination.file is None:
        return FilePerClip(destination, journal)
    return SingleFile(destination, destination.file, journal)


def spool_path(file: Path) -> Path:
    """Where clips wait for the one file."""
    return file.with_name(f".{file.name}.spool.tfrecord")
