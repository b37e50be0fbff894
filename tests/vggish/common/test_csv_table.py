from __future__ import annotations

from pathlib import Path

import pytest

from vggish.common.csv_table import csv_text, read_table
from vggish.errors import OptionError

COLUMNS = {"path": ("path", "file"), "labels": ("labels", "label"), "fold": ("fold",)}


@pytest.mark.parametrize(
    "data",
    [
        b"path,labels\na.wav,dog\nb.wav,\n",
        b"\xef\xbb\xbffile;Label\r\na.wav;dog\r\nb.wav\r\n",
        b" File\tLABELS \n\n a.wav \t dog \n\t\nb.wav\t",
    ],
)
def test_files_of_editors_and_spreadsheets_are_read(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.csv").write_bytes(data)
    table = read_table(tmp_path / "x.csv", "the table", COLUMNS, ("path", "labels"))
    assert [row for _, row in table.rows] == [
        {"path": "a.wav", "labels": "dog"},
        {"path": "b.wav", "labels": ""},
    ]
    assert table.unused == []


def test_rows_have_line_numbers_and_unused_columns_are_listed(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text('take,path,fold,labels\n1,"a\n.wav",2,dog\n\n3,b.wav,,cat\n')
    table = read_table(tmp_path / "x.csv", "the table", COLUMNS, ("path",))
    assert [line for line, _ in table.rows] == [3, 5]
    assert table.rows[0][1] == {"path": "a\n.wav", "labels": "dog", "fold": "2"}
    assert table.unused == ["take"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, "cannot read the table .*x.csv: No such file"),
        (b"path,labels\n\xff,\n", "cannot read the table .*utf-8"),
        (b"", r"needs the column path \(or file\) and the column labels .*Received: an empty file"),
        (b"path,x\n", r"needs the column labels \(or label\); optional: fold\. Received: path, x"),
        (b"path,labels\na.wav,dog,cat\n", r"line 2: 3 cells, but 2 columns\. .*dog\|bark"),
    ],
)
def test_invalid_files_are_refused(tmp_path: Path, data: bytes | None, message: str) -> None:
    if data is not None:
        (tmp_path / "x.csv").write_bytes(data)
    with pytest.raises(OptionError, match=message):
        read_table(tmp_path / "x.csv", "the table", COLUMNS, ("path", "labels"))


def test_written_rows_are_read_back(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text(csv_text(("path", "labels"), ("a,b.wav", 'dog "1"')))
    table = read_table(tmp_path / "x.csv", "the table", COLUMNS, ("path", "labels"))
    assert table.rows == [(2, {"path": "a,b.wav", "labels": 'dog "1"'})]
