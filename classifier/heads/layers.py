"""What the heads are made of: layers that know which frames are real."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from classifier.heads.backend import keras, tf
from vggish.params import EMBEDDING_SIZE

# Weights of these layers belong to classes: [..., C * k], class by class.
CLASSES = "classes"
# The layer that hands the classes of several levels to one of those.
LEVELS = "levels"
_LEAST = 1e-7


class Dequantise(keras.layers.Layer):  # type: ignore[misc]
    """Codes 0..255 -> values about -2..2; what lies beyond the real frames becomes 0.

    Shape:
        [B, T, 128], mask [B, T, 1] -> [B, T, 128]
    """

    def call(self, frames: Any, mask: Any) -> Any:
        """Source: `Dequantize` of Google's youtube-8m."""
        return (tf.cast(frames, tf.float32) * (4 / 255) + (4 / 512 - 2)) * mask


class L2Normalise(keras.layers.Layer):  # type: ignore[misc]
    """Each row to length 1; a row of zeros stays one."""

    def call(self, rows: Any) -> Any:
        """Source: the readers of Google's youtube-8m, where it stood outside of the model."""
        return tf.math.l2_normalize(rows, axis=-1)


class BatchNorm(keras.layers.Layer):  # type: ignore[misc]
    """Batch normalisation over the real frames alone.

    Keras's own would count the padding. Statistics move by a tenth a step, as in the
    published attention models.

    Shape:
        [B, T, D] with mask [B, T, 1], or [B, D] without -> the same
    """

    def __init__(self, momentum: float = 0.9, epsilon: float = 1e-5, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.momentum, self.epsilon = momentum, epsilon

    def build(self, shape: Any) -> None:
        """Add scale and shift, and the moving statistics."""
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
        """Normalise by the batch while training, by the moving statistics otherwise."""
        scale, shift = self.scale_and_shift(values, mask, training)
        return values * tf.cast(scale, values.dtype) + tf.cast(shift, values.dtype)

    def scale_and_shift(self, values: Any, mask: Any, training: Any) -> tuple[Any, Any]:
        """What to multiply by and then to add, float32 [D] each."""
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
    """The scale and shift of a batch normalisation, for a layer that takes them into its kernel.

    Shape:
        [B, T, D], mask [B, T, 1] -> float32 [2, D]
    """

    def call(self, values: Any, mask: Any = None, training: Any = None) -> Any:
        """Scale, then shift."""
        return tf.stack(self.scale_and_shift(values, mask, training))


class RandomLayer(keras.layers.Layer):  # type: ignore[misc]
    """A layer whose random numbers follow from a seed and a counter among its weights.

    So a run that is resumed goes on with the very numbers that it would have had.
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
        """Another seed for each call and each replica: int32 [2], for `tf.random.stateless_*`."""
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        now = tf.cast(self.counter, tf.int32)
        self.counter.assign_add(1)
        return tf.stack([now, tf.cast(replica, tf.int32) + self.seed])


class Dropout(RandomLayer):
    """Dropout by one random byte an element, four times as fast as by floats.

    The rate is the nearest of whole 256ths, 255 at most.
    """

    def __init__(self, rate: float, seed: int, **kwargs: Any) -> None:
        super().__init__(seed, **kwargs)
        self.dropped = min(round(rate * 256), 255)

    def call(self, values: Any, training: Any = None) -> Any:
        """Zero a share of the values while training, and scale up the others."""
        if not training or not self.dropped:
            return values
        shape, width = tf.shape(values), values.shape[-1]
        n_words = tf.concat([shape[:-1], [-(-width // 4)]], 0)
        words = tf.random.stateless_uniform(n_words, self.next_seed(), None, None, tf.int32)
        bytes_ = tf.reshape(tf.bitcast(words, tf.uint8), tf.concat([shape[:-1], [-1]], 0))
        keep = tf.cast(bytes_[..., :width] >= self.dropped, values.dtype)
        return values * keep * (256 / (256 - self.dropped))


class TimeSum(keras.layers.Layer):  # type: ignore[misc]
    """Sum over time of values with weights: [B, T, D], [B, T, D or 1] -> [B, D]."""

    def call(self, values: Any, weights: Any) -> Any:
        """Sum in float32, whatever the network computes in."""
        return tf.reduce_sum(tf.cast(values, tf.float32) * tf.cast(weights, tf.float32), 1)


class TimeMean(keras.layers.Layer):  # type: ignore[misc]
    """Mean of the real frames; 0 if there is none. [B, T, D], [B, T, 1] -> float32 [B, D]."""

    def call(self, values: Any, mask: Any) -> Any:
        """No frames must not give NaN."""
        total = tf.reduce_sum(tf.cast(values, tf.float32) * mask, 1)
        return total / tf.maximum(tf.reduce_sum(mask, 1), 1.0)


class Shares(keras.layers.Layer):  # type: ignore[misc]
    """Positive weights over the real frames that sum to 1 (to 0 if there is no frame).

    Shape:
        [B, T, D], mask [B, T, 1] -> float32 [B, T, D]
    """

    def __init__(self, function: str = "softmax", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.function = function

    def call(self, values: Any, mask: Any) -> Any:
        """Softmax over time, or sigmoids divided by their sum (Kong 2019)."""
        values = tf.cast(values, tf.float32)
        if self.function == "sigmoid":
            weights = tf.clip_by_value(tf.sigmoid(values), _LEAST, 1 - _LEAST) * mask
        else:
            # The largest of the real ones at 0, so that no weight overflows.
            values = values * mask - 1e9 * (1 - mask)
            top = tf.stop_gradient(tf.reduce_max(values, 1, keepdims=True))
            weights = tf.exp(values - top) * mask
        return weights / tf.maximum(tf.reduce_sum(weights, 1, keepdims=True), _LEAST)


class TimeMax(keras.layers.Layer):  # type: ignore[misc]
    """The largest of the real frames; 0 if there is none. [B, T, D], [B, T, 1] -> [B, D]."""

    def call(self, values: Any, mask: Any) -> Any:
        """Padding can never win."""
        low = values * tf.cast(mask, values.dtype) - tf.cast((1 - mask) * 1e9, values.dtype)
        top = tf.reduce_max(low, 1)
        return tf.where(tf.reduce_max(mask, 1) > 0, top, tf.zeros_like(top))


class Inputs:
    """The inputs of a head, and its frames dequantised and normalised.

    Attributes:
        frames: float32 [B, T, 128], 0 beyond the real frames.
        mask: float32 [B, T, 1], 1 for real frames.
        scale: float32 [2, D], the scale and shift that batch normalisation leaves to the first
            layer if that is asked for; else None, and the frames have it.
    """

    def __init__(
        self, normalisation: str, n_frames: int | None, leaves_scale: bool = False
    ) -> None:
        codes = keras.Input((n_frames, EMBEDDING_SIZE), name="frames", dtype="float32")
        lengths = keras.Input((), name="n_frames", dtype="int32")
        self.tensors = {"frames": codes, "n_frames": lengths}
        self.mask = _Mask(name="mask", dtype="float32")(codes, lengths)
        frames = Dequantise(name="dequantise", dtype="float32")(codes, self.mask)
        self.scale = None
        if leaves_scale and normalisation == "batch":
            self.frames = frames
            self.scale = BatchScale(name="normalise", dtype="float32")(frames, self.mask)
        else:
            self.frames = normaliser(normalisation)(frames, self.mask)


def normaliser(normalisation: str) -> Callable[..., Any]:
    """The layer "normalise" of that kind: [..., D], mask (where there is one) -> [..., D]."""
    if normalisation == "batch":
        return BatchNorm(name="normalise", dtype="float32")
    if normalisation == "l2":
        layer = L2Normalise(name="normalise", dtype="float32")
        return lambda values, mask=None: layer(values)
    return lambda values, mask=None: values


class _Mask(keras.layers.Layer):  # type: ignore[misc]
    def call(self, frames: Any, n_frames: Any) -> Any:
        return tf.sequence_mask(n_frames, tf.shape(frames)[1], tf.float32)[..., tf.newaxis]


class Seeds:
    """Seeds for the layers that need one, each another."""

    def __init__(self) -> None:
        self._next = 0

    def __call__(self) -> int:
        """The next one."""
        self._next += 1000
        return self._next


def dense(units: int, name: str, **kwargs: Any) -> Any:
    """A dense layer with the initialisation of the published attention models."""
    return keras.layers.Dense(units, kernel_initializer="glorot_uniform", name=name, **kwargs)


def float_logits(values: Any, name: str) -> Any:
    """Values as float32, whatever the network computes in."""
    return keras.layers.Activation("linear", dtype="float32", name=name)(values)


def hidden_block(values: Any, inputs: Inputs, units: int, rate: float, seed: int, name: str) -> Any:
    """Dense, batch normalisation, ReLU, dropout on each frame: [B, T, D] -> [B, T, units]."""
    values = dense(units, f"{name}_dense", use_bias=False)(values)
    values = BatchNorm(name=f"{name}_norm")(values, mask=inputs.mask)
    values = keras.layers.Activation("relu", name=f"{name}_relu")(values)
    return Dropout(rate, seed, name=f"{name}_dropout")(values)
