"""Tables as people and programs write them, with what they mean, and damaged ones."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass

import numpy as np

ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be")
WORDS = ("dog", "Grün", "a b", "音", "x-1", "", "1,5", "semi;colon", 'quo"te', "/m/09x0r")


@dataclass(frozen=True)
class FuzzedTable:
    """The bytes of a table, and its rows; None if they were damaged."""

    data: bytes
    rows: list[dict[str, str]] | None


def fuzzed_table(seed: int) -> FuzzedTable:
    """The table of a seed, with the columns `path` and `labels` among others."""
    rng = np.random.default_rng(seed)
    names = ["path", "labels", *(f"other{n}" for n in range(int(rng.integers(3))))]
    rng.shuffle(names)
    delimiter = str(rng.choice([",", ";", "\t"]))
    text = io.StringIO()
    for _ in range(int(rng.integers(3))):
        text.write("# a comment\n")
    quoting = csv.QUOTE_ALL if rng.integers(2) else csv.QUOTE_MINIMAL
    line_end = str(rng.choice(["\n", "\r\n"]))
    writer = csv.writer(text, delimiter=delimiter, quoting=quoting, lineterminator=line_end)
    # A comment sign would make the first name another one.
    header = [name.upper() if rng.integers(2) else name for name in names]
    writer.writerow(header)
    rows = []
    for number in range(int(rng.integers(1, 12))):
        row = {name: str(rng.choice(WORDS)) for name in names}
        row["path"] = f"{number} {row['path']}".strip()
        writer.writerow([row[name] for name in names])
        rows.append({name: row[name] for name in ("path", "labels")})
    # ASCII in most places, as in all tables, shows UTF-16 without a byte order mark.
    data = text.getvalue().encode(str(rng.choice(ENCODINGS)))
    if rng.integers(3) == 0:
        damaged = bytearray(data)
        for _ in range(int(rng.integers(1, 6))):
            damaged[int(rng.integers(len(damaged)))] = int(rng.integers(256))
        return FuzzedTable(bytes(damaged[: int(rng.integers(1, len(damaged) + 1))]), None)
    return FuzzedTable(data, rows)
