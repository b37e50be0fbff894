"""Names of classes: AudioSet's 527, and those of a file.

`audioset_labels.csv` is AudioSet's `class_labels_indices.csv`, by Google, under the Creative
Commons Attribution 4.0 International licence (CC BY 4.0).
"""

from __future__ import annotations

import csv
import difflib
import functools
import io
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from vggish.errors import OptionError

COLUMNS = ("index", "mid", "display_name")
_AUDIOSET = Path(__file__).with_name("audioset_labels.csv")


@dataclass(frozen=True)
class Labels:
    """The classes of a head or a data set, in the order of their indices.

    Attributes:
        names: display names, all different.
        mids: AudioSet ids such as "/m/09x0r", "" where there are none.
    """

    names: tuple[str, ...]
    mids: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.names) != len(self.mids):
            raise OptionError(
                f"every class needs a name and a mid ('' for none). Received: {len(self.names)} "
                f"names, {len(self.mids)} mids"
            )
        for what, values in (("name", self.names), ("mid", [mid for mid in self.mids if mid])):
            seen: set[str] = set()
            for value in values:
                if value in seen or not value.strip():
                    trouble = "is twice in it" if value in seen else "is empty"
                    raise OptionError(f"classes must differ: the {what} {value!r} {trouble}")
                seen.add(value)

    def __len__(self) -> int:
        return len(self.names)

    def index_of(self, label: str) -> int:
        """Index of the class that a user means.

        Args:
            label: a mid, a name (in another case if none is written so), or an index.

        Raises:
            OptionError: there is none, or several differ from it in case alone; the message
                has names that are close.

        >>> audioset_labels().index_of("speech"), audioset_labels().index_of("/m/09x0r")
        (0, 0)
        """
        label = label.strip()
        if label in self._indices:
            return self._indices[label]
        folded = self._folded.get(label.casefold(), ())
        if len(folded) == 1:
            return folded[0]
        if _is_index(label) and int(label) < len(self):
            return int(label)
        raise OptionError(f"there is no class {label!r}{self._hint(label)}")

    def indices(self) -> Mapping[str, int]:
        """Index by name and by mid."""
        return self._indices

    @functools.cached_property
    def _indices(self) -> Mapping[str, int]:
        by_mid = {mid: index for index, mid in enumerate(self.mids) if mid}
        by_name = {name: index for index, name in enumerate(self.names)}
        return types.MappingProxyType(by_mid | by_name)

    @functools.cached_property
    def _folded(self) -> Mapping[str, list[int]]:
        folded: dict[str, list[int]] = {}
        for name, index in self._indices.items():
            same = folded.setdefault(name.casefold(), [])
            same += [index] if index not in same else []
        return folded

    def _hint(self, label: str) -> str:
        if _is_index(label):
            return f"; indices are 0 to {len(self) - 1}"
        folded = {name.casefold(): name for name in self.names}
        close = difflib.get_close_matches(label.casefold(), folded, n=3, cutoff=0.6)
        # "dog" shall find "Dog barking", which difflib takes to be far away.
        close += [key for key in folded if label and label.casefold() in key and key not in close]
        if not close:
            return f" among the {len(self)} classes"
        return "; did you mean " + " or ".join(repr(folded[key]) for key in close[:3]) + "?"


@functools.cache
def audioset_labels() -> Labels:
    """AudioSet's 527 classes.

    >>> len(audioset_labels()), audioset_labels().names[0]
    (527, 'Speech')
    """
    return read_labels(_AUDIOSET)


def read_labels(path: Path) -> Labels:
    """Read the names of classes.

    Args:
        path: CSV with the columns index, mid, display_name, as AudioSet's
            `class_labels_indices.csv`, or without mid. The rows may have any order; the indices
            must be 0 to C - 1.

    Raises:
        OptionError: the file cannot be read, lacks a column or a class, or has one twice; the
            message names file and line.
    """
    found: dict[int, tuple[str, str]] = {}
    first_line: dict[tuple[str, str], int] = {}
    for line, row in _rows(path):
        where = f"{path}, line {line}"
        index = _index(row["index"], where)
        if index in found:
            raise OptionError(f"{where}: the index {index} is there for the second time")
        name, mid = row["display_name"].strip(), row.get("mid", "").strip()
        if not name:
            raise OptionError(f"{where}: the class {index} has no name")
        for key in (("name", name), ("mid", mid)):
            if key[1] and first_line.setdefault(key, line) != line:
                raise OptionError(
                    f"{where}: the {key[0]} {key[1]!r} is taken by line {first_line[key]}"
                )
        found[index] = (name, mid)
    if not found:
        raise OptionError(f"{path} names no classes")
    holes = [index for index in range(len(found)) if index not in found]
    if holes:
        raise OptionError(
            f"{path} has {len(found)} classes, so their indices must be 0 to {len(found) - 1}; "
            f"{holes[0]} is missing, the largest is {max(found)}"
        )
    in_order = [found[index] for index in range(len(found))]
    return Labels(tuple(name for name, _ in in_order), tuple(mid for _, mid in in_order))


def write_labels(file: IO[bytes], labels: Labels) -> None:
    """Write names of classes as `read_labels` reads them: UTF-8 CSV index,mid,display_name."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(zip(range(len(labels)), labels.mids, labels.names, strict=True))
    file.write(text.getvalue().encode())


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, skipinitialspace=True, restval="")
            missing = {"index", "display_name"}.difference(reader.fieldnames or ())
            if missing:
                received = ", ".join(reader.fieldnames or ()) or "an empty file"
                raise OptionError(
                    f"{path}, line 1: the columns must be {', '.join(COLUMNS)} (mid may be left "
                    f"out). Received: {received}"
                )
            for row in reader:
                yield reader.line_num, {k: v for k, v in row.items() if k is not None}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise OptionError(f"cannot read the labels {path}: {error}") from error


def _index(text: str, where: str) -> int:
    text = text.strip()
    if not _is_index(text):
        raise OptionError(f"{where}: an index must be a whole number from 0. Received: {text!r}")
    return int(text)


def _is_index(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 10
