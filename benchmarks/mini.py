"""How good the built-in embedder is, and how fast: on data that it was not trained on.

    python -m benchmarks.mini --data DIR                       prints the tables and writes them
    python -m benchmarks.mini --data DIR --only naming speed   these alone, prints only

Written are docs/mini-benchmarks.md, docs/mini-benchmarks.json, and the table between the markers
in weights/mini/README.md. YAMNet, the teacher, is measured beside mini on the same sounds.
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
from recipes.mini.pairs import cut_pairs
from recipes.mini.sounds import PAIRS, Part, Sound, parts, read_index
from recipes.mini.teacher import Teacher, teacher_classes
from recipes.mini.views import look, whole_patches
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
# The default one, and two that were not made for mini; the second took no part in its training.
BUNDLES = ("audioset", "audioset-best", "audioset-gru")
N_AUDIOSET_CLASSES = 527
METRICS = ("mAP", "mAUC", "d_prime", "lwlrap", "GAP", "Hit@1", "PERR")
# Of the head on ESC-50; what is best on the validation fold is taken.
FEATURE_EPOCHS = (20, 40)
FEATURE_SEEDS = (0, 1, 2)
VALIDATION_FOLD, TEST_FOLD = 3, 4
QUARTILES = (25, 50, 75)
FIRST_DIMENSIONS = (1, 8, 32, 128)
MISSING_STATUS = 2

Floats = npt.NDArray[np.floating]
Frames = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Data:
    """Where the data lies.

    Attributes:
        sounds: directory with index.csv.
        teacher: YAMNet, TFLite.
        frames: released features of the balanced training set.
        eval: released features of the evaluation set, or of a part of it.
    """

    sounds: Path
    teacher: Path
    frames: Path
    eval: Path

    def missing(self) -> list[str]:
        """What is not there, in words."""
        wanted = (
            (self.sounds / "index.csv", "--sounds: a directory with index.csv and its sounds"),
            (self.teacher, "--teacher: YAMNet as a TFLite file"),
            (self.frames, "--frames: AudioSet's released features of bal_train"),
            (self.eval, "--eval: AudioSet's released features of the evaluation set"),
        )
        return [f"{path} is not there ({what})" for path, what in wanted if not path.exists()]


@dataclass(frozen=True, eq=False)
class Heard:
    """Sounds, and what mini and the teacher make of them; patches lie sound after sound.

    Attributes:
        sounds: n of them.
        lengths: int [n], patches of each.
        frames: uint8 [total, 128], mini's.
        statistics: float32 [total, 128], mean and standard deviation of each log-mel band.
        features: float32 [total, 1024], the teacher's.
        scores: float32 [n, 527], the teacher's, mean over patches; 0 for what it does not know.
    """

    sounds: Sequence[Sound]
    lengths: npt.NDArray[np.int64]
    frames: Frames
    statistics: Floats
    features: Floats
    scores: Floats

    @property
    def labels(self) -> list[str]:
        """Of each sound."""
        return [sound.label for sound in self.sounds]

    def clips(self, rows: npt.NDArray[Any] | None = None) -> list[npt.NDArray[Any]]:
        """Rows of each sound; mini's frames by default."""
        return np.split(self.frames if rows is None else rows, np.cumsum(self.lengths)[:-1])


@dataclass
class Bench:
    """What is measured, and what has been found."""

    data: Data
    network: Path
    default_bundle: str
    tables: list[Table] = field(default_factory=list)
    verdicts: list[tuple[str, str, str, str]] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def embedder(self) -> Embedder:
        """Mini."""
        return Embedder(self.network, name="mini", weights_sha256="", device="cpu")

    @cached_property
    def bundles(self) -> dict[str, Bundle]:
        """Those that are there, by name."""
        found: dict[str, Bundle] = {}
        for name in (self.default_bundle, *BUNDLES[1:]):
            try:
                found[name] = load(name)
            except BundleError as error:
                print(f"left out: {str(error).splitlines()[0]}", flush=True)
        return found

    @cached_property
    def released(self) -> ClipStore:
        """AudioSet's balanced training set."""
        return load_clips(shards(self.data.frames))

    @cached_property
    def _index(self) -> list[tuple[Sound, Part]]:
        sounds = read_index(self.data.sounds)
        return list(zip(sounds, parts(sounds), strict=True))

    def sounds(self, source: str, part: Part | None = "test") -> list[Sound]:
        """Of a collection, those kept out; all of them for None."""
        return [s for s, of in self._index if s.source == source and part in (None, of)]

    def hear(self, sounds: Sequence[Sound]) -> Heard:
        """Embed sounds as `audiotag embed` does, and ask the teacher of the same patches."""
        teacher = Teacher(self.data.teacher, n_threads=2)
        lengths, frames, statistics, features, scores = [], [], [], [], []
        for number, sound in enumerate(sounds, start=1):
            waveform = load_audio(sound.path)
            patches = log_mel_patches(waveform)
            seen = look([whole_patches(waveform)], teacher)
            lengths.append(len(patches))
            frames.append(quantize(self.embedder(patches)))
            statistics.append(np.concatenate([patches.mean(axis=1), patches.std(axis=1)], axis=1))
            features.append(seen.features.astype(np.float32))
            scores.append(teacher_scores(seen.logits))
            if number % 100 == 0:
                print(f"heard {number} of {len(sounds)} sounds", file=sys.stderr, flush=True)
        return Heard(
            sounds,
            np.array(lengths),
            np.concatenate(frames),
            np.concatenate(statistics),
            np.concatenate(features),
            np.stack(scores),
        )

    def add(self, key: str, figures: Mapping[str, Any], *tables: Table) -> None:
        """Keep the figures of a section and print its tables."""
        self.figures[key] = dict(figures)
        for table in tables:
            self.tables.append(table)
            print_table(table)

    def judge(self, what: str, value: float, mark: float, *, most: bool = False) -> None:
        """Hold a figure against its mark."""
        met = value <= mark if most else value >= mark
        sign = "<=" if most else ">="
        self.verdicts.append((what, f"{value:.3f}", f"{sign} {mark:g}", "yes" if met else "**no**"))


def shards(directory: Path) -> list[Path]:
    """The files of released features in a directory."""
    return sorted(directory.glob("*.tfrecord"))


def teacher_scores(logits: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    """The teacher's logits [n, 521] of a sound's patches -> mean scores of AudioSet's [527]."""
    scores = np.zeros(N_AUDIOSET_CLASSES, np.float32)
    # Logits of what is absent go on to -300.
    kept = np.maximum(logits.astype(np.float32), -50)
    scores[teacher_classes()] = (1 / (1 + np.exp(-kept))).mean(axis=0)
    return scores


def bundle_scores(bundle: Bundle, clips: Sequence[Frames]) -> npt.NDArray[np.float32]:
    """Scores [n, 527] of clips of frames."""
    lengths = np.array([len(clip) for clip in clips])
    padded = np.zeros((len(clips), lengths.max(), EMBEDDING_SIZE), np.uint8)
    for row, clip in zip(padded, clips, strict=True):
        row[: len(clip)] = clip
    return bundle.scores(padded, lengths)


# --- Sections ----------------------------------------------------------------------------


def naming(bench: Bench) -> None:
    """ESC-50's fold 4, named through AudioSet's classes."""
    names = esc50_names()
    sounds = [s for s in bench.sounds("esc50") if s.fold == TEST_FOLD and s.label in names]
    heard = bench.hear(sounds)
    note = (
        f"{len(sounds)} clips of 5 s of {len(names)} classes (chance {1 / len(names):.3f}); a "
        "class scores what the best of its AudioSet names scores. Nobody has learnt ESC-50's "
        "classes."
    )
    found = _named(bench, heard, names)
    rows = [(who, *map(_three, both)) for who, both in found.items()]
    table = Table("Naming ESC-50's sounds", note, ("who", "top-1", "top-5"), rows)
    bench.add("esc50_zero_shot", found, table)
    if bench.default_bundle in bench.bundles:
        top1, top5 = found[f"mini -> {bench.default_bundle}"]
        bench.judge(f"ESC-50 fold 4, zero-shot, {bench.default_bundle}, top-1", top1, 0.58)
        bench.judge(f"ESC-50 fold 4, zero-shot, {bench.default_bundle}, top-5", top5, 0.82)
    if "audioset-best" in bench.bundles:
        stranger = found["mini -> audioset-best"][0]
        bench.judge("ESC-50 fold 4, zero-shot, audioset-best, top-1", stranger, 0.42)


def urban(bench: Bench) -> None:
    """UrbanSound8K's kept-out recordings, named likewise."""
    names = urbansound8k_names()
    heard = bench.hear(bench.sounds("urbansound8k"))
    n_recordings = len({sound.recording for sound in heard.sounds})
    note = (
        f"{len(heard.sounds)} clips of at most 4 s, of {n_recordings} recordings, of {len(names)} "
        f"classes (chance {1 / len(names):.1f})."
    )
    found = _named(bench, heard, names)
    rows = [(who, *map(_three, both)) for who, both in found.items()]
    table = Table("Naming UrbanSound8K's sounds", note, ("who", "top-1", "top-5"), rows)
    bench.add("urbansound8k_zero_shot", found, table)


def _named(bench: Bench, heard: Heard, names: Names) -> dict[str, tuple[float, float]]:
    """Accuracy and top-5 accuracy of the teacher, and of each bundle on mini's frames."""
    found = {"teacher (YAMNet)": zero_shot(heard.scores, heard.labels, names)}
    for name, bundle in bench.bundles.items():
        scores = bundle_scores(bundle, heard.clips())
        found[f"mini -> {name}"] = zero_shot(scores, heard.labels, names)
    return found


def released_features(bench: Bench) -> None:
    """The bundles on AudioSet's own features: what serving mini too costs there."""
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
    note = f"{len(store):,} clips, frames of the official VGGish; the first 10 of each."
    bench.add("audioset_eval", found, Table("AudioSet's released features", note,
                                            ("bundle", *METRICS), rows))  # fmt: skip
    if bench.default_bundle in found and "audioset-gru" in found:
        lost = found["audioset-gru"]["mAP"] - found[bench.default_bundle]["mAP"]
        what = f"mAP that {bench.default_bundle} loses against audioset-gru"
        bench.judge(what, lost, 0.005, most=True)


def as_feature(bench: Bench) -> None:
    """A head of one's own on mini's frames, beside the same on other features."""
    sounds = bench.sounds("esc50", None)
    heard = bench.hear(sounds)
    folds = np.array([sound.fold for sound in sounds])
    learnt = np.repeat(folds != TEST_FOLD, heard.lengths)
    features = {
        "mini": heard.frames,
        "log-mel statistics": quantize(standardised(heard.statistics, learnt)),
        "teacher's features, PCA": quantize(whitened(heard.features, learnt)),
    }
    found = {name: _esc50_accuracy(heard, rows, folds) for name, rows in features.items()}
    rows = [
        (name, _three(f["mean"]), f"{f['std']:.3f}", str(f["epochs"])) for name, f in found.items()
    ]
    note = (
        "`audiotag train`'s GRU head (512 units, softmax), trained on folds 1 to 3 "
        f"({int((folds != TEST_FOLD).sum())} clips, 50 classes), accuracy on fold 4 "
        f"({int((folds == TEST_FOLD).sum())} clips): mean and standard deviation of "
        f"{len(FEATURE_SEEDS)} seeds. The number of epochs did best on fold 3 after training on "
        "folds 1 and 2. Each feature is 128 numbers of 8 bits for each 0.96 s: mini's frames; mean "
        "and standard deviation of the 64 log-mel bands, standardised on folds 1 to 3; the "
        "teacher's 1,024 features, whitened by a PCA of folds 1 to 3, as an upper reference."
    )
    head = ("feature", "accuracy", "std", "epochs")
    bench.add("esc50_feature", found, Table("Mini as a feature", note, head, rows))
    bench.judge("ESC-50 fold 4, GRU head on mini's frames", found["mini"]["mean"], 0.70)


def standardised(rows: Floats, learnt: npt.NDArray[np.bool_]) -> Floats:
    """Zero mean and unit variance of each column where `learnt`."""
    known = rows[learnt]
    result: Floats = (rows - known.mean(axis=0)) / np.maximum(known.std(axis=0), 1e-6)
    return result


def whitened(rows: Floats, learnt: npt.NDArray[np.bool_]) -> Floats:
    """The 128 largest principal components of the rows where `learnt`, each of variance 1."""
    known = rows[learnt].astype(np.float64)
    values, vectors = np.linalg.eigh(np.cov(known, rowvar=False))
    largest = np.argsort(values)[::-1][:EMBEDDING_SIZE]
    projection = vectors[:, largest] / np.sqrt(np.maximum(values[largest], 1e-9))
    return np.asarray((rows - known.mean(axis=0)) @ projection)


def _esc50_accuracy(heard: Heard, rows: Frames, folds: npt.NDArray[Any]) -> dict[str, Any]:
    names = tuple(sorted(set(heard.labels)))
    truth = np.array([names.index(label) for label in heard.labels])
    store = ClipStore.from_clips(
        Clip(sound.clip_id, frames, (int(label),), "mini")
        for sound, frames, label in zip(heard.sounds, heard.clips(rows), truth, strict=True)
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
    learnt: npt.NDArray[np.bool_],
    tested: npt.NDArray[np.bool_],
    epochs: int,
    seed: int,
) -> float:
    """Accuracy of a head that was trained on some clips, on others of them."""
    from classifier.training.config import TrainingConfig
    from classifier.training.examples import FrameExamples
    from classifier.training.loop import train
    from classifier.training.network import Network
    from classifier.training.runs import Run, read_arrays
    from classifier.training.transfer import set_weights

    config = TrainingConfig(head="gru", loss="softmax", epochs=epochs, seed=seed)
    with tempfile.TemporaryDirectory(prefix="audiotag-bench-") as scratch:
        run = Run(Path(scratch) / "run")
        run.begin(config, {"sources": ["ESC-50"]}, Labels(names, ("",) * len(names)), [])
        examples = FrameExamples(store, np.flatnonzero(learnt), len(names))
        train(config, examples, None, run)
        network = Network([config], len(names))
        set_weights(network.model, read_arrays(run.best)[0])
    scores = network.scores(*store.gather(np.flatnonzero(tested)))
    return float((scores.argmax(axis=1) == truth[tested]).mean())


def agreement(bench: Bench) -> None:
    """Mini's embedding of a second against the released one."""
    windows, released, clips = [], [], []
    place_of = {clip_id: place for place, clip_id in enumerate(bench.released.ids)}
    for number, sound in enumerate(bench.sounds(PAIRS)):
        if sound.clip_id in place_of:
            frames = bench.released[place_of[sound.clip_id]].frames
            for window, embedding in cut_pairs(load_audio(sound.path), frames):
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
        "mini, of a wrong clip": agreement_of(ours[_of_another_clip(of_clip)], truth),
        "released, of a wrong clip": agreement_of(truth[_of_another_clip(of_clip)], truth),
        "mean of bal_train": agreement_of(constant, truth),
    }
    head = ("who", "cosine", "quartiles", *(f"R2, first {n}" for n in FIRST_DIMENSIONS))
    rows = [
        (
            who,
            _three(f["cosine"]),
            ", ".join(map(_three, f["cosine_quartiles"])),
            *(_three(f["R2_of_first"][str(n)]) for n in FIRST_DIMENSIONS),
        )
        for who, f in found.items()
    ]
    note = (
        f"{len(truth)} seconds of {len(set(clips))} clips, after PCA and quantiser. R2 of a "
        "dimension is 1 - mean squared error / variance on these seconds, and its mean over the "
        "first so many dimensions, in the order of the PCA's variances. The released features were "
        "made from the original video's sound and not from this copy, so that exact agreement is "
        "out of reach."
    )
    bench.add("agreement", found, Table("Agreement with the released embeddings", note, head, rows))


def _of_another_clip(clips: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """A permutation that takes each row to one of another clip, if there are several."""
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
    """Cosine and R2 of embeddings [n, 128] against others."""
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
    """AudioSet's labels of the kept-out pairs, from their sound."""
    place_of = {clip_id: place for place, clip_id in enumerate(bench.released.ids)}
    sounds = [sound for sound in bench.sounds(PAIRS) if sound.clip_id in place_of]
    heard = bench.hear(sounds)
    places = np.array([place_of[sound.clip_id] for sound in sounds])
    labels = bench.released.label_matrix(places, N_AUDIOSET_CLASSES)
    released = [bench.released[place].frames for place in places]
    scores = {"teacher (YAMNet), sound": heard.scores}
    for name, bundle in bench.bundles.items():
        scores[f"mini -> {name}, sound"] = bundle_scores(bundle, heard.clips())
        scores[f"{name}, released features"] = bundle_scores(bundle, released)
    found = {
        who: {
            "mAP": metrics.mean_average_precision(values, labels),
            "lwlrap": metrics.lwlrap(values, labels),
        }
        for who, values in scores.items()
    }
    n_classes = int(labels.any(axis=0).sum())
    note = (
        f"{len(sounds)} clips of 10 s with {int(labels.sum())} labels of {n_classes} classes; mAP "
        "is the mean over these classes, and high because each has many fewer negatives than in "
        "the whole evaluation set. audioset-best and audioset-gru were trained on the whole "
        "balanced training set, these clips' released features and labels included; "
        f"{bench.default_bundle} was not."
    )
    rows = [(who, _three(f["mAP"]), _three(f["lwlrap"])) for who, f in found.items()]
    table = Table("Tags of AudioSet clips' sound", note, ("who", "mAP", "lwlrap"), rows)
    bench.add("pairs_tags", found, table)


def speed(bench: Bench) -> None:
    """Patches a second beside VGGish, sizes, and whole processes."""
    found = mini_speed.rates(bench.network)
    rows = [
        (name, f"{f['patches_per_second']:,.0f}", f"{f['n_parameters']:,}", f"{f['bytes']:,}",
         f"{f['patches_per_second'] / found['VGGish float32']['patches_per_second']:.1f}")
        for name, f in found.items()
    ]  # fmt: skip
    note = (
        "On ONNX Runtime, batches of 32 patches, in turns, each in a process of its own, the best "
        "of their turns. VGGish with seeded weights, for its speed does not depend on their "
        "values."
    )
    head = ("network", "patches/s", "parameters", "bytes", "/ VGGish float32")
    bench.add("speed", found, Table("Speed and size", note, head, rows))
    ratio = found["mini float32"]["patches_per_second"]
    bench.judge(
        "mini / VGGish, patches/s, float32",
        ratio / found["VGGish float32"]["patches_per_second"],
        20,
    )
    processes = mini_speed.processes()
    if not processes:
        print("`audiotag classify` is not there yet, so that it is not timed")
        return
    for what, (seconds, mark) in processes.items():
        bench.judge(f"{what}, s", seconds, mark, most=True)
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
    """All tables, as a document."""
    packages = ("numpy", "onnxruntime", "tensorflow", "ai-edge-litert")
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in packages)
    lines = [
        "# How good mini is",
        "",
        "Written by `make bench-mini`; do not edit by hand. What is measured on was kept out of "
        "training: ESC-50's fold 4, a tenth of the AudioSet pairs, a tenth of UrbanSound8K's "
        "recordings, and all of AudioSet's evaluation set. `recipes/mini/README.md` says how.",
        "",
        f"- Machine: {machine()}",
        f"- {versions}",
        f"- mini.onnx: sha256 {bench.embedder.model_sha256}",
        "",
        *as_markdown(("what", "measured", "mark", "met"), bench.verdicts),
        "",
    ]
    for table in bench.tables:
        lines += [f"## {table.title}", "", table.note, "", *as_markdown(table.head, table.rows), ""]
    return "\n".join(lines)


def write(bench: Bench) -> None:
    """The document, the figures, and the table of the model card."""
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
    """A text with other lines between the markers."""
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    return "\n".join([f"{before}{BEGIN}", *lines, f"{END}{after}"])


def card_metrics(figures: Mapping[str, Any]) -> dict[str, float]:
    """The figures that the card holds, by name."""
    found: dict[str, float] = {}
    for who, (top1, top5) in figures["esc50_zero_shot"].items():
        found[f"ESC-50 fold 4, zero-shot top-1: {who}"] = top1
        found[f"ESC-50 fold 4, zero-shot top-5: {who}"] = top5
    for who, (top1, _) in figures["urbansound8k_zero_shot"].items():
        found[f"UrbanSound8K, zero-shot top-1: {who}"] = top1
    for who, values in figures["esc50_feature"].items():
        found[f"ESC-50 fold 4, GRU head on: {who}"] = values["mean"]
    for who, values in figures["pairs_tags"].items():
        found[f"AudioSet pairs, mAP: {who}"] = values["mAP"]
        found[f"AudioSet pairs, lwlrap: {who}"] = values["lwlrap"]
    found["AudioSet pairs, cosine with the released embedding"] = figures["agreement"]["mini"][
        "cosine"
    ]
    found["AudioSet pairs, R2 of the released embedding"] = figures["agreement"]["mini"]["R2"]
    rates = {name: f["patches_per_second"] for name, f in figures["speed"].items()}
    found["speed, times VGGish float32"] = rates["mini float32"] / rates["VGGish float32"]
    return {name: round(value, 4) for name, value in found.items()}


def card_table(figures: Mapping[str, Any]) -> list[str]:
    """The same as lines of Markdown."""
    rows = [(name, f"{value:.3f}") for name, value in card_metrics(figures).items()]
    return as_markdown(("measured on what was kept out", "value"), rows)


def main() -> None:
    """Measure, print, and write."""
    options = _parse()
    data = options.where
    trouble = data.missing()
    if not options.network.exists():
        trouble.append(f"{options.network} is not there (--network: mini as ONNX)")
    if trouble:
        print("\n".join(["make bench-mini cannot measure:", *trouble]), file=sys.stderr)
        print("Name what make should take: make bench-mini DATA=DIR", file=sys.stderr)
        sys.exit(MISSING_STATUS)
    bench = Bench(data, options.network, options.bundle)
    try:
        for name in options.only or SECTIONS:
            SECTIONS[name](bench)
    except AudiotagError as error:
        sys.exit(str(error))
    table = Table("Marks", "", ("what", "measured", "mark", "met"), bench.verdicts)
    print_table(table)
    if not options.only:
        write(bench)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.mini", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--data", type=Path, metavar="DIR", default=Path("data"),
                        help="where all of these are, as audio/, yamnet/*.tflite, "
                        "audioset/bal_train/ and audioset/eval_dev/")  # fmt: skip
    parser.add_argument("--sounds", type=Path, metavar="DIR", help="index.csv and its sounds")
    parser.add_argument("--teacher", type=Path, metavar="TFLITE", help="YAMNet")
    parser.add_argument("--frames", type=Path, metavar="DIR", help="features of bal_train")
    parser.add_argument("--eval", type=Path, metavar="DIR", help="features of the evaluation set")
    parser.add_argument("--network", type=Path, default=NETWORK, metavar="ONNX", help="mini")
    parser.add_argument("--bundle", default=BUNDLES[0], help="the default bundle")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, help="these alone, prints only")
    options = parser.parse_args()
    networks = sorted((options.data / "yamnet").glob("*.tflite"))
    usual = Data(
        options.data / "audio",
        networks[0] if networks else options.data / "yamnet" / "yamnet.tflite",
        options.data / "audioset" / "bal_train",
        options.data / "audioset" / "eval_dev",
    )
    given = {
        name: value
        for name in ("sounds", "teacher", "frames", "eval")
        if (value := getattr(options, name)) is not None
    }
    options.where = replace(usual, **given)
    return options


if __name__ == "__main__":
    main()
