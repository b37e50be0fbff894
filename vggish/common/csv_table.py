"""Read CSV files that people and spreadsheets write, and write CSV rows."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vggish.errors import OptionError


@dataclass(frozen=True)
class Table:
    """Rows of a CSV file."""

    rows: Sequence[tuple[int, dict[str, str]]]  # line number, and cells by column key
    unused: Sequence[str]  # header names of the columns that have no key


def read_table(
    path: Path, content: str, columns: Mapping[str, Sequence[str]], required: Sequence[str]
) -> Table:
    """Read a CSV file: UTF-8 with or without a BOM, with commas, semicolons or tabs.

    Cells are stripped of whitespace; empty rows are skipped. `content` describes the file in
    messages. `columns` are the accepted header names of each column, in any case, by column key;
    `required` are the keys of the columns that the file must have.
    """
    rows = []
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            header = file.readline()
            # Spreadsheets separate columns by what the user's locale prescribes.
            delimiter = max(",;\t", key=header.count)
            names = next(csv.reader([header], delimiter=delimiter, skipinitialspace=True), [])
            places = _find_columns(path, names, columns, required)
            reader = csv.reader(file, delimiter=delimiter, skipinitialspace=True)
            for row in reader:
                cells = [cell.strip() for cell in row]
                line = reader.line_num + 1
                if any(cells[len(names) :]):
                    raise OptionError(
                        f"{path}, line {line}: {len(cells)} cells, but {len(names)} columns. Quote "
                        f'a cell with several labels: "dog{delimiter}bark", or use a bar: dog|bark'
                    )
                if any(cells):
                    cells += [""] * (len(names) - len(cells))
                    rows.append((line, {key: cells[place] for key, place in places.items()}))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise OptionError(f"cannot read {content} {path}: {reason}") from error
    used = set(places.values())
    return Table(rows, [name for place, name in enumerate(names) if place not in used])


def csv_text(*rows: Iterable[Any]) -> str:
    """Rows as the lines of a CSV file."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _find_columns(
    path: Path, header: Sequence[str], columns: Mapping[str, Sequence[str]], required: Sequence[str]
) -> dict[str, int]:
    """The place of each column; the first accepted name wins."""
    names = [name.strip().casefold() for name in header]
    places = {
        key: next(names.index(name) for name in accepted if name in names)
        for key, accepted in columns.items()
        if not set(accepted).isdisjoint(names)
    }
    missing = [
        columns[key][0] + (f" (or {', '.join(columns[key][1:])})" if columns[key][1:] else "")
        for key in required
        if key not in places
    ]
    if missing:
        optional = [columns[key][0] for key in columns if key not in required]
        raise OptionError(
            f"{path} needs the column {' and the column '.join(missing)}"
            + (f"; optional: {', '.join(optional)}" if optional else "")
            + f". Received: {', '.join(name.strip() for name in header) or 'an empty file'}"
        )
    return places
