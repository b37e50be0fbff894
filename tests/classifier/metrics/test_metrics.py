"""Metrics, against slow reference loops and published values."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as npst

from classifier import metrics
from vggish.errors import OptionError

# Example computed with the YouTube-8M starter code.
SCORES = [[0.9, 0.1, 0.4, 0.3], [0.2, 0.8, 0.7, 0.1], [0.5, 0.5, 0.5, 0.5]]
LABELS = [[1, 0, 1, 0], [0, 0, 1, 0], [0, 0, 0, 0]]

NAMES = {
    "mAP": metrics.mean_average_precision,
    "mAUC": metrics.mean_auc,
    "d_prime": metrics.d_prime,
    "lwlrap": metrics.lwlrap,
    "GAP": metrics.gap,
    "Hit@1": metrics.hit_at_1,
    "PERR": metrics.perr,
    "mAP@20": metrics.truncated_mean_average_precision,
    "ECE": metrics.calibration_error,
}
COUNTS = {"n_clips", "n_classes", "n_positives"}


@st.composite
def pairs(draw: Any, min_clips: int = 0, n_levels: int = 5) -> tuple[Any, Any]:
    """Draw scores with many ties, and labels from none to all positive."""
    shape = draw(st.tuples(st.integers(min_clips, 7), st.integers(1, 6)))
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    levels = st.integers(0, n_levels - 1).map(lambda level: level / (n_levels - 1))
    scores = draw(npst.arrays(dtype, shape, elements=levels))
    return scores, draw(npst.arrays(np.bool_, shape))


# --- Slow reference implementations ------------------------------------------------------


def slow_mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else math.nan


def slow_average_precision(scores: list[float], labels: list[bool], n_positives: int) -> float:
    """Step-wise area under the precision-recall curve, with one step per distinct threshold."""
    area = recall = 0.0
    for threshold in sorted(set(scores), reverse=True):
        taken = [y for p, y in zip(scores, labels, strict=True) if p >= threshold]
        area += (sum(taken) / n_positives - recall) * sum(taken) / len(taken)
        recall = sum(taken) / n_positives
    return area


def slow_auc(scores: list[float], labels: list[bool]) -> float:
    """Fraction of positive-negative pairs in which the positive scores higher."""
    positives = [p for p, y in zip(scores, labels, strict=True) if y]
    negatives = [p for p, y in zip(scores, labels, strict=True) if not y]
    duels = [(a > b) + (a == b) / 2 for a in positives for b in negatives]
    return slow_mean(duels)


def slow_top(scores: list[float], k: int) -> list[int]:
    return sorted(range(len(scores)), key=lambda c: (-scores[c], c))[:k]


def slow_hit_at_1(scores: Any, labels: Any) -> float:
    hits = [y[p.index(max(p))] for p, y in zip(scores.tolist(), labels.tolist(), strict=True)]
    return slow_mean(hits)


def slow_perr(scores: Any, labels: Any) -> float:
    precisions = []
    for p, y in zip(scores.tolist(), labels.tolist(), strict=True):
        hits = [y[c] for c in slow_top(p, sum(y)) if p[c] > 0]
        precisions.append(sum(hits) / sum(y) if any(y) else 0.0)
    return slow_mean(precisions)


def slow_gap(scores: Any, labels: Any, k: int = 20) -> float:
    pooled = [
        (p[c], y[c])
        for p, y in zip(scores.tolist(), labels.tolist(), strict=True)
        for c in slow_top(p, k)
    ]
    if not labels.any():
        return 0.0
    return slow_average_precision([p for p, _ in pooled], [y for _, y in pooled], labels.sum())


def slow_map(scores: Any, labels: Any) -> float:
    return slow_mean(
        [
            slow_average_precision(p, y, sum(y))
            for p, y in zip(scores.T.tolist(), labels.T.tolist(), strict=True)
            if any(y)
        ]
    )


def slow_truncated_map(scores: Any, labels: Any, k: int = 20) -> float:
    lists: list[list[tuple[float, bool]]] = [[] for _ in labels.T]
    for p, y in zip(scores.tolist(), labels.tolist(), strict=True):
        for c in slow_top(p, k):
            lists[c].append((p[c], y[c]))
    return slow_mean(
        [
            slow_average_precision([p for p, _ in own], [y for _, y in own], n)
            for own, n in zip(lists, labels.sum(axis=0).tolist(), strict=True)
            if n
        ]
    )


def slow_mean_auc(scores: Any, labels: Any) -> float:
    aucs = [slow_auc(p, y) for p, y in zip(scores.T.tolist(), labels.T.tolist(), strict=True)]
    return slow_mean([auc for auc in aucs if not math.isnan(auc)])


def slow_lwlrap(scores: Any, labels: Any) -> float:
    precisions = []
    for p, y in zip(scores.tolist(), labels.tolist(), strict=True):
        for own in (c for c in range(len(y)) if y[c]):
            taken = [y[c] for c in range(len(y)) if p[c] >= p[own]]
            precisions.append(sum(taken) / len(taken))
    return slow_mean(precisions)


def slow_calibration_error(scores: Any, labels: Any, n_bins: int = 15) -> float:
    bins: list[list[tuple[float, bool]]] = [[] for _ in range(n_bins)]
    for p, y in zip(scores.ravel().tolist(), labels.ravel().tolist(), strict=True):
        bins[min(int(p * n_bins), n_bins - 1)].append((p, y))
    if scores.size == 0:
        return math.nan
    errors = [
        len(own) * abs(slow_mean([p for p, _ in own]) - slow_mean([y for _, y in own]))
        for own in bins
        if own
    ]
    return sum(errors) / scores.size


def slow_f1(scores: list[float], labels: list[bool], threshold: float) -> float:
    yes = [p >= threshold for p in scores]
    both = sum(a and b for a, b in zip(yes, labels, strict=True))
    return 2 * both / (sum(yes) + sum(labels))


SLOW: dict[Callable[..., float], Callable[..., float]] = {
    metrics.mean_average_precision: slow_map,
    metrics.mean_auc: slow_mean_auc,
    metrics.lwlrap: slow_lwlrap,
    metrics.gap: slow_gap,
    metrics.hit_at_1: slow_hit_at_1,
    metrics.perr: slow_perr,
    metrics.truncated_mean_average_precision: slow_truncated_map,
    metrics.calibration_error: slow_calibration_error,
}


@pytest.mark.parametrize("metric", SLOW, ids=lambda metric: metric.__name__)
@given(pair=pairs())
def test_metric_equals_its_slow_definition(metric: Any, pair: tuple[Any, Any]) -> None:
    assert metric(*pair) == pytest.approx(SLOW[metric](*pair), nan_ok=True)


@pytest.mark.parametrize(
    "metric", [metrics.gap, metrics.truncated_mean_average_precision], ids=["gap", "mAP"]
)
@given(pair=pairs(), k=st.integers(1, 7))
def test_top_k_metric_equals_its_slow_definition(
    metric: Any, pair: tuple[Any, Any], k: int
) -> None:
    assert metric(*pair, k=k) == pytest.approx(SLOW[metric](*pair, k), nan_ok=True)


@given(pair=pairs(n_levels=9), n_bins=st.sampled_from([1, 2, 4, 8, 15]))
def test_calibration_equals_its_slow_definition(pair: tuple[Any, Any], n_bins: int) -> None:
    expected = slow_calibration_error(*pair, n_bins)
    assert metrics.calibration_error(*pair, n_bins) == pytest.approx(expected, nan_ok=True)


@given(pair=pairs(min_clips=1))
def test_per_class_metrics_equal_their_slow_definitions(pair: tuple[Any, Any]) -> None:
    found = metrics.per_class(*pair)
    for c, (p, y) in enumerate(zip(pair[0].T.tolist(), pair[1].T.tolist(), strict=True)):
        assert found.n_positives[c] == sum(y)
        assert found.auc[c] == pytest.approx(slow_auc(p, y), nan_ok=True)
        assert found.d_prime[c] == pytest.approx(metrics.d_prime_of(found.auc[c]), nan_ok=True)
        if not any(y):
            assert np.isnan([found.ap[c], found.threshold[c], found.f1[c]]).all()
            continue
        assert found.ap[c] == pytest.approx(slow_average_precision(p, y, sum(y)))
        f1 = {threshold: slow_f1(p, y, threshold) for threshold in p}
        assert found.f1[c] == pytest.approx(max(f1.values()))
        best = [threshold for threshold, value in f1.items() if value == max(f1.values())]
        assert found.threshold[c] == max(best)


# --- Known values ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (metrics.hit_at_1(SCORES, LABELS), 1 / 3),
        (metrics.perr(SCORES, LABELS), 1 / 3),
        (metrics.gap(SCORES, LABELS), 0.6805556),
        (metrics.gap(SCORES, LABELS, k=2), 0.7222222),
        (metrics.gap(SCORES, LABELS, k=1), 0.3333333),
        (metrics.mean_average_precision(SCORES, LABELS), (1 + 0.8333333) / 2),
        # Sorted from .9 to .1, the labels rank 1 and 2 in one clip, and 2 in the other.
        (metrics.lwlrap(SCORES, LABELS), (1 + 1 + 1 / 2) / 3),
        # Class 0: .9 versus .2 and .5. Class 2: .4 and .7 versus .5.
        (metrics.mean_auc(SCORES, LABELS), (1 + 1 / 2) / 2),
    ],
)
def test_worked_example(found: float, expected: float) -> None:
    assert found == pytest.approx(expected, abs=1e-7)


def test_per_class_worked_example() -> None:
    found = metrics.per_class(SCORES, LABELS)
    np.testing.assert_allclose(found.ap, [1, math.nan, 5 / 6, math.nan])
    np.testing.assert_array_equal(found.auc, [1, math.nan, 1 / 2, math.nan])
    np.testing.assert_array_equal(found.d_prime, [math.inf, math.nan, 0, math.nan])
    np.testing.assert_array_equal(found.threshold, [0.9, math.nan, 0.4, math.nan])
    np.testing.assert_array_equal(found.f1, [1, math.nan, 0.8, math.nan])
    np.testing.assert_array_equal(found.n_positives, [1, 0, 2, 0])


def test_scores_equal_to_the_labels_are_perfect() -> None:
    found = metrics.evaluate(np.array(LABELS, float), LABELS)
    assert found["Hit@1"] == found["PERR"] == pytest.approx(2 / 3)
    assert found["GAP"] == found["mAP"] == found["mAUC"] == found["lwlrap"] == 1
    assert found["d_prime"] == math.inf
    assert found["ECE"] == 0


@pytest.mark.parametrize(
    ("auc", "expected"),
    [(0.959, 2.452), (0.968, 2.612), (0.969, 2.641), (0.9693, 2.6472), (0.9733, 2.7317)],
)
def test_d_prime_matches_published_values(auc: float, expected: float) -> None:
    # The AUC is rounded in the papers.
    assert metrics.d_prime_of(auc) == pytest.approx(expected, abs=0.015)


@given(st.floats(0.001, 0.999))
def test_d_prime_inverts_the_normal_distribution(auc: float) -> None:
    # Phi(d' / sqrt(2)), using the error function.
    assert (1 + math.erf(metrics.d_prime_of(auc) / 2)) / 2 == pytest.approx(auc)


@pytest.mark.parametrize(
    ("auc", "expected"), [(0.5, 0), (1, math.inf), (0, -math.inf), (math.nan, math.nan)]
)
def test_d_prime_is_defined_at_the_limits(auc: float, expected: float) -> None:
    assert metrics.d_prime_of(auc) == pytest.approx(expected, abs=1e-12, nan_ok=True)


def test_reliability_error_of_calibrated_scores_is_zero() -> None:
    scores = [[0.25, 0.25, 0.25, 0.25, 1.0, 0.5, 0.5]]
    found = metrics.reliability(scores, [[1, 0, 0, 0, 1, 1, 0]], n_bins=4)
    assert found.error == 0
    np.testing.assert_array_equal(found.edges, [0, 0.25, 0.5, 0.75, 1])
    np.testing.assert_array_equal(found.n_pairs, [0, 4, 2, 1])
    np.testing.assert_array_equal(found.mean_score, [math.nan, 0.25, 0.5, 1])
    np.testing.assert_array_equal(found.share_positive, [math.nan, 0.25, 0.5, 1])


def test_calibration_error_is_mean_score_minus_share_positive() -> None:
    assert metrics.calibration_error([[0.75] * 4], [[1, 0, 0, 0]]) == pytest.approx(0.5)


def test_perr_ignores_scores_of_zero() -> None:
    assert metrics.perr([[0.0, 0.0]], [[1, 1]]) == 0
    assert metrics.perr([[0.1, 0.0]], [[1, 1]]) == 0.5


def test_positives_outside_the_top_k_are_misses() -> None:
    scores, labels = [[0.9, 0.8, 0.7]], [[1, 0, 1]]
    assert metrics.gap(scores, labels, k=2) == 0.5
    assert metrics.truncated_mean_average_precision(scores, labels, k=2) == 0.5
    assert metrics.mean_average_precision(scores, labels) == 1


# --- Invariants --------------------------------------------------------------------------


@given(pair=pairs(min_clips=1), seed=st.integers(0, 99))
def test_metrics_do_not_depend_on_clip_order(pair: tuple[Any, Any], seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(pair[0]))
    found, expected = metrics.evaluate(pair[0][order], pair[1][order]), metrics.evaluate(*pair)
    assert found == pytest.approx(expected, nan_ok=True)


@given(pair=pairs(min_clips=1), seed=st.integers(0, 99))
def test_class_order_affects_only_hit_at_1_and_perr(pair: tuple[Any, Any], seed: int) -> None:
    order = np.random.default_rng(seed).permutation(pair[0].shape[1])
    found = metrics.evaluate(pair[0][:, order], pair[1][:, order])
    expected = metrics.evaluate(*pair)
    for name in found.keys() - {"Hit@1", "PERR"}:
        assert found[name] == pytest.approx(expected[name], nan_ok=True), name


@given(pair=pairs(min_clips=1), seed=st.integers(0, 99))
def test_class_order_does_not_matter_without_ties(pair: tuple[Any, Any], seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = (1 + rng.permutation(pair[0].size).reshape(pair[0].shape)) / pair[0].size
    order = rng.permutation(scores.shape[1])
    found = metrics.evaluate(scores[:, order], pair[1][:, order])
    assert found == pytest.approx(metrics.evaluate(scores, pair[1]), nan_ok=True)
    cut = metrics.gap(scores[:, order], pair[1][:, order], k=2)
    assert cut == pytest.approx(metrics.gap(scores, pair[1], k=2))


@given(pair=pairs())
def test_logits_and_probabilities_have_equal_ranking_metrics(pair: tuple[Any, Any]) -> None:
    scores, labels = pair[0] / 2 + 0.25, pair[1]
    found = metrics.evaluate(np.log(scores / (1 - scores)) + 5, labels)
    expected = metrics.evaluate(scores, labels)
    assert math.isnan(found.pop("ECE"))
    expected.pop("ECE")
    assert found == pytest.approx(expected, nan_ok=True)


@given(pair=pairs())
def test_inverted_scores_invert_the_auc(pair: tuple[Any, Any]) -> None:
    found = metrics.per_class(1 - pair[0], pair[1]).auc
    np.testing.assert_allclose(found, 1 - metrics.per_class(*pair).auc)


@settings(max_examples=20)
@given(pair=pairs())
def test_dtype_and_memory_layout_do_not_matter(pair: tuple[Any, Any]) -> None:
    scores, labels = pair
    expected = metrics.evaluate(scores, labels)
    for same in (
        (np.asfortranarray(scores), labels.astype(np.int64)),
        (scores.astype(np.float64), labels.astype(np.float32)),
        (scores.astype(np.float16).astype(np.float64), np.asfortranarray(labels)),
    ):
        assert metrics.evaluate(*same) == pytest.approx(expected, nan_ok=True)


def test_inputs_are_not_modified(rng: np.random.Generator) -> None:
    scores, labels = rng.random((9, 5)), rng.random((9, 5)) < 0.5
    copies = scores.copy(), labels.copy()
    scores.flags.writeable = labels.flags.writeable = False
    metrics.evaluate(scores, labels)
    metrics.per_class(scores.T, labels.T)
    np.testing.assert_array_equal(scores, copies[0])
    np.testing.assert_array_equal(labels, copies[1])


def test_evaluate_returns_every_metric_and_counts(rng: np.random.Generator) -> None:
    # More than 20 classes, some without positives.
    scores, labels = rng.random((50, 30), np.float32), rng.random((50, 30)) < 0.1
    labels[:, 25:] = False
    found = metrics.evaluate(scores, labels)
    assert found.keys() == NAMES.keys() | COUNTS
    assert {name: metric(scores, labels) for name, metric in NAMES.items()} == {
        name: found[name] for name in NAMES
    }
    assert (found["n_clips"], found["n_classes"]) == (50, 25)
    assert found["n_positives"] == labels.sum()
    assert all(type(value) in (int, float) for value in found.values())


# --- Undefined values --------------------------------------------------------------------


def assert_found(scores: Any, labels: Any, **expected: float) -> None:
    found = metrics.evaluate(scores, labels)
    assert found == pytest.approx({**found, **expected}, nan_ok=True)
    assert len(metrics.per_class(scores, labels).ap) == np.shape(scores)[1]


def test_without_positives_class_means_are_nan_and_the_rest_zero() -> None:
    nan = math.nan
    assert_found([[0.5, 0.25]], [[0, 0]], mAP=nan, mAUC=nan, d_prime=nan, lwlrap=nan, n_classes=0)
    assert_found([[0.5, 0.25]], [[0, 0]], GAP=0, PERR=0, ECE=0.375, **{"Hit@1": 0, "mAP@20": nan})


def test_without_negatives_only_auc_is_nan() -> None:
    assert_found([[0.5], [0.25]], [[1], [1]], mAP=1, mAUC=math.nan, d_prime=math.nan, GAP=1)


def test_one_clip_of_one_class_is_sufficient() -> None:
    assert_found([[0.5]], [[1]], mAP=1, lwlrap=1, PERR=1, ECE=0.5, n_clips=1, n_classes=1)


def test_without_clips_all_metrics_but_gap_are_nan() -> None:
    nan = math.nan
    names = {**dict.fromkeys(NAMES, nan), "GAP": 0, "n_clips": 0, "n_positives": 0}
    assert_found(np.zeros((0, 3)), np.zeros((0, 3), bool), **names)
    found = metrics.reliability(np.zeros((0, 3)), np.zeros((0, 3), bool))
    assert found.n_pairs.sum() == 0
    assert np.isnan(found.mean_score).all()


# --- Errors ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        ([0.5, 0.5], [0, 1], r"scores must have the shape.*\(2,\) \(is this one clip\?"),
        ([[0.5, 0.5]], [[[0, 1]]], r"labels must have the shape.*\(1, 1, 2\)"),
        ([[0.5, 0.5], [0.1, 0.2]], [1, 0], "are these class indices"),
        ([[0.5, 0.5], [0.1, 0.2]], [[1], [0, 1]], "are these lists of class indices"),
        ([[0.5, 0.5]], [[0], [1]], r"\(1, 2\) and \(2, 1\) \(is one of them transposed\?\)"),
        ([[0.5, 0.5]], [[0, 1], [0, 1]], "were clips left out"),
        ([[0.5, 0.5]], [[0, 1, 1]], "the same list of classes"),
        (np.zeros((2, 0)), np.zeros((2, 0)), r"at least one class.*\(2, 0\)"),
        ([[0.5, math.nan]], [[0, 1]], "finite numbers.*nan for clip 0, class 1; 1 in all"),
        ([[0.5, math.inf]], [[0, 1]], "finite numbers.*did training diverge"),
        ([[0, 1]], [[0.25, 0.75]], r"0\.25 to 0\.75 \(are the arguments swapped\?\)"),
        ([[0.5, 0.5]], [[0.25, 0.75]], "are these scores, or soft labels"),
        ([[0.5, 0.5]], [[-2.5, 3.5]], r"-2\.5 to 3\.5 \(are these logits\?\)"),
        ([[0.5, 0.5]], [[17, 300]], "17 to 300 .*class indices"),
        ([[0.5, 0.5]], [[0, math.nan]], "are some clips unlabelled"),
        ([["a", "b"]], [[0, 1]], "scores must be numbers"),
        ([[0.5, 0.5]], [[None, True]], "labels must be numbers"),
    ],
)
def test_error_suggests_the_likely_mistake(scores: Any, labels: Any, message: str) -> None:
    for function in (metrics.evaluate, metrics.per_class, *NAMES.values()):
        with pytest.raises(OptionError, match=message):
            function(scores, labels)


def test_calibration_of_logits_is_rejected() -> None:
    with pytest.raises(OptionError, match=r"-3 to 2 \(are these logits\? apply the sigmoid"):
        metrics.calibration_error([[-3, 2]], [[0, 1]])


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (metrics.gap, "k"),
        (metrics.truncated_mean_average_precision, "k"),
        (metrics.calibration_error, "n_bins"),
    ],
    ids=["gap", "mAP", "ECE"],
)
def test_count_below_one_is_rejected(function: Any, name: str) -> None:
    with pytest.raises(OptionError, match=f"`{name}` must be at least 1. Received: 0"):
        function(SCORES, LABELS, **{name: 0})


def test_auc_in_percent_is_rejected() -> None:
    with pytest.raises(OptionError, match=r"Received: 96\.8 \(is it a percentage"):
        metrics.d_prime_of(96.8)
