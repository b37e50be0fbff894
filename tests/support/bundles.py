"""A bundle whose scores are easy to compute by hand."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from classifier.bundles.bundle import Bundle, load
from classifier.bundles.files import write_bundle
from classifier.frame_data.clips import Clip
from classifier.labels import Labels, write_labels

NAMES = ("Speech", "Child speech, kid speaking", "Bark", 'Say "ah"', "Rain")


N_CLASSES = len(NAMES)


def tiny_weights(n_classes: int = N_CLASSES) -> tuple[Any, Any]:
    rng = np.random.default_rng(7)
    weights = rng.normal(size=(128, n_classes)).astype(np.float32)
    return weights, rng.normal(size=n_classes).astype(np.float32)


def tiny_head(n_classes: int = N_CLASSES, *, of_frames: bool = True, factor: float = 1.0) -> bytes:
    """ONNX head: mean of the real frames -> matrix -> sigmoid; and the same for each frame."""
    onnx = pytest.importorskip("onnx")
    node, kinds = onnx.helper.make_node, onnx.TensorProto
    weights, bias = tiny_weights(n_classes)
    constants = {
        "half": np.float32(127.5),
        "one": np.float32(1),
        "factor": np.float32(factor),
        "weights": weights,
        "bias": bias,
        "zero_index": np.int64(0),
        "one_index": np.int64(1),
        "axis_1": np.array([1]),
        "axis_2": np.array([2]),
    }
    nodes = [
        node("Cast", ["frames"], ["codes"], to=kinds.FLOAT),
        node("Div", ["codes", "half"], ["halves"]),
        node("Sub", ["halves", "one"], ["values"]),
        node("Shape", ["frames"], ["shape"]),
        node("Gather", ["shape", "one_index"], ["time"]),
        node("Range", ["zero_index", "time", "one_index"], ["rows"]),
        node("Cast", ["n_frames"], ["lengths"], to=kinds.INT64),
        node("Unsqueeze", ["lengths", "axis_1"], ["length_column"]),
        node("Less", ["rows", "length_column"], ["is_real"]),
        node("Cast", ["is_real"], ["mask"], to=kinds.FLOAT),
        node("Unsqueeze", ["mask", "axis_2"], ["mask_column"]),
        node("Mul", ["values", "mask_column"], ["real"]),
        node("ReduceSum", ["real", "axis_1"], ["sums"], keepdims=0),
        node("Cast", ["length_column"], ["counts"], to=kinds.FLOAT),
        node("Max", ["counts", "one"], ["divisors"]),
        node("Div", ["sums", "divisors"], ["means"]),
        node("Gemm", ["means", "weights", "bias"], ["logits"]),
        node("Sigmoid", ["logits"], ["probabilities"]),
        node("Mul", ["probabilities", "factor"], ["scores"]),
        node("MatMul", ["values", "weights"], ["products"]),
        node("Add", ["products", "bias"], ["frame_logits"]),
        node("Sigmoid", ["frame_logits"], ["frame_scores"]),
    ]
    value_info = onnx.helper.make_tensor_value_info
    outputs = [value_info("scores", kinds.FLOAT, ["batch", n_classes])]
    if of_frames:
        outputs.append(value_info("frame_scores", kinds.FLOAT, ["batch", "time", n_classes]))
    graph = onnx.helper.make_graph(
        nodes if of_frames else nodes[:-3],
        "tiny",
        [
            value_info("frames", kinds.UINT8, ["batch", "time", 128]),
            value_info("n_frames", kinds.INT32, ["batch"]),
        ],
        outputs,
        [onnx.numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()],
    )
    model = onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8
    )
    return bytes(model.SerializeToString())


def tiny_scores(clips: list[Any], n_classes: int = N_CLASSES) -> Any:
    """Expected scores of `tiny_head` for clips of frames [n, 128], one clip at a time."""
    weights, bias = tiny_weights(n_classes)
    means = [(clip / 127.5 - 1).sum(axis=0) / max(len(clip), 1) for clip in clips]
    return 1 / (1 + np.exp(-(np.array(means).reshape(-1, 128) @ weights + bias)))


def label_file(labels: Labels) -> bytes:
    file = io.BytesIO()
    write_labels(file, labels)
    return file.getvalue()


def make_card(**changes: Any) -> dict[str, Any]:
    return {
        "name": "tiny",
        "head": {"name": "mean", "settings": {}, "n_parameters": 645},
        "n_classes": N_CLASSES,
        "embedders": ["vggish"],
        "activation": "sigmoid",
        **changes,
    }


def make_labels(names: tuple[str, ...] = NAMES) -> Labels:
    return Labels(names, tuple(f"/m/{index}" for index in range(len(names))))


def make_bundle(
    directory: Path,
    *,
    names: tuple[str, ...] = NAMES,
    of_frames: bool = True,
    **card: Any,
) -> Bundle:
    files = {
        "head.onnx": tiny_head(len(names), of_frames=of_frames),
        "labels.csv": label_file(make_labels(names)),
        "weights.npz": b"weights",
    }
    write_bundle(directory, files, make_card(n_classes=len(names), **card))
    return load(directory)


def make_clip(
    clip_id: str = "a",
    n: int = 3,
    *,
    labels: tuple[int, ...] | None = (0,),
    embedder: str = "",
    seed: int = 0,
) -> Clip:
    frames = np.random.default_rng(seed).integers(0, 256, (n, 128), np.uint8)
    return Clip(
        clip_id=clip_id,
        frames=frames,
        labels=labels,
        embedder=embedder,
        source=f"{clip_id}.tfrecord, record 1",
    )
