"""What training left -> `weights/mini` and `weights/audioset`."""

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
from recipes.mini.material import Material
from recipes.mini.sounds import PAIRS, Part
from vggish.common.checksums import sha256_of
from vggish.common.choices import Precision
from vggish.embedders.mini import MINI
from vggish.mel_features import log_mel_patches
from vggish.network.runtime import Embedder
from vggish.postprocess import quantize

MINI_VERSION = "1"
# What the sounds allow, and what a network that learnt from them can be given away under.
MINI_LICENCE = (
    "Apache-2.0 as far as it is ours to give; some of its training sounds are non-commercial, "
    "see its README.md"
)
BUNDLE_LICENCE = (
    "CC BY 4.0 (AudioSet features and labels by Google); what it says of mini's frames was learnt "
    "from the sounds in weights/mini/README.md, of which some are non-commercial"
)
_NOTES = (
    "One head for two embedders. It learnt from released frames with AudioSet's labels, and from "
    "mini's frames with what YAMNet says of the same seconds. The scores are calibrated for each "
    "embedder by the same head trained on nine tenths of the clips: on the tenth that was left, "
    "and on mini's frames of held-out clips whose labels are AudioSet's. How good it is with each: "
    "docs/mini-benchmarks.md."
)


def ship_mini(network: Path, precision: Precision, n_parameters: int, directory: Path) -> None:
    """Put the network and its card into `weights/mini`; figures come from `make bench-mini`."""
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


def calibrated(run: Run, material: Material, network: Path) -> Bundle:
    """The bundle of a run that held clips out, calibrated on what it did not learn from."""
    clips = [*_released(material, run.held_out()), *_heard(material, network, "validation")]
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


def _released(material: Material, ids: list[str]) -> Iterator[Clip]:
    """Held-out clips of AudioSet as they were released."""
    store = material.released
    place_of = {clip_id: place for place, clip_id in enumerate(store.ids)}
    for clip_id in ids:
        yield store[place_of[clip_id]]


def _heard(material: Material, network: Path, part: Part) -> Iterator[Clip]:
    """The pairs' sounds through mini, with their labels."""
    embedder = Embedder(network, name=MINI, weights_sha256="", device="cpu")
    labels_of = {sound.clip_id: sound.label for sound in material.sounds if sound.source == PAIRS}
    known = audioset_labels()
    for index in material.indices(part, PAIRS):
        clip_id = material.sounds[index].clip_id
        frames = quantize(embedder(log_mel_patches(material.bank.waveform(index))))
        yield Clip(clip_id, frames, _indices(labels_of[clip_id], known), MINI)


def _indices(text: str, labels: Labels) -> tuple[int, ...]:
    """Names with `|` between them -> indices."""
    return tuple(sorted({labels.names.index(name) for name in text.split("|")}))


def agreement(near: npt.NDArray[np.float32], far: npt.NDArray[np.float32]) -> tuple[float, float]:
    """Mean cosine of embeddings [n, 128], and the mean over dimensions of R2."""
    norms = np.linalg.norm(near, axis=1) * np.linalg.norm(far, axis=1)
    residue = np.square(near - far).mean(axis=0) / far.var(axis=0)
    return float(np.mean(np.sum(near * far, axis=1) / norms)), float(1 - residue.mean())
