"""Clips of frames from files: AudioSet's, YouTube-8M's and our own, found and read one by one.

`record_decoding` says which kinds of records there are. A record or file that is no good is
named, counted and left out, up to a limit.
"""

from __future__ import annotations

import glob
import gzip
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from classifier.bundle_files import CARD_FILE
from classifier.record_decoding import Parts, parts_of_clip, parts_of_message
from classifier.remote_files import gfile, is_remote, open_remote
from classifier.wording import one_line
from vggish.errors import AudiotagError, FrameFileError, OptionError, first_line
from vggish.frame_files import FORMATS, read_frames
from vggish.frames import Frames
from vggish.tfrecord import message_class, scan_records, starts_record

_GZIP_MAGIC = b"\x1f\x8b\x08"
_NO_FRAMES = "no file of frames, or damaged"
_REST_IS_LOST = "; it and all that follows in the file are lost"

Paths = str | Path | Iterable[str | Path]


@dataclass(frozen=True, eq=False, slots=True)
class Clip:
    """One sequence of frames, with its labels.

    Attributes:
        clip_id: as the record has it; "<file's stem>#<record number>" where it has none.
        frames: uint8 [n, 128], codes of the quantiser.
        labels: class indices, all different; None where the record has none.
        embedder: name of what made the frames, "" where the record does not say.
        source: file and number of the record.
    """

    clip_id: str
    frames: Frames
    labels: tuple[int, ...] | None = None
    embedder: str = ""
    source: str = ""


class BadRecord(NamedTuple):
    """A record, or a file, that was left out: where it is and what is wrong with it."""

    where: str
    reason: str


@dataclass
class ReadReport:
    """What was seen while files were read.

    Attributes:
        n_files: files opened, or that could not be.
        n_clips: clips given.
        n_unlabelled: of these, how many have no labels.
        n_without_id: of these, how many had no id and were given one.
        n_repeated_ids: of these, how many have the id of an earlier one; `load_clips` counts it.
        n_empty: records without frames, left out.
        n_empty_files: files without records.
        kinds: clips by kind of record.
        embedders: clips by the name of the embedder, "" where the record does not say.
        bad: what was left out because it is damaged or not what it should be.
    """

    n_files: int = 0
    n_clips: int = 0
    n_unlabelled: int = 0
    n_without_id: int = 0
    n_repeated_ids: int = 0
    n_empty: int = 0
    n_empty_files: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    embedders: Counter[str] = field(default_factory=Counter)
    bad: list[BadRecord] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """All of it, JSON-ready, with `n_bad`."""
        counts = {name: value for name, value in vars(self).items() if isinstance(value, int)}
        return {
            **counts,
            "n_bad": len(self.bad),
            "kinds": dict(self.kinds),
            "embedders": dict(self.embedders),
            "bad": [bad._asdict() for bad in self.bad],
        }

    def warnings(self) -> list[str]:
        """Sentences about what a user should know before trusting the rest."""
        shown = "; ".join(f"{where}: {reason}" for where, reason in self.bad[:3])
        bad = f"{len(self.bad)} ({shown}{'; ...' if len(self.bad) > 3 else ''})"
        sentences = {
            f"damaged or unfit records or files, left out: {bad}": len(self.bad),
            f"records without frames, left out: {self.n_empty}": self.n_empty,
            f"files without records: {self.n_empty_files}": self.n_empty_files,
            f"clips without an id, called FILE#NUMBER: {self.n_without_id}": self.n_without_id,
            f"clips with the id of another one: {self.n_repeated_ids}": self.n_repeated_ids,
            f"clips without labels: {self.n_unlabelled} of {self.n_clips}": self.n_unlabelled,
        }
        return [sentence for sentence, count in sentences.items() if count]


# --- Finding files -----------------------------------------------------------------------


def find_frame_files(arguments: Sequence[str]) -> list[str]:
    """Find the files that the arguments mean.

    Args:
        arguments: files; directories, which stand for the files of frames below them, but not
            for hidden ones and what is in runs and bundles; patterns (`**` included); the same
            at remote places ("gs://..."), as far as TensorFlow can read them.

    Returns:
        Paths, sorted, each once.

    Raises:
        OptionError: an argument leads to no file.
        MissingPackageError: a place is remote and TensorFlow is not installed.
    """
    found: dict[str, str] = {}
    for argument in arguments:
        if not argument:
            raise OptionError("a name of files of frames is empty; is a variable not set?")
        remote = is_remote(argument)
        # Of several ways to a file, through links, the shortest is taken.
        for path in sorted(_find_remote(argument) if remote else _find_local(argument), key=len):
            found.setdefault(path if remote else os.path.realpath(path), path)
    if not found:
        raise OptionError("no files of frames are named; give files, directories or 'patterns'")
    return sorted(found.values())


def files_below(directory: str) -> Iterator[str]:
    """All files below a directory but hidden ones; links are followed, in no circle.

    Raises:
        OptionError: a directory cannot be searched.
    """
    return _walked(os.walk(directory, followlinks=True, onerror=_cannot_search))


def looks_like_frames(path: str) -> bool:
    """Whether a file of a directory is meant to be read: by its name, and a CSV by its start."""
    name = os.path.basename(path).lower()
    if name.endswith(".csv") and not is_remote(path):
        # Ours begin with a line of metadata; others, such as lists of labels, lie beside frames.
        try:
            with open(path, "rb") as file:
                return file.read(3) == b"# {"
        except OSError:
            return True  # reading it will tell
    return ".tfrec" in name or name.endswith((".npz", ".jsonl", ".parquet"))


def frames_among(paths: Iterable[str]) -> list[str]:
    """Of all files below a directory those of frames; what runs and bundles hold are none."""
    found = list(paths)
    known = set(found)
    inside = tuple(
        os.path.join(os.path.dirname(path), "")
        for path in found
        if os.path.basename(path) == CARD_FILE
        or (os.path.basename(path) == "config.json" and path[:-11] + "split.csv" in known)
    )
    return [path for path in found if looks_like_frames(path) and not path.startswith(inside)]


def _find_local(argument: str) -> list[str]:
    if os.path.isdir(argument):
        return _some(frames_among(files_below(argument)), argument)
    if os.path.exists(argument):
        return [argument]
    if not glob.has_magic(argument):
        raise OptionError(f"there is no file or directory {one_line(argument)}")
    matches = glob.glob(argument, recursive=True)
    files = [match for match in matches if not os.path.isdir(match)]
    if not files and "**" not in argument:
        files = [path for match in matches for path in _find_local(match)]
    if not files:
        raise OptionError(f"nothing matches the pattern {one_line(argument)}")
    return files


def _find_remote(argument: str) -> list[str]:
    files = gfile()
    try:
        if files.isdir(argument):
            return _some(frames_among(_walked(files.walk(argument))), argument)
        if glob.has_magic(argument):
            return _some(files.glob(argument), argument)
        if files.exists(argument):
            return [argument]
    except OptionError:
        raise
    except Exception as error:  # TensorFlow's errors, and those of its file systems
        raise OptionError(f"cannot look for {argument}: {first_line(error)}") from error
    raise OptionError(f"there is no file or directory {argument}")


def _walked(walk: Iterable[tuple[str, list[str], list[str]]]) -> Iterator[str]:
    seen: set[str] = set()
    for parent, directories, files in walk:
        seen.add(os.path.realpath(parent))
        directories[:] = [
            name
            for name in directories
            if name[0] != "." and os.path.realpath(os.path.join(parent, name)) not in seen
        ]
        yield from (os.path.join(parent, name) for name in files if name[0] != ".")


def _cannot_search(error: OSError) -> None:
    raise OptionError(f"cannot search the directory {error.filename}: {error.strerror or error}")


def _some(paths: Iterable[str], argument: str) -> list[str]:
    found = list(paths)
    if not found:
        where = one_line(argument)
        raise OptionError(f"{where} has no files of frames (TFRecords, or what embed wrote)")
    return found


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
    if suffix == "tfrecord" or suffix not in FORMATS:
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
