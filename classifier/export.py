"""From a training run to a bundle: the head as ONNX, checked against Keras on real frames."""

from __future__ import annotations

import datetime
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from classifier import metrics as measures
from classifier.bundles.bundle import WEIGHTS_FILE, Bundle, load, score_batches
from classifier.bundles.calibration import Calibration, fit_calibration
from classifier.bundles.files import Weights, write_bundle
from classifier.frame_data.clip_store import ClipStore
from classifier.labels import write_labels
from classifier.names import HEAD_FILE, LABELS_FILE, RELEASED_EMBEDDER
from classifier.reports.model_card import as_markdown
from classifier.training.network import MIN_FLOAT16_SIZE, ExportModel, check_export
from classifier.training.runs import Run, read_arrays
from vggish.errors import OptionError, RunError

CARD_TEXT_FILE = "README.md"

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
    scorer = ExportModel(members, len(labels))
    model = scorer.as_onnx(half)
    check_export(scorer, model, [_sample(run) for run in runs])
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
