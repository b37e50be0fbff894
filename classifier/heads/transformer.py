"""The head transformer.

Source: Vaswani et al., "Attention is all you need" (2017), with pre-norm blocks (Xiong et al.,
"On layer normalization in the transformer architecture", 2020).
"""

from __future__ import annotations

from typing import Any

from classifier.heads.attention import attention, feature_attention
from classifier.heads.backend import keras, tf
from classifier.heads.layers import Dropout, HeadContext, Outputs, dense
from classifier.heads.settings import TransformerSettings

_MAX_WAVELENGTH = 10_000.0


def build_transformer(settings: TransformerSettings, context: HeadContext) -> Outputs:
    """Encoder blocks over the real frames, then attention."""
    values = Positions(name="positions")(dense(settings.units, "input")(context.frames))
    mask = AttentionMask(name="seen")(context.mask)
    for number in range(1, settings.layers + 1):
        values = _block(values, mask, settings, context, f"block{number}")
    values = keras.layers.LayerNormalization(name="output_norm")(values)
    values = _dropout(settings, context, "output_dropout")(values)
    if settings.pooling == "attention":
        return attention(values, context)
    return feature_attention(values, context, settings.units, settings.dropout)


def _block(
    values: Any, mask: Any, settings: TransformerSettings, context: HeadContext, name: str
) -> Any:
    units = settings.units
    attend = keras.layers.MultiHeadAttention(
        settings.attention_heads, units // settings.attention_heads, name=f"{name}_attention"
    )
    normed = keras.layers.LayerNormalization(name=f"{name}_attention_norm")(values)
    attended = attend(normed, normed, attention_mask=mask)
    attended = _dropout(settings, context, f"{name}_attention_dropout")(attended)
    values = keras.layers.Add(name=f"{name}_attention_sum")([values, attended])
    hidden = keras.layers.LayerNormalization(name=f"{name}_dense_norm")(values)
    hidden = dense(2 * units, f"{name}_dense1", activation="relu")(hidden)
    hidden = _dropout(settings, context, f"{name}_dense_dropout")(hidden)
    hidden = dense(units, f"{name}_dense2")(hidden)
    hidden = _dropout(settings, context, f"{name}_dropout")(hidden)
    return keras.layers.Add(name=f"{name}_sum")([values, hidden])


def _dropout(settings: TransformerSettings, context: HeadContext, name: str) -> Dropout:
    return Dropout(settings.dropout, next(context.seeds), name=name)


class AttentionMask(keras.layers.Layer):  # type: ignore[misc]
    """The frames to attend to, which are the real ones."""

    def call(self, mask: Any) -> Any:
        """Float [B, T, 1] -> bool [B, 1, T]."""
        return tf.transpose(mask, (0, 2, 1)) > 0


class Positions(keras.layers.Layer):  # type: ignore[misc]
    """Add sinusoidal positions, for any number of frames."""

    def call(self, values: Any) -> Any:
        """[B, T, D] -> [B, T, D]."""
        width = values.shape[-1]
        position = tf.cast(tf.range(tf.shape(values)[1]), tf.float32)[:, tf.newaxis]
        half = tf.range((width + 1) // 2, dtype=tf.float32)[tf.newaxis]
        angles = position * _MAX_WAVELENGTH ** (-2 * half / width)
        waves = tf.concat([tf.sin(angles), tf.cos(angles)], 1)[:, :width]
        return values + tf.cast(waves, values.dtype)
