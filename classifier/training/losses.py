"""Losses of clips, from labels and logits.

Labels are float32 [B, C] from 0 to 1 (mixup mixes them), logits float32 [B, C], and losses
float32 [B], summed over classes. With a mean over hundreds of classes the gradients would be so
small that Adam's epsilon keeps a recurrent head from learning.

Source: `losses.py` of google/youtube-8m, on logits instead of clipped probabilities (the original
also applied softmax to probabilities); Lin et al., "Focal loss for dense object detection" (2017).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from classifier.heads.backend import tf
from classifier.training.config import TrainingConfig

Loss = Callable[[Any, Any], Any]


def make_loss(config: TrainingConfig, share_of_class: Any) -> Loss:
    """The loss function of a configuration; the shares [C] are of training clips with a label."""
    shares = tf.constant(share_of_class, tf.float32)
    weights = _class_weights(shares) if config.class_weights == "balanced" else None
    elementwise: dict[str, Loss] = {
        "cross-entropy": _cross_entropy,
        "focal": lambda labels, logits: _focal(labels, logits, config.focal_gamma),
        "hinge": lambda labels, logits: tf.nn.relu(1 - (2 * labels - 1) * logits),
        "mse": lambda labels, logits: tf.math.squared_difference(labels, tf.sigmoid(logits)),
    }

    def loss(labels: Any, logits: Any) -> Any:
        if config.loss == "softmax":
            return _softmax(labels, logits)
        if config.label_smoothing:
            # Towards the class frequencies, because towards 0.5 all classes would seem likely.
            smoothing = config.label_smoothing
            labels = labels * (1 - smoothing) + smoothing * shares
        values = elementwise[config.loss](labels, logits)
        return tf.reduce_sum(values if weights is None else values * weights, -1)

    return loss


def _cross_entropy(labels: Any, logits: Any) -> Any:
    return tf.nn.sigmoid_cross_entropy_with_logits(labels, logits)


def _focal(labels: Any, logits: Any, gamma: float) -> Any:
    # Above 0, where a power below 1 has no finite slope.
    error = tf.maximum(tf.abs(labels - tf.sigmoid(logits)), 1e-7)
    return error**gamma * _cross_entropy(labels, logits)


def _softmax(labels: Any, logits: Any) -> Any:
    total = tf.reduce_sum(labels, -1, keepdims=True)
    shares = labels / tf.maximum(total, 1e-6)
    return tf.nn.softmax_cross_entropy_with_logits(shares, logits)


def _class_weights(shares: Any) -> Any:
    # Classes without clips get the weight of the rarest class.
    weights = tf.math.rsqrt(tf.maximum(shares, tf.reduce_min(tf.where(shares > 0, shares, 1.0))))
    return weights / tf.reduce_mean(weights)
