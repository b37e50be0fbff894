"""Which sounds to learn from, and their classes: from a folder per class, or from a CSV."""

from __future__ import annotations

import csv
import math
import os
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from classifier.frame_data.clip_labels import split_labels
from classifier.labels import Labels
from vggish.audio.decoders import AUDIO_SUFFIXES
from vggish.audio.inputs import find_inputs
from vggish.common.wording import as_text, count, few, located, one_line
from vggish.errors import OptionError

# What a column may be called; the first name is the one that messages use.
_COLUMNS = {
    "path": ("path", "filename", "file_name", "filepath", "fname", "file"),
    "labels": ("labels", "label", "positive_labels", "category", "class"),
    "start": ("start", "start_seconds", "start_time", "start_time_seconds"),
    "end": ("end", "end_seconds", "end_time", "end_time_seconds"),
    "fold": ("fold",),
}

_REQUIRED = ("path", "labels")


@dataclass(frozen=True)
class AudioClip:
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
class ClipList:
    """What to embed.

    Attributes:
        sounds: parts of one file follow each other; otherwise in the order they were found.
        labels: the classes.
        leftovers: what lies in the folder and is not used, with the reason.
        n_repeated: rows that add their labels to the sound of an earlier one.
    """

    clips: tuple[AudioClip, ...]
    labels: Labels
    leftovers: tuple[str, ...] = ()
    n_repeated: int = 0

    def notes(self) -> list[str]:
        """Sentences about what one may not expect to be left out or joined."""
        rows = f"{count(self.n_repeated, 'row')} of a sound that has one already"
        joined = [f"{rows}; the labels are joined"] if self.n_repeated else []
        return [*self.leftovers, *joined]


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


def read_clip_list(argument: Path, labels: Labels | None = None) -> ClipList:
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
    merged: dict[tuple[Path, float, float | None], AudioClip] = {}
    for entry in entries:
        found = tuple(dict.fromkeys(indices[name] for name in entry.classes))
        key = (entry.path, entry.start_seconds, entry.end_seconds)
        merged[key] = _joined(merged.get(key), _sound(entry, found))
    first = {sound.path: number for number, sound in reversed(list(enumerate(merged.values())))}
    in_order = sorted(merged.values(), key=lambda sound: first[sound.path])
    return ClipList(tuple(in_order), labels, leftovers, len(entries) - len(merged))


def _sound(entry: _Entry, labels: tuple[int, ...]) -> AudioClip:
    start, end = entry.start_seconds, entry.end_seconds
    part = ""
    if start or end is not None:
        part = f"@{_short(start)}-{'' if end is None else _short(end)}"
    clip_id = entry.clip_id + part
    return AudioClip(entry.path, clip_id, labels, start, end, entry.fold, entry.where)


def _joined(earlier: AudioClip | None, sound: AudioClip) -> AudioClip:
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
            f"sounds in {root} itself, not in the folder of a class: {len(strays):,}\n"
            f"{few(strays)}\n{how}"
        )
    if not entries:
        raise OptionError(f"no folder in {root} holds sound files.\n{how}")
    return entries, tuple(leftovers)


def _sounds_below(folder: Path) -> tuple[list[Path], list[str]]:
    """Sounds of a class, and what else is there."""
    try:
        inputs = find_inputs([str(folder)])
    except OptionError as error:
        return [], [located(str(folder), str(error))]
    unused = [f"{path}: no sound file" for path in inputs.skipped]
    unused += [f"{path}: is there twice, by a link" for path in inputs.repeated]
    unused += [f"{path}: {reason}" for path, reason in inputs.unreadable]
    return [Path(item.source) for item in inputs.items], unused


def _entry_in_folder(root: Path, folder: Path, path: Path) -> _Entry:
    clip_id = as_text(path.relative_to(root).as_posix())
    return _Entry(path, clip_id, (_class_name(folder.name),), one_line(str(path)))


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
            f"of {count(len(named), 'file')} in {path}, {len(missing):,} cannot be found:\n"
            f"{few(missing)}\nRelative paths are taken from the CSV's folder, {path.parent}"
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
        classes=tuple(map(_class_name, split_labels(row["labels"], known))),
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


def _labels_of(entries: Sequence[_Entry], argument: Path) -> Labels:
    """The classes that occur: numbers in the order of numbers, then names in alphabetical order."""
    where = {name: entry.where for entry in reversed(entries) for name in entry.classes}
    names = sorted(where, key=lambda name: (int(name) if name.isdecimal() else math.inf, name))
    if not names:
        raise OptionError(f"no sound in {argument} has a label, so there is nothing to learn")
    if len(names) == 1 and all(entry.classes for entry in entries):
        raise OptionError(
            f"{argument} has one class only, {names[0]!r} ({count(len(entries), 'sound')}), and "
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
            f"not among the {len(labels)} known classes:\n{few(list(unknown.values()))}"
        )
    return indices


def _class_name(text: str) -> str:
    # Some systems write the accents of file names as letters of their own.
    return unicodedata.normalize("NFC", as_text(text.strip()))


def _short(seconds: float) -> str:
    return f"{seconds:.6f}".rstrip("0").rstrip(".")
