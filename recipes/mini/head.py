"""The head of the default bundle, for frames of VGGish and of mini.

It is trained on released frames with AudioSet's labels, and on frames of mini with the teacher's
scores.
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
N_RELEASED, N_TEACHER = 128, 128
# Weight of the loss on the teacher's clips, and, within it, of the loss on their frames.
_TEACHER_WEIGHT, _FRAME_WEIGHT = 0.3, 0.5


@dataclass(frozen=True, eq=False)
class ReleasedClips:
    """Released frames with AudioSet's labels.

    Attributes:
        frames: uint8 [n, 10, 128].
        n_frames: int [n], number of frames of each clip.
        labels: bool [n, 527].
    """

    frames: Frames
    n_frames: npt.NDArray[np.int64]
    labels: npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class TeacherClips:
    """Frames of mini with the teacher's scores.

    Attributes:
        frames: uint8 [n, T, 128].
        n_frames: int [n], number of frames of each clip.
        scores: float16 [n, T, 521], the teacher's scores of each frame.
    """

    frames: Frames
    n_frames: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float16]


def train_head(
    config: TrainingConfig,
    released: ReleasedClips,
    validation: ReleasedClips,
    teacher_clips: TeacherClips,
    n_steps: int,
    run: Run,
    validate: Callable[[Network], dict[str, float]],
    validate_every: int,
) -> None:
    """Train a head on both kinds of clips, and write its weights to a run.

    Args:
        config: head, learning rate, schedule, moving average and seed; the rest is ignored.
        released: released clips to train on.
        validation: held-out released clips for the run's metrics; may be empty.
        teacher_clips: clips with the teacher's scores to train on.
        n_steps: number of steps, with 128 clips of each kind.
        run: the run to write to, as `audiotag export` reads it.
        validate: computes further figures to print.
        validate_every: number of steps between validations.
    """
    keras.utils.set_random_seed(config.seed)
    n_classes = len(audioset_labels())
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    model = build_head(
        config.head, config.head_settings, n_classes, n_frames=N_FRAMES, frame_scores=True
    )
    keras.mixed_precision.set_global_policy("float32")
    start_at_shares(model, released.labels.mean(axis=0))
    optimiser = make_optimiser(config, model.trainable_variables)
    average = MovingAverage(model, config.ema)
    network = Network([config], n_classes)

    def step(batch: dict[str, Any], n_done: Any) -> Any:
        frames, n_frames, labels = _combined(batch)
        with tf.GradientTape() as tape:
            output = model({"frames": frames, "n_frames": n_frames}, training=True)
            logits = output["logits"]
            released_loss = _cross_entropy(labels, logits[:N_RELEASED])
            scores = tf.cast(batch["scores"], tf.float32)
            n_scored = tf.cast(batch["n_teacher"], tf.float32)[:, tf.newaxis]
            mask = tf.sequence_mask(batch["n_teacher"], scores.shape[1], tf.float32)
            mean = tf.reduce_sum(scores * mask[..., tf.newaxis], axis=1) / n_scored
            highest = tf.reduce_max(scores * mask[..., tf.newaxis], axis=1)
            clip_logits = _teacher_logits(logits[N_RELEASED:])
            teacher_loss = _cross_entropy((mean + highest) / 2, clip_logits)
            frame_logits = output["frame_logits"][N_RELEASED:, : scores.shape[1]]
            frame_loss = _cross_entropy(scores, _teacher_logits(frame_logits)) * mask / n_scored
            teacher_loss += _FRAME_WEIGHT * tf.reduce_sum(frame_loss, axis=1)
            loss = tf.reduce_mean(released_loss) + _TEACHER_WEIGHT * tf.reduce_mean(teacher_loss)
        gradients = tape.gradient(loss, model.trainable_variables)
        optimiser.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        average.update(n_done)
        return loss

    compiled = tf.function(step, autograph=False)
    total = 0.0
    for number in range(n_steps):
        rng = np.random.default_rng((config.seed, number))
        optimiser.learning_rate.assign(learning_rate(config, number, n_steps, N_RELEASED))
        batch = _batch(config, released, teacher_clips, rng)
        total += float(compiled(batch, tf.constant(number, tf.float32)))
        if (number + 1) % validate_every and number + 1 < n_steps:
            continue
        average.swap()
        weights = weights_of(model)
        average.swap()
        set_weights(network.model, weights)
        measured = _evaluate(network, validation)
        n_summed = number % validate_every + 1
        row = {"loss": total / n_summed, **validate(network)}
        if measured:
            row["mAP"] = measured["mAP"]
        print(f"head: step {number + 1}/{n_steps}  " + _text(row), flush=True)
        total = 0.0
    write_arrays(run.best, weights, {"step": n_steps})
    run.write_sample(released.frames[:64], released.n_frames[:64].astype(np.int32))
    defined = {name: None if np.isnan(value) else value for name, value in measured.items()}
    run.write_metrics({"epoch": n_steps, **defined})


def _evaluate(network: Network, clips: ReleasedClips) -> dict[str, float]:
    """Compute all metrics; none if there are no clips."""
    if not len(clips.frames):
        return {}
    return metrics.evaluate(network.scores(clips.frames, clips.n_frames), clips.labels)


def _batch(
    config: TrainingConfig,
    released: ReleasedClips,
    teacher_clips: TeacherClips,
    rng: np.random.Generator,
) -> dict[str, Any]:
    drawn = rng.integers(0, len(released.frames), N_RELEASED)
    drawn_teacher = rng.integers(0, len(teacher_clips.frames), N_TEACHER)
    choices = draw(config, N_RELEASED, N_FRAMES, rng)
    return {
        "released": tf.constant(released.frames[drawn]),
        "n_released": tf.constant(released.n_frames[drawn].astype(np.int32)),
        "labels": tf.constant(released.labels[drawn].astype(np.float32)),
        "teacher": tf.constant(teacher_clips.frames[drawn_teacher]),
        "n_teacher": tf.constant(teacher_clips.n_frames[drawn_teacher].astype(np.int32)),
        "scores": tf.constant(teacher_clips.scores[drawn_teacher]),
        **{name: tf.constant(chosen) for name, chosen in choices.items()},
    }


def _combined(batch: dict[str, Any]) -> tuple[Any, Any, Any]:
    """Combine both kinds of clips in one batch, with augmentation of the released ones."""
    released = augment({**batch, "frames": batch["released"], "n_frames": batch["n_released"]})
    teacher = tf.cast(batch["teacher"], tf.float32)
    teacher = tf.pad(teacher, [[0, 0], [0, N_FRAMES - teacher.shape[1]], [0, 0]])
    frames = tf.concat([released["frames"], teacher], axis=0)
    n_frames = tf.concat([released["n_frames"], batch["n_teacher"]], axis=0)
    return frames, n_frames, released["labels"]


def _teacher_logits(logits: Any) -> Any:
    """Select the logits of the teacher's classes."""
    return tf.gather(logits, teacher_classes(), axis=-1)


def _cross_entropy(labels: Any, logits: Any) -> Any:
    values = tf.nn.sigmoid_cross_entropy_with_logits(labels, logits)
    return tf.reduce_sum(values, axis=-1)


def _text(row: dict[str, float]) -> str:
    return "  ".join(f"{name} {value:.4f}" for name, value in row.items())
