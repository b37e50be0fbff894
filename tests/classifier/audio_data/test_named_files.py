from __future__ import annotations

import os
from pathlib import Path

import pytest

from classifier.audio_data.named_files import NamedFiles
from vggish.errors import OptionError


@pytest.fixture
def named(tmp_path: Path) -> NamedFiles:
    for name in ("a/1.wav", "a/-x_y.flac", "a/two.wav", "a/two.MP3", "a/v1.0.wav", "a/1.txt"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    return NamedFiles(tmp_path)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a/1.wav", "a/1.wav"),
        ("a/1", "a/1.wav"),
        ("a/../a/1", "a/1.wav"),
        ("a/-x_y", "a/-x_y.flac"),
        ("a/v1.0", "a/v1.0.wav"),
        ("a\\1.wav", "a/1.wav"),
        (".\\a\\1", "a/1.wav"),
        ("a/two.wav", "a/two.wav"),
    ],
)
def test_names_without_suffix_and_of_windows_are_found(
    named: NamedFiles, name: str, expected: str
) -> None:
    assert named.find(name, "line 2") == named.root / expected


def test_ambiguous_name_error_lists_the_files(named: NamedFiles) -> None:
    with pytest.raises(OptionError, match=r"line 2: 'a/two' may be two\.MP3, two\.wav; write"):
        named.find("a/two", "line 2")


@pytest.mark.skipif(os.name == "nt", reason="a backslash separates folders on Windows")
def test_file_with_a_backslash_in_its_name_has_priority(named: NamedFiles) -> None:
    (named.root / "a\\1.wav").touch()
    assert named.find("a\\1.wav", "line 2") == named.root / "a\\1.wav"


def test_missing_file_keeps_its_name(named: NamedFiles) -> None:
    assert named.find("a/3", "line 2") == named.root / "a" / "3"
