"""Write VGGish as an ONNX graph, from the table of its architecture.

`patches` float32 [n, 96, 64] -> `raw_embeddings` float32 [n, 128], in one of two forms:

    direct     Conv, MaxPool and Gemm, channels first, as the int8 quantiser expects
    winograd   the same, but conv3 and conv4 with Winograd's algorithm, channels last

A direct convolution in float32 already runs at the processor's peak; to be faster it must
multiply less. F(2x2, 3x3) computes a 2x2 tile Y of the output from a 4x4 tile d of the input,
which overlaps its neighbours by two, and the 3x3 kernel g:

    Y = A' [(G g G') * (B' d B)] A

The elementwise product, summed over input channels, is 16 matrix products [tiles, C_in] x
[C_in, C_out]: 16 multiplications for four outputs instead of 36. B' and A' only add and
subtract; G g G' is computed once, here. Channels last, the elements of all tiles are strided
slices, contiguous in the channels. A max pool that follows is the maximum of the tile's four
outputs, which then need not be interleaved. Measured: 1.3 times the patches/s, and the same
embeddings to 1e-6 of the largest value.

Source: Lavin and Gray, "Fast algorithms for convolutional neural networks", CVPR 2016.

tf2onnx could write the direct form, but takes 80 s, as it copies 289 MB of constants repeatedly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from vggish.common.extras import import_extra
from vggish.network.architecture import ARCHITECTURE, Layer
from vggish.params import EMBEDDING_SIZE, N_BANDS, PATCH_FRAMES, VERSION

Form = Literal["direct", "winograd"]
Weights = dict[str, npt.NDArray[np.float32]]
OPSET, IR_VERSION = 17, 8

# Earlier layers have large maps and few channels: additions would cost what products save.
WINOGRAD_SCOPES = ("vggish/conv3/", "vggish/conv4/")
_G = np.array([[1.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0.0, 0.0, 1.0]])


def import_onnx() -> Any:
    """Import the package onnx."""
    return import_extra("onnx", extra="train", purpose="converting a network")


def write_onnx(weights: Weights, path: Path, weights_sha256: str, form: Form) -> None:
    """Write VGGish as an ONNX file, from the checkpoint's variables (see `variable_shapes`).

    `weights_sha256`, of the checkpoint, is stored in the file as provenance.
    """
    graph = _Graph(import_onnx())
    shape = graph.integers([-1, 1, PATCH_FRAMES, N_BANDS])
    hidden = _Hidden(graph.add("Reshape", "patches", shape), 1)
    layers = list(ARCHITECTURE)
    while layers:
        layer = layers.pop(0)
        if layer.kind == "pool":
            name = graph.add("MaxPool", hidden.name, kernel_shape=[2, 2], strides=[2, 2])
            hidden = _Hidden(name, hidden.n_channels, hidden.rows // 2, hidden.columns // 2)
        elif layer.kind == "dense":
            hidden = _dense(graph, hidden, layer, weights)
        elif form == "winograd" and layer.name.startswith(WINOGRAD_SCOPES):
            pool_follows = layers[0].kind == "pool"
            hidden = _winograd(graph, hidden, layer, weights, pool_follows)
            if pool_follows:
                layers.pop(0)
        else:
            hidden = _direct(graph, hidden, layer, weights)
    graph.save(path, hidden.name, weights_sha256)


class _Graph:
    """A graph under construction, with generated names of nodes and constants."""

    def __init__(self, onnx: Any) -> None:
        self._onnx = onnx
        self._nodes: list[Any] = []
        self._constants: list[Any] = []

    def constant(self, value: npt.NDArray[Any]) -> str:
        name = f"constant{len(self._constants)}"
        array = np.ascontiguousarray(value)
        self._constants.append(self._onnx.numpy_helper.from_array(array, name))
        return name

    def integers(self, values: Sequence[int]) -> str:
        return self.constant(np.array(values, np.int64))

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        name = f"{operator.lower()}{len(self._nodes)}"
        self._nodes.append(self._onnx.helper.make_node(operator, inputs, [name], **attributes))
        return name

    def every_second(self, name: str, axis: int, start: int, stop: int) -> str:
        """`x[start:stop:2]` along one axis."""
        bounds = (self.integers([value]) for value in (start, stop, axis, 2))
        return self.add("Slice", name, *bounds)

    def save(self, path: Path, output: str, weights_sha256: str) -> None:
        helper, float32 = self._onnx.helper, self._onnx.TensorProto.FLOAT
        self._nodes.append(helper.make_node("Identity", [output], ["raw_embeddings"]))
        graph = helper.make_graph(
            self._nodes,
            "vggish",
            [helper.make_tensor_value_info("patches", float32, ["n", PATCH_FRAMES, N_BANDS])],
            [helper.make_tensor_value_info("raw_embeddings", float32, ["n", EMBEDDING_SIZE])],
            self._constants,
        )
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="audiotag",
            producer_version=VERSION,
        )
        helper.set_model_props(model, {"weights_sha256": weights_sha256})
        self._onnx.save(model, str(path))
        self._onnx.checker.check_model(str(path))


@dataclass(frozen=True)
class _Hidden:
    """A hidden activation: its name, and its shape without the batch axis."""

    name: str
    n_channels: int
    rows: int = PATCH_FRAMES
    columns: int = N_BANDS
    order: Literal["channels first", "channels last", "flat"] = "channels first"


def _direct(graph: _Graph, hidden: _Hidden, layer: Layer, weights: Weights) -> _Hidden:
    kernel = weights[f"{layer.name}/weights"].transpose(3, 2, 0, 1)
    parameters = (graph.constant(kernel), graph.constant(weights[f"{layer.name}/biases"]))
    linear = graph.add("Conv", hidden.name, *parameters, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    return _Hidden(graph.add("Relu", linear), layer.size, hidden.rows, hidden.columns)


def _winograd(
    graph: _Graph, hidden: _Hidden, layer: Layer, weights: Weights, pool_follows: bool
) -> _Hidden:
    """A convolution, and the max pool that follows it, if any."""
    rows, columns, n_out = hidden.rows, hidden.columns, layer.size
    name = hidden.name
    if hidden.order == "channels first":
        name = graph.add("Transpose", name, perm=[0, 2, 3, 1])
    padded = graph.add("Pad", name, graph.integers([0, 1, 1, 0, 0, 1, 1, 0]))
    # G g G', one matrix [C_in, C_out] for each element of a tile.
    kernel = weights[f"{layer.name}/weights"].astype(np.float64)
    transformed = np.einsum("ai,ijcd,bj->abcd", _G, kernel, _G).astype(np.float32)
    # B' d B: first along the rows of all tiles, then along their columns.
    tile_rows = [graph.every_second(padded, 1, i, rows + i - 1) for i in range(4)]
    products = []
    for i, tile_row in enumerate(_tile_sums(graph, tile_rows)):
        elements = [graph.every_second(tile_row, 2, j, columns + j - 1) for j in range(4)]
        sums = enumerate(_tile_sums(graph, elements))
        constants = [(element, graph.constant(transformed[i, j])) for j, element in sums]
        products.append([graph.add("MatMul", *factors) for factors in constants])
    # A' (...) A: two rows of two outputs per tile, each [n, rows / 2, columns / 2, C_out].
    halves = [_output_sums(graph, [products[i][j] for i in range(4)]) for j in range(4)]
    outputs = [_output_sums(graph, [half[i] for half in halves]) for i in range(2)]
    if pool_follows:
        merged = graph.add("Max", *outputs[0], *outputs[1])
        rows, columns = rows // 2, columns // 2
    else:
        lines = [graph.add("Concat", *pair, axis=3) for pair in outputs]
        line_shape = graph.integers([-1, rows // 2, columns, n_out])
        lines = [graph.add("Reshape", line, line_shape) for line in lines]
        shape = graph.integers([-1, rows, columns, n_out])
        merged = graph.add("Reshape", graph.add("Concat", *lines, axis=2), shape)
    biased = graph.add("Add", merged, graph.constant(weights[f"{layer.name}/biases"]))
    return _Hidden(graph.add("Relu", biased), n_out, rows, columns, "channels last")


def _tile_sums(graph: _Graph, x: Sequence[str]) -> list[str]:
    """B' x, for the four elements along one side of a tile."""
    return [
        graph.add("Sub", x[0], x[2]),
        graph.add("Add", x[1], x[2]),
        graph.add("Sub", x[2], x[1]),
        graph.add("Sub", x[1], x[3]),
    ]


def _output_sums(graph: _Graph, x: Sequence[str]) -> list[str]:
    """A' x, for the four elements along one side of a tile."""
    return [
        graph.add("Add", graph.add("Add", x[0], x[1]), x[2]),
        graph.add("Sub", graph.add("Sub", x[1], x[2]), x[3]),
    ]


def _dense(graph: _Graph, hidden: _Hidden, layer: Layer, weights: Weights) -> _Hidden:
    kernel, name = weights[f"{layer.name}/weights"], hidden.name
    if hidden.order != "flat":
        name = graph.add("Flatten", name)
    if hidden.order == "channels first":
        # The checkpoint flattens (time, band, channel); permute its rows, not the activations.
        kernel = kernel.reshape(hidden.rows, hidden.columns, hidden.n_channels, -1)
        kernel = kernel.transpose(2, 0, 1, 3).reshape(-1, layer.size)
    parameters = (graph.constant(kernel), graph.constant(weights[f"{layer.name}/biases"]))
    name = graph.add("Gemm", name, *parameters)
    if layer.relu:
        name = graph.add("Relu", name)
    return _Hidden(name, layer.size, 1, 1, "flat")
