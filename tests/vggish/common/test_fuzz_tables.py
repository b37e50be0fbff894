"""Thousands of tables: whole ones are read as they are meant, damaged ones are refused or read."""

from __future__ import annotations

from pathlib import Path

from tests.support.fuzzing.lists import fuzzed_table
from vggish.common.csv_table import read_table
from vggish.errors import OptionError

N_TABLES = 5_000
COLUMNS = {"path": ("path",), "labels": ("labels",)}


def test_tables_are_read_as_meant_or_refused_in_words(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    n_refused = n_whole = 0
    for seed in range(N_TABLES):
        table = fuzzed_table(seed)
        path.write_bytes(table.data)
        rows, error = None, ""
        try:
            rows = read_table(path, "the table", COLUMNS, tuple(COLUMNS)).rows
        except OptionError as refusal:
            error = str(refusal)
            n_refused += 1
        if table.rows is None:
            assert rows is not None or str(path) in error, seed
            continue
        assert rows is not None, (seed, error)
        assert [row for _, row in rows] == table.rows, seed
        n_whole += 1
    assert n_whole > N_TABLES / 2
    assert n_refused > N_TABLES / 20
