"""Trained heads as one TensorFlow function from frames to scores, and its conversion to ONNX."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from classifier.heads.backend import tf
from classifier.heads.build import build_head
from classifier.training.config import TrainingConfig
from vggish.common.extras import import_extra
from vggish.errors import ConversionError
from vggish.network.runtime import import_onnxruntime
from vggish.params import EMBEDDING_SIZE

# The largest difference of scores from 0 to 1 that another order of rounding may make.
MAX_DIFFERENCE = 1e-4
# Biases and statistics are small and stay exact.
MIN_FLOAT16_SIZE = 4096
_OPSET = 17
# Frames in the network at once, padding included.
_BATCH_FRAMES = 1 << 14


class Network:
    """One head in float32, or several whose scores are averaged, for any number of frames.

    The caller sets the weights of `models`. `predict` maps frames uint8 [B, T, 128] and n_frames
    int32 [B] to `scores` [B, C], and to `frame_scores` [B, T, C] if asked for and all heads have
    them. The configurations must have the same activation.
    """

    def __init__(
        self, configs: Sequence[TrainingConfig], n_classes: int, *, frame_scores: bool = False
    ) -> None:
        self.n_classes = n_classes
        self.models = [
            build_head(config.head, config.head_settings, n_classes, frame_scores=frame_scores)
            for config in configs
        ]
        activation = {"sigmoid": tf.sigmoid, "softmax": tf.nn.softmax}[configs[0].activation]
        has_frame_scores = all("frame_logits" in model.output for model in self.models)

        def mean(outputs: Sequence[Any], name: str) -> Any:
            scores = [activation(output[name]) for output in outputs]
            return scores[0] if len(scores) == 1 else tf.add_n(scores) / len(scores)

        def predict(frames: Any, n_frames: Any) -> dict[str, Any]:
            inputs = {"frames": tf.cast(frames, tf.float32), "n_frames": n_frames}
            outputs = [model(inputs, training=False) for model in self.models]
            scores = {"scores": mean(outputs, "logits")}
            if has_frame_scores:
                scores["frame_scores"] = mean(outputs, "frame_logits")
            return scores

        signature = (
            tf.TensorSpec((None, None, EMBEDDING_SIZE), tf.uint8, name="frames"),
            tf.TensorSpec((None,), tf.int32, name="n_frames"),
        )
        self.predict = tf.function(predict, autograph=False, input_signature=signature)

    @property
    def model(self) -> Any:
        """The model of the only head."""
        (model,) = self.models
        return model

    @property
    def n_parameters(self) -> int:
        """Number of trainable parameters."""
        weights = [weight for model in self.models for weight in model.trainable_weights]
        return sum(int(np.prod(weight.shape)) for weight in weights)

    def scores(
        self, frames: npt.NDArray[np.uint8], n_frames: npt.ArrayLike, embedder: str = ""
    ) -> npt.NDArray[np.float32]:
        """Score clips: frames uint8 [B, T, 128], n_frames int [B] -> float32 [B, C].

        The scores are not calibrated, whatever the embedder; see `classifier.bundles.calibration`.
        """
        lengths = np.asarray(n_frames, np.int32)
        size = max(1, _BATCH_FRAMES // max(1, frames.shape[1]))
        parts = [
            self.predict(frames[i : i + size], lengths[i : i + size])["scores"].numpy()
            for i in range(0, len(frames), size)
        ]
        return np.concatenate(parts) if parts else np.zeros((0, self.n_classes), np.float32)


def as_onnx(network: Network, *, half: bool) -> bytes:
    """Convert a network to an ONNX file for any batch size and any number of frames.

    `half` stores those large weights as float16 that lose nothing by it.
    """
    tf2onnx = import_extra("tf2onnx", extra="train", purpose="exporting a head")
    # It logs its optimisations to stderr.
    logging.getLogger("tf2onnx").setLevel(logging.ERROR)
    model, _ = tf2onnx.convert.from_function(
        network.predict, input_signature=network.predict.input_signature, opset=_OPSET
    )
    # The generated name differs from run to run.
    model.graph.name = "head"
    if half:
        _halve(model)
    return bytes(model.SerializeToString(deterministic=True))


def as_saved_model(network: Network) -> dict[str, bytes]:
    """Convert a network to the files of a SavedModel, by path."""
    module = tf.Module()
    # The variables alone: for whole models it would trace every layer in every mode.
    module.weights = [weight for model in network.models for weight in model.weights]
    module.score = network.predict
    with tempfile.TemporaryDirectory(prefix="audiotag-") as scratch:
        tf.saved_model.save(module, scratch, signatures={"serving_default": network.predict})
        root = Path(scratch)
        return {
            f"saved_model/{path.relative_to(root).as_posix()}": path.read_bytes()
            for path in sorted(root.rglob("*"))
            if path.is_file()
        }


def check_onnx(network: Network, model: bytes, samples: Sequence[tuple[Any, Any]]) -> None:
    """Check that ONNX Runtime and Keras agree on samples of frames [B, T, 128] and n_frames [B].

    Raises a `ConversionError` if a score differs by more than `MAX_DIFFERENCE`.
    """
    session = import_onnxruntime().InferenceSession(model, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    for frames, n_frames in samples:
        expected = network.predict(frames, n_frames)
        got = session.run(names, {"frames": frames, "n_frames": n_frames})
        for name, values in zip(names, got, strict=True):
            difference = float(np.abs(values - expected[name].numpy()).max(initial=0.0))
            if not difference <= MAX_DIFFERENCE:
                raise ConversionError(
                    f"the exported head differs from the trained one by {difference:.2g} in {name},"
                    f" more than {MAX_DIFFERENCE:g}; nothing was written. Please report it, with "
                    "the versions of tensorflow, tf-keras, tf2onnx and onnxruntime"
                )


def _halve(model: Any) -> None:
    """Store large weights as float16, cast to float32 when the model is loaded.

    Weights that the converter has folded with others, as of batch normalisation, are not float16
    numbers any more; they stay as they are.
    """
    onnx = import_extra("onnx", extra="train", purpose="exporting a head")
    casts = []
    for tensor in model.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        if values.dtype != np.float32 or values.size < MIN_FLOAT16_SIZE:
            continue
        halves = values.astype(np.float16)
        if not np.array_equal(halves, values):
            continue
        name, halved = tensor.name, f"{tensor.name}/float16"
        tensor.CopyFrom(onnx.numpy_helper.from_array(halves, halved))
        casts.append(onnx.helper.make_node("Cast", [halved], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
