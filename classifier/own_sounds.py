"""People's own sounds: a folder per class, or a CSV, to clips of frames that can be trained on.

Embedding is what takes time, so its results are kept:

    $AUDIOTAG_HOME/frames/3f/3f9a..c2.npz   the frames of one sound, or of a part of one

The name is a checksum of the sound file's contents, the part, and everything that decides the
values of frames. So a later run embeds only what is new: after a changed CSV, in a moved
folder, after an interruption. An entry is written at once and atomically, as soon as its sound is
embedded; a damaged one is made again. A folder of frames can be deleted at any time.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import itertools
import json
import math
import os
import re
import sys
import threading
import unicodedata
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import numpy as np

from classifier.labels import Labels
from classifier.records import BadRecord, Clip, Frames
from vggish.audio import AudioStream, open_audio
from vggish.checksums import sha256_of
from vggish.decoders import AUDIO_SUFFIXES, Block
from vggish.errors import AudioError, EmptyAudioError, FrameFileError, OptionError
from vggish.extractor import Extractor, Progress
from vggish.frame_files import read_frames, write_frames
from vggish.frames import ClipFrames, as_text
from vggish.inputs import find_inputs
from vggish.params import EMBEDDING_SIZE, PATCH_SECONDS
from vggish.resample import Waveform
from vggish.weights import audiotag_home

# What a column may be called; the first name is the one that messages use.
_COLUMNS = {
    "path": ("path", "filename", "file_name", "filepath", "fname", "file"),
    "labels": ("labels", "label", "positive_labels", "category", "class"),
    "start": ("start", "start_seconds", "start_time", "start_time_seconds"),
    "end": ("end", "end_seconds", "end_time", "end_time_seconds"),
    "fold": ("fold",),
}
_REQUIRED = ("path", "labels")
# So many of the things that are wrong are named.
_N_NAMED = 5
# Of finished recordings that wait for a slow one before them.
_MAX_AHEAD_PER_JOB = 4


@dataclass(frozen=True)
class Sound:
    """One example: a sound file, or a part of one, and its classes.

    Attributes:
        path: of the file.
        clip_id: path below the folder or the CSV, with `@start-end` for a part.
        labels: class indices, all different; none for a sound of none of the classes.
        start_seconds: of the part; 0 for the beginning.
        end_seconds: of the part; None for the end of the file.
        fold: of cross-validation, where the CSV says one.
        where: what to call it in messages.
    """

    path: Path
    clip_id: str
    labels: tuple[int, ...]
    start_seconds: float
    end_seconds: float | None
    fold: int | None
    where: str

    @property
    def is_whole(self) -> bool:
        """Whether it is all of its file."""
        return self.start_seconds == 0 and self.end_seconds is None


@dataclass(frozen=True)
class SoundList:
    """What to embed.

    Attributes:
        sounds: parts of one file follow each other; otherwise in the order they were found.
        labels: the classes.
        leftovers: what lies in the folder and is not used, with the reason.
    """

    sounds: tuple[Sound, ...]
    labels: Labels
    leftovers: tuple[str, ...] = ()


@dataclass
class EmbedReport:
    """What was done while sounds were embedded.

    Attributes:
        n_sounds: in the list.
        n_embedded: embedded in this run.
        n_cached: taken from the cache.
        bad: what could not be embedded, and was left out.
        warnings: (sound, sentence) about what was embedded all the same.
    """

    n_sounds: int = 0
    n_embedded: int = 0
    n_cached: int = 0
    bad: list[BadRecord] = field(default_factory=list)
    warnings: list[tuple[str, str]] = field(default_factory=list)


# --- Which sounds, and of what class -----------------------------------------------------


@dataclass(frozen=True)
class _Entry:
    """A sound whose classes have names, and no indices yet."""

    path: Path
    clip_id: str
    classes: tuple[str, ...]
    where: str
    start_seconds: float = 0.0
    end_seconds: float | None = None
    fold: int | None = None


def read_sound_list(argument: Path, labels: Labels | None = None) -> SoundList:
    """Find the sounds that a folder or a CSV means.

    Args:
        argument: a folder with a folder per class, whose sounds may lie in further folders; or
            a CSV with the columns `path` (relative to the CSV) and `labels` (several parted by
            `|`, `;` or `,`; empty for none of the classes), and where wanted `start` and `end`
            in seconds, and `fold`. Rows of one sound add their labels together.
        labels: the classes. By default they are those that occur, in alphabetical order.

    Raises:
        OptionError: there are no sounds or no classes, sounds lie beside the class folders,
            columns or files are missing, a row makes no sense, or a class is unknown; the
            message says where.
    """
    if argument.is_dir():
        entries, leftovers = _entries_of_folder(argument)
    else:
        entries, leftovers = _entries_of_csv(argument, labels)
    if labels is None:
        labels = _labels_of(entries, argument)
    indices = _class_indices(entries, labels)
    merged: dict[tuple[Path, float, float | None], Sound] = {}
    for entry in entries:
        found = tuple(dict.fromkeys(indices[name] for name in entry.classes))
        key = (entry.path, entry.start_seconds, entry.end_seconds)
        merged[key] = _joined(merged.get(key), _sound(entry, found))
    first = {sound.path: number for number, sound in reversed(list(enumerate(merged.values())))}
    in_order = sorted(merged.values(), key=lambda sound: first[sound.path])
    return SoundList(tuple(in_order), labels, leftovers)


def _sound(entry: _Entry, labels: tuple[int, ...]) -> Sound:
    start, end = entry.start_seconds, entry.end_seconds
    part = ""
    if start or end is not None:
        part = f"@{_short(start)}-{'' if end is None else _short(end)}"
    clip_id = entry.clip_id + part
    return Sound(entry.path, clip_id, labels, start, end, entry.fold, entry.where)


def _joined(earlier: Sound | None, sound: Sound) -> Sound:
    if earlier is None:
        return sound
    if earlier.fold != sound.fold:
        raise OptionError(
            f"{sound.where}: its fold is {sound.fold}, but {earlier.fold} in {earlier.where}"
        )
    return replace(earlier, labels=tuple(dict.fromkeys((*earlier.labels, *sound.labels))))


def _entries_of_folder(root: Path) -> tuple[list[_Entry], tuple[str, ...]]:
    entries: list[_Entry] = []
    strays, leftovers = [], []
    for path in sorted(root.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir():
            found, unused = _sounds_below(path)
            entries += [_entry_in_folder(root, path, sound) for sound in found]
            leftovers += unused
        elif path.suffix.lower() in AUDIO_SUFFIXES:
            strays.append(path.name)
        else:
            leftovers.append(f"{path}: no sound file")
    how = f"Sounds go into a folder per class, such as {root / 'dog' / 'a.wav'}; or name a CSV"
    if strays:
        raise OptionError(
            f"{len(strays)} sound files lie in {root} itself, so their class is not known:\n"
            f"{_few(strays)}\n{how}"
        )
    if not entries:
        raise OptionError(f"no folder in {root} holds sound files.\n{how}")
    return entries, tuple(leftovers)


def _sounds_below(folder: Path) -> tuple[list[Path], list[str]]:
    """Sounds of a class, and what else is there."""
    try:
        inputs = find_inputs([str(folder)])
    except OptionError as error:
        return [], [f"{folder}: {error}"]
    unused = [f"{path}: no sound file" for path in inputs.skipped]
    unused += [f"{path}: is there twice, by a link" for path in inputs.repeated]
    unused += [f"{path}: {reason}" for path, reason in inputs.unreadable]
    return [Path(item.source) for item in inputs.items], unused


def _entry_in_folder(root: Path, folder: Path, path: Path) -> _Entry:
    clip_id = as_text(path.relative_to(root).as_posix())
    return _Entry(path, clip_id, (_class_name(folder.name),), str(path))


def _entries_of_csv(path: Path, labels: Labels | None) -> tuple[list[_Entry], tuple[str, ...]]:
    if path.suffix.lower() in AUDIO_SUFFIXES:
        raise OptionError(
            f"{path} is a sound; training needs a folder with a folder per class, or a CSV with "
            f"the columns {', '.join(_COLUMNS)}"
        )
    known = {} if labels is None else labels.indices()
    rows, unused = _read_table(path)
    entries = [_entry_of_row(path, line, row, known) for line, row in rows]
    if not entries:
        raise OptionError(f"{path} names no sounds: there are no rows below its header")
    named = {entry.path: entry.where for entry in reversed(entries)}
    missing = [f"{file} ({where})" for file, where in named.items() if not file.is_file()][::-1]
    if missing:
        raise OptionError(
            f"{len(missing)} of the {len(named)} files in {path} do not exist:\n"
            f"{_few(missing)}\nRelative paths are taken from the CSV's folder, {path.parent}"
        )
    leftovers = (f"{path}: columns not used: {', '.join(unused)}",) if unused else ()
    return entries, leftovers


def _read_table(path: Path) -> tuple[list[tuple[int, dict[str, str]]], list[str]]:
    """Line number and the text of the columns of `_COLUMNS`; and the names of other columns."""
    rows = []
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            header = file.readline()
            # Spreadsheets write what their country parts columns with.
            delimiter = max(",;\t", key=header.count)
            names = next(csv.reader([header], delimiter=delimiter, skipinitialspace=True), [])
            columns = _find_columns(path, names)
            reader = csv.reader(file, delimiter=delimiter, skipinitialspace=True)
            for row in reader:
                line = reader.line_num + 1
                if len(row) > len(names):
                    raise OptionError(
                        f"{path}, line {line}: {len(row)} fields, but {len(names)} columns. "
                        f'Several labels need quotes: "dog{delimiter}bark", or a bar: dog|bark'
                    )
                cells = [*row, *[""] * (len(names) - len(row))]
                if any(cell.strip() for cell in cells):
                    rows.append((line, {key: cells[n].strip() for key, n in columns.items()}))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise OptionError(f"cannot read the list of sounds {path}: {reason}") from error
    unused = [name for place, name in enumerate(names) if place not in columns.values()]
    return rows, unused


def _find_columns(path: Path, header: Sequence[str]) -> dict[str, int]:
    names = [name.strip().casefold() for name in header]
    columns = {
        column: names.index(alias)
        for column, aliases in _COLUMNS.items()
        for alias in reversed(aliases)
        if alias in names
    }
    missing = [column for column in _REQUIRED if column not in columns]
    if missing:
        aliases = "; ".join(
            f"{column} (or {', '.join(_COLUMNS[column][1:])})" for column in missing
        )
        raise OptionError(
            f"{path} lacks a column {aliases}.\n"
            f"It has: {', '.join(name.strip() for name in header) or 'nothing'}. "
            "Needed: path, labels; optional: start, end, fold"
        )
    return columns


def _entry_of_row(
    csv_path: Path, line: int, row: Mapping[str, str], known: Mapping[str, int]
) -> _Entry:
    name = row["path"]
    where = f"{csv_path}, line {line}"
    if not name:
        raise OptionError(f"{where}: there is no path")
    # Without "..", a clip is called alike wherever the CSV names it from.
    path = Path(os.path.normpath(csv_path.parent / name))
    start = _seconds(row.get("start", ""), "start", where)
    end = _seconds(row.get("end", ""), "end", where)
    if end is not None and end <= (start or 0):
        raise OptionError(f"{where}: the end, {end:g} s, must come after the start, {start or 0:g}")
    root = Path(os.path.normpath(csv_path.parent))
    clip_id = path.relative_to(root) if path.is_relative_to(root) else Path(os.path.normpath(name))
    return _Entry(
        path=path,
        clip_id=as_text(clip_id.as_posix()),
        classes=_split(row["labels"], known),
        where=where,
        start_seconds=start or 0.0,
        end_seconds=end,
        fold=_fold(row.get("fold", ""), where),
    )


def _seconds(text: str, column: str, where: str) -> float | None:
    try:
        value = float(text) if text else None
    except ValueError:
        value = math.nan
    if value is not None and not 0 <= value < math.inf:
        raise OptionError(f"{where}: {column} must be seconds, 0 or more. Received: {text!r}")
    return None if value is None else round(value, 6)


def _fold(text: str, where: str) -> int | None:
    # Tables with holes hold 1.0 where 1 was written.
    number = re.fullmatch(r"(\d+)(\.0*)?", text)
    if text and number is None:
        raise OptionError(f"{where}: a fold must be a whole number. Received: {text!r}")
    return None if number is None else int(number[1])


def _split(text: str, known: Mapping[str, int]) -> tuple[str, ...]:
    # Some names hold a comma ("Child speech, kid speaking"); such a label stands for itself.
    parts = [text] if text in known else re.split(r"[|;]", text)
    pieces = [
        piece for part in parts for piece in ([part] if part.strip() in known else part.split(","))
    ]
    return tuple(_class_name(piece) for piece in pieces if piece.strip())


def _labels_of(entries: Sequence[_Entry], argument: Path) -> Labels:
    """The classes that occur: numbers in the order of numbers, then names in alphabetical order."""
    where = {name: entry.where for entry in reversed(entries) for name in entry.classes}
    names = sorted(where, key=lambda name: (int(name) if name.isdecimal() else math.inf, name))
    if not names:
        raise OptionError(f"no sound in {argument} has a label, so there is nothing to learn")
    if len(names) == 1 and all(entry.classes for entry in entries):
        raise OptionError(
            f"all {len(entries)} sounds in {argument} are of one class, {names[0]!r}: there is "
            "nothing to tell it from. Add sounds of other classes, or to a CSV some without labels"
        )
    folded: dict[str, str] = {}
    for name in names:
        twin = folded.setdefault(name.casefold(), name)
        if twin != name:
            raise OptionError(
                f"the classes {twin!r} ({where[twin]}) and {name!r} ({where[name]}) differ in case "
                "only; write them alike"
            )
    return Labels(tuple(names), ("",) * len(names))


def _class_indices(entries: Sequence[_Entry], labels: Labels) -> dict[str, int]:
    indices: dict[str, int] = {}
    unknown: dict[str, str] = {}
    for entry in entries:
        for name in entry.classes:
            if name in indices or name in unknown:
                continue
            try:
                indices[name] = labels.index_of(name)
            except OptionError as error:
                unknown[name] = f"{entry.where}: {error}"
    if unknown:
        raise OptionError(
            f"{len(unknown)} classes are not among the {len(labels)} known ones:\n"
            f"{_few(list(unknown.values()))}"
        )
    return indices


def _class_name(text: str) -> str:
    # Some systems write the accents of file names as letters of their own.
    return unicodedata.normalize("NFC", as_text(text.strip()))


def _few(items: Sequence[str]) -> str:
    lines = [f"  {item}" for item in items[:_N_NAMED]]
    if len(items) > _N_NAMED:
        lines.append(f"  and {len(items) - _N_NAMED} more")
    return "\n".join(lines)


def _short(seconds: float) -> str:
    return f"{seconds:.6f}".rstrip("0").rstrip(".")


# --- Their frames ------------------------------------------------------------------------


@dataclass(frozen=True)
class _Made:
    """What became of a sound: its frames, or the reason why there are none."""

    clip: ClipFrames | None
    reason: str = ""
    is_cached: bool = False


def embed_sounds(
    sounds: SoundList,
    extractor: Extractor,
    *,
    cache: Path | None = None,
    max_bad: int = 0,
    jobs: int = 1,
    report: EmbedReport | None = None,
    on_progress: Callable[[EmbedReport], None] | None = None,
) -> Iterator[Clip]:
    """The clips of a list, embedded or from the cache.

    A part of a sound is embedded as if it had been cut out and were a file of its own: its
    first frame begins at its start, to the sample.

    Args:
        sounds: what to embed.
        extractor: must give uint8 frames.
        cache: directory of the cache, `$AUDIOTAG_HOME/frames` by default.
        max_bad: how many sounds that cannot be embedded are left out before that is an error.
        jobs: files under way at once.
        report: is added to while the clips are made.
        on_progress: called with the report after each sound.

    Yields:
        Clips in the order of `sounds`; what is bad is left out.

    Raises:
        AudioError: more than `max_bad` sounds are bad; the message names them.
        FrameFileError: the cache cannot be written.
        OptionError: the extractor gives other values than uint8 frames.
        MissingPackageError: the resampler is not installed.
    """
    if extractor.options.values != "uint8":
        raise OptionError(
            f"heads are trained on uint8 frames. Received: values={extractor.options.values!r}"
        )
    report = EmbedReport() if report is None else report
    report.n_sounds += len(sounds.sounds)
    frames_cache = _FrameCache(audiotag_home() / "frames" if cache is None else cache, extractor)
    n_bad = 0
    with contextlib.closing(_make_each(sounds.sounds, extractor, frames_cache, jobs)) as each:
        for sound, made in each:
            _count(report, sound, made)
            if made.clip is None:
                n_bad += 1
            if n_bad > max_bad:
                raise AudioError(_too_many(report.bad[-n_bad:], max_bad))
            if on_progress is not None:
                on_progress(report)
            if made.clip is not None:
                embedder = str(made.clip.metadata["embedder"]["name"])
                frames = cast("Frames", made.clip.frames)
                yield Clip(sound.clip_id, frames, sound.labels, embedder, sound.where)


def _count(report: EmbedReport, sound: Sound, made: _Made) -> None:
    if made.clip is None:
        report.bad.append(BadRecord(sound.where, made.reason))
        return
    report.n_cached += made.is_cached
    report.n_embedded += not made.is_cached
    report.warnings += [(sound.where, warning) for warning in made.clip.metadata["warnings"]]


def _too_many(bad: Sequence[BadRecord], max_bad: int) -> str:
    lines = [reason if where in reason else f"{where}: {reason}" for where, reason in bad]
    hint = "leave out up to N such sounds and go on: --max-bad N"
    if not max_bad:
        return f"{lines[0]}\nTo {hint}"
    return f"{len(bad)} sounds cannot be embedded, and {max_bad} may; to {hint}\n{_few(lines)}"


def _make_each(
    sounds: Sequence[Sound], extractor: Extractor, cache: _FrameCache, jobs: int
) -> Generator[tuple[Sound, _Made]]:
    """Each sound with what became of it, in order; files are worked on `jobs` at a time."""
    stopping = threading.Event()

    def heed_stop(seconds: float, total_seconds: float | None) -> None:
        if stopping.is_set():
            raise KeyboardInterrupt

    def make(parts: list[Sound]) -> dict[Sound, _Made]:
        return _make(parts, extractor, cache, heed_stop)

    groups = (list(parts) for _, parts in itertools.groupby(sounds, lambda sound: sound.path))
    waiting: deque[tuple[list[Sound], Future[dict[Sound, _Made]]]] = deque()
    pool = ThreadPoolExecutor(jobs, "audiotag-sounds")
    try:
        while True:
            for parts in itertools.islice(groups, jobs * _MAX_AHEAD_PER_JOB - len(waiting)):
                waiting.append((parts, pool.submit(make, parts)))
            if not waiting:
                return
            parts, future = waiting.popleft()
            made = future.result()
            yield from ((sound, made[sound]) for sound in parts)
    finally:
        stopping.set()
        pool.shutdown(wait=True, cancel_futures=True)


def _make(
    parts: list[Sound], extractor: Extractor, cache: _FrameCache, on_progress: Progress
) -> dict[Sound, _Made]:
    """What becomes of the sounds of one file."""
    path = parts[0].path
    made: dict[Sound, _Made] = {}
    try:
        checksum = sha256_of(path)
        keys = {sound: cache.key(checksum, sound) for sound in parts}
        for sound, key in keys.items():
            clip = cache.get(key)
            if clip is not None:
                made[sound] = _Made(clip, is_cached=True)
        left = [sound for sound in parts if sound not in made]
        for sound, result in _embed_file(path, left, extractor, on_progress):
            made[sound] = result
            if result.clip is not None:
                cache.put(keys[sound], result.clip)
    except AudioError as error:
        made.update({sound: _Made(None, str(error)) for sound in parts if sound not in made})
    except OSError as error:
        reason = f"cannot read {path}: {error.strerror or error}"
        made.update({sound: _Made(None, reason) for sound in parts if sound not in made})
    return made


def _embed_file(
    path: Path, sounds: Sequence[Sound], extractor: Extractor, on_progress: Progress
) -> Iterator[tuple[Sound, _Made]]:
    for sound in sounds:
        if sound.is_whole:
            yield sound, _checked(extractor(path, on_progress=on_progress))
    for row in _without_overlap([sound for sound in sounds if not sound.is_whole]):
        with open_audio(path) as stream:
            reader = _Reader(stream)
            for sound in row:
                yield sound, _embed_part(reader, sound, extractor, on_progress)


def _without_overlap(sounds: Sequence[Sound]) -> list[list[Sound]]:
    """Parts of one file in rows, each of which one reading of the file from front to end serves."""
    rows: list[list[Sound]] = []
    for sound in sorted(sounds, key=lambda sound: sound.start_seconds):
        for row in rows:
            end = row[-1].end_seconds
            if end is not None and end <= sound.start_seconds:
                row.append(sound)
                break
        else:
            rows.append([sound])
    return rows


def _embed_part(
    reader: _Reader, sound: Sound, extractor: Extractor, on_progress: Progress
) -> _Made:
    whole, end = reader.stream, sound.end_seconds
    decoder = _PartDecoder(reader, sound)
    part = AudioStream(whole.name, decoder, None)
    try:
        blocks = list(extractor.stream(part, on_progress))
    except EmptyAudioError:
        if reader.seconds == 0:
            raise
        return _Made(
            None,
            f"its start, {sound.start_seconds:g} s, is not before the end of {whole.name}, "
            f"{reader.seconds:.2f} s",
        )
    warnings = whole.warnings
    if end is not None and end - reader.seconds > PATCH_SECONDS / 2:
        warnings.append(
            f"its end, {end:g} s, is after that of {whole.name}, {reader.seconds:.2f} s"
        )
    metadata = {
        **extractor.provenance,
        "duration_seconds": round(part.seconds_read, 6),
        "source": {"name": whole.name, "start_seconds": sound.start_seconds, "end_seconds": end},
        "warnings": warnings,
    }
    frames = np.concatenate(
        [np.zeros((0, EMBEDDING_SIZE), np.uint8), *cast("list[Frames]", blocks)]
    )
    return _checked(ClipFrames("", frames, extractor.start_seconds(len(frames)), metadata))


def _checked(clip: ClipFrames) -> _Made:
    if len(clip):
        return _Made(clip)
    return _Made(None, f"{clip.metadata['duration_seconds']:g} s are too short for a frame")


class _Reader:
    """The mono samples of a sound, read forward, part after part."""

    def __init__(self, stream: AudioStream) -> None:
        self.stream = stream
        self.position = 0
        self._blocks = stream.blocks()
        self._rest = np.zeros(0, np.float32)

    @property
    def seconds(self) -> float:
        """How far it was read."""
        return self.position / self.stream.sample_rate_hz

    def read(self, n_samples: int) -> Waveform:
        """Up to `n_samples` more; none at the end only."""
        if not len(self._rest):
            self._rest = next(self._blocks, self._rest)
        samples, self._rest = self._rest[:n_samples], self._rest[n_samples:]
        self.position += len(samples)
        return samples

    def skip_to(self, position: int) -> None:
        """Leave out the samples before `position`, or all if there are fewer."""
        while self.position < position and len(self.read(position - self.position)):
            pass


class _PartDecoder:
    """A part of a sound, as an `AudioStream` reads a file. Source: `vggish.decoders.Decoder`."""

    n_channels = 1
    n_frames: int | None = None

    def __init__(self, reader: _Reader, sound: Sound) -> None:
        self.sample_rate_hz = reader.stream.sample_rate_hz
        self.format = reader.stream.format
        self.warnings: list[str] = []  # those of the whole are told
        self._reader = reader
        start, end = sound.start_seconds * self.sample_rate_hz, sound.end_seconds
        self._start = round(start)
        # The shortest part is a sample.
        self._n_left = (
            sys.maxsize if end is None else max(1, round(end * self.sample_rate_hz) - self._start)
        )

    def read(self, n_frames: int) -> Block:
        self._reader.skip_to(self._start)
        samples = self._reader.read(min(n_frames, self._n_left))
        self._n_left -= len(samples)
        return samples[:, None]

    def close(self) -> None:
        """The whole is closed by who opened it."""


class _FrameCache:
    """Frames on disk, by what they were made from and how. Any number of processes may use it."""

    def __init__(self, directory: Path, extractor: Extractor) -> None:
        self._directory = directory
        provenance = extractor.provenance
        # The network is the same, and its frames as good as, on any device.
        embedder = {k: v for k, v in provenance["embedder"].items() if k != "provider"}
        self._made_by = {**provenance, "embedder": embedder}

    def key(self, checksum: str, sound: Sound) -> str:
        """The name of the frames of a sound in a file with this sha256."""
        facts = [checksum, sound.start_seconds, sound.end_seconds, self._made_by]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def get(self, key: str) -> ClipFrames | None:
        """The frames of this name; None where there are none, or they are damaged."""
        path = self._path(key)
        if not path.exists():
            return None
        try:
            clip = next(read_frames(path))
        except FrameFileError:
            return None
        return clip if clip.clip_id == key and clip.frames.dtype == np.uint8 else None

    def put(self, key: str, clip: ClipFrames) -> None:
        """Keep frames under this name."""
        try:
            write_frames(self._path(key), replace(clip, clip_id=key))
        except FrameFileError as error:
            raise FrameFileError(
                f"{error}\nEmbedded sounds are kept there; to keep them elsewhere set AUDIOTAG_HOME"
            ) from error

    def _path(self, key: str) -> Path:
        return self._directory / key[:2] / f"{key}.npz"
