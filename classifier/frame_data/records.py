"""Clips of frames from files: AudioSet's, YouTube-8M's and our own, found and read one by one.

`record_decoding` says which kinds of records there are. A record or file that is no good is
named, counted and left out, up to a limit.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from classifier.frame_data.clips import BadRecord, Clip, ReadReport
from classifier.frame_data.record_decoding import Parts, parts_of_clip, parts_of_message
from classifier.frame_data.remote_files import is_remote, open_remote
from vggish.common.choices import FRAME_FORMATS
from vggish.common.wording import one_line
from vggish.errors import AudiotagError, FrameFileError, first_line
from vggish.frames.files import read_frames
from vggish.frames.protobuf import message_class
from vggish.frames.tfrecord import scan_records, starts_record

_GZIP_MAGIC = b"\x1f\x8b\x08"

_NO_FRAMES = "no file of frames, or damaged"

_REST_IS_LOST = "; it and all that follows in the file are lost"

Paths = str | Path | Iterable[str | Path]


# --- Reading -----------------------------------------------------------------------------


def read_clips(
    paths: Paths, *, max_bad: int = 0, report: ReadReport | None = None
) -> Iterator[Clip]:
    """Read clips one by one, in constant memory.

    Args:
        paths: one or more, of TFRecords, gzip'ed or not, and of whatever `embed` writes (by
            suffix).
        max_bad: how many bad records or files are left out before that is an error.
        report: is added to while the clips are read.

    Raises:
        FrameFileError: more than `max_bad` records or files are bad; the message names the last.
        MissingPackageError: a file needs a package that is not installed.
    """
    report = ReadReport() if report is None else report
    n_bad = 0
    for path in map(str, [paths] if isinstance(paths, (str, Path)) else paths):
        report.n_files += 1
        number = 0
        for number, found in enumerate(_parts_of(path), start=1):
            if isinstance(found, BadRecord):
                found = BadRecord(one_line(found.where), one_line(found.reason))
                report.bad.append(found)
                n_bad += 1
                if n_bad > max_bad:
                    raise FrameFileError(_too_many(found, n_bad, max_bad))
            elif len(found.frames) == 0:
                report.n_empty += 1
            else:
                yield _counted(found, path, number, report)
        report.n_empty_files += number == 0


def _counted(parts: Parts, path: str, number: int, report: ReadReport) -> Clip:
    kind, clip_id, frames, labels, embedder = parts
    report.n_clips += 1
    report.kinds[kind] += 1
    report.embedders[embedder] += 1
    if labels is None:
        report.n_unlabelled += 1
    if not clip_id:
        report.n_without_id += 1
        clip_id = f"{Path(path).stem}#{number}"
    return Clip(clip_id, frames, labels, embedder, f"{path}, record {number}")


def _too_many(bad: BadRecord, n_bad: int, max_bad: int) -> str:
    seen = f"{n_bad} bad records or files were met, and {max_bad} allowed. " if max_bad else ""
    hint = "Leave out up to N such records or files, and go on, with --max-bad N"
    if bad.reason.startswith(_NO_FRAMES):
        hint = "Files of frames are TFRecords, or what `audiotag embed` wrote"
    return f"{bad.where}: {bad.reason}\n{seen}{hint}"


def _parts_of(path: str) -> Iterator[Parts | BadRecord]:
    suffix = Path(path).suffix.lower().lstrip(".")
    if suffix == "tfrecord" or suffix not in FRAME_FORMATS:
        return _parts_of_tfrecord(path)
    return _parts_of_ours(path, suffix)


def _parts_of_ours(path: str, file_format: str) -> Iterator[Parts | BadRecord]:
    if is_remote(path):
        yield BadRecord(path, "only TFRecord files are read from remote places; copy it here first")
        return
    number = 0
    clips = read_frames(path, file_format)
    while True:
        number += 1
        where = f"{path}, record {number}"
        try:
            clip = next(clips, None)
        except FrameFileError as error:
            # It names the file by itself, as in "FILE, line 2: ..." or "FILE is damaged".
            reason = re.sub(rf"^{re.escape(path)}(, |: )", "", str(error).rstrip("."))
            yield _unreadable(path, number, reason.replace(path, "the file"))
            return
        except AudiotagError:
            raise
        except Exception as error:  # a damaged archive makes numpy and zlib fail in a dozen ways
            yield _unreadable(path, number, f"damaged: {first_line(error)}")
            return
        if clip is None:
            return
        try:
            yield parts_of_clip(clip, f"audiotag {file_format}")
        except (ValueError, TypeError) as error:
            yield BadRecord(where, str(error))


def _unreadable(path: str, number: int, reason: str) -> BadRecord:
    """From this record on; from the first on, the file is as likely something else."""
    if number == 1:
        return BadRecord(path, f"{_NO_FRAMES}: {reason}")
    return BadRecord(f"{path}, record {number}", reason + _REST_IS_LOST)


def _parts_of_tfrecord(path: str) -> Iterator[Parts | BadRecord]:
    number = 0
    parse = message_class("UnparsedSequenceExample").FromString
    try:
        with _opened(path) as file:
            for number, record in enumerate(scan_records(file, path), start=1):
                where = f"{path}, record {number}"
                if isinstance(record, FrameFileError):
                    yield BadRecord(where, str(record).removeprefix(f"{where}: "))
                else:
                    yield _decoded(record, parse, where)
    except AudiotagError:
        raise
    except Exception as error:  # of the disk, of gzip, of a remote file system
        reason = getattr(error, "strerror", None) or first_line(error)
        if number == 0:
            yield BadRecord(path, f"cannot be read: {reason}")
        else:
            rest = f"{path}, record {number + 1}"
            yield BadRecord(rest, f"cannot be read: {reason}{_REST_IS_LOST}")


@contextmanager
def _opened(path: str) -> Iterator[Any]:
    """A file to read from, unpacked if it is gzip'ed."""
    with open_remote(path) if is_remote(path) else open(path, "rb") as file:
        head = file.peek(12)[:12]
        # A record may happen to have a length that looks like gzip's magic.
        if head.startswith(_GZIP_MAGIC) and not starts_record(head):
            with gzip.GzipFile(fileobj=file) as unpacked:
                yield unpacked
        else:
            yield file


def _decoded(record: bytes, parse: Callable[[bytes], Any], where: str) -> Parts | BadRecord:
    try:
        return parts_of_message(parse(record))
    except (ValueError, TypeError, LookupError) as error:
        return BadRecord(where, str(error))
    except Exception:  # protobuf's DecodeError lies at another place in each version
        return BadRecord(where, "no SequenceExample or Example")
