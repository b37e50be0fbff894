from __future__ import annotations

import dataclasses
import io
import json
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.frames import AWKWARD, assert_same, make_clip
from vggish import ClipFrames, read_frames, write_frames
from vggish.errors import FrameFileError
from vggish.frames.protobuf import message_class
from vggish.frames.tfrecord import (
    decode_clip,
    encode_clip,
    frame_record,
    masked_crc,
    read_records,
    scan_records,
    starts_record,
)

# Reads a file of audiotag like AudioSet's readers, then writes a file for audiotag.
WITH_TENSORFLOW = """
import json, sys
import tensorflow as tf

ours, theirs, as_json = sys.argv[1:]
context = {
    "video_id": tf.io.FixedLenFeature([], tf.string),
    "start_time_seconds": tf.io.FixedLenFeature([], tf.float32),
    "end_time_seconds": tf.io.FixedLenFeature([], tf.float32),
    "labels": tf.io.VarLenFeature(tf.int64),
    "audiotag_metadata": tf.io.FixedLenFeature([], tf.string),
}
clips = []
for number, record in enumerate(tf.data.TFRecordDataset(ours)):
    raw = number % 2
    row = tf.io.FixedLenSequenceFeature([128] if raw else [], tf.float32 if raw else tf.string)
    about, lists = tf.io.parse_single_sequence_example(record, context, {"audio_embedding": row})
    rows = lists["audio_embedding"]
    rows = rows if raw else tf.io.decode_raw(rows, tf.uint8)
    clips.append({
        "id": about["video_id"].numpy().decode(),
        "times": [float(about["start_time_seconds"]), float(about["end_time_seconds"])],
        "labels": tf.sparse.to_dense(about["labels"]).numpy().tolist(),
        "metadata": json.loads(about["audiotag_metadata"].numpy()),
        "rows": rows.numpy().tolist(),
    })
json.dump(clips, open(as_json, "w"))

def feature(values):
    if isinstance(values[0], bytes):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))
    if isinstance(values[0], float):
        return tf.train.Feature(float_list=tf.train.FloatList(value=values))
    return tf.train.Feature(int64_list=tf.train.Int64List(value=values))

with tf.io.TFRecordWriter(theirs) as writer:
    for number in range(3):
        rows = [[(i * 7 + second + number) % 256 for i in range(128)] for second in range(10)]
        rows = [feature([bytes(row)] if number < 2 else [v / 8 for v in row]) for row in rows]
        about = {"video_id": feature([b"-0RWZT-miFs"]), "labels": feature([3, 500])}
        example = tf.train.SequenceExample(
            context=tf.train.Features(feature={} if number == 1 else about),
            feature_lists=tf.train.FeatureLists(
                feature_list={"audio_embedding": tf.train.FeatureList(feature=rows)}))
        writer.write(example.SerializeToString())
"""


@pytest.mark.slow
def test_records_are_exchanged_with_tensorflow(tmp_path: Path) -> None:
    pytest.importorskip("tensorflow")
    clips = [
        make_clip(name, n % 3, raw=bool(n % 2), seed=n, warnings=[name])
        for n, name in enumerate(AWKWARD)
    ]
    clips = [ClipFrames(c.clip_id, c.frames, c.start_seconds, c.metadata, (5, 0)) for c in clips]
    ours, theirs, as_json = (tmp_path / name for name in ("o.tfrecord", "t.tfrecord", "x.json"))
    write_frames(ours, clips)
    command = [sys.executable, "-c", WITH_TENSORFLOW, *map(str, (ours, theirs, as_json))]
    subprocess.run(command, check=True, timeout=200, capture_output=True)
    seen = json.loads(as_json.read_text())
    assert len(seen) == len(clips)
    for theirs_of, clip in zip(seen, clips, strict=True):
        assert theirs_of["id"] == clip.clip_id
        assert theirs_of["labels"] == [5, 0]
        assert theirs_of["metadata"] == clip.metadata
        assert theirs_of["times"] == pytest.approx([0.0, clip.metadata["duration_seconds"]])
        rows = np.array(theirs_of["rows"], clip.frames.dtype).reshape(-1, 128)
        np.testing.assert_array_equal(rows, clip.frames)

    read = list(read_frames(theirs))
    assert [clip.clip_id for clip in read] == ["-0RWZT-miFs", "", "-0RWZT-miFs"]
    assert [clip.labels for clip in read] == [(3, 500), (), (3, 500)]
    index = np.arange(128) * 7 + np.arange(10)[:, None]
    for number, clip in enumerate(read):
        expected = (index + number) % 256 / (8 if number == 2 else 1)
        assert clip.frames.dtype == (np.float32 if number == 2 else np.uint8)
        np.testing.assert_array_equal(clip.frames, expected)
        np.testing.assert_array_equal(clip.start_seconds, np.arange(10.0))


def test_released_audioset_shards_are_read(shared_data: Path) -> None:
    shards = sorted((shared_data / "audioset" / "bal_train").glob("*.tfrecord"))[:40]
    clips = [clip for shard in shards for clip in read_frames(shard)]
    assert len(clips) > 100
    assert {len(clip.clip_id) for clip in clips} == {11}
    assert all(clip.labels and max(clip.labels) < 527 for clip in clips)
    assert sum(len(clip) == 10 for clip in clips) > 0.9 * len(clips)
    assert all(clip.frames.dtype == np.uint8 for clip in clips)
    values = np.concatenate([clip.frames for clip in clips])
    assert 100 < values.mean() < 150
    assert all(clip.start_seconds.tolist() == [*range(len(clip))] for clip in clips)


def test_released_audioset_clips_survive_every_format(shared_data: Path, tmp_path: Path) -> None:
    shard = min((shared_data / "audioset" / "bal_train").glob("*.tfrecord"))
    clips = list(read_frames(shard))
    unlabelled = [dataclasses.replace(clip, labels=()) for clip in clips]
    for file_format in ("npz", "csv", "parquet", "jsonl", "tfrecord"):
        if file_format in ("npz", "csv", "parquet"):
            with pytest.raises(FrameFileError, match="has labels, which only jsonl and tfrecord"):
                write_frames(tmp_path / "x", clips, file_format)
            assert not (tmp_path / "x").exists()
            clips = unlabelled
        write_frames(tmp_path / "x", clips, file_format)
        for read, written in zip(read_frames(tmp_path / "x", file_format), clips, strict=True):
            assert_same(read, written)
        (tmp_path / "x").unlink()
        clips = list(read_frames(shard))


def example(change: Callable[[Any], None]) -> bytes:
    """Serialise a modified `SequenceExample` of one clip with two frames."""
    message = message_class("SequenceExample")()
    message.ParseFromString(encode_clip(make_clip("clip", 2)))
    change(message)
    return bytes(message.SerializeToString())


def rows_of(message: Any) -> Any:
    return message.feature_lists.feature_list["audio_embedding"].feature


def test_clip_id_may_be_stored_under_the_key_id() -> None:
    def rename(message: Any) -> None:
        context = message.context.feature
        context["id"].CopyFrom(context["video_id"])
        del context["video_id"]

    assert decode_clip(example(rename), "x").clip_id == "clip"


def test_example_without_context_has_no_id_and_no_labels() -> None:
    clip = decode_clip(example(lambda message: message.ClearField("context")), "x")
    assert (clip.clip_id, clip.labels, clip.metadata) == ("", (), {})
    assert clip.start_seconds.tolist() == [0.0, 1.0]
    np.testing.assert_array_equal(clip.frames, make_clip("clip", 2).frames)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.ClearField("feature_lists"), "no feature list 'audio_embedding'"),
        (lambda m: rows_of(m)[1].bytes_list.value.append(b"x"), "does not have 128 values"),
        (lambda m: rows_of(m)[1].Clear(), "does not have 128 values"),
        (lambda m: rows_of(m)[1].float_list.value.extend([0.5] * 128), "some are floats"),
        (lambda m: m.context.feature["video_id"].Clear(), "index"),
        (lambda m: m.context.feature["video_id"].bytes_list.value.insert(0, b"\xe9"), "utf-8"),
        (
            lambda m: m.context.feature["audiotag_metadata"].bytes_list.value.insert(0, b"{"),
            "Expecting",
        ),
        (
            lambda m: m.context.feature["audiotag_metadata"].bytes_list.value.insert(0, b"[]"),
            "get",
        ),
    ],
)
def test_the_error_for_an_invalid_example_names_the_record(
    tmp_path: Path, change: Callable[[Any], None], message: str
) -> None:
    path = tmp_path / "x.tfrecord"
    path.write_bytes(frame_record(encode_clip(make_clip())) + frame_record(example(change)))
    clips = read_frames(path)
    assert next(clips).clip_id == "a"
    with pytest.raises(FrameFileError, match=rf"x\.tfrecord, record 2: .*{message}"):
        next(clips)


def test_the_error_for_another_record_type_names_the_record(tmp_path: Path) -> None:
    path = tmp_path / "x.tfrecord"
    path.write_bytes(frame_record(b"\xff\xff"))
    with pytest.raises(FrameFileError, match="record 1: not a SequenceExample"):
        list(read_frames(path))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data, second: data[: second + 5], "ends within it"),
        (lambda data, second: data[: second + 100], "ends within it"),
        (lambda data, second: data[:-1], "ends within it"),
        (lambda data, second: flipped(data, second + 2), "wrong length checksum"),
        (lambda data, second: flipped(data, second + 9), "wrong length checksum"),
        (lambda data, second: flipped(data, second + 200), "damaged .wrong checksum"),
        (lambda data, second: flipped(data, len(data) - 1), "damaged .wrong checksum"),
        (lambda data, second: data[:second] + length_header(1 << 62), "ends within it"),
        (lambda data, second: data[:second] + length_header(1 << 30), "ends within it"),
    ],
)
def test_a_damaged_record_is_named_by_file_and_number(
    tmp_path: Path, damage: Callable[[bytes, int], bytes], message: str
) -> None:
    path = tmp_path / "x.tfrecord"
    first = frame_record(encode_clip(make_clip("a")))
    whole = first + frame_record(encode_clip(make_clip("b")))
    path.write_bytes(damage(whole, len(first)))
    clips = read_frames(path)
    assert next(clips).clip_id == "a"
    with pytest.raises(FrameFileError, match=rf"x\.tfrecord, record 2: .*{message}"):
        next(clips)


@pytest.mark.parametrize(
    ("position", "expected"),
    [
        (17 + 12, [b"a", "record 2: damaged (wrong checksum)", b"c"]),
        (17 + 1, [b"a", "record 2: damaged, or not a TFRecord file"]),
        (2 * 17 + 12, [b"a", b"b", "record 3: damaged (wrong checksum)"]),
    ],
)
def test_scanning_continues_after_damaged_data(position: int, expected: list[Any]) -> None:
    data = b"".join(map(frame_record, (b"a", b"b", b"c")))
    found = list(scan_records(io.BytesIO(flipped(data, position)), "x"))
    assert len(found) == len(expected)
    for record, wanted in zip(found, expected, strict=True):
        assert record == wanted or str(record).startswith(f"x, {wanted}")


def test_the_start_of_a_record_is_recognised() -> None:
    assert starts_record(frame_record(b"abc")[:12])
    assert not starts_record(frame_record(b"abc")[:11])
    assert not starts_record(b"\x1f\x8b\x08" + bytes(9))


def test_feature_lists_may_be_left_unparsed() -> None:
    data = encode_clip(make_clip("a", 2))
    parsed = message_class("SequenceExample").FromString(data)
    unparsed = message_class("UnparsedSequenceExample").FromString(data)
    assert unparsed.context.SerializeToString(deterministic=True) == (
        parsed.context.SerializeToString(deterministic=True)
    )
    rows = unparsed.feature_lists.feature_list["audio_embedding"]
    assert rows == parsed.feature_lists.feature_list["audio_embedding"].SerializeToString()


def test_record_framing_matches_the_format() -> None:
    # Masked CRC-32Cs of the length 0 (eight bytes) and of no data: constants of the format.
    assert frame_record(b"") == bytes.fromhex("0000000000000000 29039807 d8ea82a2")
    assert list(read_records(io.BytesIO(frame_record(b"") + frame_record(b"ab")), "x")) == [
        *(b"", b"ab")
    ]


def flipped(data: bytes, position: int) -> bytes:
    return data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]


def length_header(n: int) -> bytes:
    length = struct.pack("<Q", n)
    return length + struct.pack("<I", masked_crc(length)) + b"x" * 500
