"""Augmentation: random draws, and their effect on a batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from classifier.heads.backend import tf
from classifier.training.augment import NEUTRAL_CODE, augment, draw
from classifier.training.config import TrainingConfig
from vggish.postprocess import dequantize

N_FRAMES = np.array([4, 1, 3, 0], np.int32)


@pytest.fixture
def batch(rng: np.random.Generator) -> dict[str, Any]:
    return {
        "frames": rng.integers(0, 256, (4, 5, 128), np.uint8),
        "n_frames": N_FRAMES,
        "labels": rng.integers(0, 2, (4, 3)).astype(np.float32),
    }


def augmented(batch: dict[str, Any], **choices: Any) -> dict[str, Any]:
    given = {name: tf.constant(value) for name, value in {**batch, **choices}.items()}
    return {name: value.numpy() for name, value in augment(given).items()}


def real_or_neutral(batch: dict[str, Any]) -> Any:
    """Return the frames as float64, with neutral padding."""
    frames = np.full(batch["frames"].shape, NEUTRAL_CODE)
    for row, n in enumerate(batch["n_frames"]):
        frames[row, :n] = batch["frames"][row, :n]
    return frames


def test_batch_is_unchanged_without_augmentation(batch: dict[str, Any]) -> None:
    got = augmented(batch)
    assert got["frames"].dtype == np.float32
    np.testing.assert_array_equal(got["n_frames"], N_FRAMES)
    np.testing.assert_array_equal(got["labels"], batch["labels"])
    np.testing.assert_array_equal(got["frames"], real_or_neutral(batch))


def test_share_of_one_leaves_clips_unchanged(batch: dict[str, Any]) -> None:
    got = augmented(batch, share=np.ones(4, "f"), partner=np.array([1, 2, 3, 0], np.int32))
    np.testing.assert_array_equal(got["labels"], batch["labels"])
    np.testing.assert_array_equal(got["frames"], real_or_neutral(batch))


def test_mixup_is_a_weighted_sum_as_long_as_the_longer_clip(batch: dict[str, Any]) -> None:
    share, partner = np.array([0.5, 0.75, 1.0, 0.9], "f"), np.array([2, 0, 1, 3], np.int32)
    got = augmented(batch, share=share, partner=partner)
    frames = real_or_neutral(batch)
    for row, other in enumerate(partner):
        mine, rest = float(share[row]), 1 - float(share[row])
        np.testing.assert_allclose(
            got["frames"][row], mine * frames[row] + rest * frames[other], rtol=1e-5
        )
        np.testing.assert_allclose(
            got["labels"][row],
            mine * batch["labels"][row] + rest * batch["labels"][other],
            rtol=1e-5,
            atol=1e-7,
        )
        assert got["n_frames"][row] == max(N_FRAMES[row], N_FRAMES[other])


def test_mixup_ignores_padding(batch: dict[str, Any]) -> None:
    choices = {"share": np.full(4, 0.6, "f"), "partner": np.array([2, 0, 1, 3], np.int32)}
    other = {**batch, "frames": batch["frames"].copy()}
    for row, n in enumerate(N_FRAMES):
        other["frames"][row, n:] = 255
    np.testing.assert_array_equal(
        augmented(batch, **choices)["frames"], augmented(other, **choices)["frames"]
    )


def test_masked_frames_are_neutral(batch: dict[str, Any]) -> None:
    keep = np.ones((4, 5), bool)
    keep[0, 1] = keep[2, 0] = keep[1, 4] = False
    got = augmented(batch, keep=keep)
    expected = real_or_neutral(batch)
    expected[0, 1] = expected[2, 0] = NEUTRAL_CODE
    np.testing.assert_array_equal(got["frames"], expected)
    np.testing.assert_array_equal(got["n_frames"], N_FRAMES)
    assert abs(dequantize(np.array([int(NEUTRAL_CODE)]))[0]) < 1e-3


def test_frames_are_masked_before_mixup(batch: dict[str, Any]) -> None:
    keep = np.ones((4, 5), bool)
    keep[0, 1] = False
    got = augmented(
        batch, keep=keep, share=np.full(4, 0.5, "f"), partner=np.array([0, 1, 0, 3], np.int32)
    )
    half = 0.5 * NEUTRAL_CODE + 0.5 * batch["frames"][2, 1]
    np.testing.assert_allclose(got["frames"][2, 1], half, rtol=1e-6)


def test_augment_works_in_a_graph_with_dynamic_shapes(batch: dict[str, Any]) -> None:
    signature = {
        "frames": tf.TensorSpec((None, None, 128), tf.uint8),
        "n_frames": tf.TensorSpec((None,), tf.int32),
        "labels": tf.TensorSpec((None, 3), tf.float32),
    }
    in_graph = tf.function(augment, input_signature=[signature])
    got = in_graph({name: tf.constant(value) for name, value in batch.items()})
    np.testing.assert_array_equal(got["frames"].numpy(), real_or_neutral(batch))


def test_draws_depend_on_seed_and_step() -> None:
    config = TrainingConfig(mixup=0.5, frame_masking=0.2)
    draws = [draw(config, 64, 10, np.random.default_rng((7, 1, step))) for step in (0, 0, 1)]
    assert set(draws[0]) == {"share", "partner", "keep"}
    for name, values in draws[0].items():
        np.testing.assert_array_equal(values, draws[1][name])
        assert (values != draws[2][name]).any()


def test_disabled_augmentations_are_not_drawn() -> None:
    rng = np.random.default_rng(0)
    assert draw(TrainingConfig(mixup=0, frame_masking=0), 4, 5, rng) == {}
    assert set(draw(TrainingConfig(mixup=1, frame_masking=0), 4, 5, rng)) == {"share", "partner"}
    assert set(draw(TrainingConfig(mixup=0, frame_masking=0.5), 4, 5, rng)) == {"keep"}


def test_draws_have_the_expected_distributions() -> None:
    rng = np.random.default_rng(0)
    drawn = draw(TrainingConfig(mixup=1.0, frame_masking=0.3), 20_000, 4, rng)
    assert (drawn["share"].dtype, drawn["partner"].dtype) == (np.float32, np.int32)
    # Beta(1, 1) is uniform, so max(x, 1 - x) is uniform from 0.5 to 1.
    assert drawn["share"].min() >= 0.5
    assert drawn["share"].mean() == pytest.approx(0.75, abs=0.01)
    assert sorted(drawn["partner"]) == list(range(20_000))
    assert drawn["keep"].shape == (20_000, 4)
    assert drawn["keep"].mean() == pytest.approx(0.7, abs=0.01)
