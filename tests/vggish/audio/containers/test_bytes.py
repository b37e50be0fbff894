"""Bytes of files in windows, and links as files."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from vggish.audio.containers.bytes import FileBytes, LinkFile
from vggish.audio.containers.layout import Link

CONTENT = bytes(range(1, 251)) * 4_000


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bytes") / "content"
    path.write_bytes(CONTENT)
    return path


def test_patterns_across_windows_are_found(path: Path) -> None:
    with open(path, "rb") as file:
        data = FileBytes(file)
        for pattern in (CONTENT[:3], CONTENT[131_070:131_080], CONTENT[-5:], b"\0", b"\xff\xfe"):
            for start in (0, 5, 131_060, len(CONTENT) - 3):
                assert data.find(pattern, start) == CONTENT.find(pattern, start)
        assert data.find(CONTENT[100:110], 0, 105) == -1


def test_bytes_outside_the_file_are_absent(path: Path) -> None:
    with open(path, "rb") as file:
        data = FileBytes(file)
        assert data.at(-5, 10) == b""
        assert data.at(len(CONTENT) - 2, 10) == CONTENT[-2:]
        assert data.at(len(CONTENT) + 2, 10) == b""
        assert data.at(10, len(CONTENT)) == CONTENT[10:]


def test_zeros_are_recognised(tmp_path: Path) -> None:
    path = tmp_path / "zeros"
    path.write_bytes(bytes(300_000) + b"\x01")
    with open(path, "rb") as file:
        data = FileBytes(file)
        assert data.is_zero(0, 300_000)
        assert not data.is_zero(0, 300_001)
        assert data.is_zero(5, 5)


@given(
    start=st.integers(0, 900),
    size=st.integers(0, 500),
    prefix=st.binary(max_size=60),
    reads=st.lists(st.tuples(st.integers(0, 700), st.integers(0, 300)), max_size=8),
)
@settings(max_examples=60, deadline=None)
def test_link_reads_like_a_file_with_its_bytes(
    path: Path, start: int, size: int, prefix: bytes, reads: list[tuple[int, int]]
) -> None:
    expected = io.BytesIO(prefix + CONTENT[start : start + size])
    with LinkFile(str(path), Link(start, start + size, prefix)) as link:
        assert link.seek(0, io.SEEK_END) == len(expected.getvalue())
        for position, n_bytes in reads:
            link.seek(position)
            expected.seek(position)
            assert link.read(n_bytes) == expected.read(n_bytes)
            assert link.tell() == expected.tell()
