from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from pathlib import Path, PurePath

import pytest

from vggish.audio.inputs import find_inputs
from vggish.common.search import read_list
from vggish.errors import OptionError

pytestmark = pytest.mark.usefixtures("in_directory")


def touch(*names: str) -> None:
    for name in names:
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")


def ids(*arguments: str) -> dict[str, str]:
    """Clip id by source."""
    return {item.source: item.clip_id for item in find_inputs(arguments).items}


def test_a_file_is_named_without_its_directory_and_suffix() -> None:
    assert ids("some/where/clip.v2.wav") == {"some/where/clip.v2.wav": "clip.v2"}


def test_directory_expands_to_its_audio_files_in_order() -> None:
    touch("d/b.WAV", "d/a.mp3", "d/sub/deep/c.flac", "d/a dir/x.m4a", "d/notes.txt", "d/README")
    touch("d/.hidden.wav", "d/.cache/x.wav")
    found = find_inputs(["d"])
    assert [(item.source, item.clip_id) for item in found.items] == [
        ("d/a.mp3", "a"),
        ("d/b.WAV", "b"),
        ("d/a dir/x.m4a", "a dir/x"),
        ("d/sub/deep/c.flac", "sub/deep/c"),
    ]
    assert sorted(found.skipped) == ["d/README", "d/notes.txt"]


def test_clip_ids_are_relative_to_the_shared_directory() -> None:
    touch("s/dog/1.wav", "s/cat/1.wav", "s/2.wav")
    assert ids("s/dog", "s/cat") == {"s/dog/1.wav": "dog/1", "s/cat/1.wav": "cat/1"}
    assert ids("s/dog/1.wav", "s/cat/1.wav") == {"s/dog/1.wav": "dog/1", "s/cat/1.wav": "cat/1"}
    assert ids("s/dog", "s/2.wav") == {"s/dog/1.wav": "dog/1", "s/2.wav": "2"}
    assert list(ids("s/dog/", os.path.abspath("s/2.wav")).values()) == ["dog/1", "2"]
    assert ids("s/dog/1.wav", "-") == {"s/dog/1.wav": "1", "-": "stdin"}


def test_pattern_expands_to_its_matches() -> None:
    touch("d/b.wav", "d/a.wav", "d/sub/c.wav", "d/sub/c.txt", "d/[1].wav")
    assert list(ids("d/*.wav")) == ["d/[1].wav", "d/a.wav", "d/b.wav"]
    assert list(ids("d/**/*.wav")) == ["d/[1].wav", "d/a.wav", "d/b.wav", "d/sub/c.wav"]
    assert ids("d/s*") == {"d/sub/c.wav": "c"}  # as expanded by a shell
    assert list(ids("d/[1].wav")) == ["d/[1].wav"]
    assert find_inputs(["d/**"]).repeated == []


def test_missing_files_are_kept_so_that_they_are_reported() -> None:
    assert ids("no.wav", "no/*.wav") == {"no.wav": "no", "no/*.wav": "no/*"}


def test_a_file_named_twice_is_processed_once() -> None:
    touch("d/a.wav")
    os.symlink("a.wav", "d/b.wav")
    found = find_inputs(["d/a.wav", "./d/a.wav", "d", "d/*.wav"])
    assert [item.source for item in found.items] == ["d/a.wav"]
    assert found.repeated == ["./d/a.wav", "d/a.wav", "d/b.wav", "d/a.wav", "d/b.wav"]


def test_links_to_directories_are_followed_without_looping() -> None:
    touch("elsewhere/x.wav", "d/a.wav")
    os.symlink("../elsewhere", "d/linked")
    os.symlink("..", "d/circle")
    os.symlink("nowhere.wav", "d/broken.wav")
    assert ids("d") == {
        "d/a.wav": "a",
        "d/broken.wav": "broken",  # reported when the file is opened
        "d/linked/x.wav": "linked/x",
    }


def test_files_with_the_same_stem_have_different_outputs() -> None:
    touch("d/a.wav", "d/a.mp3", "d/b.wav")
    assert ids("d") == {"d/a.mp3": "a.mp3", "d/a.wav": "a.wav", "d/b.wav": "b"}


def test_names_that_differ_only_in_case_or_normalisation_have_different_outputs() -> None:
    names = ["A.wav", "a.wav", "a-2.wav", "Ü.wav", "U\u0308.wav", "b.WAV", "B.mp3"]
    found = list(ids(*names).values())
    assert found == ["A", "a-2", "a-2-2", "Ü", "U\u0308-2", "b.WAV", "B.mp3"]


@pytest.mark.parametrize(
    "name",
    ["..wav", "...wav", ".wav", "../up.wav", "a/../../x.wav", "/abs.wav", "b..wav", "..", "."],
)
def test_outputs_are_never_outside_the_output_directory(name: str) -> None:
    touch("sub/here.wav")
    for arguments in ([name], [name, "sub/here.wav"]):
        try:
            items = find_inputs(arguments).items
        except OptionError:
            continue
        for item in items:
            place = os.path.normpath(PurePath("/out", f"{item.stem}.npz"))
            assert place.startswith("/out/"), item
            assert os.path.basename(place) != ".npz"


def test_undecodable_names_become_text() -> None:
    name = os.fsdecode(b"caf\xe9.wav")
    touch(name)
    assert ids(name) == {name: r"caf\udce9"}


def test_error_for_no_audio_counts_the_other_files() -> None:
    touch("d/a.txt", "d/b.txt")
    with pytest.raises(OptionError, match="no audio files found; skipped 2 other files"):
        find_inputs(["d"])


def test_a_directory_that_cannot_be_searched_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    touch("d/a.wav", "d/locked/b.wav")
    scandir = os.scandir

    def guarded(path: str) -> object:
        if path.endswith("locked"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    found = find_inputs(["d"])
    assert [item.source for item in found.items] == ["d/a.wav"]
    assert found.unreadable == [("d/locked", "Permission denied")]
    with pytest.raises(OptionError, match="cannot search d/locked: Permission denied"):
        find_inputs(["d/locked"])


@pytest.mark.parametrize(
    "data",
    [
        b"a.wav\nb c.wav\n",
        b"a.wav\r\nb c.wav\r\n",
        b"\xef\xbb\xbfa.wav\n\n  \nb c.wav",
        "a.wav\r\nb c.wav\r\n".encode("utf-16"),
        "a.wav\nb c.wav".encode("utf-16-be"),
    ],
)
def test_a_list_may_have_any_line_endings(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("list.txt").write_bytes(data)
    assert read_list("list.txt") == ["a.wav", "b c.wav"]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    assert read_list("-") == ["a.wav", "b c.wav"]


def test_a_list_may_have_any_file_names() -> None:
    names = [b" lead", b"caf\xe9.wav", "\u2028\x0b日本.wav".encode(), b"#1.wav"]
    Path("list.txt").write_bytes(b"\n".join(names))
    assert [os.fsencode(name) for name in read_list("list.txt")] == names


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "cannot read the list of files list.txt: No such file"),
        (lambda path: path.mkdir(), "Is a directory"),
        (lambda path: path.write_bytes(b"a.wav\n\0b.wav\n"), "it is not a text file"),
    ],
)
def test_a_list_that_cannot_be_read_is_an_error(make: Callable[[Path], None], message: str) -> None:
    make(Path("list.txt"))
    with pytest.raises(OptionError, match=message):
        read_list("list.txt")
