"""Small data on which a head trains in a second, and runs on it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from classifier import Clip, ClipStore, Labels
from classifier.training.config import TrainingConfig
from classifier.training.examples import FrameExamples
from classifier.training.runs import Run, read_arrays

LABELS = Labels(("cat", "dog", "owl", "bee"), ("/m/cat", "/m/dog", "", ""))
DATA_FACTS = {
    "sources": ["made"],
    "n_clips": 160,
    "fingerprint": "0" * 64,
    "embedders": ["vggish"],
    "validation": {"share": 0.0, "n_clips": 0},
}
EXACT_FACTS = ("epoch", "step_of_epoch", "loss_sum", "best", "best_epoch")


def small_config(**changes: Any) -> TrainingConfig:
    """Two epochs of the smallest head, with a learning rate high enough to learn in them."""
    defaults = {"head": "logistic", "epochs": 2, "batch_size": 16, "learning_rate": 0.05}
    return TrainingConfig(**{**defaults, **changes})


def made_clips(
    n: int = 160, *, noise: float = 60, seed: int = 0, labels: Labels = LABELS, longest: int = 4
) -> list[Clip]:
    """Clips of one class each; the centre of a class depends only on its name."""
    rng = np.random.default_rng(seed)
    clips = []
    for number in range(n):
        label = number % len(labels)
        length = int(rng.integers(1, longest + 1))
        frames = place_of(labels.names[label]) + rng.normal(size=(length, 128)) * noise
        clip_id = f"clip{seed}-{number}"
        clips.append(Clip(clip_id, frames.clip(0, 255).astype(np.uint8), (label,)))
    return clips


def place_of(name: str) -> Any:
    rng = np.random.default_rng(list(name.encode()))
    return 127 + rng.normal(size=128) * 40


def examples_of(clips: Iterable[Clip], n_classes: int = len(LABELS)) -> FrameExamples:
    store = ClipStore.from_clips(clips)
    return FrameExamples(store, np.arange(len(store)), n_classes)


def split_clips(
    clips: Iterable[Clip], n_validation: int = 40
) -> tuple[FrameExamples, FrameExamples]:
    """Training examples, and validation examples from the last clips."""
    whole = examples_of(clips)
    training, validation = np.split(whole.indices, [-n_validation])
    return (
        FrameExamples(whole.store, training, whole.n_classes),
        FrameExamples(whole.store, validation, whole.n_classes),
    )


def begun_run(directory: Path, config: TrainingConfig, labels: Labels = LABELS) -> Run:
    run = Run(directory)
    run.begin(config, DATA_FACTS, labels, [])
    return run


def stop_after(n_steps: float = math.inf) -> Callable[[], bool]:
    """A `should_stop` that stops after the given number of steps."""
    n_asked = 0

    def should_stop() -> bool:
        nonlocal n_asked
        n_asked += 1
        return n_asked > n_steps

    return should_stop


def assert_same_arrays(a: Path, b: Path) -> None:
    """Check that arrays are bit-identical and that metadata agree, apart from times."""
    (arrays_a, facts_a), (arrays_b, facts_b) = read_arrays(a), read_arrays(b)
    assert arrays_a.keys() == arrays_b.keys()
    for name, array in arrays_a.items():
        np.testing.assert_array_equal(array, arrays_b[name], err_msg=name, strict=True)
    for name in EXACT_FACTS:
        assert facts_a.get(name) == facts_b.get(name), name
