"""Pooling over time, and the attention heads of Kong and Yu that end in it.

Source: Kong et al., "Audio Set classification with attention model" (2018) and "Weakly
labelled AudioSet tagging with attention neural networks" (2019); Yu et al., "Multi-level
attention model for weakly supervised audio classification" (2018).
"""

from __future__ import annotations

from typing import Any

from classifier.heads.backend import keras, tf
from classifier.heads.layers import (
    CLASSES,
    LEVELS,
    BatchNorm,
    Dropout,
    HeadContext,
    Outputs,
    TimeMax,
    TimeMean,
    TimeSum,
    TimeWeights,
    dense,
    float_logits,
    hidden_block,
)
from classifier.heads.settings import PoolingSettings

# Probabilities are clipped to this distance from 0 and 1, where logits are infinite.
_EPSILON = 1e-6


def build_pooling(kind: str, settings: PoolingSettings, context: HeadContext) -> Outputs:
    """The heads average, max, attention, multi-level-attention and feature-attention."""
    values, levels = context.frames, []
    for number in range(1, settings.layers + 1):
        values = hidden_block(values, context, settings.units, settings.dropout, f"hidden{number}")
        levels.append(values)
    if kind == "feature-attention":
        return feature_attention(values, context, settings.units, settings.dropout)
    if kind == "multi-level-attention":
        clips = [
            class_attention(level, context, f"level{number}")[0]
            for number, level in enumerate(levels, start=1)
        ]
        concatenated = keras.layers.Concatenate(name=LEVELS)(clips)
        return {"logits": _classifier(context)(concatenated)}
    if kind == "attention":
        return attention(values, context)
    frame_logits = float_logits(_classifier(context)(values), "frame_logits")
    if kind == "max":
        logits = TimeMax(name="pooled", dtype="float32")(frame_logits, context.mask)
    else:
        scores = keras.layers.Activation("sigmoid", dtype="float32", name="scores")(frame_logits)
        mean = TimeMean(name="pooled", dtype="float32")(scores, context.mask)
        logits = Logit(dtype="float32", name="logit")(mean)
    return context.outputs(logits, frame_logits)


def attention(values: Any, context: HeadContext) -> Outputs:
    """Average each class's probabilities over time with weights of that class."""
    clip, frame_logits = class_attention(values, context, "attention")
    return context.outputs(Logit(dtype="float32", name="logit")(clip), frame_logits)


def feature_attention(values: Any, context: HeadContext, units: int, dropout: float) -> Outputs:
    """Average each feature over time with weights of that feature, then classify.

    The logits of a frame are those of a clip that consists only of this frame.
    """
    weights = TimeWeights("sigmoid", name="weights", dtype="float32")(
        dense(units, "attention")(values), context.mask
    )
    features = dense(units, "features")(values)
    norm = BatchNorm(name="features_norm")
    relu = keras.layers.Activation("relu", name="features_relu")
    drop = Dropout(dropout, next(context.seeds), name="features_dropout")
    classify = _classifier(context)
    pooled = TimeSum(name="pooled", dtype="float32")(features, weights)
    outputs = {"logits": classify(drop(relu(norm(pooled))))}
    if context.frame_scores:
        outputs["frame_logits"] = classify(relu(norm(features)))
    return outputs


def class_attention(values: Any, context: HeadContext, name: str) -> tuple[Any, Any]:
    """Average each class's probabilities over time with weights of that class.

    Returns probabilities float32 [B, C] of the clip, and logits float32 [B, T, C] of the frames.
    """
    n_classes = context.n_classes
    weights = TimeWeights("softmax", name=f"{name}_weights", dtype="float32")(
        dense(n_classes, f"{CLASSES}_{name}_weights")(values), context.mask
    )
    frame_logits = float_logits(
        dense(n_classes, f"{CLASSES}_{name}")(values), f"{name}_frame_logits"
    )
    frame_scores = keras.layers.Activation("sigmoid", dtype="float32", name=f"{name}_scores")(
        frame_logits
    )
    return TimeSum(name=f"{name}_pooled", dtype="float32")(frame_scores, weights), frame_logits


class Logit(keras.layers.Layer):  # type: ignore[misc]
    """Logits of probabilities: the inverse of the sigmoid."""

    def call(self, probabilities: Any) -> Any:
        """[...] -> [...]."""
        kept = tf.clip_by_value(probabilities, _EPSILON, 1 - _EPSILON)
        return tf.math.log(kept) - tf.math.log(1 - kept)


def _classifier(context: HeadContext) -> Any:
    return dense(context.n_classes, CLASSES, dtype="float32")
