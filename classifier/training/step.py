"""One step of training as a TensorFlow function, for one device or for several GPUs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from classifier.heads.backend import keras, tf
from classifier.heads.settings import MAX_UNROLLED_FRAMES, RecurrentSettings
from classifier.training.config import TrainingConfig
from classifier.training.losses import make_loss
from classifier.training.optimisers import MovingAverage
from vggish.errors import TrainingError

Augment = Callable[[Mapping[str, Any]], tuple[dict[str, Any], Any]]


def make_strategy() -> Any:
    """All GPUs together if there are several, else TensorFlow's default."""
    if len(tf.config.list_logical_devices("GPU")) > 1:
        return tf.distribute.MirroredStrategy()
    return tf.distribute.get_strategy()


def make_step(
    config: TrainingConfig,
    model: Any,
    optimiser: Any,
    average: MovingAverage | None,
    augment: Augment,
    class_shares: npt.NDArray[np.floating],
    n_frames: int,
) -> Any:
    """Make the function of one step: (batch, number of earlier steps) -> loss.

    Call this in the scope of the strategy. `augment` is that of `Examples`, `class_shares` [C] the
    share of training examples with each label, `n_frames` the time steps of a batch.
    """
    strategy = tf.distribute.get_strategy()
    n_replicas = strategy.num_replicas_in_sync
    loss_of = make_loss(config, class_shares)

    def replica_step(batch: dict[str, Any]) -> Any:
        inputs, labels = augment({**batch, "labels": tf.cast(batch["labels"], tf.float32)})
        with tf.GradientTape() as tape:
            logits = model(inputs, training=True)["logits"]
            loss = tf.reduce_mean(loss_of(labels, logits))
            total = (loss + sum(model.losses)) / n_replicas
        # With a single frame, a recurrence has no earlier state to learn from.
        zero = tf.UnconnectedGradients.ZERO
        gradients = tape.gradient(total, model.trainable_variables, unconnected_gradients=zero)
        if config.clip_norm:
            # Clip the norm over all replicas, not that of each.
            gradients = tf.distribute.get_replica_context().all_reduce("sum", gradients)
            gradients, _ = tf.clip_by_global_norm(gradients, config.clip_norm)
        optimiser.apply_gradients(
            zip(gradients, model.trainable_variables, strict=True),
            skip_gradients_aggregation=bool(config.clip_norm),
        )
        return loss

    def step(batch: dict[str, Any], n_done: Any) -> Any:
        losses = strategy.run(replica_step, args=(batch,))
        if average is not None:
            average.update(n_done)
        return strategy.reduce("MEAN", losses, axis=None)

    # XLA is faster for short recurrences in float32 on CPUs, and slower for all else.
    is_compiled = (
        isinstance(config.head_settings, RecurrentSettings)
        and n_frames <= MAX_UNROLLED_FRAMES
        and config.precision == "float32"
        and n_replicas == 1
        and not tf.config.list_physical_devices("GPU")
    )
    return tf.function(step, autograph=False, jit_compile=is_compiled or None)


@contextlib.contextmanager
def layer_precision(precision: str) -> Iterator[None]:
    """Let layers that are made in this block compute in a precision; Keras keeps it globally."""
    before = keras.mixed_precision.global_policy()
    if precision == "bfloat16":
        keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        yield
    finally:
        keras.mixed_precision.set_global_policy(before)


@contextlib.contextmanager
def out_of_memory_as_error(config: TrainingConfig) -> Iterator[None]:
    """Raise a `TrainingError` that says what to do when memory runs out in this block."""
    try:
        yield
    except (MemoryError, tf.errors.ResourceExhaustedError) as error:
        settings = ", ".join(f"{name}={value}" for name, value in config.settings.items())
        raise TrainingError(
            f"training the head {config.head} ({settings}) does not fit into memory; choose "
            "smaller settings with --set, or a smaller --batch-size"
        ) from error
