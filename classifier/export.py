"""Export training runs as a bundle: the head as ONNX, checked against Keras on real frames."""

from __future__ import annotations

import datetime
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from classifier import metrics as measures
from classifier.bundles.bundle import WEIGHTS_FILE, Bundle, load, score_batches
from classifier.bundles.calibration import Calibration, fit_calibration
from classifier.bundles.files import Weights, write_bundle
from classifier.frame_data.clip_store import ClipStore
from classifier.labels import Labels, write_labels
from classifier.names import HEAD_FILE, LABELS_FILE, RELEASED_EMBEDDER
from classifier.reports.model_card import as_markdown
from classifier.training.config import TrainingConfig
from classifier.training.network import (
    MIN_FLOAT16_SIZE,
    Network,
    as_onnx,
    as_saved_model,
    check_onnx,
)
from classifier.training.runs import Run, read_arrays
from classifier.training.transfer import set_weights
from vggish.errors import OptionError, RunError

CARD_TEXT_FILE = "README.md"
# Scores [n, C], and which are right, bool [n, C].
_Scored = tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]


@dataclass(frozen=True, eq=False)
class ExportOptions:
    """What an exported bundle contains beside the head.

    Attributes:
        calibrate_on: labelled clips to calibrate on, in place of those held out of the training,
            separately for each embedder. They should not be those of an evaluation.
        calibrate_as: a bundle of the same head, trained without some of the clips and calibrated on
            those, whose calibration to copy.
        half: round large weights to float16, which halves the files; the rounded head is checked.
        saved_model: add a TensorFlow SavedModel, for TensorFlow Serving.
    """

    name: str | None = None  # by default that of the directory
    licence: str = ""  # of the training data
    notes: str = ""
    metrics: Mapping[str, Any] | None = None  # of an evaluation on other clips
    embedders: Sequence[str] = ()  # whose frames the head accepts; () for those of the training
    calibrate_on: ClipStore | None = None
    calibrate_as: Bundle | None = None
    half: bool = False
    saved_model: bool = False
    overwrite: bool = False


def export(
    runs: Sequence[Run], directory: Path, options: ExportOptions = ExportOptions()
) -> Bundle:
    """Write the best weights of a run as a bundle; of several runs, as an ensemble.

    The runs must have the same classes. The scores of an ensemble are the mean of its members'.
    Scores are calibrated on the clips held out of the training, if there are any; see
    `classifier.bundles.calibration`.

    Raises a `RunError` if a run has no best weights yet, or the runs do not fit together; a
    `ConversionError` if the exported head differs from the trained one.
    """
    labels, members = _read_members(runs, options.half)
    # Slow, so everything that can be refused without it has been.
    network = Network([config for config, _ in members], len(labels), frame_scores=True)
    for model, (_, weights) in zip(network.models, members, strict=True):
        set_weights(model, weights)
    onnx = as_onnx(network, half=options.half)
    check_onnx(network, onnx, [_sample(run) for run in runs])
    classes = io.BytesIO()
    write_labels(classes, labels)
    files = {HEAD_FILE: onnx, LABELS_FILE: classes.getvalue()}
    if len(members) == 1:
        files[WEIGHTS_FILE] = _as_npz(members[0][1])
    if options.saved_model:
        files |= as_saved_model(network)
    card = _card(runs, len(labels), network.n_parameters)
    card |= {"licence": options.licence, "notes": options.notes}
    card = {"name": options.name or directory.resolve().name, **card}
    if options.embedders:
        card["embedders"] = list(dict.fromkeys(options.embedders))
    if options.metrics is not None:
        card["metrics"]["evaluation"] = dict(options.metrics)
    _calibrate(card, runs, options, lambda: Bundle(directory, card, labels, onnx))
    files[CARD_TEXT_FILE] = as_markdown(card).encode()
    write_bundle(directory, files, card, overwrite=options.overwrite)
    return load(directory)


def _read_members(
    runs: Sequence[Run], half: bool
) -> tuple[Labels, list[tuple[TrainingConfig, Weights]]]:
    """Read the classes of the runs, and the configuration and best weights of each."""
    if not runs:
        raise OptionError("there is no run to export")
    if len({run.directory.resolve() for run in runs}) < len(runs):
        raise OptionError("a run is given twice and would count twice; give each once")
    labels = runs[0].labels()
    if any(run.labels() != labels for run in runs[1:]):
        raise RunError("the runs have different classes, so they cannot form an ensemble")
    members = [(run.config(), _best_weights(run, half)) for run in runs]
    if len({str(run.described()["data"]["embedders"]) for run in runs}) > 1:
        raise RunError(
            "the runs were trained on frames of different embedders, so they cannot form an "
            "ensemble"
        )
    if len({config.activation for config, _ in members}) > 1:
        raise RunError(
            "a head trained with the softmax loss cannot form an ensemble with one without"
        )
    return labels, members


def _best_weights(run: Run, half: bool) -> Weights:
    weights, _ = read_arrays(run.best)
    if not half:
        return weights
    return {
        name: value.astype(np.float16).astype(np.float32)
        if value.size >= MIN_FLOAT16_SIZE
        else value
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


def _sample(run: Run) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32]]:
    arrays, _ = read_arrays(run.sample)
    return arrays["frames"], arrays["n_frames"]


def _calibrate(
    card: dict[str, Any], runs: Sequence[Run], options: ExportOptions, head: Callable[[], Bundle]
) -> None:
    """Add a calibration for each embedder to the card, and what it changes to its metrics."""
    if options.calibrate_as is not None:
        known = options.calibrate_as.card
        card["calibration"] = known["calibration"]
        card["metrics"]["calibration"] = known["metrics"]["calibration"]
        return
    if options.calibrate_on is not None:
        scored = _scored_by_embedder(head(), options.calibrate_on)
    else:
        scored = _held_out_scores(runs)
    if card["activation"] != "sigmoid":
        return  # calibrated scores would no longer sum to 1
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
    """Read the runs' scores of the clips held out of their training.

    If all runs held out the same clips, this is the mean of their scores. Members of a
    cross-validation each held out other clips, and all the others were trained on those; then it
    is each member's scores of its own.
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


def _card(runs: Sequence[Run], n_classes: int, n_parameters: int) -> dict[str, Any]:
    configs = [run.config() for run in runs]
    data = runs[0].described()["data"]
    longest = max(np.percentile(_sample(run)[1], 90) for run in runs)
    heads = [{"name": config.head, "settings": dict(config.settings)} for config in configs]
    head: dict[str, Any] = heads[0] if len(heads) == 1 else {"name": "ensemble", "members": heads}
    return {
        "created": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "head": {**head, "n_parameters": n_parameters},
        "n_classes": n_classes,
        "activation": configs[0].activation,
        "embedders": data["embedders"],
        "clip_frames": max(1, math.ceil(longest)),
        "training": [
            {"configuration": config.as_json(), "data": run.described()["data"]}
            for config, run in zip(configs, runs, strict=True)
        ],
        "metrics": {"validation": [run.metrics() for run in runs]},
    }
