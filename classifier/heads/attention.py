"""Poolings over time, and the attention family of Kong and Yu that ends in them.

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
    Inputs,
    Seeds,
    Shares,
    TimeMax,
    TimeMean,
    TimeSum,
    dense,
    float_logits,
    hidden_block,
)
from classifier.heads.settings import PoolingSettings

# Probabilities become logits again; beyond these they would be infinite.
_LEAST = 1e-6

Outputs = dict[str, Any]


def build_pooling(
    kind: str, settings: PoolingSettings, inputs: Inputs, n_classes: int, judge_frames: bool
) -> Outputs:
    """The heads average, max, attention, multi-level-attention and feature-attention."""
    seeds = Seeds()
    values, levels = inputs.frames, []
    for number in range(1, settings.layers + 1):
        values = hidden_block(
            values, inputs, settings.units, settings.dropout, seeds(), f"hidden{number}"
        )
        levels.append(values)
    if kind == "feature-attention":
        return feature_attention(
            values, inputs, n_classes, settings.units, settings.dropout, seeds, judge_frames
        )
    if kind == "multi-level-attention":
        clips = [
            class_attention(level, inputs, n_classes, f"level{number}")[0]
            for number, level in enumerate(levels, start=1)
        ]
        return {"logits": _final(n_classes)(keras.layers.Concatenate(name=LEVELS)(clips))}
    if kind == "attention":
        return attention(values, inputs, n_classes, judge_frames)
    frame_logits = float_logits(_final(n_classes)(values), "frame_logits")
    outputs = {"logits": _pooled(kind, frame_logits, inputs)}
    return {**outputs, "frame_logits": frame_logits} if judge_frames else outputs


def attention(values: Any, inputs: Inputs, n_classes: int, judge_frames: bool) -> Outputs:
    """Each class's probabilities averaged over time with weights of its own: the clip's."""
    clip, frame_logits = class_attention(values, inputs, n_classes, "attention")
    outputs = {"logits": Logit(dtype="float32", name="logit")(clip)}
    return {**outputs, "frame_logits": frame_logits} if judge_frames else outputs


def feature_attention(
    values: Any,
    inputs: Inputs,
    n_classes: int,
    units: int,
    dropout: float,
    seeds: Seeds,
    judge_frames: bool,
) -> Outputs:
    """Each feature averaged over time with weights of its own, then classified.

    A frame's own logits are those of a clip of nothing but this frame.
    """
    weights = Shares("sigmoid", name="weights", dtype="float32")(
        dense(units, "attention")(values), inputs.mask
    )
    features = dense(units, "features")(values)
    norm = BatchNorm(name="features_norm")
    relu = keras.layers.Activation("relu", name="features_relu")
    drop = Dropout(dropout, seeds(), name="features_dropout")
    final = _final(n_classes)
    pooled = TimeSum(name="pooled", dtype="float32")(features, weights)
    outputs = {"logits": final(drop(relu(norm(pooled))))}
    if judge_frames:
        outputs["frame_logits"] = final(relu(norm(features)))
    return outputs


def class_attention(values: Any, inputs: Inputs, n_classes: int, name: str) -> tuple[Any, Any]:
    """Each class's probabilities averaged over time with weights of its own.

    Returns:
        Probabilities float32 [B, C] of the clip, and logits float32 [B, T, C] of the frames.
    """
    weights = Shares("softmax", name=f"{name}_weights", dtype="float32")(
        dense(n_classes, f"{CLASSES}_{name}_weights")(values), inputs.mask
    )
    frame_logits = float_logits(
        dense(n_classes, f"{CLASSES}_{name}")(values), f"{name}_frame_logits"
    )
    frame_scores = keras.layers.Activation("sigmoid", dtype="float32", name=f"{name}_scores")(
        frame_logits
    )
    return TimeSum(name=f"{name}_pooled", dtype="float32")(frame_scores, weights), frame_logits


class Logit(keras.layers.Layer):  # type: ignore[misc]
    """Probabilities as logits."""

    def call(self, probabilities: Any) -> Any:
        """The inverse of the sigmoid."""
        kept = tf.clip_by_value(probabilities, _LEAST, 1 - _LEAST)
        return tf.math.log(kept) - tf.math.log(1 - kept)


def _pooled(kind: str, frame_logits: Any, inputs: Inputs) -> Any:
    if kind == "max":
        return TimeMax(name="pooled", dtype="float32")(frame_logits, inputs.mask)
    scores = keras.layers.Activation("sigmoid", dtype="float32", name="scores")(frame_logits)
    mean = TimeMean(name="pooled", dtype="float32")(scores, inputs.mask)
    return Logit(dtype="float32", name="logit")(mean)


def _final(n_classes: int) -> Any:
    return dense(n_classes, CLASSES, dtype="float32")
