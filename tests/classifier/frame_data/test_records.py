from __future__ import annotations

import gzip
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from classifier.frame_data.clip_store import load_clips
from classifier.frame_data.clips import BadRecord, Clip, ReadReport
from classifier.frame_data.finding import find_frame_files
from classifier.frame_data.records import read_clips
from classifier.labels import audioset_labels
from tests.support.frames import make_clip
from tests.support.records import RGB, audioset_record, make_frames, make_record, write_records
from vggish import ClipFrames, write_frames
from vggish.common.choices import FRAME_FORMATS
from vggish.errors import FrameFileError
from vggish.frames.tfrecord import encode_clip, frame_record
from vggish.postprocess import dequantize


def read_one(path: Path, record: bytes, report: ReadReport | None = None) -> Clip:
    (clip,) = read_clips([write_records(path / "x.tfrecord", record)], report=report)
    return clip


# --- Kinds of records --------------------------------------------------------------------


def write_with_tensorflow(path: Path, records: list[Any], compression: str = "") -> None:
    """Write records, given as (context, feature lists or None), with TensorFlow."""
    tf = pytest.importorskip("tensorflow")

    def feature(values: Any) -> Any:
        if isinstance(values[0], bytes):
            return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))
        if isinstance(values[0], float):
            return tf.train.Feature(float_list=tf.train.FloatList(value=values))
        return tf.train.Feature(int64_list=tf.train.Int64List(value=values))

    with tf.io.TFRecordWriter(str(path), tf.io.TFRecordOptions(compression)) as writer:
        for context, lists in records:
            features = tf.train.Features(feature={k: feature(v) for k, v in context.items()})
            if lists is None:
                example = tf.train.Example(features=features)
            else:
                rows = {
                    key: tf.train.FeatureList(feature=[feature(row) for row in rows])
                    for key, rows in lists.items()
                }
                example = tf.train.SequenceExample(
                    context=features, feature_lists=tf.train.FeatureLists(feature_list=rows)
                )
            writer.write(example.SerializeToString())


@pytest.mark.parametrize("compression", ["", "GZIP"])
def test_files_written_by_tensorflow_are_read(tmp_path: Path, compression: str) -> None:
    frames = make_frames(4)
    as_bytes = [[row.tobytes()] for row in frames]
    as_floats = [row.tolist() for row in dequantize(frames)]
    as_codes = [row.tolist() for row in frames.astype(float)]
    rgb = [[bytes(1024)]] * 4
    records = [
        ({"video_id": [b"one"], "labels": [3, 500]}, {"audio_embedding": as_bytes}),
        ({"id": [b"two"], "labels": [0]}, {"rgb": rgb, "audio": as_bytes}),
        ({"id": [b"three"], "labels": [1, 1, 2]}, {"audio": as_floats}),
        ({}, {"audio_embedding": as_codes}),
        ({"id": [b"five"], "mean_rgb": [0.5] * 1024, "mean_audio": as_floats[0]}, None),
    ]
    path = tmp_path / "train0093.tfrecord"
    write_with_tensorflow(path, records, compression)
    report = ReadReport()
    clips = list(read_clips([path], report=report))
    assert [clip.clip_id for clip in clips] == ["one", "two", "three", "train0093#4", "five"]
    assert [clip.labels for clip in clips] == [(3, 500), (0,), (1, 2), None, None]
    assert {clip.embedder for clip in clips} == {""}
    assert [clip.source for clip in clips] == [f"{path}, record {n}" for n in range(1, 6)]
    for clip in clips:
        assert clip.frames.dtype == np.uint8
        np.testing.assert_array_equal(clip.frames, frames[: 1 if clip.clip_id == "five" else 4])
    assert report.kinds == {"audioset frames": 2, "youtube8m frames": 2, "youtube8m video": 1}
    assert (report.n_files, report.n_clips, report.n_unlabelled) == (1, 5, 2)
    assert (report.n_without_id, report.bad) == (1, [])


@pytest.mark.parametrize("file_format", FRAME_FORMATS)
@pytest.mark.parametrize("values", ["uint8", "pca", "raw"])
def test_embed_output_is_read(tmp_path: Path, file_format: str, values: str) -> None:
    frames = [make_frames(n, seed=n) for n in (3, 1)]
    clips = []
    for name, codes in zip("ab", frames, strict=True):
        clip = make_clip(name, len(codes), raw=values != "uint8")
        metadata = {**clip.metadata, "values": values}
        # Values beyond the quantiser's range are clipped, as by `embed --values uint8`.
        kept = codes if values == "uint8" else dequantize(codes) * np.float32(1.002)
        clips.append(ClipFrames(name, kept, clip.start_seconds, metadata))
    path = tmp_path / f"x.{file_format}"
    write_frames(path, clips)
    report = ReadReport()
    if values == "raw":
        assert list(read_clips([path], max_bad=2, report=report)) == []
        assert {bad.where for bad in report.bad} == {f"{path}, record {n}" for n in (1, 2)}
        assert all("--values uint8" in bad.reason for bad in report.bad)
        return
    read = list(read_clips([path], report=report))
    assert [clip.clip_id for clip in read] == ["a", "b"]
    assert [clip.labels for clip in read] == [None, None]
    assert report.embedders == {"vggish": 2}
    assert report.kinds == {f"audiotag {file_format}": 2}
    for clip, codes in zip(read, frames, strict=True):
        assert clip.frames.dtype == np.uint8
        np.testing.assert_allclose(clip.frames, codes, atol=0 if values == "uint8" else 1)


@pytest.mark.parametrize("file_format", ["jsonl", "tfrecord"])
def test_labels_of_embed_output_are_kept(tmp_path: Path, file_format: str) -> None:
    path = tmp_path / f"x.{file_format}"
    clip = make_clip("a", 2)
    write_frames(path, ClipFrames("a", clip.frames, clip.start_seconds, clip.metadata, (7, 2)))
    (read,) = read_clips([path])
    assert read.labels == (7, 2)


def test_dequantised_values_round_trip_to_every_code(tmp_path: Path) -> None:
    codes = np.arange(256, dtype=np.uint8).reshape(2, 128)
    record = make_record({}, {"audio_embedding": dequantize(codes)})
    np.testing.assert_array_equal(read_one(tmp_path, record).frames, codes)


@pytest.mark.parametrize("n", [1, 10, 300])
def test_clips_of_any_length_are_read(tmp_path: Path, n: int) -> None:
    clip = read_one(tmp_path, audioset_record(n=n, seed=n))
    np.testing.assert_array_equal(clip.frames, make_frames(n, seed=n))
    assert clip.frames.flags.c_contiguous


def test_int64_values_are_codes(tmp_path: Path) -> None:
    rows = make_frames(2).astype(np.int64)
    clip = read_one(tmp_path, make_record({}, {"audio": rows}))
    np.testing.assert_array_equal(clip.frames, rows)


def test_frame_may_be_split_into_several_byte_strings(tmp_path: Path) -> None:
    frames = make_frames(2)
    rows = [[row[:50].tobytes(), row[50:].tobytes()] for row in frames]
    clip = read_one(tmp_path, make_record({}, {"audio_embedding": rows}))
    np.testing.assert_array_equal(clip.frames, frames)


@pytest.mark.parametrize(
    ("context", "clip_id", "labels"),
    [
        ({}, "x#1", None),
        ({"video_id": "v"}, "v", None),
        ({"id": "v", "labels": []}, "v", None),
        ({"video_id": "v", "id": "w", "labels": [2, 0, 2]}, "v", (2, 0)),
        ({"video_id": "", "labels": [526]}, "x#1", (526,)),
        ({"video_id": "", "id": "w"}, "w", None),
        ({"video_id": [3]}, "x#1", None),
        ({"video_id": b"caf\xe9"}, "caf\\xe9", None),
    ],
)
def test_ids_and_labels_are_optional_and_have_alternative_names(
    tmp_path: Path, context: dict[str, Any], clip_id: str, labels: Any
) -> None:
    report = ReadReport()
    record = make_record(context, {"audio_embedding": make_frames()})
    clip = read_one(tmp_path, record, report)
    assert (clip.clip_id, clip.labels) == (clip_id, labels)
    assert report.n_without_id == ("#" in clip_id)
    assert report.n_unlabelled == (labels is None)


def rows(value: Any, n: int = 2) -> dict[str, Any]:
    return {"audio_embedding": [value] * n}


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (b"\xff\xff", "not a SequenceExample or Example"),
        (b"", "no audio features: .*'mean_audio'. Received: no features"),
        (make_record({"id": "a"}, {"rgb": RGB}), "Received: 'id', 'rgb'"),
        (make_record({"mean_rgb": [0.5] * 1024}), "Received: 'mean_rgb'"),
        (make_record({}, rows([0.5] * 1024)), "128 values. Received: 1024 .visual features"),
        (make_record({}, rows(b"x" * 127)), "128 values. Received: 127\n"),
        (make_record({}, rows([])), "128 values. Received: 0\n"),
        (make_record({}, {"audio": [bytes(128), [0.5] * 128]}), "all bytes or all numbers"),
        (make_record({}, rows([float("nan")] * 128)), "finite. Received: NaN"),
        (make_record({}, rows([float("inf")] * 128)), "finite. Received: NaN"),
        (make_record({}, rows([2.5] * 128)), "Received: 2.5 to 2.5 .raw embeddings"),
        (make_record({}, rows([-3.0] * 128)), "Received: -3 to -3 .raw embeddings"),
        (make_record({}, rows([256.0] * 128)), "Received: 256 to 256"),
        (make_record({"mean_audio": [0.5] * 127}), "128 values. Received: 127"),
        (make_record({"mean_audio": [9.5] * 128}), "codes .*Received: 9.5"),
        (make_record({"labels": [-1]}, rows(bytes(128))), r"class indices.* \[-1\]"),
        (make_record({"labels": [1 << 31]}, rows(bytes(128))), "class indices"),
        (make_record({"labels": [0, 0, 1, 0]}, rows(bytes(128))), "4 values .*multi-hot"),
        (make_record({"labels": [0] * 526 + [1]}, rows(bytes(128))), "527 values .*multi-hot"),
        (make_record({"labels": [0, 0]}, rows(bytes(128))), "2 values .*multi-hot"),
        (make_record({"labels": "Dog"}, rows(bytes(128))), "must be class indices .int64."),
        (make_record({"audiotag_metadata": "{"}, rows(bytes(128))), "Expecting"),
        (make_record({"audiotag_metadata": "[]"}, rows(bytes(128))), "must be a JSON object"),
        (make_record({"audiotag_metadata": [1]}, rows(bytes(128))), "index out of range"),
    ],
)
def test_invalid_record_error_gives_the_reason(tmp_path: Path, record: bytes, reason: str) -> None:
    path = write_records(tmp_path / "x.tfrecord", audioset_record("a"), record)
    path_2 = write_records(tmp_path / "y.tfrecord", audioset_record("b"))
    clips = read_clips([path, path_2])
    assert next(clips).clip_id == "a"
    with pytest.raises(FrameFileError, match=rf"x\.tfrecord, record 2: .*{reason}") as caught:
        next(clips)
    assert "--max-bad" in str(caught.value)
    report = ReadReport()
    assert [c.clip_id for c in read_clips([path, path_2], max_bad=1, report=report)] == ["a", "b"]
    assert [bad.where for bad in report.bad] == [f"{path}, record 2"]


def test_records_without_frames_are_counted_and_skipped(tmp_path: Path) -> None:
    path = write_records(
        tmp_path / "x.tfrecord",
        make_record({"id": "a"}, {"audio": []}),
        make_record({"id": "b"}, {"audio_embedding": []}),
        audioset_record("c"),
    )
    write_frames(tmp_path / "y.npz", [make_clip("d", 0), make_clip("e", 1)])
    report = ReadReport()
    clips = list(read_clips([path, tmp_path / "y.npz"], report=report))
    assert [clip.clip_id for clip in clips] == ["c", "e"]
    assert (report.n_empty, report.n_clips, report.bad) == (3, 2, [])


def test_report_warns_about_unusual_records(tmp_path: Path) -> None:
    odd = make_record({}, {"audio_embedding": make_frames()})
    path = write_records(tmp_path / "x.tfrecord", audioset_record("a"), audioset_record("a"), odd)
    write_records(tmp_path / "y.tfrecord")
    write_records(tmp_path / "z.tfrecord", b"\xff", make_record({}, {"audio": []}))
    report = ReadReport()
    load_clips(find_frame_files([str(tmp_path)]), max_bad=1, report=report)
    bad, *others = report.warnings()
    assert bad.startswith("skipped damaged or invalid records or files: 1 (")
    assert "z.tfrecord, record 1: not a SequenceExample" in bad
    assert others == [
        "skipped records without frames: 1",
        "files without records: 1",
        "clips without an id, named FILE#NUMBER: 1",
        "clips with the id of another clip: 1",
        "clips without labels: 1 of 3",
    ]
    whole = ReadReport()
    list(read_clips([write_records(path, audioset_record())], report=whole))
    assert whole.warnings() == []


# --- Damage ------------------------------------------------------------------------------


def test_reading_continues_after_a_damaged_record(tmp_path: Path) -> None:
    path = write_records(tmp_path / "x.tfrecord", *map(audioset_record, "abc"))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    report = ReadReport()
    assert [clip.clip_id for clip in read_clips([path], max_bad=1, report=report)] == ["a", "c"]
    assert report.bad == [BadRecord(f"{path}, record 2", "damaged (wrong checksum)")]


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda data, second: data[: second + 5], "ends within it; the rest is missing"),
        (lambda data, second: data[:-1], "ends within it; the rest is missing"),
        (
            lambda data, second: data[:second] + b"x" + data[second + 1 :],
            "wrong length checksum.*the rest of the file are lost",
        ),
    ],
)
def test_rest_of_a_file_is_skipped_after_a_damaged_length(
    tmp_path: Path, damage: Callable[[bytes, int], bytes], reason: str
) -> None:
    first = len(frame_record(audioset_record("a")))
    path = write_records(tmp_path / "x.tfrecord", *map(audioset_record, "ab"))
    path.write_bytes(damage(path.read_bytes(), first))
    other = write_records(tmp_path / "y.tfrecord", audioset_record("d"))
    report = ReadReport()
    clips = read_clips([path, other], max_bad=1, report=report)
    assert [clip.clip_id for clip in clips] == ["a", "d"]
    with pytest.raises(FrameFileError, match=rf"x\.tfrecord, record 2: .*{reason}"):
        list(read_clips([path, other]))


def test_more_bad_records_than_max_bad_are_an_error(tmp_path: Path) -> None:
    path = write_records(tmp_path / "x.tfrecord", b"\xff", audioset_record(), b"\xff", b"\xff")
    message = r"record 4: .*\n3 bad records or files, and at most 2 are allowed\. .*--max-bad N"
    report = ReadReport()
    with pytest.raises(FrameFileError, match=message):
        list(read_clips([path], max_bad=2, report=report))
    assert (len(report.bad), report.n_clips) == (3, 1)
    assert len(list(read_clips([path], max_bad=3))) == 1


@pytest.mark.parametrize("suffix", ["tfrecord", "tfrecord.gz", *(f for f in FRAME_FORMATS)])
def test_damage_anywhere_raises_frame_file_error(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x.{suffix}"
    write_frames(path, [make_clip("a", 2), make_clip("b", 1)], suffix.split(".")[0])
    whole = path.read_bytes()
    if suffix.endswith("gz"):
        whole = gzip.compress(whole)
    rng = np.random.default_rng(1)
    for step in range(150):
        data = bytearray(whole)
        position = int(rng.integers(len(data))) if step > 60 else step * 2 % len(data)
        if step % 3:
            data[position] ^= 1 << int(rng.integers(8))
        else:
            del data[position:]
        path.write_bytes(data)
        report = ReadReport()
        clips = list(read_clips([path], max_bad=9, report=report))
        if suffix.startswith("tfrecord") and not report.bad:
            # Records with a checksum are either read intact or reported.
            assert len(clips) == 2 or not data or position in (1, 3, 4, 5, 6, 7, 8, 9), position


def test_corrupted_record_with_valid_checksums_is_read_or_reported(tmp_path: Path) -> None:
    whole = [
        audioset_record("a", 2),
        make_record({"id": "a", "audiotag_metadata": '{"values": "pca"}'}, rows([0.5] * 128)),
        make_record({"mean_audio": [0.5] * 128}),
    ]
    rng = np.random.default_rng(1)
    records = []
    for step in range(600):
        data = bytearray(whole[step % 3])
        # The bytes before the rows select the decoder.
        position = int(rng.integers(len(data) if step % 2 else 60))
        data[position] = int(rng.integers(256))
        records.append(bytes(data))
    report = ReadReport()
    path = write_records(tmp_path / "x.tfrecord", *records)
    clips = list(read_clips(path, max_bad=600, report=report))
    assert len(clips) + len(report.bad) + report.n_empty == 600
    assert len(clips) > 60
    assert len(report.bad) > 60
    assert all(clip.frames.shape[1:] == (128,) for clip in clips)


@pytest.mark.parametrize(
    "labels",
    ['["Dog"]', "[0.5]", "[0,0,1]", "[false,true,false]", "[-1]", "[null]", "[4294967296]"],
)
def test_labels_in_output_of_embed_are_validated(tmp_path: Path, labels: str) -> None:
    path = tmp_path / "x.jsonl"
    write_frames(path, make_clip("a", 1))
    path.write_text(path.read_text().replace('"labels":[]', f'"labels":{labels}'))
    with pytest.raises(FrameFileError, match=r"x\.jsonl, record 1: "):
        list(read_clips(path))


def test_truncated_gzip_file_is_read_up_to_the_damage(tmp_path: Path) -> None:
    records = [audioset_record(name, seed=seed) for seed, name in enumerate("abc")]
    path = write_records(tmp_path / "x.tfrecord", *records)
    packed = gzip.compress(path.read_bytes())
    path.write_bytes(packed[: len(packed) - 300])
    report = ReadReport()
    clips = list(read_clips([path], max_bad=1, report=report))
    assert [clip.clip_id for clip in clips] == ["a", "b"]
    (bad,) = report.bad
    assert bad.where == f"{path}, record 3"
    assert "the rest of the file cannot be read" in bad.reason


def test_record_whose_length_looks_like_gzip_is_read(tmp_path: Path) -> None:
    length = int.from_bytes(b"\x1f\x8b\x08\x00", "little")
    record = audioset_record("a")
    field_header = b"\x1a\xff\xff\xff\x7f"  # an unknown field, which readers skip
    rest = length - len(record) - len(field_header)
    size = struct.pack("<4B", *((rest >> 7 * i & 127) | (128 if i < 3 else 0) for i in range(4)))
    record += b"\x1a" + size + bytes(rest)
    assert len(record) == length
    assert read_one(tmp_path, record).clip_id == "a"


@pytest.mark.parametrize("name", ["absent.tfrecord", "absent.npz", "."])
def test_file_that_cannot_be_opened_counts_as_bad(tmp_path: Path, name: str) -> None:
    with pytest.raises(FrameFileError, match=r"No such file|Is a directory|PermissionError"):
        list(read_clips([tmp_path / name]))
    good = write_records(tmp_path / "x.tfrecord", audioset_record())
    report = ReadReport()
    assert len(list(read_clips([tmp_path / name, good], max_bad=1, report=report))) == 1
    assert len(report.bad) == 1
    assert str(tmp_path / name) in report.bad[0].where


def test_damaged_file_is_named_once_in_the_message(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    write_frames(path, [make_clip("a", 1), make_clip("b", 1)])
    first = path.read_text().splitlines()[0]
    path.write_text(f"{first}\nno json\n")
    with pytest.raises(FrameFileError, match=r"x\.jsonl, record 2: ") as caught:
        list(read_clips([path]))
    assert str(caught.value).count("x.jsonl") == 1


def test_clips_are_yielded_before_the_next_file_is_opened(tmp_path: Path) -> None:
    path = write_records(tmp_path / "x.tfrecord", audioset_record())
    clips = read_clips([path, tmp_path / "absent"])
    assert next(clips).clip_id == "a"


# --- Released data -----------------------------------------------------------------------


def test_balanced_training_set_is_read_completely(shared_data: Path) -> None:
    paths = find_frame_files([str(shared_data / "audioset" / "bal_train" / "*.tfrecord")])
    report = ReadReport()
    store = load_clips(paths, report=report)
    assert (len(paths), len(store), report.n_clips) == (4070, 22_160, 22_160)
    assert report.warnings() == []
    assert (store.lengths.min(), store.longest) == (1, 10)
    assert {len(clip_id) for clip_id in store.ids} == {11}
    everything = store.label_matrix(np.arange(len(store)), len(audioset_labels()))
    # The set has about 50 clips per class, minus deleted videos.
    assert everything.sum(axis=0).min() > 30
    assert store.is_labelled.all()


def test_released_clips_are_identical_in_every_format(shared_data: Path, tmp_path: Path) -> None:
    shard = min((shared_data / "audioset" / "bal_train").glob("*.tfrecord"))
    packed = tmp_path / "packed.tfrecord"
    packed.write_bytes(gzip.compress(shard.read_bytes()))
    copy = tmp_path / "train-00000-of-00001"
    shutil.copy(shard, copy)
    clips = list(read_clips([shard]))
    ours = [
        ClipFrames(clip.clip_id, clip.frames, np.arange(len(clip.frames)) * 0.96, {}, clip.labels)
        for clip in clips
        if clip.labels
    ]
    write_records(tmp_path / "ours.tfrecord", *map(encode_clip, ours))
    write_frames(tmp_path / "ours.jsonl", ours)
    for path in (packed, copy, tmp_path / "ours.tfrecord", tmp_path / "ours.jsonl"):
        for read, clip in zip(read_clips([path]), clips, strict=True):
            assert (read.clip_id, read.labels) == (clip.clip_id, clip.labels)
            np.testing.assert_array_equal(read.frames, clip.frames)
