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
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from vggish.audio.inputs import Item
from vggish.batch.journal import open_journal, source_state
from vggish.batch.sinks import Made, SingleFile, open_sink, spool_path
from vggish.errors import FrameFileError, MissingPackageError
from vggish.extractor import Extractor
from vggish.frames.clip import ClipFrames

if TYPE_CHECKING:
    from vggish.batch.sinks import Destination, FilePerClip


# Of finished clips that wait for a slow one before them.
MAX_AHEAD_PER_JOB = 4

# Errors of writing one output that the next one would meet as well.
_HOPELESS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO}


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
            with contextlib.closing(open_sink(destination, journal)) as sink:
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
                spool_path(destination.file).unlink(missing_ok=True)
            journal.close(keep=keep)
    except OSError as error:
        place = destination.directory if destination.file is None else destination.file
        raise FrameFileError(f"cannot write {place}: {error.strerror or error}") from error
    return report


def _write(
    sink: FilePerClip | SingleFile, item: Item, made: Made, report: Report
) -> ClipFrames | None:
    try:
        sink.write(item, made)
    except FrameFileError as error:
        hopeless = getattr(error.__cause__, "errno", None) in _HOPELESS
        if hopeless or isinstance(sink, SingleFile):
            raise
        report.failures.append(Failure(item.source, error))
        return None
    _count(report, item, made.clip)
    return made.clip


def _embed_each(
    extractor: Extractor,
    items: Sequence[Item],
    sink: FilePerClip | SingleFile,
    jobs: int,
    report: Report,
    observer: Observer | None,
) -> Iterator[tuple[Item, Made | None]]:
    """Each item with its clip, in order; None where it failed or was done before."""
    stopping = threading.Event()

    def embed(item: Item) -> Made:
        def on_progress(seconds: float, total_seconds: float | None) -> None:
            if stopping.is_set():
                raise KeyboardInterrupt
            if observer is not None:
                observer.progress(item, seconds, total_seconds)

        state = source_state(item.source)
        return Made(extractor(item.source, item.clip_id, on_progress), state)

    waiting: deque[tuple[Item, Future[Made] | None]] = deque()
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
