"""List labelled audio clips for training, from a folder per class or from a CSV file."""

from __future__ import annotations

import math
import os
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from classifier.audio_data.named_files import NamedFiles
from classifier.frame_data.clip_labels import split_labels
from classifier.labels import Labels
from vggish.audio.decoders import AUDIO_SUFFIXES
from vggish.audio.inputs import find_inputs
from vggish.common.csv_table import read_table
from vggish.common.wording import as_text, count, first_few, one_line, prefix_location
from vggish.errors import OptionError

_COLUMNS = {
    "path": (
        *("path", "filename", "file_name", "filepath", "fname", "file"),
        *("slice_file_name", "ytid"),
    ),
    "labels": ("labels", "label", "positive_labels", "category", "class"),
    "start": ("start", "start_seconds", "start_time", "start_time_seconds"),
    "end": ("end", "end_seconds", "end_time", "end_time_seconds"),
    "fold": ("fold",),
}
# Columns of lists whose times are those in the recordings that the files were cut from.
_CUT_FILES = ("slice_file_name", "ytid")  # of UrbanSound8K and AudioSet


@dataclass(frozen=True)
class AudioClip:
    """An audio file, or a part of one, and its classes."""

    path: Path
    clip_id: str  # path relative to the folder or the CSV, with `@start-end` for a part
    where: str  # place in the folder or the CSV, for messages
    labels: tuple[int, ...] = ()  # distinct class indices; empty for a clip of no class
    start_seconds: float = 0.0
    end_seconds: float | None = None  # None for the end of the file
    fold: int | None = None  # of cross-validation, if the CSV has one

    @property
    def is_whole(self) -> bool:
        """Whether the clip is the whole file."""
        return self.start_seconds == 0 and self.end_seconds is None


@dataclass(frozen=True)
class ClipList:
    """Labelled audio clips."""

    clips: tuple[AudioClip, ...]  # those of a file one after the other
    labels: Labels
    leftovers: tuple[str, ...] = ()  # files and columns that are not used, with the reason
    n_repeated: int = 0  # rows whose labels were added to those of an earlier row

    def notes(self) -> list[str]:
        """Sentences about what is left out or merged."""
        merged = f"{count(self.n_repeated, 'row')} for a clip that has one already; labels merged"
        return [*self.leftovers, *([merged] if self.n_repeated else [])]


# A clip without labels, and the names of its classes.
_Entry = tuple[AudioClip, tuple[str, ...]]


def read_clip_list(
    source: Path, labels: Labels | None = None, audio_root: Path | None = None
) -> ClipList:
    """List the audio clips of a folder or a CSV file.

    The source is a folder with one folder per class, searched recursively; or a CSV with the
    columns `path` (relative to `audio_root`, by default the folder of the CSV; the suffix of an
    audio format may be missing) and `labels` (separated by `|`, `;` or `,`; empty for no
    class), and optionally `start` and `end` in seconds and `fold`. Labels of several rows for the
    same clip are merged. The classes are by default those that occur, in alphabetical order.

    The lists of AudioSet's segments (`YTID`) and of UrbanSound8K (`slice_file_name`, with files in
    folders `fold1`, `fold2` ...) name files that were cut; their `start` and `end` are not used.

    Raises an `OptionError` that names the place of a mistake.
    """
    if source.is_dir():
        if audio_root is not None:
            raise OptionError(f"--audio-root is for the paths of a CSV; {source} is a directory")
        entries, leftovers = _read_folder(source)
    else:
        entries, leftovers = _read_csv(source, labels, audio_root or source.parent)
    if labels is None:
        labels = _collect_labels(entries, source)
    indices = _class_indices(entries, labels)
    merged: dict[tuple[Path, float, float | None], AudioClip] = {}
    for clip, classes in entries:
        key = (clip.path, clip.start_seconds, clip.end_seconds)
        earlier = merged.setdefault(key, clip)
        if earlier.fold != clip.fold:
            raise OptionError(
                f"{clip.where}: the fold is {clip.fold}, but {earlier.fold} in {earlier.where}"
            )
        distinct = dict.fromkeys((*earlier.labels, *(indices[name] for name in classes)))
        merged[key] = replace(earlier, labels=tuple(distinct))
    order = {path: place for place, path in enumerate(dict.fromkeys(c.path for c, _ in entries))}
    clips = sorted(merged.values(), key=lambda clip: order[clip.path])
    return ClipList(tuple(clips), labels, leftovers, len(entries) - len(merged))


def _read_folder(root: Path) -> tuple[list[_Entry], tuple[str, ...]]:
    entries: list[_Entry] = []
    misplaced, leftovers = [], []
    for path in sorted(root.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir():
            files, unused = _find_audio(path)
            leftovers += unused
            for file in files:
                clip_id = as_text(file.relative_to(root).as_posix())
                clip = AudioClip(file, clip_id, one_line(str(file)))
                entries.append((clip, (_class_name(path.name),)))
        elif path.suffix.lower() in AUDIO_SUFFIXES:
            misplaced.append(path.name)
        else:
            leftovers.append(f"{path}: not an audio file")
    hint = f"Use a folder per class, as in {root / 'dog' / 'a.wav'}, or a CSV"
    if misplaced:
        raise OptionError(
            f"{len(misplaced):,} audio files in {root} are not in the folder of a class:\n"
            f"{first_few(misplaced)}\n{hint}"
        )
    if not entries:
        raise OptionError(f"no folder in {root} has audio files.\n{hint}")
    return entries, tuple(leftovers)


def _find_audio(folder: Path) -> tuple[list[Path], list[str]]:
    """Audio files of a class, and notes about the other files."""
    try:
        inputs = find_inputs([str(folder)])
    except OptionError as error:
        return [], [prefix_location(str(folder), str(error))]
    unused = [f"{path}: not an audio file" for path in inputs.skipped]
    unused += [f"{path}: a link to a file that is also there" for path in inputs.repeated]
    unused += [f"{path}: {reason}" for path, reason in inputs.unreadable]
    return [Path(item.source) for item in inputs.items], unused


def _read_csv(
    path: Path, labels: Labels | None, root: Path
) -> tuple[list[_Entry], tuple[str, ...]]:
    if path.suffix.lower() in AUDIO_SUFFIXES:
        raise OptionError(
            f"{path} is an audio file; training needs a folder per class, or a CSV with the "
            f"columns {', '.join(_COLUMNS)}"
        )
    table = read_table(path, "the list of clips", _COLUMNS, ("path", "labels"))
    known = {} if labels is None else labels.indices()
    leftovers = [f"{path}: unused columns: {', '.join(table.unused)}"] if table.unused else []
    if table.columns["path"] in _CUT_FILES and not {"start", "end"}.isdisjoint(table.columns):
        leftovers.append(f"{path}: start and end are those in the original recordings; not used")
        table = replace(table, rows=[(n, {**row, "start": "", "end": ""}) for n, row in table.rows])
    named = NamedFiles(root)
    entries = [_entry(named, f"{path}, line {line}", row, known) for line, row in table.rows]
    if not entries:
        raise OptionError(f"{path} has no rows below its header")
    files = {clip.path: clip.where for clip, _ in reversed(entries)}
    missing = [f"{file} ({where})" for file, where in files.items() if not file.is_file()][::-1]
    if missing:
        raise OptionError(
            f"{len(missing):,} of {count(len(files), 'file')} in {path} are missing:\n"
            f"{first_few(missing)}\nRelative paths start from {root}; "
            "to change that, use --audio-root"
        )
    return entries, tuple(leftovers)


def _entry(
    named: NamedFiles, where: str, row: Mapping[str, str], known: Mapping[str, int]
) -> _Entry:
    name = row["path"]
    if not name:
        raise OptionError(f"{where}: the path is empty")
    path, root = named.find(name, where), named.root
    if row.get("fold") and not path.is_file():
        in_fold = named.find(f"fold{row['fold']}/{name}", where)
        path = in_fold if in_fold.is_file() else path
    clip_id = path.relative_to(root) if path.is_relative_to(root) else Path(os.path.normpath(name))
    start = _seconds(row.get("start", ""), "start", where) or 0.0
    end = _seconds(row.get("end", ""), "end", where)
    if end is not None and end <= start:
        raise OptionError(f"{where}: end must be after start ({start:g} s). Received: {end:g} s")
    # Data frames with missing values write 1.0 for 1.
    fold = re.fullmatch(r"(\d+)(\.0*)?", row.get("fold", ""))
    if row.get("fold") and fold is None:
        raise OptionError(f"{where}: fold must be an integer. Received: {row['fold']!r}")
    part = f"@{_short(start)}-{_short(end)}" if start or end is not None else ""
    clip = AudioClip(
        path,
        as_text(clip_id.as_posix()) + part,
        where,
        start_seconds=start,
        end_seconds=end,
        fold=None if fold is None else int(fold[1]),
    )
    return clip, tuple(map(_class_name, split_labels(row["labels"], known)))


def _seconds(text: str, column: str, where: str) -> float | None:
    try:
        value = float(text) if text else None
    except ValueError:
        value = math.nan
    if value is not None and not 0 <= value < math.inf:
        raise OptionError(f"{where}: {column} must be seconds, at least 0. Received: {text!r}")
    return None if value is None else round(value, 6)


def _first_places(entries: Sequence[_Entry]) -> dict[str, str]:
    """The classes that occur, with the place of the first clip of each."""
    places: dict[str, str] = {}
    for clip, classes in entries:
        for name in classes:
            places.setdefault(name, clip.where)
    return places


def _collect_labels(entries: Sequence[_Entry], source: Path) -> Labels:
    """The classes that occur: numbers in numerical order, then names in alphabetical order."""
    where = _first_places(entries)
    names = sorted(where, key=lambda name: (int(name) if name.isdecimal() else math.inf, name))
    if not names:
        raise OptionError(f"no clip in {source} has a label, so there is nothing to learn")
    if len(names) == 1 and all(classes for _, classes in entries):
        raise OptionError(
            f"{source} has only one class, {names[0]!r} ({count(len(entries), 'clip')}). Add clips "
            "of other classes, or rows without labels to a CSV"
        )
    folded: dict[str, str] = {}
    for name in names:
        other = folded.setdefault(name.casefold(), name)
        if other != name:
            raise OptionError(
                f"the classes {other!r} ({where[other]}) and {name!r} ({where[name]}) differ only "
                "in case; use one spelling"
            )
    return Labels(tuple(names), ("",) * len(names))


def _class_indices(entries: Sequence[_Entry], labels: Labels) -> dict[str, int]:
    indices: dict[str, int] = {}
    unknown = []
    for name, where in _first_places(entries).items():
        try:
            indices[name] = labels.index_of(name)
        except OptionError as error:
            unknown.append(f"{where}: {error}")
    if unknown:
        raise OptionError(f"not among the {len(labels)} classes:\n{first_few(unknown)}")
    return indices


def _class_name(text: str) -> str:
    # macOS writes accents in file names as separate characters.
    return unicodedata.normalize("NFC", as_text(text.strip()))


def _short(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:.6f}".rstrip("0").rstrip(".")
