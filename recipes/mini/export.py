"""Export of mini to ONNX: float32, and int8 for comparison."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from classifier.heads.backend import tf
from recipes.mini.network import build_mini
from vggish.errors import ConversionError
from vggish.network.convert import quantize_onnx
from vggish.network.runtime import Embedder
from vggish.params import N_BANDS, PATCH_FRAMES

_OPSET = 17
# Largest accepted difference from Keras, relative to the largest embedding value.
_MAX_DIFFERENCE = 1e-4


def in_float32(model: Any) -> Any:
    """Return the same network and weights with float32 activations in place of bfloat16."""
    exact = build_mini()
    exact.set_weights(model.get_weights())
    return exact


def write_float32(model: Any, path: Path, check: npt.NDArray[np.float32]) -> None:
    """Write the network as ONNX, and compare it with Keras on the patches `check` [n, 96, 64].

    Raises:
        ConversionError: the embeddings differ from Keras.
    """
    import tf2onnx

    logging.getLogger("tf2onnx").setLevel(logging.ERROR)
    signature = (tf.TensorSpec((None, PATCH_FRAMES, N_BANDS), tf.float32, name="patches"),)

    def embed(patches: Any) -> dict[str, Any]:
        return {"embeddings": model(patches, training=False)["embeddings"]}

    function = tf.function(embed, autograph=False, input_signature=signature)
    converted, _ = tf2onnx.convert.from_function(function, input_signature=signature, opset=_OPSET)
    converted.graph.name = "mini"
    _fold_rescaling(converted.graph)
    path.write_bytes(converted.SerializeToString(deterministic=True))
    expected = model(check, training=False)["embeddings"].numpy()
    difference = np.abs(_load(path)(check) - expected).max() / np.abs(expected).max()
    if not difference <= _MAX_DIFFERENCE:
        raise ConversionError(
            f"{path} differs from Keras by {difference:.1e} of the largest embedding value"
        )


def _fold_rescaling(graph: Any) -> None:
    """Fold the rescaling into the first convolution: `W (a x + b)` is `(a W) x + b sum(W)`.

    Zero padding after the rescaling is padding with -b / a before it, which needs an explicit node.
    A separate rescaling would take a sixth of ONNX Runtime's time.
    """
    from onnx import helper, numpy_helper

    constants = {tensor.name: tensor for tensor in graph.initializer}
    first_reshape, multiply, add, reshape, convolution, *rest = graph.node
    kinds = [node.op_type for node in graph.node[:5]]
    if kinds != ["Reshape", "Mul", "Add", "Reshape", "Conv"]:
        raise ConversionError(f"mini must begin with a rescaling. Received: {kinds}")
    scale, shift = (
        float(numpy_helper.to_array(constants[node.input[1]])) for node in (multiply, add)
    )
    kernel, bias = (constants[name] for name in convolution.input[1:])
    weights = numpy_helper.to_array(kernel)
    shifted = numpy_helper.to_array(bias) + shift * weights.sum(axis=(1, 2, 3))
    kernel.CopyFrom(numpy_helper.from_array(weights * np.float32(scale), kernel.name))
    bias.CopyFrom(numpy_helper.from_array(shifted.astype(np.float32), bias.name))
    (pads,) = (a for a in convolution.attribute if a.name == "pads")
    top, left, bottom, right = pads.ints
    around = np.array([0, 0, top, left, 0, 0, bottom, right], np.int64)
    convolution.attribute.remove(pads)
    unused = {first_reshape.input[1], multiply.input[1], add.input[1]}
    kept = [tensor for tensor in graph.initializer if tensor.name not in unused]
    kept.append(numpy_helper.from_array(around, "around"))
    kept.append(numpy_helper.from_array(np.float32(-shift / scale), "padding"))
    reshape.input[0] = first_reshape.input[0]
    convolution.input[0] = "padded"
    pad = helper.make_node("Pad", [reshape.output[0], "around", "padding"], ["padded"])
    nodes = [reshape, pad, convolution, *rest]
    for field, values in ((graph.initializer, kept), (graph.node, nodes)):
        copies = [type(value).FromString(value.SerializeToString()) for value in values]
        del field[:]
        field.extend(copies)


def write_int8(float32: Path, path: Path, calibration: npt.NDArray[np.float32]) -> None:
    """Write the int8 form of a network, calibrated on patches [n, 96, 64]."""
    quantize_onnx(float32, calibration, path)


def _load(path: Path) -> Embedder:
    return Embedder(path, name="mini", weights_sha256="", device="cpu")
