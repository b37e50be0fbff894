"""A head as a network that scores, and its weights by name."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from classifier.bundles.files import Weights
from classifier.heads.backend import tf
from classifier.heads.build import build_head
from classifier.training.config import TrainingConfig
from vggish.common.extras import import_extra
from vggish.errors import ConversionError
from vggish.network.runtime import import_onnxruntime
from vggish.params import EMBEDDING_SIZE

SAVED_MODEL = "saved_model"

# Of scores from 0 to 1: rounding in another order, and no more.
MAX_DIFFERENCE = 1e-4

_OPSET = 17

# Biases and statistics are small and stay exact.
MIN_FLOAT16_SIZE = 4096


class ExportModel:
    """One head or several as one TensorFlow function from frames to scores."""

    def __init__(self, members: Sequence[tuple[TrainingConfig, Weights]], n_classes: int) -> None:
        from classifier.heads.backend import tf
        from classifier.heads.build import build_head
        from classifier.training.transfer import set_weights

        self._models = []
        for config, weights in members:
            model = build_head(config.head, config.head_settings, n_classes, judge_frames=True)
            set_weights(model, weights)
            self._models.append(model)
        activation = {"sigmoid": tf.sigmoid, "softmax": tf.nn.softmax}[members[0][0].activation]
        judges_frames = all("frame_logits" in model.output for model in self._models)

        def mean(outputs: Sequence[Any], name: str) -> Any:
            scores = [activation(output[name]) for output in outputs]
            return scores[0] if len(scores) == 1 else tf.add_n(scores) / len(scores)

        def score(frames: Any, n_frames: Any) -> dict[str, Any]:
            inputs = {"frames": tf.cast(frames, tf.float32), "n_frames": n_frames}
            outputs = [model(inputs, training=False) for model in self._models]
            scores = {"scores": mean(outputs, "logits")}
            if judges_frames:
                scores["frame_scores"] = mean(outputs, "frame_logits")
            return scores

        self.signature = (
            tf.TensorSpec((None, None, EMBEDDING_SIZE), tf.uint8, name="frames"),
            tf.TensorSpec((None,), tf.int32, name="n_frames"),
        )
        self.score = tf.function(score, autograph=False, input_signature=self.signature)

    @property
    def n_parameters(self) -> int:
        """Trainable ones."""
        return sum(
            int(np.prod(weight.shape))
            for model in self._models
            for weight in model.trainable_weights
        )

    def as_onnx(self, half: bool) -> bytes:
        """The function as an ONNX file, with any batch and any time."""
        tf2onnx = import_extra("tf2onnx", extra="train", purpose="exporting a head")
        # It says on stderr what it optimises.
        logging.getLogger("tf2onnx").setLevel(logging.ERROR)
        model, _ = tf2onnx.convert.from_function(
            self.score, input_signature=self.signature, opset=_OPSET
        )
        # Names from here on are of no use to anybody, and differ from run to run.
        model.graph.name = "head"
        if half:
            _halve(model)
        return bytes(model.SerializeToString(deterministic=True))

    def as_saved_model(self) -> dict[str, bytes]:
        """The function as the files of a SavedModel."""
        from classifier.heads.backend import tf

        module = tf.Module()
        # The variables alone: of whole models it would trace every layer in every mode.
        module.weights = [weight for model in self._models for weight in model.weights]
        module.score = self.score
        with tempfile.TemporaryDirectory(prefix="audiotag-") as scratch:
            tf.saved_model.save(module, scratch, signatures={"serving_default": self.score})
            root = Path(scratch)
            return {
                f"{SAVED_MODEL}/{path.relative_to(root).as_posix()}": path.read_bytes()
                for path in sorted(root.rglob("*"))
                if path.is_file()
            }


def check_export(scorer: ExportModel, model: bytes, samples: Sequence[tuple[Any, Any]]) -> None:
    """Raise unless ONNX Runtime and Keras give the same on real frames."""
    session = import_onnxruntime().InferenceSession(model, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    for frames, n_frames in samples:
        expected = scorer.score(frames, n_frames)
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
    """Keep large weights as float16, and cast them when the model is loaded.

    Those that `_best_weights` has rounded: what the converter computed of them, as for batch
    normalisation, is no longer a float16 and stays.
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


# So many frames, padding included, are in the network at once.
_BATCH_FRAMES = 1 << 14


class Network:
    """A head in float32 for frames of any number. It scores as the exported one does.

    Attributes:
        model: the `tf_keras.Model`.
    """

    def __init__(self, config: TrainingConfig, n_classes: int) -> None:
        self.model = build_head(config.head, config.head_settings, n_classes)
        activation = {"sigmoid": tf.sigmoid, "softmax": tf.nn.softmax}[config.activation]
        signature = (tf.TensorSpec((None, None, 128), tf.uint8), tf.TensorSpec((None,), tf.int32))

        def score(frames: Any, n_frames: Any) -> Any:
            inputs = {"frames": tf.cast(frames, tf.float32), "n_frames": n_frames}
            return activation(self.model(inputs, training=False)["logits"])

        self._score = tf.function(score, autograph=False, input_signature=signature)
        self.n_classes = n_classes

    def scores(
        self, frames: npt.NDArray[np.uint8], n_frames: npt.ArrayLike, embedder: str = ""
    ) -> npt.NDArray[np.float32]:
        """Frames uint8 [B, T, 128] and n_frames int [B] -> scores float32 [B, C].

        They are not calibrated, whatever the embedder: that is fitted once training is over.
        """
        lengths = np.asarray(n_frames, np.int32)
        size = max(1, _BATCH_FRAMES // max(1, frames.shape[1]))
        parts = [
            self._score(frames[start : start + size], lengths[start : start + size]).numpy()
            for start in range(0, len(frames), size)
        ]
        return np.concatenate(parts) if parts else np.zeros((0, self.n_classes), np.float32)
