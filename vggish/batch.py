"""Embedding many sounds: several at once, in order, with a journal, past bad files.

Each sound gets an output of its own, or all go into one file. In the second case finished
clips are first appended to a spool beside the output (a TFRecord file), and the output is
written from it at the end; memory holds the clips under way only.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Protocol

from vggish.errors import FrameFileError, ResumeError
from vggish.extractor import Extractor
from vggish.frame_files import read_frames, write_frames
from vggish.frames import ClipFrames
from vggish.inputs import Item
from vggish.journal import Journal, open_journal
from vggish.tfrecord import encode_clip, frame_record

# Of finished clips that wait for a slow one before them.
MAX_AHEAD_PER_JOB = 4


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

    @property
    def spool(self) -> Path:
        """Where clips wait for the one file."""
        assert self.file is not None
        return self.file.with_name(f".{self.file.name}.spool.tfrecord")


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

    Raises:
        ResumeError: see `journal.open_journal`.
        FrameFileError: an output cannot be written.
    """
    report = Report()
    fingerprint = {
        **extractor.provenance,
        "format": destination.file_format,
        "one_file": destination.file is not None,
        "labels_sha256": None if labels is None else _digest(labels),
    }
    journal = open_journal(destination.journal, fingerprint, resume=resume)
    finished = False
    try:
        with _open_sink(destination, journal) as sink:
            for item, clip in _embed_each(extractor, items, journal, jobs, report, observer):
                if clip is not None:
                    clip = _labelled(clip, labels, report)
                    sink.write(item, clip)
                    _count(report, item, clip)
                if observer is not None:
                    observer.finished(item, clip)
            sink.close()
        finished = True
    finally:
        # A run that was interrupted can go on; so can one that shall be repeatable.
        keep = not finished or (resume and (destination.file is None or bool(report.failures)))
        journal.close(keep=keep)
        if destination.file is not None and not keep:
            destination.spool.unlink(missing_ok=True)
    return report


class _FilePerSound:
    """Writes each clip to a file of its own."""

    def __init__(self, destination: Destination, journal: Journal) -> None:
        self._destination = destination
        self._journal = journal

    def write(self, item: Item, clip: ClipFrames) -> None:
        path = self._destination.path(item)
        write_frames(path, clip, self._destination.file_format)
        self._journal.add(item.source, path)

    def close(self) -> None:
        """Nothing is left to do."""

    def __enter__(self) -> _FilePerSound:
        return self

    def __exit__(self, *exception: object) -> None:
        pass


class _OneFile:
    """Appends clips to the spool, and writes the output from it at the end."""

    def __init__(self, destination: Destination, journal: Journal) -> None:
        self._destination = destination
        self._journal = journal
        # What the journal does not vouch for is cut off and embedded again.
        end = max((done.end for done in journal.done.values()), default=0)
        if end and (not destination.spool.exists() or destination.spool.stat().st_size < end):
            raise ResumeError(
                f"{destination.spool} is missing or cut short, and holds what {journal.path} says "
                "is done: delete both to begin again"
            )
        mode = "r+b" if end else "wb"
        self._spool: IO[bytes] = open(destination.spool, mode)  # noqa: SIM115 closed by close()
        self._spool.truncate(end)
        self._spool.seek(end)

    def write(self, item: Item, clip: ClipFrames) -> None:
        self._spool.write(frame_record(encode_clip(clip)))
        self._spool.flush()
        self._journal.add(item.source, self._destination.spool, self._spool.tell())

    def close(self) -> None:
        self._spool.close()
        assert self._destination.file is not None
        clips = _SpooledClips(self._destination.spool)
        write_frames(self._destination.file, clips, self._destination.file_format)

    def __enter__(self) -> _OneFile:
        return self

    def __exit__(self, *exception: object) -> None:
        self._spool.close()


class _SpooledClips:
    """The clips of a spool, to be gone through more than once."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __iter__(self) -> Iterator[ClipFrames]:
        return read_frames(self._path, "tfrecord")


def _open_sink(destination: Destination, journal: Journal) -> _FilePerSound | _OneFile:
    if destination.file is None:
        return _FilePerSound(destination, journal)
    try:
        return _OneFile(destination, journal)
    except OSError as error:
        raise FrameFileError(f"cannot write beside {destination.file}: {error.strerror}") from error


def _embed_each(
    extractor: Extractor,
    items: Sequence[Item],
    journal: Journal,
    jobs: int,
    report: Report,
    observer: Observer | None,
) -> Iterator[tuple[Item, ClipFrames | None]]:
    """Each item with its clip, in order; None where it failed or was done before."""
    stopping = threading.Event()

    def embed(item: Item) -> ClipFrames:
        def on_progress(seconds: float, total_seconds: float | None) -> None:
            if stopping.is_set():
                raise KeyboardInterrupt
            if observer is not None:
                observer.progress(item, seconds, total_seconds)

        return extractor(item.source, item.clip_id, on_progress)

    waiting: deque[tuple[Item, Future[ClipFrames] | None]] = deque()
    upcoming = iter(items)
    pool = ThreadPoolExecutor(jobs, "audiotag-embed")
    try:
        while True:
            while len(waiting) < jobs * MAX_AHEAD_PER_JOB:
                item = next(upcoming, None)
                if item is None:
                    break
                done = journal.is_done(item.source)
                waiting.append((item, None if done else pool.submit(embed, item)))
            if not waiting:
                return
            item, future = waiting.popleft()
            if future is None:
                report.n_resumed += 1
                yield item, None
                continue
            try:
                clip = future.result()
            except Exception as error:  # whatever is wrong with one file, the rest goes on
                report.failures.append(Failure(item.source, error))
                yield item, None
            else:
                yield item, clip
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
