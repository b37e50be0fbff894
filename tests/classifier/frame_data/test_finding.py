from __future__ import annotations

import gzip
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest

from classifier.frame_data.clips import ReadReport
from classifier.frame_data.finding import find_frame_files
from classifier.frame_data.records import read_clips
from tests.support.file_server import FileServer
from tests.support.frames import make_clip
from tests.support.records import audioset_record, make_frames, write_records
from vggish import write_frames
from vggish.errors import FrameFileError, MissingPackageError, OptionError


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("b/2.tfrecord", "b/1.tfrecord", "b/c/3.tfrecord.gz", "b/.hidden.tfrecord"):
        write_records(tmp_path / name, audioset_record())
    write_records(tmp_path / "b" / "x.tfrecord-00000-of-00002", audioset_record())
    write_frames(tmp_path / "b" / "ours.csv", make_clip())
    (tmp_path / "b" / "labels.csv").write_text("index,mid,display_name\n")
    (tmp_path / "b" / "README.md").write_text("about")
    (tmp_path / "b" / "circle").symlink_to(tmp_path / "b")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


IN_B = ["b/1.tfrecord", "b/2.tfrecord"]
IN_C = ["b/c/3.tfrecord.gz"]
BELOW_B = [*IN_B, *IN_C, "b/ours.csv", "b/x.tfrecord-00000-of-00002"]


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (["b"], BELOW_B),
        (["b/1.tfrecord"], IN_B[:1]),
        (["b/2.tfrecord", "b/1.tfrecord", "./b/2.tfrecord"], IN_B),
        (["b/*.tfrecord"], IN_B),
        (["*/c"], IN_C),
        (["b/c/*.gz", "b/[12].*"], [*IN_B, *IN_C]),
        (["**/*.gz"], IN_C),
        (["b/README.md"], ["b/README.md"]),
    ],
)
def test_files_directories_and_patterns_are_found(
    tree: Path, arguments: list[str], found: list[str]
) -> None:
    assert find_frame_files(arguments) == found


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no files of frames given"),
        (["absent.tfrecord"], "no file or directory absent.tfrecord"),
        (["b", "*.tfrecord"], r"no file matches the pattern \*\.tfrecord"),
        (["empty"], "no files of frames in empty"),
    ],
)
def test_argument_without_files_error_names_it(
    tree: Path, arguments: list[str], message: str
) -> None:
    with pytest.raises(OptionError, match=message):
        find_frame_files(arguments)


# --- Remote files ------------------------------------------------------------------------


@pytest.fixture
def memory() -> Iterator[Any]:
    """Yield fsspec's in-memory file system, emptied."""
    files = fsspec.filesystem("memory")
    files.store.clear()
    yield files
    files.store.clear()


def test_remote_files_are_found_and_read(memory: Any, tmp_path: Path) -> None:
    data = write_records(tmp_path / "x", *map(audioset_record, "abc")).read_bytes()
    places = {"memory:///set/1.tfrecord": data, "memory:///set/2.tfrecord": data[:-1]}
    places["memory:///set/sub/3.tfrecord"] = gzip.compress(data)
    for place, content in places.items():
        memory.pipe(place, content)
    memory.pipe({"/set/README.md": b"", "/set/.hidden.tfrecord": data})
    assert find_frame_files(["memory:///set"]) == sorted(places)
    shards = find_frame_files(["memory:///set/*.tfrecord", "memory:///set/1.tfrecord"])
    assert shards == sorted(places)[:2]
    report = ReadReport()
    clips = list(read_clips(sorted(places), max_bad=1, report=report))
    assert "".join(clip.clip_id for clip in clips) == "abc" + "ab" + "abc"
    np.testing.assert_array_equal(clips[0].frames, make_frames())
    assert [bad.where for bad in report.bad] == ["memory:///set/2.tfrecord, record 3"]
    with pytest.raises(OptionError, match="no file or directory memory:///absent"):
        find_frame_files(["memory:///absent"])
    with pytest.raises(FrameFileError, match="memory:///absent: cannot be read"):
        list(read_clips(["memory:///absent"]))
    with pytest.raises(FrameFileError, match="only TFRecord files can be read remotely"):
        list(read_clips(["memory:///x.npz"]))
    with pytest.raises(OptionError, match="cannot open nosuch://x/y: Protocol not known"):
        find_frame_files(["nosuch://x/y"])


def test_files_on_a_web_server_are_found_and_read(server: FileServer, tmp_path: Path) -> None:
    records = [audioset_record(name, n=300, seed=i) for i, name in enumerate("abc")]
    path = write_records(tmp_path / "x.tfrecord", *records)
    server.files = {"set/x.tfrecord": path, "set/y": gzip.compress(path.read_bytes())}
    server.files["set/"] = b'<a href="x.tfrecord">x</a> <a href="README">about</a>'
    assert find_frame_files([server.url("set/")]) == [server.url("set/x.tfrecord")]
    assert find_frame_files([server.url("set/*.tfrecord")]) == [server.url("set/x.tfrecord")]
    signed = [server.url("set/x.tfrecord?signature=a*"), server.url("set/y")]
    server.files["set/x.tfrecord?signature=a*"] = path
    assert find_frame_files(signed) == signed
    for url in signed:
        for read, clip in zip(read_clips([url]), read_clips([path]), strict=True):
            assert read.clip_id == clip.clip_id
            np.testing.assert_array_equal(read.frames, clip.frames)
    with pytest.raises(OptionError, match=r"no file or directory http://.*/absent"):
        find_frame_files([server.url("absent")])
    with pytest.raises(FrameFileError, match=r"http://.*/absent: cannot be read"):
        list(read_clips([server.url("absent")]))


def test_missing_package_for_remote_files_error_contains_the_pip_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    message = r"reading gs://.*gcsfs(.|\n)*pip install 'audiotag\[remote\]'"
    with pytest.raises(MissingPackageError, match=message):
        find_frame_files(["gs://bucket/x.tfrecord"])
    with pytest.raises(MissingPackageError, match=message):
        list(read_clips(["gs://bucket/x.tfrecord"], max_bad=9))
