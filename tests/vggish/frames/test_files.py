from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.extra import numpy as arrays

from tests.support.frames import AWKWARD, assert_same, make_clip, metadata
from vggish import ClipFrames, read_frames, write_frames
from vggish.common.choices import FRAME_FORMATS
from vggish.errors import FrameFileError, MissingPackageError
from vggish.frames import files as frame_files

ONE_WAY = ("npz", "csv", "parquet")  # store the options once for all clips
ids = st.sampled_from(AWKWARD) | st.text(st.characters(codec="utf-8"), max_size=20)


@st.composite
def clip_lists(draw: Any) -> list[ClipFrames]:
    """Clips of one run: one dtype and hop, with arbitrary ids and frames."""
    values = draw(st.sampled_from(["uint8", "raw"]))
    hop = draw(st.sampled_from([0.96, 1.0, 0.01, 3.37]))
    clips = []
    for clip_id in draw(st.lists(ids, max_size=4)):
        n = draw(st.integers(0, 3))
        elements = st.floats(width=32, allow_nan=False) if values == "raw" else st.integers(0, 255)
        dtype = np.float32 if values == "raw" else np.uint8
        frames = draw(arrays.arrays(dtype, (n, 128), elements=elements))
        own = {"duration_seconds": n * hop, "source": {"name": clip_id}, "warnings": ["%,\n"]}
        times = np.round(np.arange(n) * hop, 6)
        clips.append(ClipFrames(clip_id, frames, times, metadata(values, hop, **own)))
    return clips


@pytest.mark.parametrize("file_format", FRAME_FORMATS)
@given(clips=clip_lists())
@settings(max_examples=30, suppress_health_check=list(HealthCheck), derandomize=True)
def test_write_then_read_gives_back(
    tmp_path: Path, file_format: str, clips: list[ClipFrames]
) -> None:
    path = tmp_path / f"all.{file_format}"
    write_frames(path, clips)
    for read, written in zip(read_frames(path), clips, strict=True):
        assert_same(read, written)
    for clip in clips:
        write_frames(path, clip)
        (read,) = read_frames(path)
        assert_same(read, clip)


@pytest.mark.parametrize("file_format", FRAME_FORMATS)
def test_clips_without_standard_metadata_are_read_back(tmp_path: Path, file_format: str) -> None:
    path = tmp_path / f"x.{file_format}"
    raw = make_clip(n=2, raw=True)
    clips = [
        ClipFrames("no metadata", raw.frames, np.array([0.0, 1.0])),
        ClipFrames("the last of ten hours", raw.frames, np.array([35_999.04, 36_000.0])),
        ClipFrames("cut out of a longer one", raw.frames, np.array([7.68, 1 / 3])),
    ]
    write_frames(path, clips)
    for read, written in zip(read_frames(path), clips, strict=True):
        assert_same(read, written)


@pytest.mark.parametrize("file_format", FRAME_FORMATS)
def test_clips_with_equal_ids_and_empty_clips_stay_separate(
    tmp_path: Path, file_format: str
) -> None:
    path = tmp_path / f"x.{file_format}"
    clips = [make_clip("", 2), make_clip("", 0), make_clip("", 1), make_clip("b", 0)]
    write_frames(path, clips)
    assert [(clip.clip_id, len(clip)) for clip in read_frames(path)] == [
        *(("", 2), ("", 0), ("", 1), ("b", 0))
    ]


@pytest.mark.parametrize("file_format", FRAME_FORMATS)
def test_equal_clips_give_equal_bytes(tmp_path: Path, file_format: str) -> None:
    for name in ("one", "two"):
        write_frames(tmp_path / name, [make_clip("a"), make_clip("b", 2)], file_format)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    # An iterator, which can be consumed only once, gives the same bytes.
    write_frames(tmp_path / "three", iter([make_clip("a"), make_clip("b", 2)]), file_format)
    assert (tmp_path / "three").read_bytes() == (tmp_path / "one").read_bytes()


@pytest.mark.parametrize("file_format", FRAME_FORMATS)
def test_clips_with_different_options_do_not_share_metadata(
    tmp_path: Path, file_format: str
) -> None:
    path = tmp_path / f"x.{file_format}"
    mixed = [make_clip("a"), make_clip("b", raw=True)]
    if file_format in ONE_WAY:
        with pytest.raises(FrameFileError, match="'b' was made with options that differ"):
            write_frames(path, mixed)
        assert os.listdir(tmp_path) == []
    else:
        write_frames(path, mixed)
        for read, written in zip(read_frames(path), mixed, strict=True):
            assert_same(read, written)


@pytest.mark.parametrize("file_format", ["jsonl", "tfrecord"])
def test_labels_are_kept_by_formats_that_hold_them(tmp_path: Path, file_format: str) -> None:
    clip = make_clip()
    labelled = ClipFrames("a", clip.frames, clip.start_seconds, clip.metadata, (500, 0, 3))
    write_frames(tmp_path / "x", labelled, file_format)
    assert next(read_frames(tmp_path / "x", file_format)).labels == (500, 0, 3)


def test_npz_has_the_documented_arrays_and_no_others(tmp_path: Path) -> None:
    one, two = make_clip("a", 3, seed=1), make_clip("b", 2, seed=2)
    write_frames(tmp_path / "one.npz", one)
    with np.load(tmp_path / "one.npz") as stored:
        assert sorted(stored) == ["frames", "metadata", "start_seconds"]
        assert (stored["frames"].shape, stored["frames"].dtype) == ((3, 128), np.uint8)
        assert (stored["start_seconds"].shape, stored["start_seconds"].dtype) == ((3,), np.float64)
        assert json.loads(str(stored["metadata"])) == {"clip": "a", **one.metadata}
    write_frames(tmp_path / "all.npz", [one, two])
    with np.load(tmp_path / "all.npz") as stored:
        assert sorted(stored) == ["clip_index", "clips", "frames", "metadata", "start_seconds"]
        assert stored["clips"].tolist() == ["a", "b"]
        assert stored["clip_index"].tolist() == [0, 0, 0, 1, 1]
        of_b = stored["frames"][stored["clip_index"] == 1]
        np.testing.assert_array_equal(of_b, two.frames)
        assert json.loads(str(stored["metadata"]))["embedder"] == one.metadata["embedder"]


def test_csv_is_read_by_the_csv_module_after_its_first_line(tmp_path: Path) -> None:
    clips = [make_clip(name, 2, seed=i) for i, name in enumerate(AWKWARD)]
    write_frames(tmp_path / "x.csv", clips)
    with open(tmp_path / "x.csv", encoding="utf-8", newline="") as file:
        assert json.loads(file.readline().removeprefix("# "))["values"] == "uint8"
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["clip", "start_seconds", *(f"e{i}" for i in range(128))]
    assert [row["clip"] for row in rows] == [name for name in AWKWARD for _ in range(2)]
    assert [row["start_seconds"] for row in rows[:2]] == ["0.0", "0.96"]
    frames = [[int(row[f"e{i}"]) for i in range(128)] for row in rows]
    np.testing.assert_array_equal(frames, np.concatenate([clip.frames for clip in clips]))


@pytest.mark.parametrize("raw", [False, True])
def test_parquet_is_read_by_pyarrow(tmp_path: Path, raw: bool) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    clips = [make_clip("a", 3, raw=raw), make_clip("b", 0, raw=raw), make_clip("c", 2, raw=raw)]
    write_frames(tmp_path / "x.parquet", clips)
    table = parquet.read_table(tmp_path / "x.parquet")
    assert table.column_names == ["clip", "start_seconds", "frame"]
    assert str(table.schema.field("frame").type) == (
        f"fixed_size_list<element: {'float' if raw else 'uint8'}>[128]"
    )
    assert table["clip"].to_pylist() == ["a"] * 3 + ["c"] * 2
    frames = np.array(table["frame"].to_pylist())
    np.testing.assert_array_equal(frames, np.concatenate([clip.frames for clip in clips]))
    assert json.loads(table.schema.metadata[b"audiotag"])["embedder"]["name"] == "vggish"


def read_what_can_be(path: Path) -> tuple[list[ClipFrames], str]:
    """Return the clips before the damage, and the error message."""
    clips: list[ClipFrames] = []
    try:
        for clip in read_frames(path):
            clips.append(clip)
    except FrameFileError as error:
        return clips, str(error)
    return clips, ""


@pytest.mark.parametrize("file_format", FRAME_FORMATS)
def test_a_damaged_file_is_reported_and_read_clips_are_correct(
    tmp_path: Path, file_format: str, rng: np.random.Generator
) -> None:
    path = tmp_path / f"x.{file_format}"
    clips = [make_clip("a", 3), make_clip("b", 2)]
    write_frames(path, clips)
    data = path.read_bytes()
    for end in [0, 1, *rng.integers(2, len(data) - 1, 25).tolist()]:
        path.write_bytes(data[:end])
        read, message = read_what_can_be(path)
        for clip, written in zip(read, clips, strict=False):
            assert_same(clip, written)
        # A file truncated between two lines or records looks complete.
        assert str(path) in message or (end == 0 and file_format in ("jsonl", "tfrecord"))
    for position in rng.integers(0, len(data), 60):
        path.write_bytes(data[:position] + bytes([data[position] ^ 0x55]) + data[position + 1 :])
        read, message = read_what_can_be(path)
        assert len(read) == 2 or str(path) in message


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("x.csv", "a,b\n1,2\n", "line 1: not a line of metadata"),
        ("x.csv", "# {}\n", "x.csv is damaged"),
        ("x.csv", '# {"dtype":"uint8","clips":[]}\na,b\n', "line 2: the columns must be"),
        ("x.jsonl", '{"clip": "a"}\n', "line 1: not a clip of frames"),
        ("x.jsonl", "[]\n", "line 1: not a clip of frames"),
        ("x.tfrecord", "no record at all", "record 1: damaged, or not a TFRecord file"),
        ("x.npz", "no archive", "x.npz is damaged, or not a frames file"),
        ("x.parquet", "no table", "x.parquet is damaged, or not a frames file"),
        ("x.wav", "", "'wav' is none of npz, csv, parquet, jsonl, tfrecord"),
    ],
)
def test_invalid_files_are_refused_with_the_reason(
    tmp_path: Path, name: str, text: str, message: str
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(FrameFileError, match=message):
        list(read_frames(tmp_path / name))


def test_values_outside_uint8_are_refused(tmp_path: Path) -> None:
    for value in ("256", "-1", "0.5", "nan"):
        write_frames(tmp_path / "x.csv", make_clip())
        text = (tmp_path / "x.csv").read_text().splitlines()
        text[3] = ",".join([*text[3].split(",")[:-1], value])
        (tmp_path / "x.csv").write_text("\n".join(text) + "\n")
        with pytest.raises(FrameFileError, match="whole numbers from 0 to 255"):
            list(read_frames(tmp_path / "x.csv"))
    write_frames(tmp_path / "x.csv", make_clip())
    with open(tmp_path / "x.csv", "a") as file:
        file.write(text[3] + "\n")
    with pytest.raises(FrameFileError, match="more rows than its metadata"):
        list(read_frames(tmp_path / "x.csv"))


@pytest.mark.parametrize("file_format", FRAME_FORMATS)
def test_failed_write_keeps_the_old_file_and_leaves_no_other(
    tmp_path: Path, file_format: str
) -> None:
    class Failing:
        def __iter__(self) -> Any:
            yield make_clip("a")
            raise ZeroDivisionError

    path = tmp_path / f"x.{file_format}"
    with pytest.raises(ZeroDivisionError):
        write_frames(path, Failing())
    assert os.listdir(tmp_path) == []
    path.write_text("old")
    with pytest.raises(ZeroDivisionError):
        write_frames(path, Failing())
    assert (os.listdir(tmp_path), path.read_text()) == ([path.name], "old")


def test_file_is_renamed_into_place_when_complete(tmp_path: Path) -> None:
    path = tmp_path / "new" / "x.npz"
    with frame_files.atomic_write(path) as file:
        file.write(b"half")
        file.flush()
        assert not path.exists()
    assert (path.read_bytes(), os.listdir(path.parent)) == (b"half", ["x.npz"])
    umask = os.umask(0)
    os.umask(umask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask


def test_errors_of_the_file_system_name_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FrameFileError, match=r"cannot write .*file/x\.npz"):
        write_frames(tmp_path / "file" / "x.npz", make_clip())
    with pytest.raises(FrameFileError, match=r"cannot read .*missing\.npz: No such file"):
        list(read_frames(tmp_path / "missing.npz"))
    long_name: Callable[[int], str] = lambda n: "n" * (n - 4) + ".npz"  # noqa: E731
    write_frames(tmp_path / long_name(255), make_clip())
    with pytest.raises(FrameFileError, match="name too long"):
        write_frames(tmp_path / long_name(256), make_clip())
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'audiotag\[parquet\]'"):
        write_frames(tmp_path / "x.parquet", make_clip())
