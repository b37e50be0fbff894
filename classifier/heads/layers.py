"""Layers of the heads, which ignore the padding after the real frames."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from classifier.heads.backend import keras, tf
from vggish.params import EMBEDDING_SIZE

Outputs = dict[str, Any]

# Names of layers whose weights belong to classes, [..., C * k], begin with this.
CLASSES = "classes"
# The layer that concatenates the classes of several levels for one of those.
LEVELS = "levels"
_EPSILON = 1e-7


class Dequantise(keras.layers.Layer):  # type: ignore[misc]
    """Codes 0..255 [B, T, 128] to values about -2..2; 0 where the mask [B, T, 1] is 0."""

    def call(self, frames: Any, mask: Any) -> Any:
        """Dequantise; source: `Dequantize` of Google's youtube-8m."""
        return (tf.cast(frames, tf.float32) * (4 / 255) + (4 / 512 - 2)) * mask


class L2Normalise(keras.layers.Layer):  # type: ignore[misc]
    """Scale each row to length 1; rows of zeros stay the same."""

    def call(self, rows: Any) -> Any:
        """[..., D] -> [..., D]; source: the readers of Google's youtube-8m."""
        return tf.math.l2_normalize(rows, axis=-1)


class BatchNorm(keras.layers.Layer):  # type: ignore[misc]
    """Batch normalisation over the real frames only; that of Keras would include the padding.

    The moving statistics have a momentum of 0.9, as in the published attention models. The input is
    [B, T, D] with mask [B, T, 1], or [B, D] without.
    """

    def __init__(self, momentum: float = 0.9, epsilon: float = 1e-5, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.momentum, self.epsilon = momentum, epsilon

    def build(self, shape: Any) -> None:
        """Add scale, shift and the moving statistics."""
        aggregation, when = tf.VariableAggregation, tf.VariableSynchronization

        def add(name: str, start: str, trainable: bool) -> Any:
            return self.add_weight(
                name=name,
                shape=(shape[-1],),
                initializer=start,
                trainable=trainable,
                dtype=tf.float32,
                experimental_autocast=False,
                aggregation=aggregation.NONE if trainable else aggregation.MEAN,
                synchronization=when.AUTO if trainable else when.ON_READ,
            )

        self.gamma, self.beta = add("gamma", "ones", True), add("beta", "zeros", True)
        self.mean, self.variance = add("mean", "zeros", False), add("variance", "ones", False)

    def call(self, values: Any, mask: Any = None, training: Any = None) -> Any:
        """Normalise by the batch in training, otherwise by the moving statistics."""
        scale, shift = self.scale_and_shift(values, mask, training)
        return values * tf.cast(scale, values.dtype) + tf.cast(shift, values.dtype)

    def scale_and_shift(self, values: Any, mask: Any, training: Any) -> tuple[Any, Any]:
        """The factor and the summand of the normalisation, float32 [D] each."""
        if training:
            mean, variance = self._moments(values, mask)
            step = 1 - self.momentum
            self.mean.assign_add(step * (mean - self.mean))
            self.variance.assign_add(step * (variance - self.variance))
        else:
            mean, variance = self.mean, self.variance
        scale = self.gamma * tf.math.rsqrt(variance + self.epsilon)
        return scale, self.beta - mean * scale

    def _moments(self, values: Any, mask: Any) -> tuple[Any, Any]:
        values = tf.cast(values, tf.float32)
        if mask is None:
            mean, variance = tf.nn.moments(values, [0])
            return mean, variance
        n = tf.maximum(tf.reduce_sum(mask), 1.0)
        mean = tf.reduce_sum(values * mask, [0, 1]) / n
        variance = tf.reduce_sum(tf.math.squared_difference(values, mean) * mask, [0, 1]) / n
        return mean, variance


class BatchScale(BatchNorm):
    """Scale and shift of a batch normalisation, float32 [2, D], to merge into a kernel."""

    def call(self, values: Any, mask: Any = None, training: Any = None) -> Any:
        """Stack scale and shift."""
        return tf.stack(self.scale_and_shift(values, mask, training))


class RandomLayer(keras.layers.Layer):  # type: ignore[misc]
    """A layer whose random numbers follow from a seed and a counter among its weights.

    A resumed run therefore draws the same numbers as an uninterrupted one.
    """

    def __init__(self, seed: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.seed = seed

    def build(self, shape: Any) -> None:
        """Add the counter."""
        self.counter = self.add_weight(
            name="counter",
            shape=(),
            dtype=tf.int32,
            initializer="zeros",
            trainable=False,
            aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
        )

    def next_seed(self) -> Any:
        """A new seed per call and replica: int32 [2], for `tf.random.stateless_*`."""
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        now = tf.cast(self.counter, tf.int32)
        self.counter.assign_add(1)
        return tf.stack([now, tf.cast(replica, tf.int32) + self.seed])


class Dropout(RandomLayer):
    """Dropout with one random byte per element, four times as fast as with floats.

    The rate is rounded to 256ths, and at most 255/256.
    """

    def __init__(self, rate: float, seed: int, **kwargs: Any) -> None:
        super().__init__(seed, **kwargs)
        self.dropped = min(round(rate * 256), 255)

    def call(self, values: Any, training: Any = None) -> Any:
        """Zero a share of the values in training, and scale up the others."""
        if not training or not self.dropped:
            return values
        shape, width = tf.shape(values), values.shape[-1]
        n_words = tf.concat([shape[:-1], [-(-width // 4)]], 0)
        words = tf.random.stateless_uniform(n_words, self.next_seed(), None, None, tf.int32)
        bytes_ = tf.reshape(tf.bitcast(words, tf.uint8), tf.concat([shape[:-1], [-1]], 0))
        keep = tf.cast(bytes_[..., :width] >= self.dropped, values.dtype)
        return values * keep * (256 / (256 - self.dropped))


class TimeSum(keras.layers.Layer):  # type: ignore[misc]
    """Weighted sum over time: [B, T, D], [B, T, D or 1] -> [B, D]."""

    def call(self, values: Any, weights: Any) -> Any:
        """Sum in float32, whatever the precision of the network."""
        return tf.reduce_sum(tf.cast(values, tf.float32) * tf.cast(weights, tf.float32), 1)


class TimeMean(keras.layers.Layer):  # type: ignore[misc]
    """Mean of the real frames; 0 if there is none. [B, T, D], [B, T, 1] -> float32 [B, D]."""

    def call(self, values: Any, mask: Any) -> Any:
        """Average without NaN for a clip of no frames."""
        total = tf.reduce_sum(tf.cast(values, tf.float32) * mask, 1)
        return total / tf.maximum(tf.reduce_sum(mask, 1), 1.0)


class TimeWeights(keras.layers.Layer):  # type: ignore[misc]
    """Weights of the real frames that sum to 1 (to 0 without frames): float32 [B, T, D]."""

    def __init__(self, function: str = "softmax", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.function = function

    def call(self, values: Any, mask: Any) -> Any:
        """Softmax over time, or sigmoids divided by their sum (Kong 2019)."""
        values = tf.cast(values, tf.float32)
        if self.function == "sigmoid":
            weights = tf.clip_by_value(tf.sigmoid(values), _EPSILON, 1 - _EPSILON) * mask
        else:
            # With the maximum of the real frames at 0, no exponential overflows.
            values = values * mask - 1e9 * (1 - mask)
            top = tf.stop_gradient(tf.reduce_max(values, 1, keepdims=True))
            weights = tf.exp(values - top) * mask
        return weights / tf.maximum(tf.reduce_sum(weights, 1, keepdims=True), _EPSILON)


class TimeMax(keras.layers.Layer):  # type: ignore[misc]
    """Maximum of the real frames; 0 if there is none. [B, T, D], [B, T, 1] -> [B, D]."""

    def call(self, values: Any, mask: Any) -> Any:
        """Take the maximum without the padding."""
        low = values * tf.cast(mask, values.dtype) - tf.cast((1 - mask) * 1e9, values.dtype)
        top = tf.reduce_max(low, 1)
        return tf.where(tf.reduce_max(mask, 1) > 0, top, tf.zeros_like(top))


class HeadContext:
    """The inputs of a head and the sizes of its outputs, shared by the functions that build it.

    `normalisation` is "batch", "l2" or "none". With `leaves_scale`, the first layer must apply the
    scale and shift of batch normalisation.

    Attributes:
        frames: float32 [B, T, 128], 0 beyond the real frames.
        mask: float32 [B, T, 1], 1 for real frames.
        scale: float32 [2, D], the scale and shift that are left to the first layer, or None.
        seeds: a different seed for each random layer.
    """

    def __init__(
        self,
        normalisation: str,
        n_classes: int,
        n_frames: int | None,
        *,
        frame_scores: bool = False,
        leaves_scale: bool = False,
    ) -> None:
        self.n_classes, self.n_frames, self.frame_scores = n_classes, n_frames, frame_scores
        self.seeds = itertools.count(1000, 1000)
        codes = keras.Input((n_frames, EMBEDDING_SIZE), name="frames", dtype="float32")
        self.lengths = keras.Input((), name="n_frames", dtype="int32")
        self.inputs = {"frames": codes, "n_frames": self.lengths}
        self.mask = _Mask(name="mask", dtype="float32")(codes, self.lengths)
        frames = Dequantise(name="dequantise", dtype="float32")(codes, self.mask)
        self.scale = None
        if leaves_scale and normalisation == "batch":
            self.frames = frames
            self.scale = BatchScale(name="normalise", dtype="float32")(frames, self.mask)
        else:
            self.frames = normaliser(normalisation)(frames, self.mask)

    def outputs(self, logits: Any, frame_logits: Any) -> Outputs:
        """The outputs of a head that can score frames."""
        return {"logits": logits, **({"frame_logits": frame_logits} if self.frame_scores else {})}


def normaliser(normalisation: str) -> Callable[..., Any]:
    """The layer "normalise" of a kind: [..., D] and an optional mask -> [..., D]."""
    if normalisation == "batch":
        return BatchNorm(name="normalise", dtype="float32")
    if normalisation == "l2":
        layer = L2Normalise(name="normalise", dtype="float32")
        return lambda values, mask=None: layer(values)
    return lambda values, mask=None: values


class _Mask(keras.layers.Layer):  # type: ignore[misc]
    def call(self, frames: Any, n_frames: Any) -> Any:
        return tf.sequence_mask(n_frames, tf.shape(frames)[1], tf.float32)[..., tf.newaxis]


def dense(units: int, name: str, **kwargs: Any) -> Any:
    """A dense layer with the initialisation of the published attention models."""
    return keras.layers.Dense(units, kernel_initializer="glorot_uniform", name=name, **kwargs)


def float_logits(values: Any, name: str) -> Any:
    """Convert to float32, whatever the precision of the network."""
    return keras.layers.Activation("linear", dtype="float32", name=name)(values)


def hidden_block(values: Any, context: HeadContext, units: int, rate: float, name: str) -> Any:
    """Dense, batch normalisation, ReLU, dropout on each frame: [B, T, D] -> [B, T, units]."""
    values = dense(units, f"{name}_dense", use_bias=False)(values)
    values = BatchNorm(name=f"{name}_norm")(values, mask=context.mask)
    values = keras.layers.Activation("relu", name=f"{name}_relu")(values)
    return Dropout(rate, next(context.seeds), name=f"{name}_dropout")(values)
