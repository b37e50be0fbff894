"""Embed many audio files: several at once, in order, resumable, and past files that fail.

Each clip gets an output file of its own, or all clips share one. For a shared file, finished
clips are first appended to a spool beside the output (a TFRecord file); the output is written
from the spool at the end, in the order of the inputs. Memory holds only the clips in progress.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import json
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from vggish.audio.inputs import Item
from vggish.batch.journal import SourceState, open_journal, source_state
from vggish.batch.sinks import Destination, FilePerClip, SingleFile, open_sink, spool_path
from vggish.common.ordered import map_in_order
from vggish.errors import FrameFileError, MissingPackageError, write_errors_as
from vggish.extractor import Extractor, OnAudioProgress
from vggish.frames.clip import ClipFrames

# Errors of one output that all later outputs would meet too.
_PERSISTENT_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO}


@dataclass(frozen=True)
class Failure:
    """An input that could not be embedded, and the error."""

    source: str
    error: Exception


@dataclass
class BatchReport:
    """Result of a run: what was embedded in it, and what was not.

    `n_resumed` inputs were finished by earlier runs. `warnings` are (source, sentence) of inputs
    embedded despite a defect, `unlabelled` the ids of clips without an entry in the given labels.
    """

    n_clips: int = 0
    n_frames: int = 0
    seconds: float = 0.0
    n_resumed: int = 0
    failures: list[Failure] = field(default_factory=list)
    warnings: list[tuple[str, str]] = field(default_factory=list)
    unlabelled: list[str] = field(default_factory=list)


class BatchObserver(Protocol):
    """Receives the progress of a run."""

    def progress(self, item: Item, seconds: float, total_seconds: float | None) -> None:
        """`seconds` of an item's audio have been read. Called from several threads."""

    def finished(self, item: Item, clip: ClipFrames | None) -> None:
        """An item is done; `clip` is None if it failed or an earlier run had finished it."""


def embed_batch(
    extractor: Extractor,
    items: Sequence[Item],
    destination: Destination,
    *,
    jobs: int = 1,
    resume: bool = False,
    labels: Mapping[str, tuple[int, ...]] | None = None,
    stream: int | None = None,
    observer: BatchObserver | None = None,
    report: BatchReport | None = None,
) -> BatchReport:
    """Embed audio files into files of frames. Failures are reported, and the run continues.

    `jobs` inputs are in progress at once. With `resume`, the run continues from the journal of an
    interrupted one. `labels` are class indices by clip id, for formats that hold them. `stream` is
    the number of the audio stream in files with several. `report` is filled during the run, for
    callers that need it even after an interruption. If only one of many output files cannot be
    written, that is a failure of its input, otherwise a `FrameFileError`.
    """
    report = BatchReport() if report is None else report
    extract = functools.partial(extractor, stream=stream)
    fingerprint = {
        **extractor.provenance,
        "format": destination.file_format,
        "one_file": destination.file is not None,
        "labels_sha256": None,
    }
    if labels is not None:
        text = json.dumps(sorted(labels.items()))
        fingerprint["labels_sha256"] = hashlib.sha256(text.encode()).hexdigest()
    if stream is not None:
        fingerprint["stream"] = stream
    with write_errors_as(FrameFileError, destination.file or destination.directory):
        journal = open_journal(destination.journal, fingerprint, resume=resume)
        keep = True
        try:
            with contextlib.closing(open_sink(destination, journal)) as sink:
                results = _embed_each(extract, items, sink, jobs, report, observer)
                with contextlib.closing(results):
                    for item, result in results:
                        clip = result and _store(sink, item, *result, labels, report)
                        if observer is not None:
                            observer.finished(item, clip)
                sink.finish(items)
            # With --resume, the journal stays for files that are added or repaired later.
            keep = resume and (destination.file is None or bool(report.failures))
        finally:
            keep = keep and bool(journal.entries)
            if destination.file is not None and not keep:
                spool_path(destination.file).unlink(missing_ok=True)
            journal.close(keep=keep)
    return report


Result = tuple[ClipFrames, SourceState]


def _embed_each(
    extract: Callable[[str, str, OnAudioProgress], ClipFrames],
    items: Sequence[Item],
    sink: FilePerClip | SingleFile,
    jobs: int,
    report: BatchReport,
    observer: BatchObserver | None,
) -> Generator[tuple[Item, Result | None]]:
    """Yield each item with its clip, in order; None if it failed or was finished before."""

    def embed(task: tuple[Item, bool], check_stop: Callable[[], None]) -> Result | None:
        item, is_finished = task
        if is_finished:
            return None

        def on_progress(seconds: float, total_seconds: float | None) -> None:
            check_stop()
            if observer is not None:
                observer.progress(item, seconds, total_seconds)

        state = source_state(item.source)
        return extract(item.source, item.clip_id, on_progress), state

    tasks = ((item, sink.holds(item)) for item in items)
    results = map_in_order(embed, tasks, jobs=jobs, name="audiotag-embed")
    with contextlib.closing(results):
        for (item, is_finished), future in results:
            result = None
            try:
                result = future.result()
            except MissingPackageError:
                raise
            except Exception as error:  # an unexpected error of one file must not end the run
                report.failures.append(Failure(item.source, error))
            report.n_resumed += is_finished
            yield item, result


def _store(
    sink: FilePerClip | SingleFile,
    item: Item,
    clip: ClipFrames,
    state: SourceState,
    labels: Mapping[str, tuple[int, ...]] | None,
    report: BatchReport,
) -> ClipFrames | None:
    """Write a clip with its labels; None if its own output file cannot be written."""
    if labels is not None and clip.clip_id in labels:
        clip = replace(clip, labels=labels[clip.clip_id])
    elif labels is not None:
        report.unlabelled.append(clip.clip_id)
    try:
        sink.write(item, clip, state)
    except FrameFileError as error:
        is_persistent = getattr(error.__cause__, "errno", None) in _PERSISTENT_ERRORS
        if is_persistent or isinstance(sink, SingleFile):
            raise
        report.failures.append(Failure(item.source, error))
        return None
    report.n_clips += 1
    report.n_frames += len(clip)
    report.seconds += float(clip.metadata["duration_seconds"])
    report.warnings += [(item.source, warning) for warning in clip.metadata["warnings"]]
    return clip
