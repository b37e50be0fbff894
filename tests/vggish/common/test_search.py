from __future__ import annotations

import os
from pathlib import Path

import pytest

from vggish.common.search import expand, is_pattern, split_repeated, walk_files

pytestmark = pytest.mark.usefixtures("in_directory")


def touch(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text("")


def test_files_are_sorted_and_hidden_ones_left_out() -> None:
    touch("d/b", "d/a", "d/sub/c", "d/.hidden", "d/.cache/x")
    assert list(walk_files("d", pytest.fail)) == ["d/a", "d/b", "d/sub/c"]


def test_linked_directories_are_searched_once() -> None:
    touch("elsewhere/x", "d/a")
    os.symlink("../elsewhere", "d/link")
    os.symlink("..", "d/link/up")
    assert list(walk_files("d", pytest.fail)) == ["d/a", "d/link/x"]


def test_patterns_have_wildcards_and_do_not_exist_as_files() -> None:
    touch("d/[1]", "d/1", "d/sub/1")
    assert [is_pattern(name) for name in ("d/[1]", "d/[12]", "d/1", "no")] == [False, True] + [
        False
    ] * 2
    assert expand("d/*") == ["d/1", "d/[1]", "d/sub"]
    assert expand("d/**") == ["d/1", "d/[1]", "d/sub/1"]


def test_the_first_path_of_each_file_is_kept() -> None:
    touch("a", "b")
    os.symlink("a", "link")
    assert split_repeated(["./a", "b", "link", "b"]) == (["./a", "b"], ["link", "b"])
    assert split_repeated(["A", "b", "a"], str.casefold) == (["A", "b"], ["a"])
