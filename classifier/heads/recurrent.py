"""The heads gru and lstm."""

from __future__ import annotations

from typing import Any

from classifier.heads.attention import Outputs, attention, feature_attention
from classifier.heads.backend import keras, tf
from classifier.heads.layers import CLASSES, Dropout, Inputs, Seeds, dense, hidden_block
from classifier.heads.settings import MAX_UNROLLED_FRAMES, RecurrentSettings


def build_recurrent(
    kind: str,
    settings: RecurrentSettings,
    inputs: Inputs,
    n_classes: int,
    n_frames: int | None,
    judge_frames: bool,
) -> Outputs:
    """Recurrent layers over the real frames, then their last state or a pooling over time."""
    seeds = Seeds()
    values = inputs.frames
    if settings.dense:
        values = hidden_block(values, inputs, settings.dense, settings.dropout, seeds(), "hidden1")
    for number in range(1, settings.layers + 1):
        sequences = settings.pooling != "last" or number < settings.layers
        values = recurrent_layer(
            kind, settings.units, inputs, n_frames, f"{kind}{number}", sequences,
            settings.bidirectional, inputs.scale if number == 1 else None,
        )(values)  # fmt: skip
        values = Dropout(settings.dropout, seeds(), name=f"{kind}{number}_dropout")(values)
    if settings.pooling == "last":
        return {"logits": dense(n_classes, CLASSES, dtype="float32")(values)}
    if settings.pooling == "feature-attention":
        width = settings.units * (2 if settings.bidirectional else 1)
        return feature_attention(
            values, inputs, n_classes, width, settings.dropout, seeds, judge_frames
        )
    return attention(values, inputs, n_classes, judge_frames)


def recurrent_layer(
    kind: str,
    units: int,
    inputs: Inputs,
    n_frames: int | None,
    name: str,
    sequences: bool,
    bidirectional: bool = False,
    scale: Any = None,
) -> Any:
    """A GRU or LSTM over the real frames, as a function of its values.

    Padding comes last, so that a forward layer never sees it before its end, and a backward
    one is a forward one on the real frames in reverse: no layer needs to mask its steps.

    Args:
        kind: "gru" or "lstm".
        units: of each direction.
        inputs: of the head; their lengths are used.
        n_frames: T, if it is always the same.
        name: of the layers.
        sequences: give [B, T, units], not the state at each clip's end, [B, units].
        bidirectional: a backward layer, too; 2 * units then.
        scale: float32 [2, D], to be taken into the kernel; where `takes_scale` says so only.
    """
    unroll = _unrolls(n_frames)
    kinds = {"gru": keras.layers.GRU, "lstm": keras.layers.LSTM}
    unrolled: dict[str, Any] = {"gru": UnrolledGRU, "lstm": UnrolledLSTM}
    lengths = inputs.tensors["n_frames"]
    reverse = Reverse(name=f"{name}_reverse")

    def one_way(values: Any, direction: str) -> Any:
        if unroll:
            return unrolled[kind](units, return_sequences=True, name=direction)(values, scale=scale)
        return kinds[kind](units, return_sequences=True, name=direction)(values)

    def apply(values: Any) -> Any:
        forward = one_way(values, f"{name}_forward")
        both = [forward if sequences else LastState(name=f"{name}_last")(forward, lengths)]
        if bidirectional:
            backward = one_way(reverse(values, lengths), f"{name}_backward")
            if sequences:
                both.append(reverse(backward, lengths))
            else:
                both.append(LastState(name=f"{name}_backward_last")(backward, lengths))
        return keras.layers.Concatenate(name=name)(both) if bidirectional else both[0]

    return apply


def takes_scale(settings: RecurrentSettings, n_frames: int | None) -> bool:
    """Whether the first layer is a recurrent one that takes the scale of its input."""
    return not settings.dense and _unrolls(n_frames)


def _unrolls(n_frames: int | None) -> bool:
    return n_frames is not None and n_frames <= MAX_UNROLLED_FRAMES


# Keras's layers, written out for a known number of frames, with fewer products: the first state
# is 0 and needs none; and where the kernel takes a normalisation's scale and shift, what is
# learnt of these follows from the kernel's gradient, so that frames need none of their own.


class UnrolledGRU(keras.layers.GRU):  # type: ignore[misc]
    """A GRU over frames, which are scaled and shifted before if that is given.

    Shape:
        [B, T, D], scale float32 [2, D] or None -> [B, T, units]
    """

    def call(self, values: Any, scale: Any = None) -> Any:
        """As `GRUCell.call`."""
        cell = self.cell
        kernel, bias = _scaled(cell.kernel, cell.bias[0], scale)
        states: list[Any] = []
        for frame in tf.unstack(values, axis=1):
            x = tf.split(tf.nn.bias_add(tf.matmul(frame, kernel), bias), 3, 1)
            if states:
                of_state = tf.matmul(states[-1], cell.recurrent_kernel)
                h = tf.split(tf.nn.bias_add(of_state, cell.bias[1]), 3, 1)
            else:
                h = tf.split(cell.bias[1], 3)
            update, reset = tf.sigmoid(x[0] + h[0]), tf.sigmoid(x[1] + h[1])
            state = (1 - update) * tf.tanh(x[2] + reset * h[2])
            states.append(update * states[-1] + state if states else state)
        return tf.stack(states, 1)


class UnrolledLSTM(keras.layers.LSTM):  # type: ignore[misc]
    """An LSTM over frames, which are scaled and shifted before if that is given.

    Shape:
        [B, T, D], scale float32 [2, D] or None -> [B, T, units]
    """

    def call(self, values: Any, scale: Any = None) -> Any:
        """As `LSTMCell.call`."""
        cell = self.cell
        kernel, bias = _scaled(cell.kernel, cell.bias, scale)
        states: list[Any] = []
        carry: Any = 0.0
        for frame in tf.unstack(values, axis=1):
            x = tf.nn.bias_add(tf.matmul(frame, kernel), bias)
            if states:
                x += tf.matmul(states[-1], cell.recurrent_kernel)
            enter, forget, new, leave = tf.split(x, 4, 1)
            carry = tf.sigmoid(forget) * carry + tf.sigmoid(enter) * tf.tanh(new)
            states.append(tf.sigmoid(leave) * tf.tanh(carry))
        return tf.stack(states, 1)


def _scaled(kernel: Any, bias: Any, scale: Any) -> tuple[Any, Any]:
    """A kernel [D, k] and bias [k] that do to values what these do to scaled and shifted ones."""
    kernel = tf.convert_to_tensor(kernel)  # in the precision of the layer
    if scale is None:
        return kernel, bias
    factor, shift = tf.unstack(tf.cast(scale, kernel.dtype))
    of_shift = tf.linalg.matvec(kernel, shift, transpose_a=True)
    return kernel * factor[:, tf.newaxis], bias + of_shift


class Reverse(keras.layers.Layer):  # type: ignore[misc]
    """The real frames in reverse order, the padding left in its place."""

    def call(self, values: Any, n_frames: Any) -> Any:
        """[B, T, D], [B] -> [B, T, D].

        By indices: tf2onnx takes `tf.reverse_sequence` around a recurrent layer for one that
        reverses all steps.
        """
        place = tf.range(tf.shape(values)[1])[tf.newaxis]
        n_real = n_frames[:, tf.newaxis]
        source = tf.where(place < n_real, n_real - 1 - place, place)
        return tf.gather(values, source, batch_dims=1)


class LastState(keras.layers.Layer):  # type: ignore[misc]
    """What stands at the last real frame; 0 if there is none. [B, T, D], [B] -> [B, D]."""

    def call(self, values: Any, n_frames: Any) -> Any:
        """The state at each clip's true end."""
        last = tf.gather(values, tf.maximum(n_frames - 1, 0), batch_dims=1)
        return last * tf.cast(n_frames > 0, last.dtype)[:, tf.newaxis]
