"""The head transformer.

Source: Vaswani et al., "Attention is all you need" (2017), with the normalisation before each
part (Xiong et al., "On layer normalization in the transformer architecture", 2020).
"""

from __future__ import annotations

from typing import Any

from classifier.heads.attention import Outputs, attention, feature_attention
from classifier.heads.backend import keras, tf
from classifier.heads.layers import Dropout, Inputs, Seeds, dense
from classifier.heads.settings import TransformerSettings

_LONGEST_WAVELENGTH = 10_000.0


def build_transformer(
    settings: TransformerSettings, inputs: Inputs, n_classes: int, judge_frames: bool
) -> Outputs:
    """Encoder blocks over the real frames, then attention."""
    seeds = Seeds()
    values = Positions(name="positions")(dense(settings.units, "input")(inputs.frames))
    seen = SeenFrames(name="seen")(inputs.mask)
    for number in range(1, settings.layers + 1):
        values = _block(values, seen, settings, seeds, f"block{number}")
    values = keras.layers.LayerNormalization(name="output_norm")(values)
    values = Dropout(settings.dropout, seeds(), name="output_dropout")(values)
    if settings.pooling == "attention":
        return attention(values, inputs, n_classes, judge_frames)
    return feature_attention(
        values, inputs, n_classes, settings.units, settings.dropout, seeds, judge_frames
    )


def _block(values: Any, seen: Any, settings: TransformerSettings, seeds: Seeds, name: str) -> Any:
    units = settings.units
    attend = keras.layers.MultiHeadAttention(
        settings.attention_heads, units // settings.attention_heads, name=f"{name}_attention"
    )
    normed = keras.layers.LayerNormalization(name=f"{name}_attention_norm")(values)
    attended = attend(normed, normed, attention_mask=seen)
    attended = Dropout(settings.dropout, seeds(), name=f"{name}_attention_dropout")(attended)
    values = keras.layers.Add(name=f"{name}_attention_sum")([values, attended])
    hidden = keras.layers.LayerNormalization(name=f"{name}_dense_norm")(values)
    hidden = dense(2 * units, f"{name}_dense1", activation="relu")(hidden)
    hidden = Dropout(settings.dropout, seeds(), name=f"{name}_dense_dropout")(hidden)
    hidden = dense(units, f"{name}_dense2")(hidden)
    hidden = Dropout(settings.dropout, seeds(), name=f"{name}_dropout")(hidden)
    return keras.layers.Add(name=f"{name}_sum")([values, hidden])


class SeenFrames(keras.layers.Layer):  # type: ignore[misc]
    """Which frames each frame may attend to: float [B, T, 1] -> bool [B, 1, T]."""

    def call(self, mask: Any) -> Any:
        """The real ones."""
        return tf.transpose(mask, (0, 2, 1)) > 0


class Positions(keras.layers.Layer):  # type: ignore[misc]
    """Add sines and cosines of each frame's place, for any number of frames."""

    def call(self, values: Any) -> Any:
        """[B, T, D] -> [B, T, D]."""
        width = values.shape[-1]
        place = tf.cast(tf.range(tf.shape(values)[1]), tf.float32)[:, tf.newaxis]
        half = tf.range((width + 1) // 2, dtype=tf.float32)[tf.newaxis]
        angles = place * _LONGEST_WAVELENGTH ** (-2 * half / width)
        waves = tf.concat([tf.sin(angles), tf.cos(angles)], 1)[:, :width]
        return values + tf.cast(waves, values.dtype)
