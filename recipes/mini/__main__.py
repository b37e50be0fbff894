"""From prepared data to `weights/mini` and `weights/audioset`, in one command.

    python -m recipes.mini --sounds DIR --teacher TFLITE --frames DIR --runs DIR --work DIR

What is finished in --work is not done again, and training goes on where it stopped. See
`README.md` for what the directories hold.
"""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from classifier.bundles.bundle import Scorer, load
from classifier.labels import audioset_labels
from classifier.training.config import TrainingConfig
from classifier.training.runs import Run
from recipes.mini.alignment import load_frozen
from recipes.mini.export import in_float32, write_float32, write_int8
from recipes.mini.head import N_FRAMES, RealClips, TaughtClips, train_head
from recipes.mini.material import Material, gather
from recipes.mini.network import build_mini
from recipes.mini.ship import agreement, calibrated, ship_bundle, ship_mini
from recipes.mini.sounds import seconds
from recipes.mini.train import train
from recipes.mini.views import Views, load_views, make_views
from recipes.mini.zero_shot import esc50_names, zero_shot
from vggish.network.runtime import Embedder
from vggish.postprocess import quantize

ROOT = Path(__file__).resolve().parents[2]
N_VIEWS, N_STEPS, VALIDATE_EVERY = 286_720, 10_000, 1_000
# Views of several patches are for the head.
N_SEQUENCE_PATCHES, PATCHES_A_SEQUENCE = 81_920, 5
N_CALIBRATION = 512
# Kept out of the alignment, to show how mini does with heads that had no part in it.
STRANGERS = ("transformer-small", "ensemble")
HEAD = TrainingConfig(head="gru", learning_rate=1e-3)
N_HEAD_STEPS, HEAD_VALIDATES_EVERY = 1_400, 350

Frames = npt.NDArray[np.uint8]


def main() -> None:
    """Prepare, train mini, train the head, and write both into `weights`."""
    options = _parse()
    work: Path = options.work
    material = gather(options.sounds, options.frames, options.teacher, work)
    print(f"{len(material.sounds)} sounds, {seconds(material.bank) / 3600:.1f} h", flush=True)
    network = work / "mini.onnx"
    if not network.exists():
        _make_mini(options, material, network)
    # The first says how good the second is, and calibrates it.
    held, run = Run(work / "audioset-held"), Run(work / "audioset")
    for of, share in ((held, 0.1), (run, 0.0)):
        if not of.is_finished:
            _make_head(options, material, network, of, share)
    ship_mini(network, "float32", build_mini().count_params(), ROOT / "weights" / "mini")
    ship_bundle(run, calibrated(held, material, network), ROOT / "weights" / "audioset")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m recipes.mini", description=(__doc__ or "").splitlines()[0]
    )
    for option, what in (
        ("--sounds", "index.csv and the sounds it names"),
        ("--frames", "AudioSet's released features of the balanced training set"),
        ("--runs", "the runs that recipes/audioset.py left, trained on the same"),
        ("--work", "what is made on the way"),
    ):
        parser.add_argument(option, type=Path, required=True, metavar="DIR", help=what)
    parser.add_argument("--teacher", type=Path, required=True, metavar="TFLITE", help="YAMNet")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def _make_mini(options: argparse.Namespace, material: Material, network: Path) -> None:
    work: Path = options.work
    n_processes = os.cpu_count() or 1
    files = make_views(material.studio(options.seed), N_VIEWS, 1, work / "views", n_processes)
    pairs = material.pairs("train")
    heads = [
        load_frozen(run, pairs.embeddings, pairs.logits.astype(np.float32))
        for run in sorted(options.runs.iterdir())
        if run.name not in STRANGERS
    ]
    views = load_views(files)
    model = train(
        views,
        pairs,
        material.moments(options.seed),
        heads,
        N_STEPS,
        options.seed,
        work / "mini",
        _validation(material),
        VALIDATE_EVERY,
    )
    exact = in_float32(model)
    check = views.patches[:N_CALIBRATION].astype(np.float32)
    scratch = network.with_name("float32.onnx")
    write_float32(exact, scratch, check[:32])
    write_int8(scratch, network.with_name("int8.onnx"), check)
    scratch.replace(network)


def _validation(material: Material) -> Callable[[Any], dict[str, float]]:
    """How mini does on the sounds that validate.

    Agreement with the pairs, and naming ESC-50's sounds through a head that took no part.
    """
    pairs = material.pairs("validation")
    bundle = load("audioset-best")
    named = _NamedClips(material)

    def validate(model: Any) -> dict[str, float]:
        def embed(patches: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
            found = model.predict(patches.astype(np.float32), batch_size=256, verbose=0)
            return np.clip(found["embeddings"], -2, 2)

        cosine, r2 = agreement(embed(pairs.patches), pairs.embeddings)
        best, top5 = named.zero_shot(bundle, quantize(embed(named.patches)))
        return {"cosine": cosine, "R2": r2, "top1": best, "top5": top5}

    return validate


class _NamedClips:
    """Clips of ESC-50 that validate, of classes that AudioSet has names for."""

    def __init__(self, material: Material) -> None:
        names = esc50_names()
        clips = material.whole_clips("validation", "esc50")
        labels = [material.sounds[i].label for i in material.indices("validation", "esc50")]
        kept = [place for place, label in enumerate(labels) if label in names]
        self._labels = [labels[place] for place in kept]
        self._lengths = [len(clips[place]) for place in kept]
        self.patches = np.concatenate([clips[place] for place in kept])

    def zero_shot(self, scorer: Scorer, frames: Frames) -> tuple[float, float]:
        """Accuracy and top-5 accuracy of a head on frames of `patches`."""
        clips, n_frames = padded(frames, self._lengths)
        return zero_shot(scorer.scores(clips, n_frames), self._labels)


def padded(rows: npt.NDArray[Any], lengths: npt.ArrayLike) -> tuple[Any, npt.NDArray[np.int64]]:
    """Rows [total, D], clip after clip -> [n, longest, D] and the lengths [n]."""
    n_rows = np.asarray(lengths, np.int64)
    clips = np.zeros((len(n_rows), int(n_rows.max()), rows.shape[1]), rows.dtype)
    clips[np.arange(clips.shape[1]) < n_rows[:, np.newaxis]] = rows
    return clips, n_rows


def _make_head(
    options: argparse.Namespace, material: Material, network: Path, run: Run, share: float
) -> None:
    """Train the head of the default bundle; a share of the released clips is held out."""
    n_processes = os.cpu_count() or 1
    sequences = options.work / "sequences"
    # Other views than mini's, of other mixtures.
    studio = material.studio(options.seed + 1)
    files = make_views(studio, N_SEQUENCE_PATCHES, PATCHES_A_SEQUENCE, sequences, n_processes)
    embedder = Embedder(network, name="mini", weights_sha256="", device="cpu")
    taught = _taught(load_views(files), embedder, PATCHES_A_SEQUENCE)
    kept, held = material.split_released(share)
    facts = {
        "sources": ["bal_train", "the sounds that weights/mini/README.md lists"],
        "n_clips": len(kept) + len(taught.frames),
        "embedders": ["mini", "vggish"],
        "validation": {"share": share, "n_clips": len(held)},
    }
    shutil.rmtree(run.directory, ignore_errors=True)
    run.begin(HEAD, facts, audioset_labels(), [material.released.ids[index] for index in held])
    named = _NamedClips(material)
    frames = quantize(embedder(named.patches))

    def validate(scorer: Scorer) -> dict[str, float]:
        return dict(zip(("top1", "top5"), named.zero_shot(scorer, frames), strict=True))

    real, validation = (_real(material, chosen) for chosen in (kept, held))
    train_head(HEAD, real, validation, taught, N_HEAD_STEPS, run, validate, HEAD_VALIDATES_EVERY)


def _taught(views: Views, embedder: Embedder, longest: int) -> TaughtClips:
    frames = quantize(embedder(views.patches.astype(np.float32)))
    scores = 1 / (1 + np.exp(-np.maximum(views.logits.astype(np.float32), -30)))
    clips, n_frames = padded(frames, views.lengths)
    said, _ = padded(scores.astype(np.float16), views.lengths)
    return TaughtClips(clips[:, :longest], n_frames, said[:, :longest])


def _real(material: Material, chosen: npt.NDArray[np.int64]) -> RealClips:
    store = material.released
    labels = store.label_matrix(chosen, len(audioset_labels()))
    frames, n_frames = store.gather(chosen, N_FRAMES)
    return RealClips(frames, n_frames.astype(np.int64), labels)


if __name__ == "__main__":
    main()
