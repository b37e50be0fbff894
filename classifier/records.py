"""Clips of frames from files: AudioSet's, YouTube-8M's and our own, read one by one or packed.

    kind                where                  frames
    audioset frames     SequenceExample        feature list `audio_embedding`
    youtube8m frames    SequenceExample        feature list `audio`; `rgb` is left aside
    youtube8m video     Example                feature `mean_audio`, taken as a clip of one frame
    audiotag FORMAT     whatever `embed` wrote

A row is 128 bytes or 128 numbers. Numbers are codes (whole, 0 to 255) or dequantised values,
which are quantised again; raw embeddings are refused. A record or file that is no good is
named, counted and left out, up to a limit.

Source: the readers of the YouTube-8M starter code, and AudioSet's download page.
"""

from __future__ import annotations

import array
import functools
import glob
import gzip
import io
import json
import operator
import os
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from vggish.errors import AudiotagError, FrameFileError, OptionError, first_line
from vggish.extras import import_extra
from vggish.frame_files import FORMATS, read_frames
from vggish.frames import ClipFrames
from vggish.params import EMBEDDING_SIZE, QUANTIZE_MAX
from vggish.postprocess import N_LEVELS, quantize
from vggish.tfrecord import METADATA_KEY, message_class, scan_records, starts_record

MEMORY_LIMIT_BYTES = 4 << 30
SAMPLINGS = ("all", "random", "run")

_ID_KEYS = ("video_id", "id")
_FRAME_LISTS = {"audio_embedding": "audioset frames", "audio": "youtube8m frames"}
_MEAN_KEY = "mean_audio"
_RGB_SIZE = 1024
# Dequantised values end at 2.0078; a float may be rounded beyond that.
_MAX_DEQUANTIZED = QUANTIZE_MAX + 0.01
_MAX_LABEL = np.iinfo(np.int32).max
_GZIP_MAGIC = b"\x1f\x8b\x08"
_REST_IS_LOST = "; it and all that follows in the file are lost"

Frames = npt.NDArray[np.uint8]
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
        arguments: files; directories, which stand for the files of frames below them, hidden
            ones aside; patterns (`**` included); the same at remote places ("gs://..."), as far
            as TensorFlow can read them.

    Returns:
        Paths, sorted, each once.

    Raises:
        OptionError: an argument leads to no file.
        MissingPackageError: a place is remote and TensorFlow is not installed.
    """
    found: dict[str, str] = {}
    for argument in arguments:
        remote = is_remote(argument)
        # Of several ways to a file, through links, the shortest is taken.
        for path in sorted(_find_remote(argument) if remote else _find_local(argument), key=len):
            found.setdefault(path if remote else os.path.realpath(path), path)
    if not found:
        raise OptionError("no files of frames are named; give files, directories or 'patterns'")
    return sorted(found.values())


def is_remote(path: str) -> bool:
    """Whether a path names a place that only TensorFlow's file systems reach."""
    return "://" in path


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


def _find_local(argument: str) -> list[str]:
    if os.path.isdir(argument):
        return _some(filter(looks_like_frames, files_below(argument)), argument)
    if os.path.exists(argument):
        return [argument]
    if not glob.has_magic(argument):
        raise OptionError(f"there is no file or directory {argument}")
    matches = glob.glob(argument, recursive=True)
    files = [match for match in matches if not os.path.isdir(match)]
    if not files and "**" not in argument:
        files = [path for match in matches for path in _find_local(match)]
    if not files:
        raise OptionError(f"nothing matches the pattern {argument}")
    return files


def _find_remote(argument: str) -> list[str]:
    gfile = _gfile()
    try:
        if gfile.isdir(argument):
            return _some(filter(looks_like_frames, _walked(gfile.walk(argument))), argument)
        if glob.has_magic(argument):
            return _some(gfile.glob(argument), argument)
        if gfile.exists(argument):
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
        raise OptionError(f"{argument} has no files of frames (TFRecords, or what embed wrote)")
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
                report.bad.append(found)
                n_bad += 1
                if n_bad > max_bad:
                    raise FrameFileError(_too_many(found, n_bad, max_bad))
            elif len(found.frames) == 0:
                report.n_empty += 1
            else:
                yield _counted(found, path, number, report)
        report.n_empty_files += number == 0


class _Parts(NamedTuple):
    """What a record holds."""

    kind: str
    clip_id: str
    frames: Frames
    labels: tuple[int, ...] | None
    embedder: str


def _counted(parts: _Parts, path: str, number: int, report: ReadReport) -> Clip:
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
    return f"{bad.where}: {bad.reason}\n{seen}{hint}"


def _parts_of(path: str) -> Iterator[_Parts | BadRecord]:
    suffix = Path(path).suffix.lower().lstrip(".")
    if suffix == "tfrecord" or suffix not in FORMATS:
        return _parts_of_tfrecord(path)
    return _parts_of_ours(path, suffix)


def _parts_of_ours(path: str, file_format: str) -> Iterator[_Parts | BadRecord]:
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
            yield BadRecord(where, reason.replace(path, "the file") + _REST_IS_LOST)
            return
        except AudiotagError:
            raise
        except Exception as error:  # a damaged archive makes numpy and zlib fail in a dozen ways
            yield BadRecord(where, f"damaged: {first_line(error)}{_REST_IS_LOST}")
            return
        if clip is None:
            return
        try:
            yield _parts_of_clip(clip, f"audiotag {file_format}")
        except (ValueError, TypeError) as error:
            yield BadRecord(where, str(error))


def _parts_of_clip(clip: ClipFrames, kind: str) -> _Parts:
    frames = _as_codes(clip.frames, clip.metadata.get("values"))
    labels = _checked_labels(tuple(map(operator.index, clip.labels)))
    return _Parts(kind, clip.clip_id, frames, labels, _embedder(clip.metadata))


def _parts_of_tfrecord(path: str) -> Iterator[_Parts | BadRecord]:
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
    with io.BufferedReader(_RemoteFile(path)) if is_remote(path) else open(path, "rb") as file:
        head = file.peek(12)[:12]
        # A record may happen to have a length that looks like gzip's magic.
        if head.startswith(_GZIP_MAGIC) and not starts_record(head):
            with gzip.GzipFile(fileobj=file) as unpacked:
                yield unpacked
        else:
            yield file


class _RemoteFile(io.RawIOBase):
    """A file of TensorFlow's file systems, as Python's buffered readers want it."""

    def __init__(self, path: str) -> None:
        self._file = _gfile().GFile(path, "rb")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


def _gfile() -> Any:
    return import_extra("tensorflow", extra="train", purpose="reading remote files").io.gfile


# --- Decoding ----------------------------------------------------------------------------


def _decoded(record: bytes, parse: Callable[[bytes], Any], where: str) -> _Parts | BadRecord:
    try:
        return _parts_of_message(parse(record))
    except (ValueError, TypeError, LookupError) as error:
        return BadRecord(where, str(error))
    except Exception:  # protobuf's DecodeError lies at another place in each version
        return BadRecord(where, "no SequenceExample or Example")


def _parts_of_message(message: Any) -> _Parts:
    context = message.context.feature
    lists = message.feature_lists.feature_list
    metadata = _metadata(context)
    for key, kind in _FRAME_LISTS.items():
        if key in lists:
            if METADATA_KEY in context:
                kind = "audiotag tfrecord"
            frames = _frames(lists[key], metadata.get("values"))
            break
    else:
        if _MEAN_KEY not in context:
            raise ValueError(_no_frames([*context, *lists]))
        kind, frames = "youtube8m video", _as_codes(_stacked([context[_MEAN_KEY]]), None)
    return _Parts(kind, _clip_id(context), frames, _labels(context), _embedder(metadata))


def _no_frames(keys: list[str]) -> str:
    wanted = ", ".join(repr(key) for key in (*_FRAME_LISTS, _MEAN_KEY))
    received = ", ".join(repr(key) for key in sorted(keys)[:8]) or "no features at all"
    return f"it has no frames of sound, neither {wanted}. Received: {received}"


def _clip_id(context: Any) -> str:
    for key in _ID_KEYS:
        values = context[key].bytes_list.value if key in context else ()
        if values and values[0]:
            name: str = values[0].decode("utf-8", "backslashreplace")
            return name
    return ""


def _labels(context: Any) -> tuple[int, ...] | None:
    if "labels" not in context:
        return None
    feature = context["labels"]
    labels = tuple(feature.int64_list.value)
    if not labels and feature.WhichOneof("kind") not in (None, "int64_list"):
        raise ValueError("its labels are no class indices (int64), but text or fractions")
    return _checked_labels(labels)


def _checked_labels(labels: tuple[int, ...]) -> tuple[int, ...] | None:
    """Labels without repeats; None for none, as writers put an empty list where they know none."""
    if not labels:
        return None
    if min(labels) < 0 or max(labels) > _MAX_LABEL:
        raise ValueError(f"labels must be class indices from 0. Received: {list(labels)[:8]}")
    return labels if len(set(labels)) == len(labels) else tuple(dict.fromkeys(labels))


def _metadata(context: Any) -> dict[str, Any]:
    if METADATA_KEY not in context:
        return {}
    metadata = json.loads(context[METADATA_KEY].bytes_list.value[0])
    if not isinstance(metadata, dict):
        raise TypeError(f"its {METADATA_KEY} is no JSON object")
    return metadata


def _embedder(metadata: dict[str, Any]) -> str:
    embedder = metadata.get("embedder") or ""
    return str(embedder.get("name", "") if isinstance(embedder, dict) else embedder)


def _frames(rows: bytes, values: str | None) -> Frames:
    """Frames from a serialised `FeatureList`; `values` is what our metadata calls them."""
    prefix, pattern = _plain_rows()
    if pattern.fullmatch(rows):
        width = len(prefix) + EMBEDDING_SIZE
        table = np.frombuffer(rows, np.uint8).reshape(-1, width)
        return np.ascontiguousarray(table[:, len(prefix) :])
    return _as_codes(_stacked(message_class("FeatureList").FromString(rows).feature), values)


@functools.cache
def _plain_rows() -> tuple[bytes, re.Pattern[bytes]]:
    """What stands before each row of 128 bytes, and a pattern of such rows alone.

    That is how the released files are; going through the messages would take five times as long.
    """
    message = message_class("FeatureList")()
    row = bytes(EMBEDDING_SIZE)
    message.feature.add().bytes_list.value.append(row)
    prefix = message.SerializeToString().removesuffix(row)
    return prefix, re.compile(b"(?:%b.{%d})+" % (re.escape(prefix), len(row)), re.DOTALL)


def _stacked(features: Sequence[Any]) -> npt.NDArray[Any]:
    """Rows of features, uint8 or float32 [n, 128]."""
    rows = [_row(feature) for feature in features]
    if any(len(row) != EMBEDDING_SIZE for row in rows):
        width = next(len(row) for row in rows if len(row) != EMBEDDING_SIZE)
        what = " (features of pictures, rgb)" if width == _RGB_SIZE else ""
        raise ValueError(f"a frame must have {EMBEDDING_SIZE} values. Received: {width}{what}")
    if len({row.dtype for row in rows}) > 1:
        raise ValueError("some of its frames are bytes, and some are numbers")
    return np.stack(rows) if rows else np.zeros((0, EMBEDDING_SIZE), np.uint8)


def _row(feature: Any) -> npt.NDArray[Any]:
    kind = feature.WhichOneof("kind")
    if kind == "bytes_list":
        return np.frombuffer(b"".join(feature.bytes_list.value), np.uint8)
    return np.array(getattr(feature, kind).value if kind else [], np.float32)


def _as_codes(values: npt.NDArray[Any], declared: Any) -> Frames:
    """Codes, uint8 [n, 128], from codes, dequantised values or PCA values [n, 128]."""
    if values.dtype == np.uint8 or values.size == 0:
        return values.astype(np.uint8, copy=False)
    if declared == "raw":
        raise ValueError("raw embeddings, before PCA; embed with --values uint8")
    if not np.isfinite(values).all():
        raise ValueError("it holds values that are no numbers (NaN or infinite)")
    low, high = float(values.min()), float(values.max())
    if declared == "pca" or max(high, -low) <= _MAX_DEQUANTIZED:
        return quantize(values)
    if low < 0 or high >= N_LEVELS or (values != np.floor(values)).any():
        raise ValueError(
            f"values must be codes (whole, 0 to {N_LEVELS - 1}) or dequantised (-2 to 2). "
            f"Received: {low:g} to {high:g} (raw embeddings, before PCA? Embed with --values uint8)"
        )
    return values.astype(np.uint8)


# --- All clips, packed -------------------------------------------------------------------


class ClipStore:
    """Clips, packed into a few arrays: what training and evaluation index into.

    Attributes:
        frames: uint8 [total, 128], clip after clip.
        offsets: int64 [n + 1]; the frames of clip i are `frames[offsets[i] : offsets[i + 1]]`.
        lengths: int64 [n], frames of each.
        longest: frames of the longest clip, 0 if there is none.
        ids: of the clips, n.
        embedders: of the clips, n.
        label_values: int32, the labels, clip after clip.
        label_offsets: int64 [n + 1], as `offsets`.
        is_labelled: bool [n]; False where a clip's labels are None.
    """

    def __init__(
        self,
        frames: Frames,
        lengths: npt.NDArray[np.int64],
        ids: Sequence[str],
        embedders: Sequence[str],
        labels: npt.NDArray[np.int32],
        n_labels: npt.NDArray[np.int64],
    ) -> None:
        self.frames = frames
        self.lengths = lengths
        self.offsets = _offsets(lengths)
        self.longest = int(lengths.max(initial=0))
        self.ids = ids
        self.embedders = embedders
        self.label_values = labels
        self.is_labelled: npt.NDArray[np.bool_] = n_labels >= 0
        self.label_offsets = _offsets(n_labels.clip(0))

    @classmethod
    def from_clips(
        cls, clips: Iterable[Clip], *, memory_limit_bytes: int = MEMORY_LIMIT_BYTES
    ) -> ClipStore:
        """Pack clips; frames beyond the limit go to a temporary file that has no name.

        Raises:
            FrameFileError: the temporary file cannot be written.
        """
        ids: list[str] = []
        embedders: list[str] = []
        lengths, n_labels, labels = array.array("q"), array.array("q"), array.array("i")
        with _Frames(memory_limit_bytes) as frames:
            for clip in clips:
                frames.append(clip.frames)
                ids.append(clip.clip_id)
                embedders.append(clip.embedder)
                lengths.append(len(clip.frames))
                n_labels.append(-1 if clip.labels is None else len(clip.labels))
                labels.extend(clip.labels or ())
            return cls(
                frames.packed(),
                np.array(lengths, np.int64),
                ids,
                embedders,
                np.array(labels, np.int32),
                np.array(n_labels, np.int64),
            )

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Clip:
        if not -len(self) <= index < len(self):
            raise IndexError(f"clip {index} of {len(self)}")
        index %= len(self)
        first, last = self.offsets[index : index + 2]
        first_label, last_label = self.label_offsets[index : index + 2]
        labels = tuple(self.label_values[first_label:last_label].tolist())
        clip_id = self.ids[index]
        return Clip(
            clip_id,
            self.frames[first:last],
            labels if self.is_labelled[index] else None,
            self.embedders[index],
            f"the clip {clip_id!r}",
        )

    def __iter__(self) -> Iterator[Clip]:
        return map(self.__getitem__, range(len(self)))

    def gather(
        self,
        indices: npt.ArrayLike,
        n_frames: int | None = None,
        sampling: str = "all",
        rng: np.random.Generator | None = None,
    ) -> tuple[Frames, npt.NDArray[np.int32]]:
        """Frames of some clips, as a batch.

        Args:
            indices: int [B], of the clips.
            n_frames: T, the longest clip's of the store by default.
            sampling: "all" takes the first T frames, "run" T neighbours from a random start on,
                "random" draws T with replacement (so that no clip is shorter than T).
            rng: draws; needed but for "all".

        Returns:
            uint8 [B, T, 128], zeros where a clip has no more frames, and int32 [B], how many
            rows of each are real.

        Raises:
            OptionError: an unknown sampling, or none to draw with.

        Source: `SampleRandomFrames` and `SampleRandomSequence` of the YouTube-8M starter code.
        """
        if sampling not in SAMPLINGS:
            raise OptionError(
                f"sampling must be one of {', '.join(SAMPLINGS)}. Received: {sampling!r}"
            )
        chosen = np.asarray(indices, np.int64)
        width = self.longest if n_frames is None else n_frames
        lengths = self.lengths[chosen]
        starts = self.offsets[:-1][chosen][:, None]
        steps = np.arange(width)
        kept = np.minimum(lengths, width)
        if sampling == "all":
            rows = starts + steps
        elif rng is None:
            raise OptionError(f"the sampling {sampling!r} needs a random generator, `rng`")
        elif sampling == "random":
            rows = starts + (rng.random((len(chosen), width)) * lengths[:, None]).astype(np.int64)
            kept = np.where(lengths > 0, width, 0)
        else:
            n_starts = lengths - kept + 1
            rows = starts + (rng.random(len(chosen)) * n_starts).astype(np.int64)[:, None] + steps
        if len(self.frames) == 0:
            return np.zeros((*rows.shape, EMBEDDING_SIZE), np.uint8), kept.astype(np.int32)
        batch = self.frames.take(rows, axis=0, mode="clip")
        batch[steps >= kept[:, None]] = 0
        return batch, kept.astype(np.int32)

    def label_matrix(self, indices: npt.ArrayLike, n_classes: int) -> npt.NDArray[np.bool_]:
        """Labels of some clips, int [B] -> bool [B, n_classes]; clips without any are False.

        Raises:
            FrameFileError: a label is not below `n_classes`; the message names the clip.
        """
        chosen = np.asarray(indices, np.int64)
        counts = np.diff(self.label_offsets)[chosen]
        ends = np.cumsum(counts)
        rows = np.repeat(np.arange(len(chosen)), counts)
        # Positions within each clip, behind where its labels begin.
        within = np.arange(len(rows)) - np.repeat(ends - counts, counts)
        columns = self.label_values[self.label_offsets[:-1][chosen][rows] + within]
        beyond = columns >= n_classes
        if beyond.any():
            first = int(np.argmax(beyond))
            raise FrameFileError(
                f"the clip {self.ids[chosen[rows[first]]]!r} has the label {columns[first]}, but "
                f"there are {n_classes} classes (0 to {n_classes - 1}); name the classes of this "
                "data with --labels"
            )
        matrix = np.zeros((len(chosen), n_classes), np.bool_)
        matrix[rows, columns] = True
        return matrix


def load_clips(
    paths: Paths,
    *,
    max_bad: int = 0,
    report: ReadReport | None = None,
    memory_limit_bytes: int = MEMORY_LIMIT_BYTES,
) -> ClipStore:
    """Read all clips of files into one `ClipStore`; arguments and errors as of `read_clips`."""
    report = ReadReport() if report is None else report
    clips = read_clips(paths, max_bad=max_bad, report=report)
    store = ClipStore.from_clips(clips, memory_limit_bytes=memory_limit_bytes)
    report.n_repeated_ids += len(store) - len(set(store.ids))
    return store


class _Frames:
    """Frames gathered in memory, or beyond a limit in a temporary file."""

    def __init__(self, memory_limit_bytes: int) -> None:
        self._limit = memory_limit_bytes
        self._memory = bytearray()
        self._file: IO[bytes] | None = None

    def __enter__(self) -> _Frames:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._file is not None:
            self._file.close()

    def append(self, frames: Frames) -> None:
        data = np.ascontiguousarray(frames, np.uint8).data
        if self._file is None and len(self._memory) + data.nbytes <= self._limit:
            self._memory += data
            return
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile()  # noqa: SIM115 closed by __exit__
                self._file.write(self._memory)
                self._memory = bytearray()
            self._file.write(data)
        except OSError as error:
            raise FrameFileError(
                f"cannot put frames into a temporary file in {tempfile.gettempdir()}: "
                f"{error.strerror or error}. Name a directory with more room in TMPDIR"
            ) from error

    def packed(self) -> Frames:
        if self._file is None:
            return np.frombuffer(self._memory, np.uint8).reshape(-1, EMBEDDING_SIZE)
        self._file.flush()
        # The mapping outlives the file object.
        mapped = np.memmap(self._file, np.uint8, "r")
        return np.asarray(mapped).reshape(-1, EMBEDDING_SIZE)


def _offsets(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    offsets: npt.NDArray[np.int64] = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return offsets
