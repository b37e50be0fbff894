"""The head of the default bundle, for VGGish's frames and for mini's.

It learns from released frames with AudioSet's labels, and from mini's with the teacher's word.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from classifier import metrics
from classifier.heads.backend import keras, tf
from classifier.heads.build import build_head
from classifier.labels import audioset_labels
from classifier.training.augment import augment, draw
from classifier.training.config import TrainingConfig
from classifier.training.network import Network
from classifier.training.optimisers import MovingAverage, learning_rate, make_optimiser
from classifier.training.runs import Run, write_arrays
from classifier.training.transfer import set_weights, start_at_shares, weights_of
from recipes.mini.teacher import teacher_classes

Frames = npt.NDArray[np.uint8]

N_FRAMES = 10
# Clips of each kind in a batch.
_REAL, _TAUGHT = 128, 128
# What mini's clips say counts beside what the released ones say, and of that what a frame says
# beside what its clip says.
_OF_TAUGHT, _OF_FRAMES = 0.3, 0.5


@dataclass(frozen=True, eq=False)
class RealClips:
    """Released frames with AudioSet's labels.

    Attributes:
        frames: uint8 [n, 10, 128].
        n_frames: int [n].
        labels: bool [n, 527].
    """

    frames: Frames
    n_frames: npt.NDArray[np.int64]
    labels: npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class TaughtClips:
    """Mini's frames with what the teacher says of each.

    Attributes:
        frames: uint8 [n, T, 128].
        n_frames: int [n].
        scores: float16 [n, T, 521], the teacher's.
    """

    frames: Frames
    n_frames: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float16]


def train_head(
    config: TrainingConfig,
    real: RealClips,
    validation: RealClips,
    taught: TaughtClips,
    n_steps: int,
    run: Run,
    validate: Callable[[Network], dict[str, float]],
    validate_every: int,
) -> None:
    """Train a head on both kinds of clips and leave its weights in a run that has been begun.

    Args:
        config: head, rate, schedule, average and seed; the rest does not apply.
        real: released ones.
        validation: others of them, for the run's metrics; there may be none.
        taught: mini's.
        n_steps: of 128 clips of each kind.
        run: of `audiotag export`.
        validate: more figures, printed now and then.
        validate_every: in steps.
    """
    keras.utils.set_random_seed(config.seed)
    n_classes = len(audioset_labels())
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    model = build_head(
        config.head, config.head_settings, n_classes, n_frames=N_FRAMES, judge_frames=True
    )
    keras.mixed_precision.set_global_policy("float32")
    start_at_shares(model, real.labels.mean(axis=0))
    optimiser = make_optimiser(config, model.trainable_variables)
    average = MovingAverage(model, config.ema)
    network = Network([config], n_classes)

    def step(batch: dict[str, Any], n_done: Any) -> Any:
        frames, n_frames, labels = _mixed(batch)
        with tf.GradientTape() as tape:
            output = model({"frames": frames, "n_frames": n_frames}, training=True)
            logits = output["logits"]
            of_real = _cross_entropy(labels, logits[:_REAL])
            said = tf.cast(batch["scores"], tf.float32)
            n_taught = tf.cast(batch["n_taught"], tf.float32)[:, tf.newaxis]
            real_frames = tf.sequence_mask(batch["n_taught"], said.shape[1], tf.float32)
            mean = tf.reduce_sum(said * real_frames[..., tf.newaxis], axis=1) / n_taught
            most = tf.reduce_max(said * real_frames[..., tf.newaxis], axis=1)
            of_taught = _cross_entropy((mean + most) / 2, _known(logits[_REAL:]))
            by_frame = _known(output["frame_logits"][_REAL:, : said.shape[1]])
            of_frames = _cross_entropy(said, by_frame) * real_frames / n_taught
            of_taught += _OF_FRAMES * tf.reduce_sum(of_frames, axis=1)
            loss = tf.reduce_mean(of_real) + _OF_TAUGHT * tf.reduce_mean(of_taught)
        gradients = tape.gradient(loss, model.trainable_variables)
        optimiser.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        average.update(n_done)
        return loss

    compiled = tf.function(step, autograph=False)
    total = 0.0
    for number in range(n_steps):
        rng = np.random.default_rng((config.seed, number))
        optimiser.learning_rate.assign(learning_rate(config, number, n_steps, _REAL))
        batch = _batch(config, real, taught, rng)
        total += float(compiled(batch, tf.constant(number, tf.float32)))
        if (number + 1) % validate_every and number + 1 < n_steps:
            continue
        average.swap()
        weights = weights_of(model)
        average.swap()
        set_weights(network.model, weights)
        measured = _measured(network, validation)
        seen = number % validate_every + 1
        row = {"loss": total / seen, **validate(network)}
        if measured:
            row["mAP"] = measured["mAP"]
        print(f"head: step {number + 1}/{n_steps}  " + _text(row), flush=True)
        total = 0.0
    write_arrays(run.best, weights, {"step": n_steps})
    run.write_sample(real.frames[:64], real.n_frames[:64].astype(np.int32))
    known = {name: None if np.isnan(value) else value for name, value in measured.items()}
    run.write_metrics({"epoch": n_steps, **known})


def _measured(network: Network, clips: RealClips) -> dict[str, float]:
    """All metrics; none if there are no clips."""
    if not len(clips.frames):
        return {}
    return metrics.evaluate(network.scores(clips.frames, clips.n_frames), clips.labels)


def _batch(
    config: TrainingConfig, real: RealClips, taught: TaughtClips, rng: np.random.Generator
) -> dict[str, Any]:
    some = rng.integers(0, len(real.frames), _REAL)
    others = rng.integers(0, len(taught.frames), _TAUGHT)
    choices = draw(config, _REAL, N_FRAMES, rng)
    return {
        "real": tf.constant(real.frames[some]),
        "n_real": tf.constant(real.n_frames[some].astype(np.int32)),
        "labels": tf.constant(real.labels[some].astype(np.float32)),
        "taught": tf.constant(taught.frames[others]),
        "n_taught": tf.constant(taught.n_frames[others].astype(np.int32)),
        "scores": tf.constant(taught.scores[others]),
        **{name: tf.constant(chosen) for name, chosen in choices.items()},
    }


def _mixed(batch: dict[str, Any]) -> tuple[Any, Any, Any]:
    """Both kinds in one batch, the real ones mixed as `audiotag train` does."""
    real = augment({**batch, "frames": batch["real"], "n_frames": batch["n_real"]})
    taught = tf.cast(batch["taught"], tf.float32)
    taught = tf.pad(taught, [[0, 0], [0, N_FRAMES - taught.shape[1]], [0, 0]])
    frames = tf.concat([real["frames"], taught], axis=0)
    return frames, tf.concat([real["n_frames"], batch["n_taught"]], axis=0), real["labels"]


def _known(logits: Any) -> Any:
    """Those of the teacher's classes."""
    return tf.gather(logits, teacher_classes(), axis=-1)


def _cross_entropy(labels: Any, logits: Any) -> Any:
    values = tf.nn.sigmoid_cross_entropy_with_logits(labels, logits)
    return tf.reduce_sum(values, axis=-1)


def _text(row: dict[str, float]) -> str:
    return "  ".join(f"{name} {value:.4f}" for name, value in row.items())
