from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from classifier import metrics
from classifier.bundles.calibration import Calibration, fit_calibration
from vggish.errors import OptionError


def sigmoid(values: Any) -> Any:
    return 1 / (1 + np.exp(-values))


def drawn(rng: np.random.Generator, scale: float, offset: float, n: int = 4000) -> tuple[Any, Any]:
    """Draw scores [n, 8] and labels for which the calibrated scores are the true probabilities."""
    logits = rng.normal(-2, 2, (n, 8))
    labels = rng.random((n, 8)) < sigmoid(scale * logits + offset)
    return sigmoid(logits).astype(np.float32), labels


@pytest.mark.parametrize(("scale", "offset"), [(1.0, 0.0), (0.5, -1.0), (2.0, 0.7)])
def test_fit_recovers_the_true_scale_and_offset(
    rng: np.random.Generator, scale: float, offset: float
) -> None:
    scores, labels = drawn(rng, scale, offset)
    found = fit_calibration(scores, labels)
    assert found.scale == pytest.approx(scale, abs=0.1)
    assert found.offset == pytest.approx(offset, abs=0.1)
    before, after = (metrics.calibration_error(s, labels) for s in (scores, found(scores)))
    assert after < 0.01
    assert after <= before + 0.002


def test_fit_minimises_the_loss(rng: np.random.Generator) -> None:
    scores, labels = drawn(rng, 0.7, 0.4, n=300)
    found = fit_calibration(scores, labels)
    n_right = labels.sum()
    n_wrong = labels.size - n_right
    targets = np.where(labels, (n_right + 1) / (n_right + 2), 1 / (n_wrong + 2))
    logits = np.log(scores.astype(float) / (1 - scores.astype(float)))

    def loss(scale: float, offset: float) -> float:
        p = sigmoid(scale * logits + offset)
        return float(-(targets * np.log(p) + (1 - targets) * np.log(1 - p)).sum())

    least = loss(found.scale, found.offset)
    for angle in np.linspace(0, 2 * np.pi, 16):
        for radius in (1e-3, 0.1):
            there = (
                found.scale + radius * np.cos(angle),
                found.offset + radius * np.sin(angle),
            )
            assert loss(*there) > least


def test_calibration_follows_the_documented_formula(rng: np.random.Generator) -> None:
    scores = rng.random((5, 3)).astype(np.float32)
    values = scores.astype(float)
    expected = sigmoid(0.8 * np.log(values / (1 - values)) - 1.5)
    np.testing.assert_allclose(Calibration(0.8, -1.5)(scores), expected, rtol=1e-6)


def test_calibration_preserves_ranking_metrics(rng: np.random.Generator) -> None:
    scores, labels = drawn(rng, 0.5, -1.0, n=500)
    calibrated = Calibration(0.5, -1.0)(scores)
    assert calibrated.dtype == np.float32
    np.testing.assert_array_equal(
        np.argsort(calibrated, axis=0, kind="stable"), np.argsort(scores, axis=0, kind="stable")
    )
    before, after = metrics.evaluate(scores, labels), metrics.evaluate(calibrated, labels)
    for name in ("mAP", "mAUC", "d_prime", "lwlrap", "GAP", "Hit@1", "PERR"):
        assert after[name] == pytest.approx(before[name], abs=1e-6), name
    assert after["ECE"] != before["ECE"]


def test_zero_and_one_are_unchanged_and_small_scores_stay_precise() -> None:
    scores = np.array([0, 1e-30, 1e-20, 0.5, 1], np.float32)
    calibrated = Calibration(1.0, 0.5)(scores)
    assert calibrated[[0, 4]].tolist() == [0, 1]
    np.testing.assert_allclose(calibrated[1:3], np.exp(0.5) * scores[1:3], rtol=1e-5)
    np.testing.assert_array_equal(Calibration()(scores), scores)


@pytest.mark.parametrize("kind", ["none right", "all right", "too few", "against"])
def test_uninformative_data_gives_the_identity(rng: np.random.Generator, kind: str) -> None:
    scores, labels = drawn(rng, 1.0, 0.0, n=100)
    labels = {
        "none right": np.zeros_like(labels),
        "all right": np.ones_like(labels),
        "too few": labels & (np.cumsum(labels).reshape(labels.shape) < 10),
        "against": scores < 0.2,
    }[kind]
    assert fit_calibration(scores, labels) == Calibration()


def test_perfect_and_constant_scores_give_finite_calibration() -> None:
    labels = np.arange(100).reshape(25, 4) % 4 == 0
    found = fit_calibration(labels.astype(np.float32), labels)
    assert 0 < found.scale < 10
    same = fit_calibration(np.full(labels.shape, 0.5, np.float32), labels)
    assert same(np.float32([[0.5]])) == pytest.approx(0.25, abs=0.02)


def test_fit_is_deterministic(rng: np.random.Generator) -> None:
    scores, labels = drawn(rng, 0.5, 0.3, n=200)
    assert fit_calibration(scores, labels) == fit_calibration(scores.copy(), labels.copy())


def test_json_round_trip() -> None:
    calibration = Calibration(0.9, -0.25)
    assert Calibration.from_json(calibration.as_json()) == calibration


@pytest.mark.parametrize(
    "values",
    [None, [1, 0], {"scale": 1}, {"scale": 0, "offset": 0}, {"scale": "1", "offset": 0},
     {"scale": -1.0, "offset": 0.0}, {"scale": 1.0, "offset": float("nan")},
     {"scale": 1.0, "offset": 0.0, "temperature": 2.0}],
)  # fmt: skip
def test_invalid_calibration_is_rejected(values: Any) -> None:
    with pytest.raises(OptionError, match=r"calibration.*Received"):
        Calibration.from_json(values)


def test_mismatched_shapes_are_rejected() -> None:
    with pytest.raises(OptionError, match=r"\[2, 3\] and \[3, 2\]"):
        fit_calibration(np.zeros((2, 3)), np.zeros((3, 2), bool))
