"""Class labels: AudioSet's 527 classes, and those of a CSV file.

`audioset_labels.csv` is AudioSet's `class_labels_indices.csv`, by Google, under the Creative
Commons Attribution 4.0 International licence (CC BY 4.0).
"""

from __future__ import annotations

import difflib
import functools
import types
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from vggish.common.csv_table import csv_text, read_table
from vggish.errors import OptionError

COLUMNS = ("index", "mid", "display_name")
_AUDIOSET = Path(__file__).with_name("audioset_labels.csv")


@dataclass(frozen=True)
class Labels:
    """Classes of a head or a data set, in the order of their indices.

    Attributes:
        names: distinct display names.
        mids: AudioSet ids such as "/m/09x0r", "" for classes without one.
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
                    problem = "occurs twice" if value in seen else "is empty"
                    raise OptionError(f"classes must be distinct: the {what} {value!r} {problem}")
                seen.add(value)

    def __len__(self) -> int:
        return len(self.names)

    def index_of(self, label: str) -> int:
        """Index of the class with a mid, a name or an index.

        An exact match has priority over a name in another case, and a name over an index.

        Raises:
            OptionError: no class or several classes match; the message suggests similar names.

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
        raise OptionError(f"no class {label!r}{self._hint(label)}")

    def indices(self) -> Mapping[str, int]:
        """Class index by name and by mid."""
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
        # difflib does not find "Dog barking" for "dog".
        close += [key for key in folded if label and label.casefold() in key and key not in close]
        if not close:
            return f" among the {len(self)} classes"
        return "; did you mean " + " or ".join(repr(folded[key]) for key in close[:3]) + "?"


@functools.cache
def audioset_labels() -> Labels:
    """The 527 classes of AudioSet.

    >>> len(audioset_labels()), audioset_labels().names[0]
    (527, 'Speech')
    """
    return read_labels(_AUDIOSET)


def read_labels(path: Path) -> Labels:
    """Read class labels.

    Args:
        path: CSV with the columns index, mid and display_name, such as AudioSet's
            `class_labels_indices.csv`; mid is optional. Indices must be 0 to C - 1, in any order.

    Raises:
        OptionError: the file cannot be read, lacks a column or a class, or repeats a class; the
            message names the file and the line.
    """
    found: dict[int, tuple[str, str]] = {}
    first_line: dict[tuple[str, str], int] = {}
    columns = {name: (name,) for name in COLUMNS}
    for line, row in read_table(path, "the labels", columns, ("index", "display_name")).rows:
        where = f"{path}, line {line}"
        if not _is_index(row["index"]):
            raise OptionError(
                f"{where}: an index must be an integer of at least 0. Received: {row['index']!r}"
            )
        index, name, mid = int(row["index"]), row["display_name"], row.get("mid", "")
        if index in found:
            raise OptionError(f"{where}: the index {index} occurs twice")
        if not name:
            raise OptionError(f"{where}: the class {index} has no name")
        for kind, value in (("name", name), ("mid", mid)):
            if value and first_line.setdefault((kind, value), line) != line:
                earlier = first_line[kind, value]
                raise OptionError(f"{where}: the {kind} {value!r} is already in line {earlier}")
        found[index] = (name, mid)
    if not found:
        raise OptionError(f"{path} has no classes")
    missing = next((index for index in range(len(found)) if index not in found), None)
    if missing is not None:
        raise OptionError(
            f"{path} has {len(found)} classes, so their indices must be 0 to {len(found) - 1}; "
            f"{missing} is missing, and the largest is {max(found)}"
        )
    names, mids = zip(*(found[index] for index in range(len(found))), strict=True)
    return Labels(names, mids)


def write_labels(file: IO[bytes], labels: Labels) -> None:
    """Write class labels as a UTF-8 CSV that `read_labels` reads."""
    rows = zip(range(len(labels)), labels.mids, labels.names, strict=True)
    file.write(csv_text(COLUMNS, *rows).encode())


def _is_index(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 10
