from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from classifier.labels import Labels, audioset_labels, read_labels, write_labels
from vggish.errors import OptionError

ANIMALS = Labels(("Dog", "Cat", "Frog, toad", "3"), ("/m/0bt9lr", "", "/m/09ld4", ""))


def test_audioset_classes_are_built_in() -> None:
    labels = audioset_labels()
    assert len(labels) == len(set(labels.names)) == len(set(labels.mids)) == 527
    assert (labels.names[0], labels.mids[0]) == ("Speech", "/m/09x0r")
    assert labels.names[137] == "Music"
    assert labels.names[526] == "Field recording"
    assert audioset_labels() is labels


def test_built_in_classes_equal_the_published_ones(shared_data: Path) -> None:
    assert read_labels(shared_data / "labels" / "class_labels_indices.csv") == audioset_labels()


@pytest.mark.parametrize(
    ("label", "index"),
    [
        ("Dog", 0),
        ("dog", 0),
        (" Cat ", 1),
        ("/m/09ld4", 2),
        ("/M/09LD4", 2),
        ("FROG, TOAD", 2),
        ("2", 2),
        ("3", 3),  # a name comes before an index
        ("0", 0),
    ],
)
def test_class_is_found_by_mid_name_or_index(label: str, index: int) -> None:
    assert ANIMALS.index_of(label) == index


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ("Dogs", "'Dogs'; did you mean 'Dog'"),
        ("toad", "did you mean 'Frog, toad'"),
        ("4", "indices are 0 to 3"),
        ("-1", "among the 4 classes"),
        ("", "among the 4 classes"),
        ("9" * 5000, "no class"),
        ("²", "among the 4 classes"),
    ],
)
def test_unknown_class_error_suggests_similar_names(label: str, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        ANIMALS.index_of(label)


def test_names_that_differ_only_in_case_need_an_exact_match() -> None:
    labels = Labels(("Bass", "bass"), ("", ""))
    assert labels.index_of("bass") == 1
    with pytest.raises(OptionError, match="no class 'BASS'"):
        labels.index_of("BASS")


def test_index_lookup_covers_every_name_and_mid() -> None:
    expected = {"Dog": 0, "Cat": 1, "Frog, toad": 2, "3": 3, "/m/0bt9lr": 0, "/m/09ld4": 2}
    assert dict(ANIMALS.indices()) == expected


@pytest.mark.parametrize("labels", [ANIMALS, audioset_labels()], ids=["animals", "audioset"])
def test_labels_round_trip(tmp_path: Path, labels: Labels) -> None:
    with open(tmp_path / "labels.csv", "wb") as file:
        write_labels(file, labels)
    assert read_labels(tmp_path / "labels.csv") == labels


def test_labels_are_written_as_csv_with_audioset_columns() -> None:
    file = io.BytesIO()
    write_labels(file, Labels(('a, "b"', "naïve"), ("/m/1", "")))
    assert file.getvalue().decode() == 'index,mid,display_name\n0,/m/1,"a, ""b"""\n1,,naïve\n'


def test_rows_may_be_unordered_with_extra_columns_and_no_mid(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("\ufeffdisplay_name, extra, index\r\nCat, x, 1\r\nDog, y, 0\r\n", "utf-8")
    assert read_labels(path) == Labels(("Dog", "Cat"), ("", ""))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "needs the column index .*Received: an empty file"),
        ("id,name\n0,Dog\n", "column index and the column display_name; optional: mid.*id, name"),
        ("index,display_name\n", "has no classes"),
        ("index,display_name\n0,Dog\nx,Cat\n", "line 3: an index must be .* Received: 'x'"),
        ("index,display_name\n0,Dog\n-1,Cat\n", "line 3: an index must be .* Received: '-1'"),
        ("index,display_name\n0,Dog\n0,Cat\n", "line 3: the index 0 occurs twice"),
        ("index,display_name\n0,Dog\n2,Cat\n", "2 classes.*0 to 1; 1 is missing.*largest is 2"),
        ("index,display_name\n0,Dog\n1,Dog\n", "line 3: the name 'Dog' is already in line 2"),
        (
            "index,mid,display_name\n0,/m/1,A\n1,/m/1,B\n",
            "line 3: the mid '/m/1' is already in line 2",
        ),
        ("index,display_name\n0,Dog\n1\n", "line 3: the class 1 has no name"),
    ],
)
def test_invalid_label_file_error_names_the_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(text)
    with pytest.raises(OptionError, match=rf"labels\.csv.*{message}"):
        read_labels(path)


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00", b"index,display_name\n0,\xe9\n"])
def test_missing_or_undecodable_label_file_error_names_the_file(
    tmp_path: Path, content: Any
) -> None:
    path = tmp_path / "labels.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(OptionError, match=r"cannot read the labels .*labels\.csv"):
        read_labels(path)


@pytest.mark.parametrize(
    ("names", "mids", "message"),
    [
        (("a", "b"), ("",), "2 names, 1 mids"),
        (("a", "a"), ("", ""), "the name 'a' occurs twice"),
        (("a", "b"), ("/m/1", "/m/1"), "the mid '/m/1' occurs twice"),
        (("a", " "), ("", ""), "the name ' ' is empty"),
    ],
)
def test_classes_must_be_distinct(
    names: tuple[str, ...], mids: tuple[str, ...], message: str
) -> None:
    with pytest.raises(OptionError, match=message):
        Labels(names, mids)
