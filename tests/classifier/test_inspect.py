from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from classifier.inspect import inspect_paths
from classifier.labels import Labels, audioset_labels
from classifier.reports.inspection import AudioInspection, BundleInspection, FramesInspection
from classifier.reports.inspection_plot import plot_inspection
from tests.support.bundles import make_bundle
from tests.support.records import audioset_record, make_frames, make_record, write_records
from tests.support.sounds import make_sound
from vggish.errors import FrameFileError, MissingPackageError, OptionError

ANIMALS = Labels(("Dog", "Cat", "Frog, toad", "A $x$ < class"), ("/m/0bt9lr", "", "/m/09ld4", ""))


@pytest.fixture
def frames_directory(tmp_path: Path) -> Path:
    """Write six clips in two files, and four bad records."""
    directory = tmp_path / "frames"
    write_records(
        directory / "a.tfrecord",
        audioset_record("one", 3, labels=[0, 1]),
        audioset_record("two", 10, labels=[1, 0]),
        audioset_record("two", 10, labels=[5]),
        b"\xff",
        make_record({"id": "none"}, {"audio": make_frames(2)}),
    )
    path = write_records(
        directory / "b.tfrecord",
        make_record({}, {"audio": make_frames(1)}),
        audioset_record("no room", 1),
        make_record({"labels": [2]}, {"rgb": [b"x" * 1024]}),
        audioset_record("cut off", 1),
    )
    data = bytearray(path.read_bytes()[:-20])
    data[data.index(b"no room")] ^= 1
    path.write_bytes(data)
    return directory


def frames_in(*arguments: Any, labels: Labels = ANIMALS) -> FramesInspection:
    (found,) = inspect_paths([str(argument) for argument in arguments], labels)
    assert isinstance(found, FramesInspection)
    return found


def test_frames_are_counted_despite_damage(frames_directory: Path) -> None:
    found = frames_in(frames_directory)
    report = found.report
    assert (report.n_files, report.n_clips, found.n_frames) == (2, 5, 26)
    assert found.n_bytes == sum(path.stat().st_size for path in frames_directory.iterdir())
    assert report.kinds == {"audioset frames": 3, "youtube8m frames": 2}
    assert (report.n_unlabelled, report.n_without_id, report.n_repeated_ids) == (2, 1, 1)
    assert found.lengths == {3: 1, 10: 2, 2: 1, 1: 1}
    assert found.labels_per_clip == {2: 2, 1: 1}
    assert found.examples == {0: 2, 1: 2, 5: 1}
    assert found.combinations == {(0, 1): 2}
    assert [bad.where.rpartition("/")[2] for bad in report.bad] == [
        "a.tfrecord, record 4",
        "b.tfrecord, record 2",
        "b.tfrecord, record 3",
        "b.tfrecord, record 4",
    ]


def test_classes_are_sorted_by_number_of_clips(frames_directory: Path) -> None:
    found = frames_in(frames_directory)
    assert found.by_class() == [(2, 0), (3, 0), (5, 1), (0, 2), (1, 2)]
    assert found.name_of(5) == "class 5"


def test_lines_have_counts_classes_and_problems(frames_directory: Path) -> None:
    text = "\n".join(frames_in(frames_directory / "*.tfrecord").lines())
    for part in (
        "files of frames: 2 (5.6 KiB); clips: 5; frames: 26",
        "kind: audioset frames (3), youtube8m frames (2)",
        "embedder: unknown (5)",
        "classes: 4 (without clips: 2; with fewer than 10: 3)",
        "unknown classes: 1; name the classes with --labels",
        "Frog, toad                                      0",
        "         2  Dog + Cat",
        "clips without an id, named FILE#NUMBER: 1",
        "clips with the id of another clip: 1",
        "clips without labels: 2 of 5",
        "bad records or files: 4",
        "b.tfrecord, record 2: damaged (wrong checksum)",
    ):
        assert part in text
    assert text.count("record 4") == 2


def test_bad_records_are_listed_up_to_a_limit(frames_directory: Path) -> None:
    lines = frames_in(frames_directory).lines(max_bad=1)
    assert lines[-2].endswith("a.tfrecord, record 4: not a SequenceExample or Example")
    assert lines[-1] == "  ... and 3 more"


def test_json_has_all_counts(frames_directory: Path) -> None:
    found = json.loads(json.dumps(frames_in(frames_directory).as_json()))
    assert (found["inspected"], found["n_clips"], found["n_frames"]) == ("frames", 5, 26)
    assert found["lengths"] == {"1": 1, "2": 1, "3": 1, "10": 2}
    assert found["classes"][2] == {
        "index": 2,
        "mid": "/m/09ld4",
        "label": "Frog, toad",
        "n_clips": 0,
    }
    assert found["classes"][4]["label"] == "class 5"
    assert found["combinations"] == [{"labels": ["Dog", "Cat"], "n_clips": 2}]
    assert (found["n_bad"], len(found["bad"])) == (4, 4)
    assert found["bad"][0]["reason"] == "not a SequenceExample or Example"


def test_long_clip_lengths_are_binned(tmp_path: Path) -> None:
    lengths = [1, 7, 25, 26, 300]
    records = [audioset_record(str(n), n) for n in lengths]
    found = frames_in(write_records(tmp_path / "x.tfrecord", *records))
    lines = found.lines()
    rows = [line.split() for line in lines[lines.index("frames per clip") + 1 :][:12]]
    assert [(row[0], row[1]) for row in rows if row[1] != "0"] == [
        ("1-25", "3"),
        ("26-50", "1"),
        ("276-300", "1"),
    ]


def test_files_with_only_damaged_records_are_reported(tmp_path: Path) -> None:
    path = tmp_path / "x.tfrecord"
    path.write_bytes(b"no records at all")
    found = frames_in(path)
    assert (found.report.n_clips, len(found.report.bad)) == (0, 1)
    assert "not a TFRecord file" in found.lines()[-1]


def test_unlabelled_clips_have_no_class_table(tmp_path: Path) -> None:
    record = make_record({"id": "a"}, {"audio": make_frames(2)})
    found = frames_in(write_records(tmp_path / "x.tfrecord", record))
    assert not any("class" in line for line in found.lines())


# --- Bundles -----------------------------------------------------------------------------


def bundle_in(directory: Path) -> BundleInspection:
    (found,) = inspect_paths([str(directory)], ANIMALS)
    assert isinstance(found, BundleInspection)
    return found


def test_valid_bundle_is_described(tmp_path: Path) -> None:
    make_bundle(tmp_path / "tiny", metrics={"mAP": 0.28512}, training={"n_clips": 22160})
    found = bundle_in(tmp_path / "tiny")
    assert found.problem is None
    assert {file.name: file.state for file in found.files} == {
        "head.onnx": "fits",
        "labels.csv": "fits",
        "weights.npz": "fits",
    }
    text = "\n".join(found.lines())
    for part in ("tiny: valid", "  mAP: 0.2851", "  n clips: 22,160", "embedders: vggish"):
        assert part in text
    as_json = json.loads(json.dumps(found.as_json()))
    assert as_json["card"]["metrics"] == {"mAP": 0.28512}
    assert (as_json["inspected"], as_json["problem"]) == ("bundle", None)


def test_bundle_of_a_run_is_inspected(tmp_path: Path) -> None:
    make_bundle(tmp_path / "run" / "bundle")
    assert bundle_in(tmp_path / "run").directory == str(tmp_path / "run" / "bundle")


def test_damaged_files_of_a_bundle_are_listed(tmp_path: Path) -> None:
    make_bundle(tmp_path / "tiny")
    (tmp_path / "tiny" / "labels.csv").write_text("index,display_name\n0,Dog\n")
    (tmp_path / "tiny" / "weights.npz").unlink()
    found = bundle_in(tmp_path / "tiny")
    states = {file.name: file.state for file in found.files}
    assert states == {"head.onnx": "fits", "labels.csv": "differs", "weights.npz": "missing"}
    assert found.problem is not None
    assert "labels.csv" in found.problem
    assert ": INVALID" in found.lines()[0]


@pytest.mark.parametrize("card", ["{", "[]", '{"files": [1]}', '{"files": {"../x": {}}}'])
def test_bundle_with_an_invalid_card_is_reported(tmp_path: Path, card: str) -> None:
    make_bundle(tmp_path / "tiny")
    (tmp_path / "x").write_text("not part of it")
    (tmp_path / "tiny" / "bundle.json").write_text(card)
    found = bundle_in(tmp_path / "tiny")
    assert found.problem is not None
    assert all(file.n_bytes is None for file in found.files)
    assert found.lines()


# --- Audio -------------------------------------------------------------------------------


def test_audio_files_are_described_by_their_headers(
    tmp_path: Path, write_sound: Callable[..., Path]
) -> None:
    write_sound("sounds/a.wav", seconds=2.0, rate_hz=44_100, n_channels=2)
    write_sound("sounds/deep/b.flac", seconds=10.0)
    (tmp_path / "sounds" / "broken.wav").write_bytes(b"no sound")
    (tmp_path / "sounds" / "notes.txt").write_text("no sound either")
    (found,) = inspect_paths([str(tmp_path / "sounds")], ANIMALS)
    assert isinstance(found, AudioInspection)
    first, broken, last = found.files
    assert (first.sample_rate_hz, first.n_channels, first.seconds) == (44_100, 2, 2.0)
    assert (first.format, first.n_frames) == ("WAV/PCM_16", 2)
    assert (last.format, last.seconds, last.n_frames) == ("FLAC/PCM_16", 10.0, 10)
    assert broken.error is not None
    as_json = json.loads(json.dumps(found.as_json()))
    assert (as_json["n_files"], as_json["n_bad"], as_json["n_frames"]) == (3, 1, 12)
    assert as_json["sample_rates_hz"] == {"16000": 1, "44100": 1}
    text = "\n".join(found.lines())
    assert "audio files: 3 (12.0 s); frames when embedded: 12" in text
    assert "files that cannot be read: 1" in text
    assert "10.00 s      10 frames  16,000 Hz, 1 ch" in text


def test_warnings_about_samples_are_shown(tmp_path: Path) -> None:
    sound = make_sound(2.0)
    path = tmp_path / "a.wav"
    soundfile.write(path, 8 * np.stack([sound, -sound], axis=1), 2_000, subtype="FLOAT")
    (found,) = inspect_paths([str(path)], ANIMALS)
    said = "\n".join(found.lines())
    for warning in ("sampled at 2,000 Hz", "scaled to full scale", "channel 2 of 2 inverted"):
        assert warning in said


def test_many_audio_files_are_summarised(write_sound: Callable[..., Path]) -> None:
    paths = [write_sound(f"{i}.wav", seconds=1.0 + i, rate_hz=8000 + i % 2) for i in range(5)]
    (found,) = inspect_paths([str(path) for path in paths], ANIMALS)
    assert isinstance(found, AudioInspection)
    text = "\n".join(found.lines(max_files=4))
    assert "sample rate: 8,000 Hz (3), 8,001 Hz (2)" in text
    assert "duration: 1.00 to 5.00 s, median 3.00 s" in text
    assert "format: WAV/PCM_16 (5)" in text


# --- Detecting the kind ------------------------------------------------------------------


def test_directory_of_mixed_files_is_grouped_by_kind(
    tmp_path: Path, frames_directory: Path, write_sound: Callable[..., Path]
) -> None:
    make_bundle(frames_directory / "deep" / "tiny")
    write_sound("frames/a.wav")
    bundle, frames, sounds = inspect_paths([str(frames_directory)], ANIMALS)
    assert isinstance(bundle, BundleInspection)
    # The weights inside a bundle are not frames.
    assert isinstance(frames, FramesInspection)
    assert frames.report.n_files == 2
    assert isinstance(sounds, AudioInspection)
    assert len(sounds.files) == 1


def test_file_without_a_known_suffix_is_recognised_by_its_contents(
    tmp_path: Path, write_sound: Callable[..., Path]
) -> None:
    write_records(tmp_path / "train-00000-of-00001", audioset_record())
    write_sound("sound.wav").rename(tmp_path / "sound")
    names = ("train-00000-of-00001", "sound")
    frames, sounds = inspect_paths([str(tmp_path / name) for name in names], ANIMALS)
    assert isinstance(frames, FramesInspection)
    assert isinstance(sounds, AudioInspection)
    assert sounds.files[0].error is None


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("absent", "no file or directory .*absent"),
        ("absent*", r"no file or directory .*absent\*"),
        ("empty", "empty has no frames, bundles or audio files"),
    ],
)
def test_argument_with_nothing_to_inspect_is_named(
    tmp_path: Path, argument: str, message: str
) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(OptionError, match=message):
        inspect_paths([str(tmp_path / argument)], ANIMALS)


# --- Plots -------------------------------------------------------------------------------


@pytest.mark.parametrize("labels", [ANIMALS, audioset_labels()], ids=["few", "many"])
@pytest.mark.parametrize(("suffix", "head"), [("png", b"\x89PNG"), ("svg", b"<?xml")])
def test_plots_of_frames_are_written(
    tmp_path: Path, frames_directory: Path, labels: Labels, suffix: str, head: bytes
) -> None:
    path = tmp_path / f"plot.{suffix}"
    plot_inspection(frames_in(frames_directory, labels=labels), path)
    assert path.read_bytes().startswith(head)


def test_plots_of_unlabelled_frames_and_of_audio_are_written(
    tmp_path: Path, write_sound: Callable[..., Path]
) -> None:
    records = [make_record({}, {"audio": make_frames(n)}) for n in (1, 300)]
    frames = frames_in(write_records(tmp_path / "x.tfrecord", *records))
    (sounds,) = inspect_paths([str(write_sound("a.wav"))], ANIMALS)
    for found in (frames, sounds):
        plot_inspection(found, tmp_path / "plot.png")
        assert (tmp_path / "plot.png").stat().st_size > 5000
        (tmp_path / "plot.png").unlink()


def test_plot_errors_are_reported(
    tmp_path: Path, frames_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = frames_in(frames_directory)
    with pytest.raises(OptionError, match=r"ends in \.png, \.svg or \.pdf"):
        plot_inspection(found, tmp_path / "plot.xyz")
    with pytest.raises(OptionError, match="nothing to draw"):
        plot_inspection(BundleInspection("x", None, (), {}), tmp_path / "plot.png")
    with pytest.raises(FrameFileError, match="cannot write"):
        plot_inspection(found, tmp_path / "frames" / "a.tfrecord" / "plot.png")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingPackageError, match=r"pip install .*audiotag\[plot\]"):
        plot_inspection(found, tmp_path / "plot.png")


def test_balanced_training_set_is_inspected(shared_data: Path) -> None:
    found = frames_in(shared_data / "audioset" / "bal_train", labels=audioset_labels())
    assert (found.report.n_clips, found.n_frames) == (22_160, 220_270)
    assert found.report.bad == []
    assert sum(found.examples.values()) == sum(n * c for n, c in found.labels_per_clip.items())
    counts = np.array([n_clips for _, n_clips in found.by_class()])
    assert len(counts) == 527
    assert (np.diff(counts) >= 0).all()
    assert found.by_class()[-1][0] == audioset_labels().index_of("Music")
