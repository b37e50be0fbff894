"""Scoring with a head, its weights by name, and initialising it from another head."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from classifier.bundles.bundle import load, read_weights
from classifier.bundles.files import shipped_bundles
from classifier.heads.build import build_head
from classifier.heads.settings import HEADS, head_settings
from classifier.labels import Labels
from classifier.training import network
from classifier.training.config import TrainingConfig
from classifier.training.network import Network
from classifier.training.transfer import set_weights, start_at_shares, start_from, weights_of
from vggish.errors import BundleError, RunError

TINY: dict[str, dict[str, object]] = {
    "gru": {"units": 8, "dense": 8, "pooling": "feature-attention"},
    "lstm": {"units": 8, "bidirectional": True},
    "average": {"units": 8},
    "max": {"units": 8},
    "attention": {"units": 8},
    "multi-level-attention": {"units": 8},
    "feature-attention": {"units": 8},
    "transformer": {"units": 8},
    "logistic": {},
    "moe": {},
    "frame-logistic": {},
    "dbof": {"clusters": 8, "hidden": 8},
    "lstm-moe": {"units": 8},
}
LENGTHS = np.array([4, 2, 1])


def make(name: str, n_classes: int, *, settings: Mapping[str, object] | None = None) -> Any:
    values = TINY[name] if settings is None else settings
    return build_head(name, head_settings(name, values), n_classes)


def stirred(model: Any, seed: int = 0) -> Any:
    """Randomise all weights of a model; variances stay positive."""
    rng = np.random.default_rng(seed)
    weights = weights_of(model)
    noise = {name: rng.normal(0, 0.2, value.shape) for name, value in weights.items()}
    set_weights(model, {name: (v + abs(noise[name])).astype("f") for name, v in weights.items()})
    return model


@functools.cache
def trained(name: str) -> Any:
    """Return a head with four classes; shared, do not modify."""
    return stirred(make(name, 4))


def logits_of(model: Any) -> Any:
    frames = np.random.default_rng(1).integers(0, 256, (3, 4, 128)).astype(np.float32)
    inputs = {"frames": frames, "n_frames": LENGTHS.astype(np.int32)}
    return model(inputs)["logits"].numpy()


def labels(names: str, mids: str = "") -> Labels:
    """Make one class per letter; class `a` has the mid /m/a if `mids` contains a."""
    return Labels(tuple(names), tuple(f"/m/{name}" if name in mids else "" for name in names))


# --- Weights by name ---------------------------------------------------------------------


def test_weights_are_named_by_layer_without_seed_counters() -> None:
    model = make("gru", 3)
    weights = weights_of(model)
    assert {"classes/0", "classes/1", "normalise/2", "gru1_forward/0"} <= set(weights)
    assert not any("dropout" in name for name in weights)
    assert weights["classes/1"].shape == (3,)


def test_weights_are_copies() -> None:
    model = make("logistic", 3)
    weights = weights_of(model)
    before = weights["classes/0"].copy()
    stirred(model)
    np.testing.assert_array_equal(weights["classes/0"], before)


def test_weights_of_another_head_are_rejected() -> None:
    model = make("gru", 3)
    weights = weights_of(model)
    with pytest.raises(RunError, match=r"another head; they differ in: classes/0, classes/1$"):
        set_weights(model, weights_of(make("gru", 4)))
    with pytest.raises(RunError, match=r"they differ in: .*gru1_forward"):
        set_weights(model, weights_of(make("logistic", 3)))
    with pytest.raises(RunError, match=r"they differ in: extra$"):
        set_weights(model, {**weights, "extra": np.zeros(3)})
    with pytest.raises(RunError, match=r"they differ in: classes/1$"):
        set_weights(model, {k: v for k, v in weights.items() if k != "classes/1"})
    for name, value in weights_of(model).items():
        np.testing.assert_array_equal(value, weights[name])


# --- Scoring -----------------------------------------------------------------------------


@pytest.mark.parametrize("loss", ["cross-entropy", "softmax"])
def test_scores_are_activated_logits_for_any_batch_size(
    loss: str, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    scorer = Network([TrainingConfig(head="attention", settings=TINY["attention"], loss=loss)], 5)
    stirred(scorer.model)
    frames = rng.integers(0, 256, (7, 6, 128), np.uint8)
    n_frames = rng.integers(0, 7, 7)
    inputs = {"frames": frames.astype("f"), "n_frames": n_frames.astype(np.int32)}
    logits = scorer.model(inputs)["logits"].numpy().astype(float)
    expected = 1 / (1 + np.exp(-logits))
    if loss == "softmax":
        expected = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    for n_at_once in (1 << 14, 12, 1):  # in frames; at least one clip
        monkeypatch.setattr(network, "_BATCH_FRAMES", n_at_once)
        scores = scorer.scores(frames, n_frames)
        assert (scores.shape, scores.dtype) == ((7, 5), np.float32)
        np.testing.assert_allclose(scores, expected, atol=1e-5)


def test_no_clips_give_no_scores() -> None:
    scorer = Network([TrainingConfig(head="logistic")], 5)
    assert scorer.scores(np.zeros((0, 6, 128), np.uint8), []).shape == (0, 5)


def test_scores_use_the_current_weights(rng: np.random.Generator) -> None:
    scorer = Network([TrainingConfig(head="logistic")], 5)
    frames = rng.integers(0, 256, (2, 3, 128), np.uint8)
    before = scorer.scores(frames, [3, 3])
    stirred(scorer.model)
    assert (scorer.scores(frames, [3, 3]) != before).all()


# --- Initialisation ----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["logistic", "feature-attention", "max"])
def test_new_head_predicts_class_frequencies(name: str) -> None:
    shares = np.array([0.5, 0.1, 0.01, 0.0, 1.0])
    model = make(name, 5)
    start_at_shares(model, shares)
    bias = weights_of(model)["classes/1"]
    np.testing.assert_allclose(1 / (1 + np.exp(-bias)), shares.clip(1e-4, 1 - 1e-4), rtol=1e-4)


def test_every_expert_and_level_starts_at_class_frequencies() -> None:
    shares = np.array([0.5, 0.1, 0.2])
    logits = np.log(shares / (1 - shares))
    moe, levels = make("moe", 3), make("multi-level-attention", 3)
    for model in (moe, levels):
        start_at_shares(model, shares)
    np.testing.assert_allclose(
        weights_of(moe)["classes_experts/1"], np.repeat(logits, 2), rtol=1e-5
    )
    for number in (1, 2, 3):
        np.testing.assert_allclose(
            weights_of(levels)[f"classes_level{number}/1"], logits, rtol=1e-5
        )
        assert not weights_of(levels)[f"classes_level{number}_weights/1"].any()


@pytest.mark.parametrize("name", HEADS)
def test_head_with_the_same_classes_keeps_all_weights(name: str) -> None:
    old, new = trained(name), make(name, 4)
    assert np.abs(logits_of(old) - logits_of(new)).max() > 1e-3
    assert start_from(new, weights_of(old), labels("abcd"), labels("abcd")) == 4
    np.testing.assert_allclose(logits_of(new), logits_of(old), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", sorted(shipped_bundles()))
def test_shipped_bundle_can_be_fine_tuned(name: str) -> None:
    bundle = load(name)
    head = bundle.card["head"]
    if head["name"] == "ensemble":
        pytest.skip("ensembles have no weights to go on from")
    settings = head_settings(head["name"], head["settings"])
    # Unrolled for a fixed number of frames, as in training.
    model = build_head(head["name"], settings, len(bundle.labels), n_frames=10)
    n_known = start_from(model, read_weights(bundle), bundle.labels, bundle.labels)
    assert n_known == len(bundle.labels)
    frames = np.random.default_rng(0).integers(0, 256, (4, 10, 128), np.uint8)
    lengths = np.array([10, 7, 1, 0], np.int32)
    logits = model({"frames": frames.astype(np.float32), "n_frames": lengths})["logits"]
    scores = 1 / (1 + np.exp(-logits.numpy()))
    # Uncalibrated scores: there is no calibration for this embedder.
    expected = bundle.scores(frames, lengths, "of nobody")
    np.testing.assert_allclose(scores, expected, atol=1e-5)


@pytest.mark.parametrize("name", HEADS)
def test_shared_classes_keep_their_scores_in_any_order(name: str) -> None:
    old, new = trained(name), make(name, 6)
    assert start_from(new, weights_of(old), labels("abcd"), labels("xcaydb")) == 4
    before, after = logits_of(old), logits_of(new)
    np.testing.assert_allclose(after[:, [2, 5, 1, 4]], before, rtol=1e-4, atol=1e-4)
    assert np.isfinite(after).all()


@pytest.mark.parametrize("name", ["attention", "feature-attention", "moe"])
def test_removed_classes_do_not_change_the_others(name: str) -> None:
    # In multi-level-attention each class depends on all classes.
    old, new = trained(name), make(name, 2)
    assert start_from(new, weights_of(old), labels("abcd"), labels("dz")) == 1
    np.testing.assert_allclose(logits_of(new)[:, 0], logits_of(old)[:, 3], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["gru", "moe", "attention"])
def test_new_classes_keep_their_initial_weights(name: str) -> None:
    old, new = stirred(make(name, 3)), make(name, 3)
    fresh = weights_of(new)
    assert start_from(new, weights_of(old), labels("abc"), labels("xyz")) == 0
    for key, value in weights_of(new).items():
        expected = fresh[key] if key.startswith("classes") else weights_of(old)[key]
        np.testing.assert_array_equal(value, expected)


def test_classes_are_matched_by_mid_before_name() -> None:
    old, new = stirred(make("logistic", 3)), make("logistic", 3)
    before = Labels(("Dog", "Cat", "Cow"), ("/m/dog", "/m/cat", ""))
    now = Labels(("Cow", "Hound", "Cat"), ("/m/cow", "/m/dog", ""))
    assert start_from(new, weights_of(old), before, now) == 3
    np.testing.assert_allclose(logits_of(new), logits_of(old)[:, [2, 0, 1]], rtol=1e-5, atol=1e-5)


def test_head_of_another_type_or_size_is_rejected() -> None:
    model = make("gru", 3)
    with pytest.raises(BundleError, match=r"of another type; they differ in: .*gru1_forward/0"):
        start_from(model, weights_of(make("logistic", 3)), labels("abc"), labels("abc"))
    larger = make("gru", 3, settings={**TINY["gru"], "units": 16})
    with pytest.raises(BundleError, match=r"another size: gru1_forward/0 is \[8, 48\], here it"):
        start_from(model, weights_of(larger), labels("abc"), labels("abc"))
    more_experts = make("moe", 3, settings={"mixtures": 4})
    with pytest.raises(BundleError, match=r"another size: classes_\w+/0 is .* here it is"):
        start_from(make("moe", 3), weights_of(more_experts), labels("abc"), labels("abc"))
