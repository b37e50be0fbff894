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
        b"\n# by hand\n# n=2, path=1\n# path, labels\na.wav, dog\nb.wav,\n",
        b"# by hand\npath,labels\na.wav,dog\nb.wav,\n",
        b"path,labels\ra.wav,dog\rb.wav,\r",
        "path;labels\r\na.wav;dog\r\nb.wav;\r\n".encode("utf-16"),
        "path\tlabels\na.wav\tdog\nb.wav\t\n".encode("utf-16-le"),
        "\ufeffpath,labels\na.wav,dog\nb.wav,\n".encode("utf-16-be"),
        "path,labels\na.wav,dog\nb.wav,\n".encode("utf-16-be"),
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
        (
            b"path,labels\r\na\xe4.wav,\r\n",
            r"cannot read the table .*line 2 is not utf-8 text \(byte 0xe4 at offset 14\)\. "
            "Save the file as UTF-8",
        ),
        ("path,labels\n".encode("utf-16") + b"a", "line 2 is not utf-16 .*Save the file as UTF-8"),
        (b"PK\x03\x04\0a\0\0\0", "not a text file"),
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


def test_rows_below_comments_keep_their_line_numbers_and_marks(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("# by hand\n# path, labels\n#1.wav, dog\n")
    table = read_table(tmp_path / "x.csv", "the table", COLUMNS, ("path", "labels"))
    assert table.rows == [(3, {"path": "#1.wav", "labels": "dog"})]


def test_written_rows_are_read_back(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text(csv_text(("path", "labels"), ("a,b.wav", 'dog "1"')))
    table = read_table(tmp_path / "x.csv", "the table", COLUMNS, ("path", "labels"))
    assert table.rows == [(2, {"path": "a,b.wav", "labels": 'dog "1"'})]
