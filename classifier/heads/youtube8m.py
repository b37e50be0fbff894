"""The models of the YouTube-8M starter code: logistic, moe, frame-logistic, dbof, lstm-moe.

Source: Abu-El-Haija et al., "YouTube-8M: a large-scale video classification benchmark" (2016)
and `video_level_models.py`, `frame_level_models.py` of google/youtube-8m.
"""

from __future__ import annotations

from typing import Any

from classifier.heads.backend import keras, tf
from classifier.heads.layers import (
    CLASSES,
    BatchNorm,
    HeadContext,
    Outputs,
    RandomLayer,
    TimeMax,
    TimeMean,
    dense,
    normaliser,
)
from classifier.heads.recurrent import recurrent_layer
from classifier.heads.settings import DbofSettings, LogisticSettings, LstmMoeSettings, MoeSettings


def build_logistic(kind: str, settings: LogisticSettings, context: HeadContext) -> Outputs:
    """A classifier of the mean frame: logistic normalises the mean, frame-logistic the frames."""
    classify = dense(
        context.n_classes, CLASSES, dtype="float32", kernel_regularizer=_penalty(settings.l2)
    )
    normalise = normaliser(settings.normalisation if kind == "logistic" else "none")
    outputs = {"logits": classify(normalise(_mean_frame(context)))}
    if context.frame_scores:
        outputs["frame_logits"] = classify(normalise(context.frames))
    return outputs


def build_moe(settings: MoeSettings, context: HeadContext) -> Outputs:
    """A mixture of experts on the mean frame."""
    mean = normaliser(settings.normalisation)(_mean_frame(context))
    return {"logits": mixture(mean, context, settings.mixtures, settings.l2)}


def build_dbof(settings: DbofSettings, context: HeadContext) -> Outputs:
    """Frames to clusters, pooled over time, then a mixture of experts.

    In training each clip is a random sample of its frames, otherwise all of them. The original
    always sampled, so that its scores changed from run to run.
    """
    sample = SampleFrames(settings.sampled_frames, next(context.seeds), name="sample")
    frames, mask = sample(context.frames, context.mask)
    frames = BatchNorm(name="input_norm")(frames, mask=mask)
    clusters = dense(settings.clusters, "clusters", use_bias=False)(frames)
    clusters = BatchNorm(name="clusters_norm")(clusters, mask=mask)
    activation = getattr(tf.nn, settings.activation)
    clusters = keras.layers.Activation(activation, name="clusters_activation")(clusters)
    bag = (TimeMax if settings.pooling == "max" else TimeMean)(name="bag")(clusters, mask)
    hidden = dense(settings.hidden, "hidden", use_bias=False)(bag)
    hidden = BatchNorm(name="hidden_norm")(hidden)
    hidden = keras.layers.Activation(activation, name="hidden_activation")(hidden)
    return {"logits": mixture(hidden, context, settings.mixtures, settings.l2)}


def build_lstm_moe(settings: LstmMoeSettings, context: HeadContext) -> Outputs:
    """Stacked LSTMs, the last one's state at the last real frame, a mixture of experts."""
    values = context.frames
    for number in range(1, settings.layers + 1):
        sequences = number < settings.layers
        values = recurrent_layer(
            "lstm", values, settings.units, context, f"lstm{number}", sequences=sequences
        )
    return {"logits": mixture(values, context, settings.mixtures, settings.l2)}


def mixture(values: Any, context: HeadContext, mixtures: int, l2: float) -> Any:
    """Gates over the experts of each class and a dummy that says no: [B, D] -> logits [B, C]."""
    n_classes = context.n_classes
    options: dict[str, Any] = {"dtype": "float32", "kernel_regularizer": _penalty(l2)}
    gates = dense(n_classes * (mixtures + 1), f"{CLASSES}_gates", use_bias=False, **options)(values)
    experts = dense(n_classes * mixtures, f"{CLASSES}_experts", **options)(values)
    return Mixture(n_classes, name="mixture", dtype="float32")(gates, experts)


class Mixture(keras.layers.Layer):  # type: ignore[misc]
    """Gates [B, C * (k + 1)] and experts [B, C * k] -> logits [B, C].

    p = sum of gate * sigmoid(expert). Both log p and log (1 - p) are log-sum-exps, so that their
    difference is exact even if p is close to 0 or 1.
    """

    def __init__(self, n_classes: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.n_classes = n_classes

    def call(self, gates: Any, experts: Any) -> Any:
        """Mix the experts; the last gate of each class is that of the dummy."""
        experts = tf.reshape(experts, (-1, self.n_classes, experts.shape[-1] // self.n_classes))
        gates = tf.reshape(gates, (-1, self.n_classes, gates.shape[-1] // self.n_classes))
        log_gates = tf.nn.log_softmax(gates)
        yes = tf.reduce_logsumexp(log_gates[..., :-1] - tf.nn.softplus(-experts), -1)
        no_of_experts = log_gates[..., :-1] - tf.nn.softplus(experts)
        no = tf.reduce_logsumexp(tf.concat([no_of_experts, log_gates[..., -1:]], -1), -1)
        return yes - no


class SampleFrames(RandomLayer):
    """In training, real frames drawn with replacement; otherwise all frames."""

    def __init__(self, n: int, seed: int, **kwargs: Any) -> None:
        super().__init__(seed, **kwargs)
        self.n = n

    def call(self, frames: Any, mask: Any, training: Any = None) -> Any:
        """[B, T, D], [B, T, 1] -> [B, n, D], [B, n, 1] in training."""
        if not training:
            return frames, mask
        n_real = tf.reduce_sum(mask[..., 0], 1, keepdims=True)
        uniform = tf.random.stateless_uniform((tf.shape(frames)[0], self.n), self.next_seed())
        drawn = tf.cast(tf.minimum(uniform * n_real, tf.maximum(n_real - 1, 0)), tf.int32)
        return (tf.gather(frames, drawn, batch_dims=1), tf.gather(mask, drawn, batch_dims=1))


def _mean_frame(context: HeadContext) -> Any:
    return TimeMean(name="mean_frame", dtype="float32")(context.frames, context.mask)


def _penalty(l2: float) -> Any:
    # The original penalises half of the sum of squares.
    return keras.regularizers.L2(l2 / 2) if l2 else None
