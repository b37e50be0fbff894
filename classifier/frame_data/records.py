"""Read clips from files of frames: AudioSet's, YouTube-8M's and our own, one by one."""

from __future__ import annotations

import functools
import gzip
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from classifier.frame_data.clips import BadRecord, Clip, ReadReport
from classifier.frame_data.record_decoding import Record, decode_clip, decode_message
from classifier.frame_data.remote_files import is_remote, open_remote
from vggish.common.choices import FRAME_FORMATS
from vggish.common.wording import one_line
from vggish.errors import AudiotagError, FrameFileError, first_line
from vggish.frames.files import read_frames
from vggish.frames.protobuf import message_class
from vggish.frames.tfrecord import scan_records, starts_record

Paths = str | Path | Iterable[str | Path]
_GZIP_MAGIC = b"\x1f\x8b\x08"
_NOT_FRAMES = "not a file of frames, or damaged"


def read_clips(
    paths: Paths, *, max_bad: int = 0, report: ReadReport | None = None
) -> Iterator[Clip]:
    """Read clips one by one, in constant memory.

    Args:
        paths: TFRecord files, compressed with gzip or not, and the files that `audiotag embed`
            writes; the suffix tells which.
        max_bad: how many damaged or invalid records or files to skip before raising.
        report: updated while the clips are read.

    Raises:
        FrameFileError: more than `max_bad` records or files are bad; the message names the last.
        MissingPackageError: a file needs a package that is not installed.
    """
    report = ReadReport() if report is None else report
    n_bad = 0
    for path in map(str, [paths] if isinstance(paths, (str, Path)) else paths):
        report.n_files += 1
        number = 0
        for number, record in enumerate(_records(path), start=1):
            if isinstance(record, BadRecord):
                bad = BadRecord(one_line(record.where), one_line(record.reason))
                report.bad.append(bad)
                n_bad += 1
                if n_bad > max_bad:
                    raise FrameFileError(_too_many(bad, n_bad, max_bad))
            elif len(record.frames) == 0:
                report.n_empty += 1
            else:
                yield _counted(record, path, number, report)
        report.n_empty_files += number == 0


def _counted(record: Record, path: str, number: int, report: ReadReport) -> Clip:
    kind, clip_id, frames, labels, embedder = record
    report.n_clips += 1
    report.kinds[kind] += 1
    report.embedders[embedder] += 1
    report.n_unlabelled += labels is None
    report.n_without_id += not clip_id
    clip_id = clip_id or f"{Path(path).stem}#{number}"
    return Clip(clip_id, frames, labels, embedder, f"{path}, record {number}")


def _too_many(bad: BadRecord, n_bad: int, max_bad: int) -> str:
    count = f"{n_bad} bad records or files, and at most {max_bad} are allowed. " if max_bad else ""
    hint = "To skip up to N bad records or files, use --max-bad N"
    if bad.reason.startswith(_NOT_FRAMES):
        hint = "Files of frames are TFRecords, or the output of `audiotag embed`"
    return f"{bad.where}: {bad.reason}\n{count}{hint}"


def _records(path: str) -> Iterator[Record | BadRecord]:
    suffix = Path(path).suffix.lower().lstrip(".")
    is_tfrecord = suffix == "tfrecord" or suffix not in FRAME_FORMATS
    if is_remote(path) and not is_tfrecord:
        yield BadRecord(path, "only TFRecord files can be read remotely; download this one first")
        return
    number = 0
    try:
        if is_tfrecord:
            parse = message_class("UnparsedSequenceExample").FromString
            with _open(path) as file:
                for number, data in enumerate(scan_records(file, path), start=1):
                    yield _decode(
                        f"{path}, record {number}", data, lambda d: decode_message(parse(d))
                    )
        else:
            decode = functools.partial(decode_clip, kind=f"audiotag {suffix}")
            for number, clip in enumerate(read_frames(path, suffix), start=1):
                yield _decode(f"{path}, record {number}", clip, decode)
        return
    except FrameFileError as error:
        # Its message starts with the file, as in "FILE, line 2: ..." or "FILE is damaged".
        reason = re.sub(rf"^{re.escape(path)}(, |: )", "", str(error).rstrip("."))
        reason = reason.replace(path, "the file")
    except AudiotagError:
        raise
    except Exception as error:  # from disks, gzip, remote file systems, numpy and zlib
        reason = getattr(error, "strerror", None) or first_line(error)
        reason = f"{'cannot be read' if is_tfrecord else 'damaged'}: {reason}"
    if number:
        rest = "the rest of the file cannot be read"
        yield BadRecord(f"{path}, record {number + 1}", f"{reason}; {rest}")
    else:  # perhaps a file of another kind
        yield BadRecord(path, reason if is_tfrecord else f"{_NOT_FRAMES}: {reason}")


def _decode(where: str, item: Any, decode: Callable[[Any], Record]) -> Record | BadRecord:
    if isinstance(item, FrameFileError):
        return BadRecord(where, str(item).removeprefix(f"{where}: "))
    try:
        return decode(item)
    except (ValueError, TypeError, LookupError) as error:
        return BadRecord(where, str(error))
    except Exception:  # protobuf's DecodeError is in another module in each version
        return BadRecord(where, "not a SequenceExample or Example")


@contextmanager
def _open(path: str) -> Iterator[Any]:
    """Open a file for reading, decompressed if it is in gzip format."""
    with open_remote(path) if is_remote(path) else open(path, "rb") as file:
        start = file.peek(12)[:12]
        # The length of a TFRecord may start with the bytes of gzip's magic number.
        if start.startswith(_GZIP_MAGIC) and not starts_record(start):
            with gzip.GzipFile(fileobj=file) as decompressed:
                yield decompressed
        else:
            yield file
