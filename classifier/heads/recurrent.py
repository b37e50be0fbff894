"""The heads gru and lstm."""

from __future__ import annotations

from typing import Any

from classifier.heads.attention import attention, feature_attention
from classifier.heads.backend import keras, tf
from classifier.heads.layers import CLASSES, Dropout, HeadContext, Outputs, dense, hidden_block
from classifier.heads.settings import MAX_UNROLLED_FRAMES, RecurrentSettings


def build_recurrent(kind: str, settings: RecurrentSettings, context: HeadContext) -> Outputs:
    """Recurrent layers over the real frames, then their last state or a pooling over time."""
    values = context.frames
    if settings.dense:
        values = hidden_block(values, context, settings.dense, settings.dropout, "hidden1")
    for number in range(1, settings.layers + 1):
        name = f"{kind}{number}"
        values = recurrent_layer(
            kind,
            values,
            settings.units,
            context,
            name,
            sequences=settings.pooling != "last" or number < settings.layers,
            bidirectional=settings.bidirectional,
            scale=context.scale if number == 1 else None,
        )
        values = Dropout(settings.dropout, next(context.seeds), name=f"{name}_dropout")(values)
    if settings.pooling == "last":
        return {"logits": dense(context.n_classes, CLASSES, dtype="float32")(values)}
    if settings.pooling == "feature-attention":
        width = settings.units * (2 if settings.bidirectional else 1)
        return feature_attention(values, context, width, settings.dropout)
    return attention(values, context)


def recurrent_layer(
    kind: str,
    values: Any,
    units: int,
    context: HeadContext,
    name: str,
    *,
    sequences: bool,
    bidirectional: bool = False,
    scale: Any = None,
) -> Any:
    """Apply a GRU or LSTM ("gru", "lstm") to the real frames: [B, T, D] -> [B, T, units].

    Without `sequences`, the result is the state at each clip's end, [B, units]; `bidirectional`
    adds a backward layer and doubles the width. `scale`, float32 [2, D], is merged into the kernel;
    only if `takes_scale`.

    Padding comes last, so a forward layer reads it only after a clip's end, and a backward layer is
    a forward one on the reversed real frames. Hence no layer has to mask its steps.
    """
    lengths = context.lengths
    unrolls = _unrolls(context.n_frames)
    layers = _UNROLLED if unrolls else {"gru": keras.layers.GRU, "lstm": keras.layers.LSTM}
    reverse = Reverse(name=f"{name}_reverse")

    def one_way(inputs: Any, direction: str) -> Any:
        layer = layers[kind](units, return_sequences=True, name=direction)
        return layer(inputs, scale=scale) if unrolls else layer(inputs)

    forward = one_way(values, f"{name}_forward")
    both = [forward if sequences else LastState(name=f"{name}_last")(forward, lengths)]
    if bidirectional:
        backward = one_way(reverse(values, lengths), f"{name}_backward")
        if sequences:
            both.append(reverse(backward, lengths))
        else:
            both.append(LastState(name=f"{name}_backward_last")(backward, lengths))
    return keras.layers.Concatenate(name=name)(both) if bidirectional else both[0]


def takes_scale(settings: RecurrentSettings, n_frames: int | None) -> bool:
    """Whether the first layer is a recurrent one that merges the scale of its input."""
    return not settings.dense and _unrolls(n_frames)


def _unrolls(n_frames: int | None) -> bool:
    return n_frames is not None and n_frames <= MAX_UNROLLED_FRAMES


# The layers of Keras, unrolled for a fixed number of frames and with fewer products: the initial
# state is 0 and needs none; and if the kernel merges the scale and shift of a normalisation, their
# gradients follow from that of the kernel, so that frames need none of their own.


class UnrolledGRU(keras.layers.GRU):  # type: ignore[misc]
    """A GRU over frames, optionally scaled and shifted: [B, T, D] -> [B, T, units]."""

    def call(self, values: Any, scale: Any = None) -> Any:
        """Compute as `GRUCell.call` does."""
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
    """An LSTM over frames, optionally scaled and shifted: [B, T, D] -> [B, T, units]."""

    def call(self, values: Any, scale: Any = None) -> Any:
        """Compute as `LSTMCell.call` does."""
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


_UNROLLED: dict[str, Any] = {"gru": UnrolledGRU, "lstm": UnrolledLSTM}


def _scaled(kernel: Any, bias: Any, scale: Any) -> tuple[Any, Any]:
    """Merge the scale and shift of the input into a kernel [D, k] and bias [k]."""
    kernel = tf.convert_to_tensor(kernel)  # in the precision of the layer
    if scale is None:
        return kernel, bias
    factor, shift = tf.unstack(tf.cast(scale, kernel.dtype))
    of_shift = tf.linalg.matvec(kernel, shift, transpose_a=True)
    return kernel * factor[:, tf.newaxis], bias + of_shift


class Reverse(keras.layers.Layer):  # type: ignore[misc]
    """Reverse the order of the real frames; the padding stays in position."""

    def call(self, values: Any, n_frames: Any) -> Any:
        """[B, T, D], [B] -> [B, T, D]."""
        # tf2onnx mistakes `tf.reverse_sequence` near a recurrent layer for reversing all steps.
        position = tf.range(tf.shape(values)[1])[tf.newaxis]
        n_real = n_frames[:, tf.newaxis]
        source = tf.where(position < n_real, n_real - 1 - position, position)
        return tf.gather(values, source, batch_dims=1)


class LastState(keras.layers.Layer):  # type: ignore[misc]
    """The state at the last real frame; 0 if there is none. [B, T, D], [B] -> [B, D]."""

    def call(self, values: Any, n_frames: Any) -> Any:
        """Gather the states."""
        last = tf.gather(values, tf.maximum(n_frames - 1, 0), batch_dims=1)
        return last * tf.cast(n_frames > 0, last.dtype)[:, tf.newaxis]
