"""From a training run to a bundle: the head as ONNX, checked against Keras on real frames."""

from __future__ import annotations

import datetime
import io
import logging
import math
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from classifier import metrics as measures
from classifier.bundle import RELEASED_EMBEDDER, Bundle, load, score_batches
from classifier.bundle_files import HEAD_FILE, LABELS_FILE, write_bundle
from classifier.calibration import Calibration, fit_calibration
from classifier.clip_store import ClipStore
from classifier.config import TrainingConfig
from classifier.labels import write_labels
from classifier.model_card import as_markdown
from classifier.runs import Run, Weights, read_arrays
from vggish.errors import ConversionError, OptionError, RunError
from vggish.extras import import_extra
from vggish.params import EMBEDDING_SIZE
from vggish.runtime import import_onnxruntime

WEIGHTS_FILE = "weights.npz"
SAVED_MODEL = "saved_model"
CARD_TEXT_FILE = "README.md"
# Of scores from 0 to 1: rounding in another order, and no more.
MAX_DIFFERENCE = 1e-4

_OPSET = 17
# Biases and statistics are small and stay exact.
_LEAST_HALVED = 4096

# Scores [n, C], and which are right, bool [n, C].
_Scored = tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]


def export(
    runs: Sequence[Run],
    directory: Path,
    *,
    name: str | None = None,
    licence: str = "",
    notes: str = "",
    metrics: Mapping[str, Any] | None = None,
    embedders: Sequence[str] = (),
    calibrate_on: ClipStore | None = None,
    calibrate_as: Bundle | None = None,
    half: bool = False,
    saved_model: bool = False,
    overwrite: bool = False,
) -> Bundle:
    """Write the best weights of a run as a bundle; of several runs, as an ensemble.

    The scores of an ensemble are the mean of its members'. Scores are calibrated on the clips
    that were held out of the training, where there are some; see `calibration`.

    Args:
        runs: with the same classes.
        directory: of the bundle.
        name: what the bundle is called; the directory's name by default.
        licence: of the data that it was trained on, for the card.
        notes: anything else for the card.
        metrics: what an evaluation on other clips gave, for the card.
        embedders: whose frames the head is made for, if not only those of the training data.
        calibrate_on: labelled clips to calibrate on in place of those held out of the training,
            for each embedder that made some of them; not those of an evaluation.
        calibrate_as: a bundle of the same head, trained without some of the clips and calibrated
            on those; its calibration is taken over.
        half: round large weights to float16, which halves the files. The rounded head is the
            one that is checked.
        saved_model: add a TensorFlow SavedModel, for those who serve with TensorFlow.
        overwrite: replace a bundle that is there.

    Raises:
        OptionError: a run is named twice.
        RunError: a run has no best weights yet, or the runs do not fit together.
        OptionError: there is no run, or clips to calibrate on have no labels.
        FrameFileError: a clip to calibrate on has a label that is none of the classes.
        ConversionError: what ONNX Runtime makes of the head differs from what Keras does.
        BundleError: the bundle cannot be written, or clips to calibrate on are of an embedder
            that it is not made for.
        MissingPackageError: TensorFlow or tf2onnx is not installed.
    """
    if not runs:
        raise OptionError("there is no run to export")
    if len({run.directory.resolve() for run in runs}) < len(runs):
        raise OptionError("a run is named twice, so it would vote twice; name each once")
    labels = runs[0].labels()
    if any(run.labels() != labels for run in runs[1:]):
        raise RunError("the runs have different classes, so they cannot vote together")
    members = [(run.config(), _best_weights(run, half)) for run in runs]
    if len({str(run.described()["data"]["embedders"]) for run in runs}) > 1:
        raise RunError("the runs learnt from frames of different embedders, so they cannot vote")
    if len({config.activation for config, _ in members}) > 1:
        raise RunError("a head trained with the softmax loss cannot vote with one without")
    # Heavy, and needless for what could be refused above.
    scorer = _Exported(members, len(labels))
    model = scorer.as_onnx(half)
    _check(scorer, model, [_sample(run) for run in runs])
    classes = io.BytesIO()
    write_labels(classes, labels)
    files = {HEAD_FILE: model, LABELS_FILE: classes.getvalue()}
    if len(members) == 1:
        files[WEIGHTS_FILE] = _as_npz(members[0][1])
    if saved_model:
        files |= scorer.as_saved_model()
    called = name or directory.resolve().name
    card: dict[str, Any] = _card(runs, len(labels), scorer.n_parameters)
    card |= {"licence": licence, "notes": notes}
    if embedders:
        card["embedders"] = list(dict.fromkeys(embedders))
    if metrics is not None:
        card["metrics"]["evaluation"] = dict(metrics)
    card = {"name": called, **card}
    if calibrate_as is not None:
        card["calibration"] = calibrate_as.card["calibration"]
        card["metrics"]["calibration"] = calibrate_as.card["metrics"]["calibration"]
    elif calibrate_on is not None:
        head = Bundle(directory, card, labels, model)
        _add_calibration(card, _scored_by_embedder(head, calibrate_on))
    else:
        _add_calibration(card, _held_out_scores(runs))
    files[CARD_TEXT_FILE] = as_markdown(card).encode()
    write_bundle(directory, files, card, overwrite=overwrite)
    return load(directory)


class _Exported:
    """One head or several as one TensorFlow function from frames to scores."""

    def __init__(self, members: Sequence[tuple[TrainingConfig, Weights]], n_classes: int) -> None:
        from classifier.backend import tf
        from classifier.heads import build_head
        from classifier.network import set_weights

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
        from classifier.backend import tf

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


def _check(scorer: _Exported, model: bytes, samples: Sequence[tuple[Any, Any]]) -> None:
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
        if values.dtype != np.float32 or values.size < _LEAST_HALVED:
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


def _best_weights(run: Run, half: bool) -> Weights:
    weights, _ = read_arrays(run.best)
    if not half:
        return weights
    return {
        name: value.astype(np.float16).astype(np.float32) if value.size >= _LEAST_HALVED else value
        for name, value in weights.items()
    }


def _as_npz(weights: Weights) -> bytes:
    """Weights for fine-tuning, in float16 where that loses nothing."""
    file = io.BytesIO()
    halves = {name: value.astype(np.float16) for name, value in weights.items()}
    kept = {
        name: halves[name] if np.array_equal(halves[name].astype(value.dtype), value) else value
        for name, value in weights.items()
    }
    np.savez_compressed(file, **kept)  # type: ignore[arg-type]
    return file.getvalue()


def read_weights(bundle: Bundle) -> Weights:
    """The weights of a bundle's head, to train on from.

    Raises:
        RunError: the bundle has none, being an ensemble or stripped of them.
    """
    path = bundle.directory / WEIGHTS_FILE
    try:
        with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
            return {name: file[name].astype(np.float32) for name in file.files}
    except FileNotFoundError as error:
        raise RunError(
            f"{bundle.directory} cannot be trained on: it has no {WEIGHTS_FILE} (ensembles have "
            "none)"
        ) from error
    except Exception as error:  # zipfile, zlib and numpy each have their own
        raise RunError(f"{path} is damaged: {error}") from error


def _sample(run: Run) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32]]:
    arrays, _ = read_arrays(run.sample)
    return arrays["frames"], arrays["n_frames"]


def _add_calibration(card: dict[str, Any], scored: Mapping[str, _Scored]) -> None:
    """Fit a calibration for each embedder, and say in the card what it is and what it changes."""
    if card["activation"] != "sigmoid":
        return  # scores that sum to 1 would not any more
    found: dict[str, Calibration] = {}
    facts: dict[str, Any] = {}
    for embedder, (scores, truth) in scored.items():
        calibration = fit_calibration(scores, truth)
        if calibration == Calibration():
            continue
        found[embedder] = calibration
        facts[embedder] = {
            "ECE_before": measures.calibration_error(scores, truth),
            "ECE_after": measures.calibration_error(calibration(scores), truth),
            "n_clips": len(scores),
        }
    if found:
        card["calibration"] = {name: value.as_json() for name, value in found.items()}
        card["metrics"]["calibration"] = facts


def _held_out_scores(runs: Sequence[Run]) -> dict[str, _Scored]:
    """What the runs say of clips that they were not trained on.

    The mean of all runs if they held out the same clips. Members of a cross-validation held out
    others each, and all but one have been trained on any clip; then each member's own are taken.
    """
    each = [run.read_validation() for run in runs]
    known = [found for found in each if found is not None]
    if len(known) < len(each):
        return {}
    if all(found.ids == known[0].ids for found in known):
        mean = np.mean(np.stack([found.scores for found in known]), axis=0)
        scores, truth = np.asarray(mean, np.float32), known[0].truth
    else:
        scores = np.concatenate([found.scores for found in known])
        truth = np.concatenate([found.truth for found in known])
    return dict.fromkeys(runs[0].described()["data"]["embedders"], (scores, truth))


def _scored_by_embedder(head: Bundle, clips: ClipStore) -> dict[str, _Scored]:
    labelled = np.flatnonzero(clips.is_labelled)
    if not len(labelled):
        raise OptionError("none of the clips to calibrate on has labels")
    names = np.array([clips.embedders[index] or RELEASED_EMBEDDER for index in labelled.tolist()])
    scored = {}
    for name in sorted(set(names.tolist())):
        head.check_embedder(name, what="clips to calibrate on")
        chosen = labelled[names == name]
        parts = [part for _, part in score_batches(head, (clips[int(i)] for i in chosen))]
        scored[name] = (np.concatenate(parts), clips.label_matrix(chosen, len(head.labels)))
    return scored


def _clip_frames(runs: Sequence[Run]) -> int:
    """How many frames nine of ten clips have at most that the heads were trained on."""
    longest = [np.percentile(_sample(run)[1], 90) for run in runs]
    return max(1, math.ceil(max(longest)))


def _card(runs: Sequence[Run], n_classes: int, n_parameters: int) -> dict[str, Any]:
    configs = [run.config() for run in runs]
    data = runs[0].described()["data"]
    heads = [{"name": config.head, "settings": dict(config.settings)} for config in configs]
    head: dict[str, Any] = heads[0] if len(heads) == 1 else {"name": "ensemble", "members": heads}
    return {
        "created": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "head": {**head, "n_parameters": n_parameters},
        "n_classes": n_classes,
        "activation": configs[0].activation,
        "embedders": data["embedders"],
        "clip_frames": _clip_frames(runs),
        "training": [
            {"configuration": config.as_json(), "data": run.described()["data"]}
            for config, run in zip(configs, runs, strict=True)
        ],
        "metrics": {"validation": [run.metrics() for run in runs]},
    }
