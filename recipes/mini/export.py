"""Mini as ONNX files: float32, and int8 beside it for comparison."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from classifier.backend import tf
from recipes.mini.network import build_mini
from vggish.convert import quantize_onnx
from vggish.errors import ConversionError
from vggish.params import N_BANDS, PATCH_FRAMES
from vggish.runtime import Embedder

_OPSET = 17
# Of the largest embedding value; sums in another order.
_MAX_DIFFERENCE = 1e-4


def in_float32(model: Any) -> Any:
    """The same network with the same weights, without bfloat16 between its layers."""
    exact = build_mini()
    exact.set_weights(model.get_weights())
    return exact


def write_float32(model: Any, path: Path, check: npt.NDArray[np.float32]) -> None:
    """Write the network, and compare it with Keras on the patches `check` [n, 96, 64].

    Raises:
        ConversionError: they differ.
    """
    import tf2onnx

    logging.getLogger("tf2onnx").setLevel(logging.ERROR)
    signature = (tf.TensorSpec((None, PATCH_FRAMES, N_BANDS), tf.float32, name="patches"),)

    def embed(patches: Any) -> dict[str, Any]:
        return {"embeddings": model(patches, training=False)["embeddings"]}

    function = tf.function(embed, autograph=False, input_signature=signature)
    converted, _ = tf2onnx.convert.from_function(function, input_signature=signature, opset=_OPSET)
    converted.graph.name = "mini"
    path.write_bytes(converted.SerializeToString(deterministic=True))
    expected = model(check, training=False)["embeddings"].numpy()
    difference = np.abs(_load(path)(check) - expected).max() / np.abs(expected).max()
    if not difference <= _MAX_DIFFERENCE:
        raise ConversionError(f"{path} differs from Keras by {difference:.1e} of the largest value")


def write_int8(float32: Path, path: Path, calibration: npt.NDArray[np.float32]) -> None:
    """Write the int8 form of a network, its ranges as seen on patches [n, 96, 64]."""
    quantize_onnx(float32, calibration, path)


def _load(path: Path) -> Embedder:
    return Embedder(path, name="mini", weights_sha256="", device="cpu")
