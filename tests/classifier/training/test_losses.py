"""Losses, against a numpy reference and for extreme logits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from classifier.heads.backend import tf
from classifier.training.config import LOSSES, TrainingConfig
from classifier.training.losses import make_loss

N_CLASSES = 6
SHARES = np.array([0.4, 0.3, 0.1, 0.05, 0.01, 0.0], np.float32)


def loss_of(shares: Any = SHARES, **options: Any) -> Any:
    loss = make_loss(TrainingConfig(**options), shares)
    return lambda labels, logits: loss(
        tf.constant(labels, tf.float32), tf.constant(logits, tf.float32)
    ).numpy()


def sigmoid(logits: Any) -> Any:
    return 1 / (1 + np.exp(-logits))


def cross_entropy(labels: Any, logits: Any) -> Any:
    scores = sigmoid(logits)
    return -labels * np.log(scores) - (1 - labels) * np.log(1 - scores)


@pytest.fixture
def labels(rng: np.random.Generator) -> Any:
    """Return single, multiple, mixed and no labels."""
    rows = np.zeros((5, N_CLASSES))
    rows[0, 2] = 1
    rows[1, :3] = 1
    rows[2] = rng.random(N_CLASSES)
    rows[3, 5] = 0.6
    return rows


@pytest.fixture
def logits(rng: np.random.Generator) -> Any:
    return rng.normal(0, 3, (5, N_CLASSES))


def test_cross_entropy_is_summed_over_classes(labels: Any, logits: Any) -> None:
    got = loss_of(loss="cross-entropy")(labels, logits)
    assert (got.shape, got.dtype) == ((5,), np.float32)
    np.testing.assert_allclose(got, cross_entropy(labels, logits).sum(1), rtol=1e-5)


def test_focal_loss_weights_errors_by_size(labels: Any, logits: Any) -> None:
    for gamma in (0.0, 0.5, 2.0, 3.5):
        weights = np.abs(labels - sigmoid(logits)) ** gamma
        expected = (weights * cross_entropy(labels, logits)).sum(1)
        got = loss_of(loss="focal", focal_gamma=gamma)(labels, logits)
        np.testing.assert_allclose(got, expected, rtol=1e-4)
    # Lin et al. 2017, equation 4: (1 - p_t)^gamma (-log p_t)
    p = sigmoid(1.5)
    for label, p_t in ((1.0, p), (0.0, 1 - p)):
        got = loss_of(np.ones(1, "f"), loss="focal", focal_gamma=2)([[label]], [[1.5]])
        assert got[0] == pytest.approx(-((1 - p_t) ** 2) * np.log(p_t), rel=1e-5)


def test_hinge_loss_has_a_margin_of_one(labels: Any, logits: Any) -> None:
    expected = np.maximum(0, 1 - (2 * labels - 1) * logits).sum(1)
    np.testing.assert_allclose(loss_of(loss="hinge")(labels, logits), expected, rtol=1e-5)
    assert loss_of(np.ones(2, "f"), loss="hinge")([[1, 0]], [[1.5, -1]]) == 0


def test_mse_is_computed_on_scores(labels: Any, logits: Any) -> None:
    expected = ((labels - sigmoid(logits)) ** 2).sum(1)
    np.testing.assert_allclose(loss_of(loss="mse")(labels, logits), expected, rtol=1e-5)


def test_softmax_divides_the_target_among_labels(labels: Any, logits: Any) -> None:
    log_shares = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    total = labels.sum(1, keepdims=True)
    wanted = np.divide(labels, total, out=np.zeros_like(labels), where=total > 0)
    got = loss_of(loss="softmax")(labels, logits)
    np.testing.assert_allclose(got, -(wanted * log_shares).sum(1), rtol=1e-5, atol=1e-6)
    assert got[4] == 0  # no loss without labels


def test_label_smoothing_moves_towards_class_frequencies(labels: Any, logits: Any) -> None:
    smooth = 0.9 * labels + 0.1 * SHARES
    for name in ("cross-entropy", "focal", "hinge", "mse"):
        got = loss_of(loss=name, label_smoothing=0.1)(labels, logits)
        np.testing.assert_allclose(got, loss_of(loss=name)(smooth, logits), rtol=1e-4)


def test_balanced_weights_have_mean_one_and_favour_rare_classes(logits: Any) -> None:
    loss, plain = loss_of(class_weights="balanced"), loss_of()
    weights = []
    for k in range(N_CLASSES):
        # Only class k contributes to the loss.
        row = np.full((1, N_CLASSES), -80.0)
        row[0, k] = logits[0, k]
        weights.append((loss(np.zeros_like(row), row) / plain(np.zeros_like(row), row)).item())
    known = np.where(SHARES > 0, SHARES, 0.01)  # a class without clips counts as the rarest
    expected = known**-0.5
    np.testing.assert_allclose(weights, expected / expected.mean(), rtol=1e-4)
    assert np.mean(weights) == pytest.approx(1, rel=1e-5)


def test_balanced_weights_of_equal_classes_have_no_effect(labels: Any, logits: Any) -> None:
    for share in (0.0, 0.25, 1.0):
        shares = np.full(N_CLASSES, share, np.float32)
        got = loss_of(shares, class_weights="balanced")(labels, logits)
        np.testing.assert_allclose(got, loss_of()(labels, logits), rtol=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_extreme_logits_give_finite_losses_and_gradients(name: str) -> None:
    extremes = [-1e4, -100, -20, 0, 20, 100, 1e4]
    for gamma in (0.0, 0.5, 1.0, 2.0):
        loss = make_loss(TrainingConfig(loss=name, focal_gamma=gamma), np.full(2, 0.5, np.float32))
        for label in (0.0, 0.5, 1.0):
            logits = tf.constant([[value, -value] for value in extremes], tf.float32)
            labels = tf.fill(logits.shape, label)
            with tf.GradientTape() as tape:
                tape.watch(logits)
                values = loss(labels, logits)
            assert np.isfinite(values.numpy()).all()
            assert np.isfinite(tape.gradient(values, logits).numpy()).all()
            assert (values.numpy() >= 0).all()


@pytest.mark.parametrize("name", LOSSES)
def test_correct_predictions_have_lower_loss(name: str) -> None:
    loss = loss_of(np.full(3, 0.3, np.float32), loss=name)
    right, unsure, wrong = loss([[1, 0, 0]] * 3, [[4, -4, -4], [0, 0, 0], [-4, 4, -4]])
    assert right < unsure < wrong
