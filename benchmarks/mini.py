"""Benchmark of the built-in embedder mini: accuracy on data held out from training, and speed.

    python -m benchmarks.mini --data DIR                       print and write all tables
    python -m benchmarks.mini --data DIR --only naming speed   run these sections, print only

A full run writes docs/mini-benchmarks.md, docs/mini-benchmarks.json, and the table between the
markers in weights/mini/README.md. YAMNet, the teacher, is measured on the same clips.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks import mini_speed
from benchmarks.console import Table, as_markdown, print_table
from benchmarks.embed import machine
from classifier import ClipStore, Labels, load, load_clips, metrics
from classifier.bundles.bundle import Bundle
from classifier.frame_data.clips import Clip
from recipes.mini.clip_index import PAIRS, IndexedClip, Part, parts, read_index
from recipes.mini.pairs import cut_pairs
from recipes.mini.teacher import Teacher, teacher_classes
from recipes.mini.views import label_patches, pad_to_whole_patches
from recipes.mini.zero_shot import Names, esc50_names, urbansound8k_names, zero_shot
from vggish.audio.stream import load_audio
from vggish.errors import AudiotagError, BundleError
from vggish.mel_features import log_mel_patches
from vggish.network.runtime import Embedder
from vggish.params import EMBEDDING_SIZE
from vggish.postprocess import dequantize, quantize

ROOT = Path(__file__).resolve().parents[1]
REPORT = ROOT / "docs" / "mini-benchmarks.md"
FIGURES = ROOT / "docs" / "mini-benchmarks.json"
NETWORK = ROOT / "weights" / "mini" / "mini.onnx"
CARD = ROOT / "weights" / "mini" / "README.md"
BEGIN, END = "<!-- table -->", "<!-- end of table -->"
# The default bundle, and two made for VGGish; audioset-best took no part in training mini.
BUNDLES = ("audioset", "audioset-best", "audioset-gru")
N_AUDIOSET_CLASSES = 527
METRICS = ("mAP", "mAUC", "d_prime", "lwlrap", "GAP", "Hit@1", "PERR")
# For the head on ESC-50; the number of epochs that is best on the validation fold is used.
FEATURE_EPOCHS = (20, 40)
FEATURE_SEEDS = (0, 1, 2)
VALIDATION_FOLD, TEST_FOLD = 3, 4
QUARTILES = (25, 50, 75)
FIRST_DIMENSIONS = (1, 8, 32, 128)
MISSING_STATUS = 2
TARGET_COLUMNS = ("measurement", "result", "target", "met")

Floats = npt.NDArray[np.floating]
Frames = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Data:
    """Paths of the data.

    Attributes:
        sounds: directory with index.csv and its clips.
        teacher: YAMNet as a TFLite file.
        frames: released features of the balanced training set.
        eval: released features of the evaluation set, or of a part of it.
    """

    sounds: Path
    teacher: Path
    frames: Path
    eval: Path

    def missing(self) -> list[str]:
        """Describe each path that does not exist."""
        required = (
            (self.sounds / "index.csv", "--sounds: a directory with index.csv and its clips"),
            (self.teacher, "--teacher: YAMNet as a TFLite file"),
            (self.frames, "--frames: AudioSet's released features of bal_train"),
            (self.eval, "--eval: AudioSet's released features of the evaluation set"),
        )
        return [f"{path} does not exist ({what})" for path, what in required if not path.exists()]


@dataclass(frozen=True, eq=False)
class EmbeddedClips:
    """Clips with the outputs of mini and of the teacher, patches concatenated clip by clip.

    Attributes:
        clips: the n clips.
        lengths: int [n], number of patches in each clip.
        frames: uint8 [total, 128], frames of mini.
        statistics: float32 [total, 128], mean and standard deviation of each log-mel band.
        features: float32 [total, 1024], features of the teacher.
        scores: float32 [n, 527], scores of the teacher, averaged over patches; 0 for classes that
            it does not have.
    """

    clips: Sequence[IndexedClip]
    lengths: npt.NDArray[np.int64]
    frames: Frames
    statistics: Floats
    features: Floats
    scores: Floats

    @property
    def labels(self) -> list[str]:
        """The label of each clip."""
        return [clip.label for clip in self.clips]

    def split(self, rows: npt.NDArray[Any] | None = None) -> list[npt.NDArray[Any]]:
        """Split rows by clip; by default the frames of mini."""
        return np.split(self.frames if rows is None else rows, np.cumsum(self.lengths)[:-1])


@dataclass
class Bench:
    """The data of a run and its results."""

    data: Data
    network: Path
    default_bundle: str
    tables: list[Table] = field(default_factory=list)
    verdicts: list[tuple[str, str, str, str]] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def embedder(self) -> Embedder:
        """The embedder mini."""
        return Embedder(self.network, name="mini", weights_sha256="", device="cpu")

    @cached_property
    def bundles(self) -> dict[str, Bundle]:
        """The bundles that can be loaded, by name."""
        found: dict[str, Bundle] = {}
        for name in (self.default_bundle, *BUNDLES[1:]):
            try:
                found[name] = load(name)
            except BundleError as error:
                print(f"skipping a bundle: {str(error).splitlines()[0]}", flush=True)
        return found

    @cached_property
    def released(self) -> ClipStore:
        """The released features of AudioSet's balanced training set."""
        return load_clips(shards(self.data.frames))

    @cached_property
    def _index(self) -> list[tuple[IndexedClip, Part]]:
        clips = read_index(self.data.sounds)
        return list(zip(clips, parts(clips), strict=True))

    def clips(self, source: str, part: Part | None = "test") -> list[IndexedClip]:
        """Return the clips of a collection in one part, by default those held out; None for all."""
        return [clip for clip, of in self._index if clip.source == source and part in (None, of)]

    def embed(self, clips: Sequence[IndexedClip]) -> EmbeddedClips:
        """Embed clips as `audiotag embed` does, and run the teacher on the same patches."""
        teacher = Teacher(self.data.teacher, n_threads=2)
        lengths, frames, statistics, features, scores = [], [], [], [], []
        for number, clip in enumerate(clips, start=1):
            waveform = load_audio(clip.path)
            patches = log_mel_patches(waveform)
            labelled = label_patches([pad_to_whole_patches(waveform)], teacher)
            lengths.append(len(patches))
            frames.append(quantize(self.embedder(patches)))
            statistics.append(np.concatenate([patches.mean(axis=1), patches.std(axis=1)], axis=1))
            features.append(labelled.features.astype(np.float32))
            scores.append(teacher_scores(labelled.logits))
            if number % 100 == 0:
                print(f"embedded {number} of {len(clips)} clips", file=sys.stderr, flush=True)
        return EmbeddedClips(
            clips,
            np.array(lengths),
            np.concatenate(frames),
            np.concatenate(statistics),
            np.concatenate(features),
            np.stack(scores),
        )

    def add(self, key: str, figures: Mapping[str, Any], *tables: Table) -> None:
        """Store the figures of a section, and print its tables."""
        self.figures[key] = dict(figures)
        for table in tables:
            self.tables.append(table)
            print_table(table)

    def add_target(
        self, what: str, value: float, target: float, *, is_maximum: bool = False
    ) -> None:
        """Add a figure that has a target, and whether it meets the target."""
        met = value <= target if is_maximum else value >= target
        sign = "<=" if is_maximum else ">="
        verdict = "yes" if met else "**no**"
        self.verdicts.append((what, f"{value:.3f}", f"{sign} {target:g}", verdict))


def shards(directory: Path) -> list[Path]:
    """Return the files of released features in a directory."""
    return sorted(directory.glob("*.tfrecord"))


def teacher_scores(logits: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    """Convert the teacher's logits [n, 521] of a clip's patches to mean AudioSet scores [527]."""
    scores = np.zeros(N_AUDIOSET_CLASSES, np.float32)
    # Logits of absent classes go down to -300.
    kept = np.maximum(logits.astype(np.float32), -50)
    scores[teacher_classes()] = (1 / (1 + np.exp(-kept))).mean(axis=0)
    return scores


def bundle_scores(bundle: Bundle, clips: Sequence[Frames]) -> npt.NDArray[np.float32]:
    """Return the scores [n, 527] of clips of frames."""
    lengths = np.array([len(clip) for clip in clips])
    padded = np.zeros((len(clips), lengths.max(), EMBEDDING_SIZE), np.uint8)
    for row, clip in zip(padded, clips, strict=True):
        row[: len(clip)] = clip
    return bundle.scores(padded, lengths)


# --- Sections ----------------------------------------------------------------------------


def naming(bench: Bench) -> None:
    """Zero-shot classification of ESC-50's fold 4 with AudioSet's classes."""
    names = esc50_names()
    clips = [c for c in bench.clips("esc50") if c.fold == TEST_FOLD and c.label in names]
    embedded = bench.embed(clips)
    note = (
        f"{len(clips)} clips of 5 s from {len(names)} classes (chance: {1 / len(names):.3f}). The "
        "score of a class is the highest score of the AudioSet classes that match it. No model "
        "was trained on the classes of ESC-50."
    )
    found = _zero_shot(bench, embedded, names)
    rows = [(model, *map(_three, both)) for model, both in found.items()]
    table = Table("Zero-shot classification of ESC-50", note, ("model", "top-1", "top-5"), rows)
    bench.add("esc50_zero_shot", found, table)
    if bench.default_bundle in bench.bundles:
        top1, top5 = found[f"mini -> {bench.default_bundle}"]
        bench.add_target(f"ESC-50 fold 4, zero-shot, {bench.default_bundle}, top-1", top1, 0.58)
        bench.add_target(f"ESC-50 fold 4, zero-shot, {bench.default_bundle}, top-5", top5, 0.82)
    if "audioset-best" in bench.bundles:
        top1 = found["mini -> audioset-best"][0]
        bench.add_target("ESC-50 fold 4, zero-shot, audioset-best, top-1", top1, 0.42)


def urban(bench: Bench) -> None:
    """Zero-shot classification of the held-out recordings of UrbanSound8K."""
    names = urbansound8k_names()
    embedded = bench.embed(bench.clips("urbansound8k"))
    n_recordings = len({clip.recording for clip in embedded.clips})
    note = (
        f"{len(embedded.clips)} clips of at most 4 s from {n_recordings} recordings and "
        f"{len(names)} classes (chance: {1 / len(names):.1f})."
    )
    found = _zero_shot(bench, embedded, names)
    rows = [(model, *map(_three, both)) for model, both in found.items()]
    head = ("model", "top-1", "top-5")
    table = Table("Zero-shot classification of UrbanSound8K", note, head, rows)
    bench.add("urbansound8k_zero_shot", found, table)


def _zero_shot(
    bench: Bench, embedded: EmbeddedClips, names: Names
) -> dict[str, tuple[float, float]]:
    """Top-1 and top-5 accuracy of the teacher, and of each bundle on frames of mini."""
    found = {"teacher (YAMNet)": zero_shot(embedded.scores, embedded.labels, names)}
    for name, bundle in bench.bundles.items():
        scores = bundle_scores(bundle, embedded.split())
        found[f"mini -> {name}"] = zero_shot(scores, embedded.labels, names)
    return found


def released_features(bench: Bench) -> None:
    """Metrics of the bundles on released features, where supporting mini might cost accuracy."""
    store = load_clips(shards(bench.data.eval))
    labels = store.label_matrix(np.arange(len(store)), N_AUDIOSET_CLASSES)
    frames, n_frames = store.gather(np.arange(len(store)), 10)
    found = {
        name: {
            key: value
            for key, value in metrics.evaluate(bundle.scores(frames, n_frames), labels).items()
            if key in METRICS
        }
        for name, bundle in bench.bundles.items()
    }
    rows = [(name, *(f"{values[m]:.4f}" for m in METRICS)) for name, values in found.items()]
    note = f"{len(store):,} clips of the evaluation set; the first 10 released frames of each."
    bench.add("audioset_eval", found, Table("AudioSet's released features", note,
                                            ("bundle", *METRICS), rows))  # fmt: skip
    if bench.default_bundle in found and "audioset-gru" in found:
        lost = found["audioset-gru"]["mAP"] - found[bench.default_bundle]["mAP"]
        what = f"mAP of audioset-gru minus mAP of {bench.default_bundle}"
        bench.add_target(what, lost, 0.005, is_maximum=True)


def as_feature(bench: Bench) -> None:
    """Accuracy of a head trained on frames of mini, compared with other features."""
    clips = bench.clips("esc50", None)
    embedded = bench.embed(clips)
    folds = np.array([clip.fold for clip in clips])
    trained_on = np.repeat(folds != TEST_FOLD, embedded.lengths)
    features = {
        "mini": embedded.frames,
        "log-mel statistics": quantize(standardised(embedded.statistics, trained_on)),
        "teacher's features, PCA": quantize(whitened(embedded.features, trained_on)),
    }
    found = {name: _esc50_accuracy(embedded, rows, folds) for name, rows in features.items()}
    rows = [
        (name, _three(f["mean"]), f"{f['std']:.3f}", str(f["epochs"])) for name, f in found.items()
    ]
    note = (
        "Accuracy of the GRU head of `audiotag train` (512 units, softmax) on fold 4 "
        f"({int((folds == TEST_FOLD).sum())} clips) after training on folds 1 to 3 "
        f"({int((folds != TEST_FOLD).sum())} clips, 50 classes): mean and standard deviation of "
        f"{len(FEATURE_SEEDS)} seeds. The number of epochs was chosen on fold 3 after training on "
        "folds 1 and 2. Every feature is 128 numbers of 8 bits for each 0.96 s: frames of mini; "
        "mean and standard deviation of the 64 log-mel bands, standardised on folds 1 to 3; and, "
        "as an upper reference, the teacher's 1,024 features, whitened by a PCA of folds 1 to 3."
    )
    head = ("feature", "accuracy", "std", "epochs")
    bench.add("esc50_feature", found, Table("Mini as a feature", note, head, rows))
    bench.add_target("ESC-50 fold 4, GRU head on mini's frames", found["mini"]["mean"], 0.70)


def standardised(rows: Floats, trained_on: npt.NDArray[np.bool_]) -> Floats:
    """Scale each column to zero mean and unit variance on the rows where `trained_on` is true."""
    known = rows[trained_on]
    result: Floats = (rows - known.mean(axis=0)) / np.maximum(known.std(axis=0), 1e-6)
    return result


def whitened(rows: Floats, trained_on: npt.NDArray[np.bool_]) -> Floats:
    """Project on the first 128 whitened principal components of the rows used for training."""
    known = rows[trained_on].astype(np.float64)
    values, vectors = np.linalg.eigh(np.cov(known, rowvar=False))
    largest = np.argsort(values)[::-1][:EMBEDDING_SIZE]
    projection = vectors[:, largest] / np.sqrt(np.maximum(values[largest], 1e-9))
    return np.asarray((rows - known.mean(axis=0)) @ projection)


def _esc50_accuracy(
    embedded: EmbeddedClips, rows: Frames, folds: npt.NDArray[Any]
) -> dict[str, Any]:
    names = tuple(sorted(set(embedded.labels)))
    truth = np.array([names.index(label) for label in embedded.labels])
    store = ClipStore.from_clips(
        Clip(clip.clip_id, frames, (int(label),), "mini")
        for clip, frames, label in zip(embedded.clips, embedded.split(rows), truth, strict=True)
    )
    chosen = {
        n_epochs: _accuracy(
            store, truth, names, folds < VALIDATION_FOLD, folds == VALIDATION_FOLD, n_epochs, 0
        )
        for n_epochs in FEATURE_EPOCHS
    }
    epochs = max(chosen, key=lambda n_epochs: chosen[n_epochs])
    accuracies = [
        _accuracy(store, truth, names, folds != TEST_FOLD, folds == TEST_FOLD, epochs, seed)
        for seed in FEATURE_SEEDS
    ]
    return {
        "mean": float(np.mean(accuracies)),
        "std": float(np.std(accuracies)),
        "accuracies": accuracies,
        "epochs": epochs,
        "validation": {str(n_epochs): value for n_epochs, value in chosen.items()},
    }


def _accuracy(
    store: ClipStore,
    truth: npt.NDArray[np.int64],
    names: tuple[str, ...],
    trained_on: npt.NDArray[np.bool_],
    tested: npt.NDArray[np.bool_],
    epochs: int,
    seed: int,
) -> float:
    """Train a head on some clips and return its accuracy on others."""
    from classifier.training.config import TrainingConfig
    from classifier.training.examples import FrameExamples
    from classifier.training.loop import Training
    from classifier.training.network import Network
    from classifier.training.runs import Run, read_arrays
    from classifier.training.transfer import set_weights

    config = TrainingConfig(head="gru", loss="softmax", epochs=epochs, seed=seed)
    with tempfile.TemporaryDirectory(prefix="audiotag-bench-") as scratch:
        run = Run(Path(scratch) / "run")
        run.begin(config, {"sources": ["ESC-50"]}, Labels(names, ("",) * len(names)), [])
        examples = FrameExamples(store, np.flatnonzero(trained_on), len(names))
        Training(config, examples, None, run).run()
        network = Network([config], len(names))
        set_weights(network.model, read_arrays(run.best)[0])
    scores = network.scores(*store.gather(np.flatnonzero(tested)))
    return float((scores.argmax(axis=1) == truth[tested]).mean())


def agreement(bench: Bench) -> None:
    """Agreement of mini's embedding of each second with the released one."""
    windows, released, clips = [], [], []
    place_of = {clip_id: place for place, clip_id in enumerate(bench.released.ids)}
    for number, clip in enumerate(bench.clips(PAIRS)):
        if clip.clip_id in place_of:
            frames = bench.released[place_of[clip.clip_id]].frames
            for window, embedding in cut_pairs(load_audio(clip.path), frames):
                windows.append(window)
                released.append(embedding)
                clips.append(number)
    truth = np.stack(released)
    patches = np.concatenate([log_mel_patches(window, tail="drop") for window in windows])
    ours = dequantize(quantize(bench.embedder(patches)))
    of_clip = np.array(clips)
    constant = np.broadcast_to(dequantize(bench.released.frames).mean(axis=0), truth.shape)
    found = {
        "mini": agreement_of(ours, truth),
        "mini, other clip": agreement_of(ours[_rows_of_other_clips(of_clip)], truth),
        "released, other clip": agreement_of(truth[_rows_of_other_clips(of_clip)], truth),
        "mean of bal_train": agreement_of(constant, truth),
    }
    head = ("embedding", "cosine", "quartiles", *(f"R2, first {n}" for n in FIRST_DIMENSIONS))
    rows = [
        (
            name,
            _three(f["cosine"]),
            ", ".join(map(_three, f["cosine_quartiles"])),
            *(_three(f["R2_of_first"][str(n)]) for n in FIRST_DIMENSIONS),
        )
        for name, f in found.items()
    ]
    note = (
        f"{len(truth)} seconds of {len(set(clips))} clips, after PCA and quantiser. The R2 of a "
        "dimension is 1 - mean squared error / variance on these seconds; the table shows its mean "
        "over the first dimensions, in the order of the PCA's variances. The released features "
        "were computed from the audio of the original video, not from this copy, so exact "
        "agreement is impossible."
    )
    bench.add("agreement", found, Table("Agreement with the released embeddings", note, head, rows))


def _rows_of_other_clips(clips: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return a permutation that maps each row to a row of another clip, if there are several."""
    rng = np.random.default_rng(0)
    order = rng.permutation(len(clips))
    for _ in range(100):
        same = np.flatnonzero(clips[order] == clips)
        if not len(same):
            break
        others = rng.integers(0, len(clips), len(same))
        for one, other in zip(same, others, strict=True):
            order[[one, other]] = order[[other, one]]
    return order


def agreement_of(ours: Floats, truth: Floats) -> dict[str, Any]:
    """Cosine similarity and R2 of embeddings [n, 128] with respect to others."""
    norms = np.linalg.norm(ours, axis=1) * np.linalg.norm(truth, axis=1)
    cosines = np.sum(ours * truth, axis=1) / norms
    r2 = 1 - np.square(ours - truth).mean(axis=0) / truth.var(axis=0)
    return {
        "cosine": float(cosines.mean()),
        "cosine_quartiles": [float(value) for value in np.percentile(cosines, QUARTILES)],
        "R2": float(r2.mean()),
        "R2_of_first": {str(n): float(r2[:n].mean()) for n in FIRST_DIMENSIONS},
        "R2_per_dimension": [round(float(value), 4) for value in r2],
    }


def pairs(bench: Bench) -> None:
    """Metrics of the held-out AudioSet clips with their labels, computed from their audio."""
    place_of = {clip_id: place for place, clip_id in enumerate(bench.released.ids)}
    clips = [clip for clip in bench.clips(PAIRS) if clip.clip_id in place_of]
    embedded = bench.embed(clips)
    places = np.array([place_of[clip.clip_id] for clip in clips])
    labels = bench.released.label_matrix(places, N_AUDIOSET_CLASSES)
    released = [bench.released[place].frames for place in places]
    scores = {"teacher (YAMNet), audio": embedded.scores}
    for name, bundle in bench.bundles.items():
        scores[f"mini -> {name}, audio"] = bundle_scores(bundle, embedded.split())
        scores[f"{name}, released features"] = bundle_scores(bundle, released)
    found = {
        name: {
            "mAP": metrics.mean_average_precision(values, labels),
            "lwlrap": metrics.lwlrap(values, labels),
        }
        for name, values in scores.items()
    }
    n_classes = int(labels.any(axis=0).sum())
    note = (
        f"{len(clips)} clips of 10 s with {int(labels.sum())} labels of {n_classes} classes. mAP "
        "is the mean over these classes; it is high because each class has far fewer negatives "
        "than in the whole evaluation set. audioset-best and audioset-gru were trained on the "
        "whole balanced training set, including the released features and labels of these clips; "
        f"{bench.default_bundle} was not."
    )
    rows = [(name, _three(f["mAP"]), _three(f["lwlrap"])) for name, f in found.items()]
    head = ("model and input", "mAP", "lwlrap")
    table = Table("Tags of AudioSet clips from their audio", note, head, rows)
    bench.add("pairs_tags", found, table)


def speed(bench: Bench) -> None:
    """Patches/s and sizes compared with VGGish, and seconds of whole processes."""
    found = mini_speed.rates(bench.network)
    rows = [
        (name, f"{f['patches_per_second']:,.0f}", f"{f['n_parameters']:,}", f"{f['bytes']:,}",
         f"{f['patches_per_second'] / found['VGGish float32']['patches_per_second']:.1f}")
        for name, f in found.items()
    ]  # fmt: skip
    note = (
        "ONNX Runtime, batches of 32 patches. The networks run in turns, each in its own process, "
        "and the best turn counts. VGGish has seeded weights, because its speed does not depend on "
        "their values."
    )
    head = ("network", "patches/s", "parameters", "bytes", "/ VGGish float32")
    bench.add("speed", found, Table("Speed and size", note, head, rows))
    ratio = found["mini float32"]["patches_per_second"]
    bench.add_target(
        "mini / VGGish, patches/s, float32",
        ratio / found["VGGish float32"]["patches_per_second"],
        20,
    )
    processes = mini_speed.processes()
    for what, (seconds, target) in processes.items():
        bench.add_target(f"{what}, s", seconds, target, is_maximum=True)
    bench.figures["processes"] = {what: seconds for what, (seconds, _) in processes.items()}


SECTIONS: dict[str, Callable[[Bench], None]] = {
    "naming": naming,
    "audioset": released_features,
    "feature": as_feature,
    "agreement": agreement,
    "pairs": pairs,
    "urbansound8k": urban,
    "speed": speed,
}


# --- The report --------------------------------------------------------------------------


def _three(value: float) -> str:
    return f"{value:.3f}"


def report(bench: Bench) -> str:
    """Return the Markdown document with all tables."""
    packages = ("numpy", "onnxruntime", "tensorflow", "ai-edge-litert")
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in packages)
    lines = [
        "# Accuracy and speed of mini",
        "",
        "Written by `make bench-mini`; do not edit by hand. All clips were held out from training: "
        "fold 4 of ESC-50, a tenth of the AudioSet pairs, a tenth of the recordings of "
        "UrbanSound8K, and the evaluation set of AudioSet. "
        "[recipes/mini/README.md](../recipes/mini/README.md) describes the split.",
        "",
        f"- Machine: {machine()}",
        f"- {versions}",
        f"- mini.onnx: sha256 {bench.embedder.model_sha256}",
        "",
        *as_markdown(TARGET_COLUMNS, bench.verdicts),
        "",
    ]
    for table in bench.tables:
        lines += [f"## {table.title}", "", table.note, "", *as_markdown(table.head, table.rows), ""]
    return "\n".join(lines)


def write(bench: Bench) -> None:
    """Write the document, the figures, and the table of the model card."""
    REPORT.write_text(report(bench), "utf-8")
    facts = {"mini_sha256": bench.embedder.model_sha256, "machine": machine()}
    FIGURES.write_text(json.dumps({**facts, **bench.figures}, indent=2) + "\n", "utf-8")
    if CARD.exists():
        CARD.write_text(with_table(CARD.read_text("utf-8"), card_table(bench.figures)), "utf-8")
    card = CARD.with_name("card.json")
    if card.exists():
        described = json.loads(card.read_text("utf-8"))
        described["metrics"] = card_metrics(bench.figures)
        card.write_text(json.dumps(described, indent=2, ensure_ascii=False) + "\n", "utf-8")


def with_table(text: str, lines: Sequence[str]) -> str:
    """Replace the lines between the markers of a text."""
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    return "\n".join([f"{before}{BEGIN}", *lines, f"{END}{after}"])


def card_metrics(figures: Mapping[str, Any]) -> dict[str, float]:
    """Return the figures of the model card by name."""
    found: dict[str, float] = {}
    for name, (top1, top5) in figures["esc50_zero_shot"].items():
        found[f"ESC-50 fold 4, zero-shot top-1: {name}"] = top1
        found[f"ESC-50 fold 4, zero-shot top-5: {name}"] = top5
    for name, (top1, _) in figures["urbansound8k_zero_shot"].items():
        found[f"UrbanSound8K, zero-shot top-1: {name}"] = top1
    for name, values in figures["esc50_feature"].items():
        found[f"ESC-50 fold 4, GRU head on: {name}"] = values["mean"]
    for name, values in figures["pairs_tags"].items():
        found[f"AudioSet pairs, mAP: {name}"] = values["mAP"]
        found[f"AudioSet pairs, lwlrap: {name}"] = values["lwlrap"]
    found["AudioSet pairs, cosine with the released embedding"] = figures["agreement"]["mini"][
        "cosine"
    ]
    found["AudioSet pairs, R2 of the released embedding"] = figures["agreement"]["mini"]["R2"]
    rates = {name: f["patches_per_second"] for name, f in figures["speed"].items()}
    found["speed, times VGGish float32"] = rates["mini float32"] / rates["VGGish float32"]
    return {name: round(value, 4) for name, value in found.items()}


def card_table(figures: Mapping[str, Any]) -> list[str]:
    """Return the figures of the model card as a Markdown table."""
    rows = [(name, f"{value:.3f}") for name, value in card_metrics(figures).items()]
    return as_markdown(("measured on held-out clips", "value"), rows)


def main() -> None:
    """Run the sections, print their tables, and write the report."""
    options = _parse()
    data = options.where
    missing = data.missing()
    if not options.network.exists():
        missing.append(f"{options.network} does not exist (--network: mini as an ONNX file)")
    if missing:
        print("\n".join(["error: data is missing:", *missing]), file=sys.stderr)
        print("Name its directory: make bench-mini DATA=DIR", file=sys.stderr)
        sys.exit(MISSING_STATUS)
    bench = Bench(data, options.network, options.bundle)
    try:
        for name in options.only or SECTIONS:
            SECTIONS[name](bench)
    except AudiotagError as error:
        sys.exit(str(error))
    print_table(Table("Targets", "", TARGET_COLUMNS, bench.verdicts))
    if not options.only:
        write(bench)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.mini", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--data", type=Path, metavar="DIR", default=Path("data"),
                        help="directory with all data: audio/, yamnet/*.tflite, "
                        "audioset/bal_train/ and audioset/eval_dev/ (default: data)")  # fmt: skip
    parser.add_argument(
        "--sounds", type=Path, metavar="DIR", help="directory with index.csv and its clips"
    )
    parser.add_argument("--teacher", type=Path, metavar="TFLITE", help="YAMNet as a TFLite file")
    parser.add_argument(
        "--frames", type=Path, metavar="DIR", help="AudioSet's released features of bal_train"
    )
    parser.add_argument(
        "--eval", type=Path, metavar="DIR", help="released features of the evaluation set"
    )
    parser.add_argument(
        "--network", type=Path, default=NETWORK, metavar="ONNX",
        help="mini as an ONNX file (default: the one in weights/mini)",
    )  # fmt: skip
    parser.add_argument(
        "--bundle", default=BUNDLES[0], help="bundle made for mini (default: audioset)"
    )
    parser.add_argument(
        "--only", nargs="+", choices=SECTIONS, help="run only these sections, print only"
    )
    options = parser.parse_args()
    teachers = sorted((options.data / "yamnet").glob("*.tflite"))
    default = Data(
        options.data / "audio",
        teachers[0] if teachers else options.data / "yamnet" / "yamnet.tflite",
        options.data / "audioset" / "bal_train",
        options.data / "audioset" / "eval_dev",
    )
    given = {
        name: value
        for name in ("sounds", "teacher", "frames", "eval")
        if (value := getattr(options, name)) is not None
    }
    options.where = replace(default, **given)
    return options


if __name__ == "__main__":
    main()
