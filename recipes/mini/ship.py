"""Write the results of training to `weights/mini` and `weights/audioset`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from classifier.bundles.bundle import Bundle
from classifier.export import ExportOptions, export
from classifier.frame_data.clip_store import ClipStore
from classifier.frame_data.clips import Clip
from classifier.labels import Labels, audioset_labels
from classifier.training.runs import Run
from recipes.mini.clip_index import PAIRS, Part
from recipes.mini.data import RecipeData
from vggish.common.choices import Precision
from vggish.common.files import sha256_of
from vggish.embedders.mini import MINI
from vggish.mel_features import log_mel_patches
from vggish.network.runtime import Embedder
from vggish.postprocess import quantize

MINI_VERSION = "1"
# The licences of the training clips limit those of the network and the bundle.
MINI_LICENCE = (
    "Apache-2.0 as far as we can grant it; some training clips are non-commercial, see README.md"
)
BUNDLE_LICENCE = (
    "CC BY 4.0 (AudioSet features and labels by Google); the training for frames of mini used the "
    "clips listed in weights/mini/README.md, some of which are non-commercial"
)
_NOTES = (
    "One head for two embedders, trained on released frames with AudioSet's labels, and on frames "
    "of mini with YAMNet's scores for the same seconds. The scores are calibrated for each "
    "embedder with the same head trained on nine tenths of the clips: on the remaining tenth, and "
    "on frames of mini for held-out clips with AudioSet's labels. docs/mini-benchmarks.md compares "
    "its accuracy with both."
)


def ship_mini(network: Path, precision: Precision, n_parameters: int, directory: Path) -> None:
    """Write the network and its card to `weights/mini`; `make bench-mini` adds the figures."""
    directory.mkdir(parents=True, exist_ok=True)
    target = directory / "mini.onnx"
    shutil.copyfile(network, target)
    card: dict[str, Any] = {
        "name": MINI,
        "version": MINI_VERSION,
        "sha256": sha256_of(target),
        "size": target.stat().st_size,
        "precision": precision,
        "n_parameters": n_parameters,
        "licence": MINI_LICENCE,
        "made_by": "python -m recipes.mini",
    }
    (directory / "card.json").write_text(json.dumps(card, indent=2) + "\n", "utf-8")


def calibrated(run: Run, data: RecipeData, network: Path) -> Bundle:
    """Export the bundle of a run with held-out clips, calibrated on those clips."""
    clips = [*_released(data, run.held_out()), *_embedded(data, network, "validation")]
    store = ClipStore.from_clips(clips)
    options = ExportOptions(calibrate_on=store, half=True, overwrite=True)
    return export([run], run.bundle, options)


def ship_bundle(run: Run, calibrate_as: Bundle, directory: Path) -> None:
    """Export the head for both embedders."""
    options = ExportOptions(
        name=directory.name,
        licence=BUNDLE_LICENCE,
        notes=_NOTES,
        calibrate_as=calibrate_as,
        half=True,
        overwrite=True,
    )
    export([run], directory, options)


def _released(data: RecipeData, ids: list[str]) -> Iterator[Clip]:
    """Yield AudioSet clips with their released frames."""
    store = data.released
    place_of = {clip_id: place for place, clip_id in enumerate(store.ids)}
    for clip_id in ids:
        yield store[place_of[clip_id]]


def _embedded(data: RecipeData, network: Path, part: Part) -> Iterator[Clip]:
    """Yield AudioSet clips with frames of mini, computed from their audio."""
    embedder = Embedder(network, name=MINI, weights_sha256="", device="cpu")
    labels = audioset_labels()
    for index in data.indices(part, PAIRS):
        clip = data.clips[index]
        frames = quantize(embedder(log_mel_patches(data.bank.waveform(index))))
        yield Clip(clip.clip_id, frames, _indices(clip.label, labels), MINI)


def _indices(text: str, labels: Labels) -> tuple[int, ...]:
    """Convert names separated by `|` to indices."""
    return tuple(sorted({labels.names.index(name) for name in text.split("|")}))


def agreement(near: npt.NDArray[np.float32], far: npt.NDArray[np.float32]) -> tuple[float, float]:
    """Mean cosine similarity of embeddings [n, 128], and mean R2 over their dimensions."""
    norms = np.linalg.norm(near, axis=1) * np.linalg.norm(far, axis=1)
    residue = np.square(near - far).mean(axis=0) / far.var(axis=0)
    return float(np.mean(np.sum(near * far, axis=1) / norms)), float(1 - residue.mean())
