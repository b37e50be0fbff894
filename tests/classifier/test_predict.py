from __future__ import annotations

import csv
import io
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from classifier import Bundle, Clip
from classifier.bundles.bundle import BATCH_FRAMES
from classifier.names import PREDICTION_FORMATS
from classifier.predict import predict
from tests.support.bundles import N_CLASSES, NAMES, make_bundle, make_clip, tiny_scores
from vggish.errors import BundleError, FrameFileError, MissingPackageError, OptionError

AWKWARD = ["a,b", 'say "x"', "two\nlines", "naïve 日本語", "", "50% %s", " x "]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("bundles") / "tiny")


def make_clips(ids: list[str] | None = None, **options: Any) -> list[Clip]:
    ids = [f"clip{number}" for number in range(30)] if ids is None else ids
    return [make_clip(name, 1 + seed % 12, seed=seed, **options) for seed, name in enumerate(ids)]


def expected_scores(clips: list[Clip]) -> Any:
    return tiny_scores([clip.frames for clip in clips])


class FixedScores:
    """Bundle that returns the given scores in clip order."""

    def __init__(self, bundle: Bundle, scores: Any) -> None:
        self.labels, self.provenance = bundle.labels, bundle.provenance
        self.check_embedder = bundle.check_embedder
        self._scores = np.asarray(scores, np.float32)

    def scores(self, frames: Any, n_frames: Any, embedder: str = "") -> Any:
        return self._scores[: len(frames)]


def predicted(bundle: Any, clips: Any, file_format: str, **options: Any) -> bytes:
    out = io.BytesIO()
    predict(bundle, clips, out, file_format, **options)
    return out.getvalue()


# --- YouTube-8M's CSV --------------------------------------------------------------------


def test_youtube8m_csv_matches_byte_for_byte(bundle: Bundle) -> None:
    known = FixedScores(
        bundle, [[0.5, 0.1234567, 0.9, 0.5, 1e-7], [0, 1, 0.25, 0, 0], [1 / 3, 0, 0, 0, 2 / 3]]
    )
    clips = make_clips(["--aE2O5G5WE", "b", "c"])
    assert predicted(known, clips, "yt8m") == (
        b"VideoId,LabelConfidencePairs\n"
        b"--aE2O5G5WE,2 0.9 0 0.5 3 0.5 1 0.123457 4 1e-07\n"
        b"b,1 1 2 0.25 0 0 3 0 4 0\n"
        b"c,4 0.666667 0 0.333333 1 0 2 0 3 0\n"
    )
    assert predicted(known, clips[:1], "yt8m", top_k=2) == (
        b"VideoId,LabelConfidencePairs\n--aE2O5G5WE,2 0.9 0 0.5\n"
    )


def test_youtube8m_csv_has_the_top_20_classes(tmp_path: Path) -> None:
    large = make_bundle(tmp_path / "large", names=tuple(f"class {i}" for i in range(50)))
    clips = make_clips()
    rows = list(csv.reader(io.StringIO(predicted(large, clips, "yt8m").decode())))[1:]
    all_scores = tiny_scores([clip.frames for clip in clips], 50)
    for (clip_id, pairs), clip, scores in zip(rows, clips, all_scores, strict=True):
        words = pairs.split(" ")
        assert clip_id == clip.clip_id
        assert len(words) == 40
        assert {int(word) for word in words[::2]} == set(np.argsort(scores)[-20:].tolist())
        values = [float(word) for word in words[1::2]]
        assert values == sorted(values, reverse=True)
        np.testing.assert_allclose(values, scores[[int(w) for w in words[::2]]], atol=1e-5)


# --- The other formats -------------------------------------------------------------------


@pytest.mark.parametrize("file_format", ["yt8m", "wide"])
def test_csv_round_trip_with_special_characters(bundle: Bundle, file_format: str) -> None:
    text = predicted(bundle, make_clips(AWKWARD), file_format).decode()
    rows = list(csv.reader(io.StringIO(text, newline="")))
    assert [row[0] for row in rows[1:]] == AWKWARD
    assert "\r\n" not in text


def test_wide_csv_has_one_column_per_class(bundle: Bundle) -> None:
    clips = make_clips()
    text = predicted(bundle, clips, "wide", top_k=1).decode()
    header, *rows = csv.reader(io.StringIO(text))
    assert header == ["fname", *NAMES]
    assert [row[0] for row in rows] == [clip.clip_id for clip in clips]
    scores = np.array([row[1:] for row in rows], np.float32)
    np.testing.assert_allclose(scores, expected_scores(clips), atol=1e-5)


def test_wide_csv_and_parquet_preserve_float32_scores(
    bundle: Bundle, rng: np.random.Generator
) -> None:
    arrow = pytest.importorskip("pyarrow.parquet")
    exact = (10.0 ** rng.uniform(-40, 0, (3, N_CLASSES))).astype(np.float32)
    known, clips = FixedScores(bundle, exact), make_clips(["a", "b", "c"])
    rows = list(csv.reader(io.StringIO(predicted(known, clips, "wide").decode())))[1:]
    np.testing.assert_array_equal(np.array([row[1:] for row in rows], np.float32), exact)
    table = arrow.read_table(io.BytesIO(predicted(known, clips, "parquet")))
    np.testing.assert_array_equal(np.array(table["scores"].to_pylist(), np.float32), exact)


def test_json_lines_contain_the_top_tags(bundle: Bundle) -> None:
    clips = make_clips([*AWKWARD, "plain"])
    lines = predicted(bundle, clips, "jsonl", top_k=3).splitlines()
    for line, clip, scores in zip(lines, clips, expected_scores(clips), strict=True):
        entry = json.loads(line)
        assert list(entry) == ["clip", "tags"]
        assert entry["clip"] == clip.clip_id
        assert [list(tag) for tag in entry["tags"]] == [["label", "mid", "index", "score"]] * 3
        best = np.argsort(-scores)[:3]
        assert [tag["index"] for tag in entry["tags"]] == best.tolist()
        assert [tag["label"] for tag in entry["tags"]] == [NAMES[index] for index in best]
        np.testing.assert_allclose([t["score"] for t in entry["tags"]], scores[best], atol=1e-5)


def test_parquet_metadata_describes_the_scores(bundle: Bundle, tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow.parquet")
    clips = make_clips([*AWKWARD, *map(str, range(9000))])
    predict(bundle, clips, tmp_path / "p.parquet", "parquet")
    file = arrow.ParquetFile(tmp_path / "p.parquet")
    assert file.num_row_groups == 3  # not one per batch
    table = file.read()
    assert table["clip"].to_pylist() == [clip.clip_id for clip in clips]
    np.testing.assert_allclose(
        np.array(table["scores"].to_pylist()), expected_scores(clips), atol=1e-5
    )
    said = json.loads(table.schema.metadata[b"audiotag"])
    assert [label["label"] for label in said["labels"]] == list(NAMES)
    assert said["labels"][1]["mid"] == "/m/1"
    assert said["model"] == bundle.provenance


@pytest.mark.parametrize("file_format", PREDICTION_FORMATS)
def test_no_clips_give_a_valid_empty_file(bundle: Bundle, tmp_path: Path, file_format: str) -> None:
    assert predict(bundle, [], tmp_path / "out", file_format).n_clips == 0
    data = (tmp_path / "out").read_bytes()
    if file_format == "parquet":
        arrow = pytest.importorskip("pyarrow.parquet")
        assert arrow.read_table(tmp_path / "out").num_rows == 0
    else:
        assert data.count(b"\n") == (file_format != "jsonl")


# --- All formats -------------------------------------------------------------------------


@pytest.mark.parametrize("file_format", PREDICTION_FORMATS)
def test_path_and_file_object_get_the_same_bytes(
    bundle: Bundle, tmp_path: Path, file_format: str
) -> None:
    clips = make_clips()
    report = predict(bundle, iter(clips), tmp_path / "new" / "out", file_format)
    assert (tmp_path / "new" / "out").read_bytes() == predicted(bundle, clips, file_format)
    assert report.as_json() == {"n_clips": 30, "embedders": {"": 30}}


@pytest.mark.parametrize("file_format", PREDICTION_FORMATS)
def test_predictions_can_be_written_to_a_pipe(bundle: Bundle, file_format: str) -> None:
    clips = make_clips(["a", "b"])
    reading, writing = os.pipe()
    with open(reading, "rb") as pipe:
        with open(writing, "wb") as out:
            predict(bundle, clips, out, file_format)
            assert not out.closed
        assert pipe.read() == predicted(bundle, clips, file_format)


@pytest.mark.parametrize("file_format", PREDICTION_FORMATS)
def test_memory_use_does_not_grow_with_the_number_of_clips(
    bundle: Bundle, file_format: str
) -> None:
    taken = 0
    ahead = []

    def clips() -> Iterator[Clip]:
        nonlocal taken
        for number in range(1200):
            taken += 1
            yield make_clip(str(number), 10)

    def note(n_done: int) -> None:
        ahead.append(taken - n_done)

    report = predict(bundle, clips(), io.BytesIO(), file_format, on_progress=note)
    assert report.n_clips == taken == 1200
    assert len(ahead) == 3
    assert max(ahead) <= BATCH_FRAMES // 10 + 1


def test_long_and_empty_clips_are_predicted(bundle: Bundle) -> None:
    clips = [make_clip("long", 300), make_clip("empty", 0), make_clip("one", 1)]
    out = io.BytesIO()
    predict(bundle, clips, out, "wide")
    rows = list(csv.reader(io.StringIO(out.getvalue().decode())))[1:]
    scores = np.array([row[1:] for row in rows], np.float32)
    np.testing.assert_allclose(scores, expected_scores(clips), atol=1e-5)


def test_frames_of_another_embedder_need_force(bundle: Bundle, tmp_path: Path) -> None:
    clips = [make_clip("a"), make_clip("b", embedder="vggish"), make_clip("c", embedder="mini")]
    with pytest.raises(BundleError, match=r"c\.tfrecord, record 1: .*'mini'.*'tiny'"):
        predict(bundle, clips, tmp_path / "out.csv", "yt8m")
    assert list(tmp_path.iterdir()) == []
    report = predict(bundle, clips, tmp_path / "out.csv", "yt8m", force=True)
    assert report.embedders == {"": 1, "vggish": 1, "mini": 1}


def test_interrupted_prediction_leaves_the_old_file(bundle: Bundle, tmp_path: Path) -> None:
    def clips() -> Iterator[Clip]:
        yield from (make_clip(str(number), 10) for number in range(1000))
        raise KeyboardInterrupt

    (tmp_path / "out.csv").write_text("the last one")
    with pytest.raises(KeyboardInterrupt):
        predict(bundle, clips(), tmp_path / "out.csv", "wide")
    assert [path.name for path in tmp_path.iterdir()] == ["out.csv"]
    assert (tmp_path / "out.csv").read_text() == "the last one"


def test_output_errors_are_reported(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(OptionError, match=r"yt8m, wide, jsonl, parquet. Received: 'csv'"):
        predict(bundle, [], tmp_path / "out", "csv")
    with pytest.raises(OptionError, match="top_k must be at least 1"):
        predict(bundle, [], tmp_path / "out", "yt8m", top_k=0)
    (tmp_path / "file").write_text("")
    with pytest.raises(FrameFileError, match=r"cannot write .*file/out"):
        predict(bundle, [], tmp_path / "file" / "out", "yt8m")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingPackageError, match=r"audiotag\[parquet\]"):
        predict(bundle, [], tmp_path / "out", "parquet")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_broken_pipe_is_not_reported_as_a_file_error(bundle: Bundle) -> None:
    class Closed(io.BytesIO):
        def write(self, data: Any) -> int:
            raise BrokenPipeError(32, "Broken pipe")

    with pytest.raises(BrokenPipeError):
        predict(bundle, make_clips(), Closed(), "yt8m")
