"""Read CSV files that people and spreadsheets write, and write CSV rows."""

from __future__ import annotations

import codecs
import csv
import io
import re
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
    columns: Mapping[str, str]  # header names of the others, in lower case, by column key


def read_table(
    path: Path, content: str, columns: Mapping[str, Sequence[str]], required: Sequence[str]
) -> Table:
    """Read a CSV file with commas, semicolons or tabs; for its encoding, see `read_text`.

    Lines above the header may be empty or start with `#`, as may the header itself (AudioSet's
    segment lists). Cells are stripped of whitespace; empty rows are skipped. `content` describes
    the file in messages. `columns` are the accepted header names of each column, in any case, by
    column key; `required` are the keys of the columns that the file must have.
    """
    # Not splitlines, which also splits at form feeds and other separators inside cells.
    lines = list(io.StringIO(read_text(path, content), newline=""))
    n_above, header = _find_header(lines, columns, required)
    # Spreadsheets separate columns by what the user's locale prescribes.
    delimiter = max(",;\t", key=header.count)
    names = _cells(header, delimiter)
    places = _find_columns(path, names, columns, required)
    rows = []
    reader = csv.reader(lines[n_above + 1 :], delimiter=delimiter, skipinitialspace=True)
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            line = reader.line_num + n_above + 1
            if any(cells[len(names) :]):
                raise OptionError(
                    f"{path}, line {line}: {len(cells)} cells, but {len(names)} columns. Quote "
                    f'a cell with several labels: "dog{delimiter}bark", or use a bar: dog|bark'
                )
            if any(cells):
                cells += [""] * (len(names) - len(cells))
                rows.append((line, {key: cells[place] for key, place in places.items()}))
    except csv.Error as error:
        raise OptionError(f"cannot read {content} {path}: {error}") from error
    used = set(places.values())
    unused = [name for place, name in enumerate(names) if place not in used]
    return Table(rows, unused, {key: names[place].casefold() for key, place in places.items()})


def read_text(path: Path, content: str) -> str:
    """Text of a file in UTF-8, with or without a BOM, or in UTF-16; line ends are kept.

    Raises an `OptionError` that names the line of the first byte that is not text.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise OptionError(f"cannot read {content} {path}: {error.strerror or error}") from error
    return decode_text(data, f"{content} {path}")


def decode_text(data: bytes, name: str) -> str:
    """Text from the bytes of a file, see `read_text`; `name` is that of the file in messages."""
    encoding = _encoding(data)
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        before = data[: error.start].decode(encoding, "ignore")
        line = len(re.findall("\r\n?|\n", before)) + 1
        raise OptionError(
            f"cannot read {name}: line {line} is not {encoding.removesuffix('-sig')} "
            f"text (byte 0x{data[error.start]:02x} at offset {error.start:,}). Save the file as "
            'UTF-8; in Excel: "CSV UTF-8"'
        ) from error
    if "\0" in text:
        raise OptionError(f"cannot read {name}: it is not a text file. Save it as text in UTF-8")
    return text


def csv_text(*rows: Iterable[Any]) -> str:
    """Rows as the lines of a CSV file."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _encoding(data: bytes) -> str:
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    # Without a BOM, the zero bytes of ASCII characters show UTF-16 and its byte order.
    start = data[:4096]
    n_even, n_odd = start[::2].count(0), start[1::2].count(0)
    if max(n_even, n_odd) > len(start) // 4 and not min(n_even, n_odd):
        return "utf-16-le" if n_odd else "utf-16-be"
    return "utf-8-sig"


def _find_header(
    lines: Sequence[str], columns: Mapping[str, Sequence[str]], required: Sequence[str]
) -> tuple[int, str]:
    """The number of lines above the header, and the header without a leading `#`."""
    for number, line in enumerate(lines):
        text = line.strip(" \r\n")
        header = text.lstrip("#").lstrip(" ")
        names = {name.strip().casefold() for name in _cells(header, max(",;\t", key=header.count))}
        is_header = not any(names.isdisjoint(columns[key]) for key in required)
        if text.strip() and (is_header or not text.startswith("#")):
            return number, header if is_header else text
    return len(lines), ""


def _cells(line: str, delimiter: str) -> list[str]:
    return next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), [])


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
