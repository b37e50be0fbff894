"""Optimisers, schedules of the learning rate, and the moving average of weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from classifier.heads.backend import keras, tf
from classifier.training.config import TrainingConfig

# The final learning rate of a cosine, as a share of the peak; the flat part of flat-cosine.
_FINAL_SHARE = 0.01
_FLAT_SHARE = 0.72
# Weight decay is for kernels only.
_NOT_DECAYED = ("bias", "gamma", "beta")


def learning_rate(config: TrainingConfig, step: int, n_steps: int, batch_size: int) -> float:
    """The learning rate of a step, counted from 0 to n_steps - 1."""
    if config.schedule == "constant":
        return config.learning_rate
    if config.schedule == "exponential":
        periods = step * batch_size // config.decay_examples
        return float(config.learning_rate * config.decay_rate**periods)
    n_warmup = int(config.warmup * n_steps)
    if step < n_warmup:
        return config.learning_rate * (step + 1) / (n_warmup + 1)
    progress = (step - n_warmup) / max(1, n_steps - n_warmup)
    if config.schedule == "flat-cosine":
        progress = max(0.0, (progress - _FLAT_SHARE) / (1 - _FLAT_SHARE))
    cosine = (1 + math.cos(math.pi * progress)) / 2
    return config.learning_rate * (_FINAL_SHARE + (1 - _FINAL_SHARE) * cosine)


def make_optimiser(config: TrainingConfig, variables: Sequence[Any]) -> Any:
    """Make the optimiser and its slots; the learning rate is a variable to set before each step."""
    if config.optimiser == "adamw":
        optimiser = keras.optimizers.AdamW(
            config.learning_rate, weight_decay=config.weight_decay, jit_compile=False
        )
        optimiser.exclude_from_weight_decay(var_names=list(_NOT_DECAYED))
    else:
        optimiser = keras.optimizers.Adam(config.learning_rate, jit_compile=False)
    optimiser.build(variables)
    return optimiser


class MovingAverage:
    """An exponential moving average of all weights of a model, including moving statistics.

    The first steps have more weight, so that the average forgets the initial weights.
    """

    def __init__(self, model: Any, decay: float) -> None:
        self._decay = decay
        self._weights = [w for w in model.weights if w.dtype.is_floating]
        self.averages = [tf.Variable(w, trainable=False) for w in self._weights]

    def update(self, step: Any) -> None:
        """Move towards the weights, inside the graph; `step` is float32, counted from 0."""
        decay = tf.minimum(self._decay, (1 + step) / (10 + step))
        for average, weight in zip(self.averages, self._weights, strict=True):
            average.assign_add((weight - average) * (1 - decay))

    def swap(self) -> None:
        """Exchange averages and weights; a second call restores them."""
        for average, weight in zip(self.averages, self._weights, strict=True):
            kept = average.numpy()
            average.assign(weight)
            weight.assign(kept)
