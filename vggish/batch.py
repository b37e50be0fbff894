"""Embedding many sounds: several at once, in order, with a journal, past bad files.

Each sound gets an output of its own, or all go into one file. In the second case finished
clips are first appended to a spool beside the output (a TFRecord file), and the output is
written from it at the end, in the order of the inputs; memory holds the clips under way only.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import json
import os
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO, Protocol

from vggish.errors import FrameFileError, MissingPackageError, ResumeError
from vggish.extractor import Extractor
from vggish.frame_files import write_frames
from vggish.frames import ClipFrames
from vggish.inputs import Item
from vggish.journal import Done, Journal, open_journal, source_state
from vggish.tfrecord import decode_clip, encode_clip, frame_record, read_records

# Of finished clips that wait for a slow one before them.
MAX_AHEAD_PER_JOB = 4
# Errors of writing one output that the next one would meet as well.
_HOPELESS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO}


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
class Failure:
    """A sound that could not be embedded, and why."""

    source: str
    error: Exception


@dataclass
class Report:
    """What a run did.

    Attributes:
        n_clips, n_frames, seconds: embedded in this run.
        n_resumed: sounds that earlier runs had finished.
        failures: sounds that could not be embedded.
        warnings: (source, sentence) about sounds that were embedded all the same.
        unlabelled: sounds without an entry in the labels, when there are labels.
    """

    n_clips: int = 0
    n_frames: int = 0
    seconds: float = 0.0
    n_resumed: int = 0
    failures: list[Failure] = field(default_factory=list)
    warnings: list[tuple[str, str]] = field(default_factory=list)
    unlabelled: list[str] = field(default_factory=list)


class Observer(Protocol):
    """Is told how a run goes."""

    def progress(self, item: Item, seconds: float, total_seconds: float | None) -> None:
        """So much of an item's sound was read. Called from several threads."""

    def finished(self, item: Item, clip: ClipFrames | None) -> None:
        """An item is done; `clip` is None when it failed or was done by an earlier run."""


def embed_batch(
    extractor: Extractor,
    items: Sequence[Item],
    destination: Destination,
    *,
    jobs: int = 1,
    resume: bool = False,
    labels: Mapping[str, tuple[int, ...]] | None = None,
    observer: Observer | None = None,
    report: Report | None = None,
) -> Report:
    """Embed sounds into files. Those that fail are reported, and the rest goes on.

    Args:
        extractor: see `Extractor`.
        items: what to embed.
        destination: where to.
        jobs: sounds under way at once.
        resume: go on with the journal of a killed run.
        labels: class indices by clip id, for the outputs that hold them.
        observer: is told how it goes.
        report: filled as the run goes, for who wants to know even if it is cut short.

    Returns:
        The report.

    Raises:
        ResumeError: see `journal.open_journal`.
        FrameFileError: nothing can be written there, or no more. (What concerns one of many
            outputs, such as a name that is too long, is a failure of its input.)
        MissingPackageError: the resampler is not installed.
    """
    report = Report() if report is None else report
    fingerprint = {
        **extractor.provenance,
        "format": destination.file_format,
        "one_file": destination.file is not None,
        "labels_sha256": None if labels is None else _digest(labels),
    }
    try:
        journal = open_journal(destination.journal, fingerprint, resume=resume)
        keep = True
        try:
            with contextlib.closing(_open_sink(destination, journal)) as sink:
                for item, made in _embed_each(extractor, items, sink, jobs, report, observer):
                    clip = None
                    if made is not None:
                        labelled = _labelled(made.clip, labels, report)
                        clip = _write(sink, item, replace(made, clip=labelled), report)
                    if observer is not None:
                        observer.finished(item, clip)
                sink.finish(items)
            # A run that was interrupted can go on; so can one that shall be repeatable.
            keep = resume and (destination.file is None or bool(report.failures))
        finally:
            keep = keep and bool(journal.done)
            if destination.file is not None and not keep:
                _spool_path(destination.file).unlink(missing_ok=True)
            journal.close(keep=keep)
    except OSError as error:
        place = destination.directory if destination.file is None else destination.file
        raise FrameFileError(f"cannot write {place}: {error.strerror or error}") from error
    return report


@dataclass(frozen=True)
class _Made:
    """A clip, and the `source_state` of its source before it was read."""

    clip: ClipFrames
    state: tuple[int, int] | None


class _FilePerSound:
    """Writes each clip to a file of its own."""

    def __init__(self, destination: Destination, journal: Journal) -> None:
        self._destination = destination
        self._journal = journal

    def holds(self, item: Item) -> bool:
        """Whether an earlier run finished `item`."""
        done = self._journal.find(item.source, item.clip_id)
        return done is not None and self._destination.path(item).exists()

    def write(self, item: Item, made: _Made) -> None:
        path = self._destination.path(item)
        partial = self._destination.partial(path)
        write_frames(path, made.clip, self._destination.file_format, partial=partial)
        self._journal.add(Done(item.source, item.clip_id, made.state))

    def finish(self, items: Sequence[Item]) -> None:
        """Every clip is where it belongs already."""

    def close(self) -> None:
        """Nothing is open."""


class _OneFile:
    """Appends clips to the spool, and writes the output from it at the end."""

    def __init__(self, destination: Destination, file: Path, journal: Journal) -> None:
        self._destination = destination
        self._file = file
        self._journal = journal
        self._records: dict[str, Done] = {}
        # What the journal does not vouch for is written over.
        end = max((done.end for done in journal.done.values()), default=0)
        path = _spool_path(file)
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

    def write(self, item: Item, made: _Made) -> None:
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


def _open_sink(destination: Destination, journal: Journal) -> _FilePerSound | _OneFile:
    if destination.file is None:
        return _FilePerSound(destination, journal)
    return _OneFile(destination, destination.file, journal)


def _spool_path(file: Path) -> Path:
    """Where clips wait for the one file."""
    return file.with_name(f".{file.name}.spool.tfrecord")


def _write(
    sink: _FilePerSound | _OneFile, item: Item, made: _Made, report: Report
) -> ClipFrames | None:
    try:
        sink.write(item, made)
    except FrameFileError as error:
        hopeless = getattr(error.__cause__, "errno", None) in _HOPELESS
        if hopeless or isinstance(sink, _OneFile):
            raise
        report.failures.append(Failure(item.source, error))
        return None
    _count(report, item, made.clip)
    return made.clip


def _embed_each(
    extractor: Extractor,
    items: Sequence[Item],
    sink: _FilePerSound | _OneFile,
    jobs: int,
    report: Report,
    observer: Observer | None,
) -> Iterator[tuple[Item, _Made | None]]:
    """Each item with its clip, in order; None where it failed or was done before."""
    stopping = threading.Event()

    def embed(item: Item) -> _Made:
        def on_progress(seconds: float, total_seconds: float | None) -> None:
            if stopping.is_set():
                raise KeyboardInterrupt
            if observer is not None:
                observer.progress(item, seconds, total_seconds)

        state = source_state(item.source)
        return _Made(extractor(item.source, item.clip_id, on_progress), state)

    waiting: deque[tuple[Item, Future[_Made] | None]] = deque()
    upcoming = iter(items)
    pool = ThreadPoolExecutor(jobs, "audiotag-embed")
    try:
        while True:
            for item in itertools.islice(upcoming, jobs * MAX_AHEAD_PER_JOB - len(waiting)):
                waiting.append((item, None if sink.holds(item) else pool.submit(embed, item)))
            if not waiting:
                return
            item, future = waiting.popleft()
            if future is None:
                report.n_resumed += 1
                yield item, None
                continue
            try:
                made = future.result()
            except MissingPackageError:
                raise
            except Exception as error:  # whatever is wrong with one file, the rest goes on
                report.failures.append(Failure(item.source, error))
                yield item, None
            else:
                yield item, made
    finally:
        stopping.set()
        pool.shutdown(wait=True, cancel_futures=True)


def _digest(labels: Mapping[str, tuple[int, ...]]) -> str:
    return hashlib.sha256(json.dumps(sorted(labels.items())).encode()).hexdigest()


def _labelled(
    clip: ClipFrames, labels: Mapping[str, tuple[int, ...]] | None, report: Report
) -> ClipFrames:
    if labels is None:
        return clip
    if clip.clip_id not in labels:
        report.unlabelled.append(clip.clip_id)
        return clip
    return replace(clip, labels=labels[clip.clip_id])


def _count(report: Report, item: Item, clip: ClipFrames) -> None:
    report.n_clips += 1
    report.n_frames += len(clip)
    report.seconds += float(clip.metadata["duration_seconds"])
    report.warnings += [(item.source, warning) for warning in clip.metadata["warnings"]]
