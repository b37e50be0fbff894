from __future__ import annotations

import csv
import io
import json
import re
import struct
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from classifier import Bundle, Clip, ClipStore, Labels, metrics
from classifier.evaluate import evaluate, watch
from classifier.reports.evaluation import MEANINGS, Evaluation
from tests.support.bundles import NAMES, make_bundle, make_clip, tiny_scores
from vggish.errors import BundleError, FrameFileError, MissingPackageError, OptionError


class FixedScores:
    """Scorer that returns the given scores in clip order."""

    def __init__(self, scores: Any) -> None:
        self._scores = np.asarray(scores, np.float32)
        self._start = 0

    def scores(self, frames: Any, n_frames: Any, embedder: str = "") -> Any:
        self._start += len(frames)
        return self._scores[self._start - len(frames) : self._start]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("bundles") / "tiny")


def many_labels(n: int) -> Labels:
    return Labels(tuple(f"class {i}" for i in range(n)), tuple(f"/m/{i}" for i in range(n)))


def made_up(n_clips: int, n_classes: int, *, seed: int = 0) -> tuple[Any, Any]:
    """Return scores that are mostly correct, and the true labels."""
    rng = np.random.default_rng(seed)
    truth = rng.random((n_clips, n_classes)) < np.geomspace(0.3, 0.01, n_classes)
    noise = rng.normal(size=truth.shape) * np.linspace(0.5, 3, n_classes)
    return (1 / (1 + np.exp(-(4.0 * truth - 3 + noise)))).astype(np.float32), truth


def clips_with(truth: Any) -> Iterator[Clip]:
    for number, row in enumerate(truth):
        yield make_clip(str(number), 1, labels=tuple(np.flatnonzero(row).tolist()))


def measured(n_clips: int = 400, n_classes: int = 60) -> Evaluation:
    scores, truth = made_up(n_clips, n_classes)
    return evaluate(FixedScores(scores), clips_with(truth), many_labels(n_classes))


# --- Metrics -----------------------------------------------------------------------------


def test_youtube8m_worked_example() -> None:
    scores = [[0.9, 0.1, 0.4, 0.3], [0.2, 0.8, 0.7, 0.1], [0.5, 0.5, 0.5, 0.5]]
    clips = [make_clip("a", labels=(2, 0)), make_clip("b", labels=(2,)), make_clip("c", labels=())]
    found = evaluate(FixedScores(scores), clips, many_labels(4)).metrics
    assert found["Hit@1"] == pytest.approx(1 / 3)
    assert found["PERR"] == pytest.approx(1 / 3)
    assert found["GAP"] == pytest.approx(0.6805556)
    assert found["mAP"] == pytest.approx((1 + 5 / 6) / 2)
    assert found["n_clips"] == 3


def test_metrics_match_the_bundle_scores(bundle: Bundle) -> None:
    clips = [make_clip(str(i), 1 + i % 12, labels=(i % 5,), seed=i) for i in range(40)]
    result = evaluate(bundle, iter(clips), bundle.labels)
    scores = tiny_scores([clip.frames for clip in clips])
    np.testing.assert_allclose(result.scores, scores, atol=1e-5)
    np.testing.assert_array_equal(result.truth, np.eye(5, dtype=bool)[np.arange(40) % 5])
    expected = metrics.evaluate(result.scores, result.truth)
    assert result.metrics == expected
    np.testing.assert_array_equal(
        result.per_class.ap, metrics.per_class(result.scores, result.truth).ap
    )
    assert result.embedders == {"": 40}
    assert result.seconds > 0


def test_unlabelled_clips_are_counted_but_ignored(bundle: Bundle) -> None:
    clips = [make_clip("a", labels=(1,)), make_clip("b", labels=None), make_clip("c", labels=(0,))]
    result = evaluate(bundle, clips, bundle.labels)
    assert result.metrics["n_clips"] == 2
    assert result.n_unlabelled == 1
    assert result.as_json()["n_unlabelled"] == 1
    assert "n_unlabelled        1  clips without labels, skipped" in result.as_table()


def test_clip_store_and_clip_iterator_give_the_same_metrics(bundle: Bundle) -> None:
    clips = [make_clip(str(i), 1 + i, labels=(i % 5,), seed=i) for i in range(9)]
    clips.append(make_clip("unlabelled", labels=None))
    packed = evaluate(bundle, ClipStore.from_clips(clips), bundle.labels)
    assert packed.metrics == evaluate(bundle, clips, bundle.labels).metrics
    assert packed.n_unlabelled == 1


def test_progress_counts_scored_clips(bundle: Bundle) -> None:
    clips = [make_clip(str(i), 10, labels=(1,)) for i in range(900)]
    told: list[int] = []
    evaluate(bundle, clips, bundle.labels, on_progress=told.append)
    assert told[-1] == 900
    assert told == sorted(told)
    assert len(told) > 1


# --- Invalid input -----------------------------------------------------------------------


@pytest.mark.parametrize("labels", [None, ()])
def test_data_without_labels_is_rejected(bundle: Bundle, labels: Any) -> None:
    clips = [make_clip("a", labels=labels), make_clip("b", labels=labels)]
    with pytest.raises(OptionError, match=r"none of the 2 clips has labels[\s\S]*audiotag predict"):
        evaluate(bundle, clips, bundle.labels)
    with pytest.raises(OptionError, match="none of the 0 clips"):
        evaluate(bundle, [], bundle.labels)


def test_label_out_of_range_error_names_the_clip(bundle: Bundle) -> None:
    clips = [make_clip("a"), make_clip("b", labels=(1, 500))]
    with pytest.raises(
        FrameFileError, match=r"'b' \(b\.tfrecord, record 1\) has the label 500.*5 classes, 0 to 4"
    ):
        evaluate(bundle, clips, bundle.labels)


def test_labels_of_another_head_are_rejected(bundle: Bundle) -> None:
    with pytest.raises(OptionError, match="3 labels, but 5 scores"):
        evaluate(bundle, [make_clip("a")], many_labels(3))


def test_frames_of_another_embedder_need_force(bundle: Bundle) -> None:
    clips = [make_clip("a"), make_clip("b", embedder="mini")]
    with pytest.raises(BundleError, match=r"b\.tfrecord, record 1.*'mini'"):
        evaluate(bundle, clips, bundle.labels)
    forced = evaluate(bundle, clips, bundle.labels, force=True)
    assert forced.as_json()["embedders"] == {"": 1, "mini": 1}


# --- Reports -----------------------------------------------------------------------------


def test_json_is_valid_with_nan_and_infinity(bundle: Bundle) -> None:
    # One class, all correct: AUC is 1 and d' is infinite.
    clips = [make_clip("a", labels=(0,)), make_clip("b", labels=())]
    result = evaluate(FixedScores([[0.9], [0.1]]), clips, many_labels(1))
    assert result.metrics["d_prime"] == np.inf
    answer = json.loads(json.dumps(result.as_json(), allow_nan=False))
    assert answer["d_prime"] is None
    assert answer["mAP"] == answer["mAUC"] == 1.0
    keys = {"mAP", "mAUC", "d_prime", "lwlrap", "GAP", "Hit@1", "PERR", "n_clips"}
    assert answer.keys() >= keys | {"n_classes", "n_unlabelled", "embedders", "seconds"}
    only = evaluate(FixedScores([[0.9]]), clips[:1], many_labels(1))  # no negatives: no AUC
    assert json.loads(json.dumps(only.as_json(), allow_nan=False))["mAUC"] is None
    table = only.as_table()
    assert re.search(r"^mAUC +-  area", table, re.MULTILINE)
    assert "nan" not in table


def test_every_metric_has_a_description() -> None:
    result = measured()
    assert result.metrics.keys() == MEANINGS.keys()
    lines = result.as_table().splitlines()
    for line, (name, value) in zip(lines, result.metrics.items(), strict=False):
        shown = f"{value:,}" if name.startswith("n_") else f"{value:.4f}"
        assert line == f"{name:<12} {shown:>8}  {MEANINGS[name]}"
    assert all(len(line) <= 100 and line == line.rstrip() for line in lines)


def test_table_lists_the_best_and_worst_classes() -> None:
    result = measured()
    lines = result.as_table().splitlines()
    start = lines.index(f"{'best classes':<40} {'AP':>6} {'clips':>6}")
    order = np.argsort(-result.per_class.ap, kind="stable")
    for index, line in zip(order[:10], lines[start + 1 :], strict=False):
        ap, n = result.per_class.ap[index], result.per_class.n_positives[index]
        assert line == f"{'class ' + str(index):<40} {ap:6.3f} {n:6d}"
    assert lines[-1].startswith(f"class {order[-1]} ")


def test_table_lists_each_class_once_if_few(bundle: Bundle) -> None:
    clips = [make_clip(str(i), labels=(i % 3,), seed=i) for i in range(9)]
    table = evaluate(bundle, clips, bundle.labels).as_table()
    assert [table.count(f"\n{name}") for name in NAMES] == [1, 1, 1, 0, 0]


def test_per_class_csv_round_trip(bundle: Bundle) -> None:
    clips = [make_clip(str(i), labels=(i % 3,), seed=i) for i in range(9)]
    result = evaluate(bundle, clips, bundle.labels)
    file = io.BytesIO()
    result.write_per_class_csv(file)
    rows = list(csv.DictReader(io.StringIO(file.getvalue().decode())))
    assert [row["display_name"] for row in rows] == list(NAMES)
    assert [row["index"] for row in rows] == list("01234")
    assert rows[1]["mid"] == "/m/1"
    assert [row["clips"] for row in rows] == ["3", "3", "3", "0", "0"]
    for column, values in (
        ("AP", result.per_class.ap),
        ("AUC", result.per_class.auc),
        ("d_prime", result.per_class.d_prime),
        ("threshold", result.per_class.threshold),
        ("F1", result.per_class.f1),
    ):
        np.testing.assert_allclose([float(row[column]) for row in rows[:3]], values[:3], 1e-6)
        assert [row[column] for row in rows[3:]] == ["", ""]


# --- Plots -------------------------------------------------------------------------------


def png_size(path: Path) -> tuple[int, int]:
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", data[16:24])
    return width, height


@pytest.mark.parametrize("n_classes", [1, 5, 60])
def test_plot_works_for_any_number_of_classes(tmp_path: Path, n_classes: int) -> None:
    pytest.importorskip("matplotlib")
    measured(n_classes=n_classes).plot(tmp_path / "plot.png")
    width, height = png_size(tmp_path / "plot.png")
    assert 1200 <= width <= 2400
    assert 800 <= height <= 1600
    assert [path.name for path in tmp_path.iterdir()] == ["plot.png"]


def test_plot_escapes_class_names_and_leaves_no_global_figure(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    scores, truth = made_up(50, 3)
    names = Labels(("$x", "a_{b}^$", "A very long name of a class that goes on"), ("", "", ""))
    evaluate(FixedScores(scores), clips_with(truth), names).plot(tmp_path / "plot.svg")
    assert b"<svg" in (tmp_path / "plot.svg").read_bytes()
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or not pyplot.get_fignums()


def test_plot_errors_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    result = measured(20, 3)
    with pytest.raises(OptionError, match=r"plot\.xyz.*\.png, \.svg or \.pdf"):
        result.plot(tmp_path / "plot.xyz")
    (tmp_path / "file").write_text("")
    with pytest.raises(FrameFileError, match="cannot write"):
        result.plot(tmp_path / "file" / "plot.png")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "matplotlib.figure")
    with pytest.raises(MissingPackageError, match=r"audiotag\[plot\]"):
        result.plot(tmp_path / "plot.png")


def test_precision_recall_curve_equals_direct_count() -> None:
    from classifier.reports.evaluation import interpolated_precision

    rng = np.random.default_rng(1)
    scores = np.round(rng.random(60), 1).astype(np.float32)  # with ties
    truth = rng.random(60) < 0.3
    points = []
    for threshold in np.unique(scores):
        taken = scores >= threshold
        hits = (taken & truth).sum()
        points.append((hits / truth.sum(), hits / taken.sum()))
    recall = np.linspace(0, 1, 21)
    expected = [max(p for r, p in points if r >= wanted - 1e-9 and r > 0) for wanted in recall]
    np.testing.assert_allclose(interpolated_precision(scores, truth, recall), expected)


# --- Watching a run ----------------------------------------------------------------------


def test_each_checkpoint_is_evaluated_once_in_order() -> None:
    looks = iter([[], [1], [1, 2, 3], [2, 3], [2, 3, 4], [2, 3, 4, 5]])
    there: list[int] = []

    def list_checkpoints() -> list[int]:
        there[:] = next(looks)
        return list(there)

    found = watch(
        list_checkpoints,
        lambda number: number * 10,
        threading.Event(),
        0.001,
        is_finished=lambda: there[-1:] == [4],
    )
    # Checkpoint 5 appeared after the run had finished but before the next poll.
    assert list(found) == [(1, 10), (2, 20), (3, 30), (4, 40), (5, 50)]


def test_watching_stops_while_waiting() -> None:
    stop = threading.Event()
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.extend(watch(lambda: [1], str, stop, 600.0)))
    thread.start()
    stop.set()
    thread.join(10)
    assert not thread.is_alive()
    assert found in ([], [(1, "1")])


def test_watching_stops_between_checkpoints() -> None:
    stop = threading.Event()
    watching = watch(lambda: [1, 2, 3], str, stop, 0.001)
    assert next(watching) == (1, "1")
    stop.set()
    assert list(watching) == []
