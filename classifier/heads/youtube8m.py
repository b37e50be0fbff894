"""The models of the YouTube-8M starter code: logistic, moe, frame-logistic, dbof, lstm-moe.

Source: Abu-El-Haija et al., "YouTube-8M: a large-scale video classification benchmark" (2016)
and `video_level_models.py`, `frame_level_models.py` of google/youtube-8m.
"""

from __future__ import annotations

from typing import Any

from classifier.heads.attention import Outputs
from classifier.heads.backend import keras, tf
from classifier.heads.layers import (
    CLASSES,
    BatchNorm,
    Inputs,
    RandomLayer,
    Seeds,
    TimeMax,
    TimeMean,
    dense,
    normaliser,
)
from classifier.heads.recurrent import recurrent_layer
from classifier.heads.settings import DbofSettings, LogisticSettings, LstmMoeSettings, MoeSettings


def build_logistic(
    kind: str,
    settings: LogisticSettings,
    inputs: Inputs,
    n_classes: int,
    judge_frames: bool,
) -> Outputs:
    """The head logistic classifies the mean frame, frame-logistic the mean of normalised frames.

    Without normalisation they are the same.
    """
    classify = dense(n_classes, CLASSES, dtype="float32", kernel_regularizer=_penalty(settings.l2))
    normalise = normaliser(settings.normalisation if kind == "logistic" else "none")
    outputs = {"logits": classify(normalise(_mean_frame(inputs)))}
    if judge_frames:
        outputs["frame_logits"] = classify(normalise(inputs.frames))
    return outputs


def build_moe(settings: MoeSettings, inputs: Inputs, n_classes: int) -> Outputs:
    """A mixture of experts on the mean frame."""
    mean = normaliser(settings.normalisation)(_mean_frame(inputs))
    return {"logits": mixture(mean, n_classes, settings.mixtures, settings.l2)}


def build_dbof(settings: DbofSettings, inputs: Inputs, n_classes: int) -> Outputs:
    """Frames to clusters, pooled over time, then a mixture of experts.

    While training each clip is a random sample of its frames; otherwise it is all of them.
    The original sampled there too, so that its scores changed from run to run.
    """
    frames, mask = SampleFrames(settings.sampled_frames, Seeds()(), name="sample")(
        inputs.frames, inputs.mask
    )
    frames = BatchNorm(name="input_norm")(frames, mask=mask)
    clusters = dense(settings.clusters, "clusters", use_bias=False)(frames)
    clusters = BatchNorm(name="clusters_norm")(clusters, mask=mask)
    clusters = _activation(settings.activation, "clusters_activation")(clusters)
    if settings.pooling == "max":
        bag = TimeMax(name="bag")(clusters, mask)
    else:
        bag = TimeMean(name="bag")(clusters, mask)
    hidden = dense(settings.hidden, "hidden", use_bias=False)(bag)
    hidden = BatchNorm(name="hidden_norm")(hidden)
    hidden = _activation(settings.activation, "hidden_activation")(hidden)
    return {"logits": mixture(hidden, n_classes, settings.mixtures, settings.l2)}


def build_lstm_moe(
    settings: LstmMoeSettings, inputs: Inputs, n_classes: int, n_frames: int | None
) -> Outputs:
    """Stacked LSTMs, the last one's state at the true end, a mixture of experts."""
    values = inputs.frames
    for number in range(1, settings.layers + 1):
        values = recurrent_layer(
            "lstm", settings.units, inputs, n_frames, f"lstm{number}", number < settings.layers
        )(values)
    return {"logits": mixture(values, n_classes, settings.mixtures, settings.l2)}


def mixture(values: Any, n_classes: int, mixtures: int, l2: float) -> Any:
    """For each class gates over experts and a dummy that says no: [B, D] -> logits [B, C]."""
    gates = dense(
        n_classes * (mixtures + 1),
        f"{CLASSES}_gates",
        use_bias=False,
        dtype="float32",
        kernel_regularizer=_penalty(l2),
    )(values)
    experts = dense(
        n_classes * mixtures,
        f"{CLASSES}_experts",
        dtype="float32",
        kernel_regularizer=_penalty(l2),
    )(values)
    return Mixture(n_classes, name="mixture", dtype="float32")(gates, experts)


class Mixture(keras.layers.Layer):  # type: ignore[misc]
    """Gates [B, C * (k + 1)] and experts [B, C * k] -> logits [B, C].

    p = sum of gate * sigmoid(expert); log p and log (1 - p) are both sums of exponentials, so
    that their difference is exact also where p is next to 0 or 1.
    """

    def __init__(self, n_classes: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.n_classes = n_classes

    def call(self, gates: Any, experts: Any) -> Any:
        """The last gate of each class belongs to the dummy."""
        experts = tf.reshape(experts, (-1, self.n_classes, experts.shape[-1] // self.n_classes))
        gates = tf.reshape(gates, (-1, self.n_classes, gates.shape[-1] // self.n_classes))
        log_gates = tf.nn.log_softmax(gates)
        yes = tf.reduce_logsumexp(log_gates[..., :-1] - tf.nn.softplus(-experts), -1)
        no_of_experts = log_gates[..., :-1] - tf.nn.softplus(experts)
        no = tf.reduce_logsumexp(tf.concat([no_of_experts, log_gates[..., -1:]], -1), -1)
        return yes - no


class SampleFrames(RandomLayer):
    """While training, real frames drawn with replacement; otherwise all, as they are."""

    def __init__(self, n: int, seed: int, **kwargs: Any) -> None:
        super().__init__(seed, **kwargs)
        self.n = n

    def call(self, frames: Any, mask: Any, training: Any = None) -> Any:
        """[B, T, D], [B, T, 1] -> [B, n, D], [B, n, 1] while training."""
        if not training:
            return frames, mask
        n_real = tf.reduce_sum(mask[..., 0], 1, keepdims=True)
        uniform = tf.random.stateless_uniform((tf.shape(frames)[0], self.n), self.next_seed())
        drawn = tf.cast(tf.minimum(uniform * n_real, tf.maximum(n_real - 1, 0)), tf.int32)
        return (
            tf.gather(frames, drawn, batch_dims=1),
            tf.gather(mask, drawn, batch_dims=1),
        )


def _mean_frame(inputs: Inputs) -> Any:
    return TimeMean(name="mean_frame", dtype="float32")(inputs.frames, inputs.mask)


def _penalty(l2: float) -> Any:
    # The original counts half of the sum of squares.
    return keras.regularizers.L2(l2 / 2) if l2 else None


def _activation(name: str, layer_name: str) -> Any:
    return keras.layers.Activation(getattr(tf.nn, name), name=layer_name)
