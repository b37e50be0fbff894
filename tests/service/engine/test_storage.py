"""Temporary files of uploads."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from service.engine.storage import SPOOL_BYTES, Storage
from service.problems import Problem
from vggish.errors import OptionError


def test_an_upload_contains_the_added_data(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    upload = storage.new_file("clip.WAV")
    pieces = [b"a" * 1000, b"", b"b" * SPOOL_BYTES, b"c" * 10]
    for piece in pieces:
        upload.add(piece)
        if upload.bytes_in_memory >= SPOOL_BYTES:
            upload.flush()
    assert upload.path().read_bytes() == b"".join(pieces)
    assert upload.size == sum(map(len, pieces))
    assert upload.path().suffix == ".wav"
    storage.close()
    assert list(tmp_path.iterdir()) == []


def test_a_small_upload_stays_in_memory_until_it_is_read(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    upload = storage.new_file(None)
    upload.add(b"x" * (SPOOL_BYTES - 1))
    assert upload.bytes_in_memory == upload.size == SPOOL_BYTES - 1
    assert [path.name for path in storage.directory.iterdir()] == ["lock"]
    storage.close()


def test_an_upload_can_be_removed_twice_and_before_it_was_written(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    for is_written in (False, True):
        upload = storage.new_file("a.wav")
        upload.add(b"x")
        if is_written:
            upload.path()
        upload.remove()
        upload.remove()
    assert [path.name for path in storage.directory.iterdir()] == ["lock"]
    storage.close()


@pytest.mark.parametrize(
    ("name", "shown", "suffix"),
    [
        ("../../etc/passwd", "passwd", ""),
        ("C:\\sounds\\dog.flac", "dog.flac", ".flac"),
        ("dog.exe", "dog.exe", ""),
        ("/", None, ""),
        ("x" * 300 + ".wav", "x" * 251 + ".wav", ".wav"),
        ("a\0b.wav", "a\0b.wav", ".wav"),
    ],
)
def test_a_clients_name_never_becomes_a_path(
    tmp_path: Path, name: str, shown: str | None, suffix: str
) -> None:
    storage = Storage(tmp_path)
    upload = storage.new_file(name)
    upload.add(b"x")
    assert upload.name == shown
    assert upload.path().parent == storage.directory
    assert upload.path().suffix == suffix
    storage.close()


def test_files_are_private(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    upload = storage.new_file("a.wav")
    upload.add(b"x")
    if os.name == "posix":
        assert storage.directory.stat().st_mode & 0o077 == 0
        assert upload.path().stat().st_mode & 0o077 == 0
    storage.close()


def test_an_unusable_directory_is_reported_with_the_setting(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"nowhere: No such file.*temporary_directory"):
        Storage(tmp_path / "nowhere")


def test_a_full_disk_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = Storage(tmp_path)
    upload = storage.new_file("a.wav")
    upload.add(b"x")

    def no_room(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("service.engine.storage.tempfile.mkstemp", no_room)
        with pytest.raises(Problem) as caught:
            upload.path()
    assert caught.value.slug == "storage-full"
    storage.close()


def test_orphans_of_killed_processes_are_removed_and_directories_in_use_kept(
    tmp_path: Path,
) -> None:
    program = """
        import os, sys
        from pathlib import Path
        from service.engine.storage import Storage
        upload = Storage(Path(sys.argv[1])).new_file("a.wav")
        upload.add(b"x")
        upload.path()
        os.kill(os.getpid(), 9)
    """
    command = [sys.executable, "-c", textwrap.dedent(program), str(tmp_path)]
    assert subprocess.run(command, check=False).returncode != 0
    (orphan,) = tmp_path.iterdir()
    # A new directory may not be locked yet.
    Storage(tmp_path).close()
    assert orphan.exists()
    os.utime(orphan / "lock", (0, 0))
    os.utime(orphan)  # it was killed while working
    first = Storage(tmp_path)
    assert not orphan.exists()
    os.utime(first.directory / "lock", (0, 0))
    second = Storage(tmp_path)
    assert first.directory.exists()
    assert sorted(tmp_path.iterdir()) == sorted([first.directory, second.directory])
    first.close()
    second.close()
