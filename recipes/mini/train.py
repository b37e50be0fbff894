"""Training of mini with three kinds of targets: frozen heads, the teacher, and pairs."""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from classifier.heads.backend import keras, tf
from classifier.training.config import TrainingConfig
from classifier.training.optimisers import MovingAverage, learning_rate, make_optimiser
from recipes.mini.alignment import FrozenHead
from recipes.mini.network import build_mini
from recipes.mini.teacher import N_TEACHER_CLASSES, N_TEACHER_FEATURES
from recipes.mini.views import Views
from vggish.params import EMBEDDING_SIZE, QUANTIZE_MAX

FloatArray = npt.NDArray[np.float32]

BATCH_SIZE, PAIRS_PER_BATCH = 256, 32
# Number of frozen heads used in one batch; they take turns.
HEADS_PER_BATCH = 4
# Losses are sums over classes or dimensions; these weights balance them.
_WEIGHTS = {"aligned": 1.0, "direct": 1.0, "hint": 0.05, "pairs": 0.1, "moments": 2.0, "range": 1.0}
_HALF_A_LEVEL = 2.0 / 255
_AVERAGE = 0.999
_LOG_STEPS = 200
_SAVE_SECONDS = 240.0


@dataclass(frozen=True, eq=False)
class Pairs:
    """Seconds of audio with their released embeddings.

    Attributes:
        patches: float16 [n, 96, 64], log-mel.
        embeddings: float32 [n, 128], dequantised.
        logits: float16 [n, 521], logits of the teacher.
    """

    patches: npt.NDArray[np.float16]
    embeddings: FloatArray
    logits: npt.NDArray[np.float16]


@dataclass(frozen=True, eq=False)
class Moments:
    """Mean [128] and covariance [128, 128] of released embeddings."""

    mean: FloatArray
    covariance: FloatArray

    @classmethod
    def of(cls, embeddings: FloatArray) -> Moments:
        """Compute the moments of embeddings [n, 128]."""
        covariance = np.cov(embeddings, rowvar=False).astype(np.float32)
        return cls(embeddings.mean(axis=0), covariance)


def train(
    views: Views,
    pairs: Pairs,
    moments: Moments,
    heads: Sequence[FrozenHead],
    n_steps: int,
    seed: int,
    directory: Path,
    validate: Callable[[Any], Mapping[str, float]],
    validate_every: int,
) -> Any:
    """Train mini, resuming an interrupted training, and return it with its averaged weights.

    Args:
        views: views with the teacher's outputs.
        pairs: pairs with released embeddings.
        moments: moments of all released embeddings.
        heads: frozen heads, see `alignment`.
        n_steps: total number of steps.
        seed: seed of the initial weights and of the order of all batches.
        directory: directory for checkpoints and `curves.csv`.
        validate: computes figures of the model, every `validate_every` steps and at the end.
        validate_every: number of steps between validations.
    """
    directory.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(seed)
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    model = build_mini()
    keras.mixed_precision.set_global_policy("float32")
    direct = keras.layers.Dense(N_TEACHER_CLASSES, name="direct")
    hint = keras.layers.Dense(N_TEACHER_FEATURES, name="hint")
    direct.build((None, EMBEDDING_SIZE))
    hint.build((None, model.output["features"].shape[-1]))
    config = TrainingConfig(optimiser="adam", learning_rate=2e-3, schedule="cosine", warmup=0.03)
    variables = [*model.trainable_weights, *direct.trainable_weights, *hint.trainable_weights]
    optimiser = make_optimiser(config, variables)
    average = MovingAverage(model, _AVERAGE)
    done = tf.Variable(0, dtype=tf.int64)
    checkpoint = tf.train.Checkpoint(
        model=model, direct=direct, hint=hint, optimiser=optimiser, done=done,
        averages=tf.Module(),
    )  # fmt: skip
    checkpoint.averages.kept = average.averages
    manager = tf.train.CheckpointManager(checkpoint, str(directory / "state"), max_to_keep=1)
    if manager.latest_checkpoint:
        checkpoint.restore(manager.latest_checkpoint)
        print(f"mini: resuming at step {int(done)} of {n_steps}", flush=True)
    feature_spread = tf.constant(views.features[:20000].astype(np.float32).std(axis=0) + 0.05)
    mean, covariance = tf.constant(moments.mean), tf.constant(moments.covariance)

    def losses(batch: dict[str, Any], batch_heads: Sequence[FrozenHead]) -> dict[str, Any]:
        output = model(tf.cast(batch["patches"], tf.float32), training=True)
        raw = output["embeddings"]
        of_pairs, of_views = raw[:PAIRS_PER_BATCH], raw[PAIRS_PER_BATCH:]
        teacher_logits = batch["logits"]
        noise = tf.random.stateless_uniform(
            tf.shape(of_views), batch["seed"], -_HALF_A_LEVEL, _HALF_A_LEVEL
        )
        noisy = _clipped(of_views) + noise
        aligned = [
            _cross_entropy(head.targets(teacher_logits), head.logits(noisy)) for head in batch_heads
        ]
        hinted = hint(output["features"][PAIRS_PER_BATCH:])
        centred = of_views - tf.reduce_mean(of_views, axis=0)
        spread = tf.matmul(centred, centred, transpose_a=True) / float(BATCH_SIZE - 1)
        return {
            "aligned": tf.add_n(aligned) / len(aligned),
            "direct": _cross_entropy(teacher_logits, direct(noisy)),
            "hint": _squared((hinted - batch["features"]) / feature_spread),
            "pairs": _squared(_clipped(of_pairs) - batch["embeddings"]),
            "moments": (
                tf.reduce_sum(tf.square(tf.reduce_mean(of_views, axis=0) - mean))
                + tf.reduce_sum(tf.square(spread - covariance)) / EMBEDDING_SIZE
            ),
            "range": _squared(tf.nn.relu(tf.abs(raw) - QUANTIZE_MAX)),
        }

    def make_step(batch_heads: Sequence[FrozenHead]) -> Any:
        def step(batch: dict[str, Any]) -> dict[str, Any]:
            with tf.GradientTape() as tape:
                found = losses(batch, batch_heads)
                total = tf.add_n([_WEIGHTS[name] * loss for name, loss in found.items()])
            gradients = tape.gradient(total, variables)
            gradients, _ = tf.clip_by_global_norm(gradients, 20.0)
            optimiser.apply_gradients(zip(gradients, variables, strict=True))
            average.update(tf.cast(done, tf.float32))
            done.assign_add(1)
            return found

        return tf.function(step, autograph=False)

    n_groups = math.ceil(len(heads) / HEADS_PER_BATCH)
    groups = [heads[start::n_groups] for start in range(n_groups)]
    steps = [make_step(group) for group in groups]
    sums = dict.fromkeys(_WEIGHTS, 0.0)
    begun, saved = time.monotonic(), time.monotonic()
    first = int(done)
    for number in range(first, n_steps):
        rng = np.random.default_rng((seed, number))
        optimiser.learning_rate.assign(learning_rate(config, number, n_steps, BATCH_SIZE))
        found = steps[number % len(steps)](_batch(views, pairs, rng))
        for name, loss in found.items():
            sums[name] += float(loss)
        now = number + 1
        if now % _LOG_STEPS == 0:
            rate = (now - first) * BATCH_SIZE / (time.monotonic() - begun)
            text = "  ".join(f"{name} {total / _LOG_STEPS:.3f}" for name, total in sums.items())
            print(f"mini: step {now}/{n_steps}  {text}  {rate:.0f} patches/s", flush=True)
            sums = dict.fromkeys(_WEIGHTS, 0.0)
        if time.monotonic() - saved > _SAVE_SECONDS:
            manager.save()
            saved = time.monotonic()
        if now % validate_every == 0 and now < n_steps:
            average.swap()
            _log(directory / "curves.csv", {"step": now, **validate(model)})
            average.swap()
    manager.save()
    average.swap()
    _log(directory / "curves.csv", {"step": n_steps, **validate(model)})
    return model


def _batch(views: Views, pairs: Pairs, rng: np.random.Generator) -> dict[str, Any]:
    drawn = np.sort(rng.integers(0, len(views.patches), BATCH_SIZE))
    drawn_pairs = rng.integers(0, len(pairs.patches), PAIRS_PER_BATCH)
    return {
        "patches": tf.constant(np.concatenate([pairs.patches[drawn_pairs], views.patches[drawn]])),
        "embeddings": tf.constant(pairs.embeddings[drawn_pairs]),
        "logits": tf.constant(views.logits[drawn].astype(np.float32)),
        "features": tf.constant(views.features[drawn].astype(np.float32)),
        "seed": tf.constant(rng.integers(0, 2**31, 2).astype(np.int32)),
    }


def _cross_entropy(target_logits: Any, logits: Any) -> Any:
    values = tf.nn.sigmoid_cross_entropy_with_logits(tf.sigmoid(target_logits), logits)
    return tf.reduce_mean(tf.reduce_sum(values, axis=1))


def _squared(values: Any) -> Any:
    return tf.reduce_mean(tf.reduce_sum(tf.square(values), axis=1))


def _clipped(embeddings: Any) -> Any:
    """Clip as the quantiser does; values beyond get their gradient from the loss `range`."""
    return tf.clip_by_value(embeddings, -QUANTIZE_MAX, QUANTIZE_MAX)


def _log(path: Path, row: Mapping[str, float]) -> None:
    print("mini: " + "  ".join(f"{name} {value:.4g}" for name, value in row.items()), flush=True)
    is_new = not path.exists()
    with open(path, "a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(row))
        if is_new:
            writer.writeheader()
        writer.writerow(row)
