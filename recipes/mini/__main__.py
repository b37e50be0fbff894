"""Make `weights/mini` and `weights/audioset` from prepared data.

    python -m recipes.mini --sounds DIR --teacher TFLITE --frames DIR --runs DIR --work DIR

Finished steps in --work are skipped, and interrupted training is resumed. `README.md` describes the
directories.
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
from recipes.mini.clip_index import total_seconds
from recipes.mini.data import RecipeData, load_data
from recipes.mini.export import in_float32, write_float32, write_int8
from recipes.mini.head import N_FRAMES, ReleasedClips, TeacherClips, train_head
from recipes.mini.network import build_mini
from recipes.mini.ship import agreement, calibrated, ship_bundle, ship_mini
from recipes.mini.train import train
from recipes.mini.views import Views, load_views, make_views
from recipes.mini.zero_shot import esc50_names, zero_shot
from vggish.network.runtime import Embedder
from vggish.postprocess import quantize

ROOT = Path(__file__).resolve().parents[2]
N_VIEWS, N_STEPS, VALIDATE_EVERY = 286_720, 10_000, 1_000
# The head learns from views of several patches.
N_SEQUENCE_PATCHES, PATCHES_PER_SEQUENCE = 81_920, 5
N_CALIBRATION = 512
# Not used for alignment, to measure mini with heads that took no part in its training.
HELD_OUT_HEADS = ("transformer-small", "ensemble")
HEAD = TrainingConfig(head="gru", learning_rate=1e-3)
N_HEAD_STEPS, VALIDATE_HEAD_EVERY = 1_400, 350

Frames = npt.NDArray[np.uint8]


def main() -> None:
    """Train mini and the head of the default bundle, and write both into `weights`."""
    options = _parse()
    work: Path = options.work
    data = load_data(options.sounds, options.frames, options.teacher, work)
    print(f"{len(data.clips)} clips, {total_seconds(data.bank) / 3600:.1f} h", flush=True)
    network = work / "mini.onnx"
    if not network.exists():
        _make_mini(options, data, network)
    # The run with held-out clips measures and calibrates the final one, trained on all clips.
    held_out_run, final_run = Run(work / "audioset-held"), Run(work / "audioset")
    for run, share in ((held_out_run, 0.1), (final_run, 0.0)):
        if not run.is_finished:
            _make_head(options, data, network, run, share)
    ship_mini(network, "float32", build_mini().count_params(), ROOT / "weights" / "mini")
    ship_bundle(final_run, calibrated(held_out_run, data, network), ROOT / "weights" / "audioset")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m recipes.mini", description=(__doc__ or "").splitlines()[0]
    )
    for option, what in (
        ("--sounds", "directory with index.csv and its clips"),
        ("--frames", "AudioSet's released features of the balanced training set"),
        ("--runs", "runs of recipes/audioset.py on the same features"),
        ("--work", "directory for intermediate files"),
    ):
        parser.add_argument(option, type=Path, required=True, metavar="DIR", help=what)
    parser.add_argument(
        "--teacher", type=Path, required=True, metavar="TFLITE", help="YAMNet as a TFLite file"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of all random choices")
    return parser.parse_args()


def _make_mini(options: argparse.Namespace, data: RecipeData, network: Path) -> None:
    work: Path = options.work
    n_processes = os.cpu_count() or 1
    files = make_views(data.view_maker(options.seed), N_VIEWS, 1, work / "views", n_processes)
    pairs = data.pairs("train")
    heads = [
        load_frozen(run, pairs.embeddings, pairs.logits.astype(np.float32))
        for run in sorted(options.runs.iterdir())
        if run.name not in HELD_OUT_HEADS
    ]
    views = load_views(files)
    model = train(
        views,
        pairs,
        data.moments(options.seed),
        heads,
        N_STEPS,
        options.seed,
        work / "mini",
        _validation(data),
        VALIDATE_EVERY,
    )
    patches = views.patches[:N_CALIBRATION].astype(np.float32)
    scratch = network.with_name("float32.onnx")
    write_float32(in_float32(model), scratch, patches[:32])
    write_int8(scratch, network.with_name("int8.onnx"), patches)
    scratch.replace(network)


def _validation(data: RecipeData) -> Callable[[Any], dict[str, float]]:
    """Return a function that validates mini during training.

    It measures the agreement with released embeddings, and zero-shot accuracy on ESC-50 with a head
    that took no part in the training.
    """
    pairs = data.pairs("validation")
    bundle = load("audioset-best")
    esc50 = _Esc50Clips(data)

    def validate(model: Any) -> dict[str, float]:
        def embed(patches: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
            output = model.predict(patches.astype(np.float32), batch_size=256, verbose=0)
            return np.clip(output["embeddings"], -2, 2)

        cosine, r2 = agreement(embed(pairs.patches), pairs.embeddings)
        top1, top5 = esc50.zero_shot(bundle, quantize(embed(esc50.patches)))
        return {"cosine": cosine, "R2": r2, "top1": top1, "top5": top5}

    return validate


class _Esc50Clips:
    """Validation clips of ESC-50 whose class AudioSet has."""

    def __init__(self, data: RecipeData) -> None:
        names = esc50_names()
        clips = data.clip_patches("validation", "esc50")
        labels = [data.clips[i].label for i in data.indices("validation", "esc50")]
        kept = [place for place, label in enumerate(labels) if label in names]
        self._labels = [labels[place] for place in kept]
        self._lengths = [len(clips[place]) for place in kept]
        self.patches = np.concatenate([clips[place] for place in kept])

    def zero_shot(self, scorer: Scorer, frames: Frames) -> tuple[float, float]:
        """Top-1 and top-5 accuracy of a head on frames of `patches`."""
        clips, n_frames = padded(frames, self._lengths)
        return zero_shot(scorer.scores(clips, n_frames), self._labels)


def padded(rows: npt.NDArray[Any], lengths: npt.ArrayLike) -> tuple[Any, npt.NDArray[np.int64]]:
    """Pad concatenated rows [total, D] to clips [n, longest, D]; return these and lengths [n]."""
    n_rows = np.asarray(lengths, np.int64)
    clips = np.zeros((len(n_rows), int(n_rows.max()), rows.shape[1]), rows.dtype)
    clips[np.arange(clips.shape[1]) < n_rows[:, np.newaxis]] = rows
    return clips, n_rows


def _make_head(
    options: argparse.Namespace, data: RecipeData, network: Path, run: Run, share: float
) -> None:
    """Train the head of the default bundle, holding out a share of the released clips."""
    n_processes = os.cpu_count() or 1
    sequences = options.work / "sequences"
    # Different views from those of mini, with different mixtures.
    view_maker = data.view_maker(options.seed + 1)
    files = make_views(view_maker, N_SEQUENCE_PATCHES, PATCHES_PER_SEQUENCE, sequences, n_processes)
    embedder = Embedder(network, name="mini", weights_sha256="", device="cpu")
    teacher_clips = _teacher_clips(load_views(files), embedder, PATCHES_PER_SEQUENCE)
    training, held_out = data.split_released(share)
    description = {
        "sources": ["bal_train", "the clips listed in weights/mini/README.md"],
        "n_clips": len(training) + len(teacher_clips.frames),
        "embedders": ["mini", "vggish"],
        "validation": {"share": share, "n_clips": len(held_out)},
    }
    shutil.rmtree(run.directory, ignore_errors=True)
    held_out_ids = [data.released.ids[index] for index in held_out]
    run.begin(HEAD, description, audioset_labels(), held_out_ids)
    esc50 = _Esc50Clips(data)
    frames = quantize(embedder(esc50.patches))

    def validate(scorer: Scorer) -> dict[str, float]:
        return dict(zip(("top1", "top5"), esc50.zero_shot(scorer, frames), strict=True))

    train_head(
        HEAD,
        _released_clips(data, training),
        _released_clips(data, held_out),
        teacher_clips,
        N_HEAD_STEPS,
        run,
        validate,
        VALIDATE_HEAD_EVERY,
    )


def _teacher_clips(views: Views, embedder: Embedder, longest: int) -> TeacherClips:
    frames = quantize(embedder(views.patches.astype(np.float32)))
    scores = 1 / (1 + np.exp(-np.maximum(views.logits.astype(np.float32), -30)))
    clips, n_frames = padded(frames, views.lengths)
    clip_scores, _ = padded(scores.astype(np.float16), views.lengths)
    return TeacherClips(clips[:, :longest], n_frames, clip_scores[:, :longest])


def _released_clips(data: RecipeData, indices: npt.NDArray[np.int64]) -> ReleasedClips:
    labels = data.released.label_matrix(indices, len(audioset_labels()))
    frames, n_frames = data.released.gather(indices, N_FRAMES)
    return ReleasedClips(frames, n_frames.astype(np.int64), labels)


if __name__ == "__main__":
    main()
