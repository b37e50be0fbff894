"""Training loop: learning, checkpoint selection, stopping and exact resuming."""

from __future__ import annotations

import functools
import itertools
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from classifier import Clip, ClipStore, metrics
from classifier.bundles.files import Weights
from classifier.reports.curves import read_curves
from classifier.training.config import LOSSES, OPTIMISERS, SCHEDULES, TrainingConfig
from classifier.training.examples import FrameExamples
from classifier.training.loop import Training, batch_size_for
from classifier.training.network import Network
from classifier.training.observers import TrainingProgress
from classifier.training.optimisers import learning_rate
from classifier.training.runs import Result, Run, read_arrays
from classifier.training.transfer import set_weights
from tests.support.paths import ROOT
from tests.support.training import (
    LABELS,
    assert_same_arrays,
    begun_run,
    examples_of,
    made_clips,
    small_config,
    split_clips,
    stop_after,
)
from vggish.errors import FrameFileError, RunError, TrainingError

N_CLASSES = len(LABELS)
SMALL_HEADS: dict[str, dict[str, object]] = {
    "logistic": {},
    "feature-attention": {"units": 16, "layers": 1},
    "gru": {"units": 8, "dense": 0, "bidirectional": False, "pooling": "last"},
}


@pytest.fixture(scope="module")
def data() -> tuple[FrameExamples, FrameExamples]:
    return split_clips(made_clips())


def trained(
    directory: Path,
    config: TrainingConfig,
    data: tuple[FrameExamples, FrameExamples | None],
    **options: Any,
) -> tuple[Run, Result]:
    run = Run(directory) if options.get("resume") else begun_run(directory, config)
    training, validation = data
    calls = {name: options.pop(name) for name in ("observers", "should_stop") if name in options}
    return run, Training(config, training, validation, run, **options).run(**calls)


def weights_in(path: Path) -> Weights:
    return read_arrays(path)[0]


def curve(run: Run, column: str) -> list[float]:
    return [row[column] for row in read_curves(run.curves)]


class Watcher:
    """Observer that records its calls and raises at a given epoch or step."""

    def __init__(self, die_after_epoch: int = 0, die_after_steps: int = 0) -> None:
        self.steps: list[TrainingProgress] = []
        self.epochs: list[tuple[Mapping[str, float], bool]] = []
        self._die_after_epoch, self._die_after_steps = die_after_epoch, die_after_steps

    def on_step(self, progress: TrainingProgress) -> None:
        self.steps.append(progress)
        if len(self.steps) == self._die_after_steps:
            raise KeyboardInterrupt

    def on_epoch(self, row: Mapping[str, float], is_best: bool) -> None:
        self.epochs.append((row, is_best))
        if len(self.epochs) == self._die_after_epoch:
            raise KeyboardInterrupt


class Gathered:
    """Record which clips are gathered from stores, and how, including for validation."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[tuple[list[int], int | None, str]] = []
        gather = ClipStore.gather

        def noting(
            store: ClipStore,
            indices: Any,
            n_frames: int | None = None,
            sampling: str = "all",
            rng: np.random.Generator | None = None,
        ) -> Any:
            self.calls.append((list(indices), n_frames, sampling))
            return gather(store, indices, n_frames, sampling, rng)

        monkeypatch.setattr(ClipStore, "gather", noting)

    def epochs(self, n_steps: int) -> list[list[int]]:
        """Return the training clips of each epoch, in order."""
        steps = [indices for indices, _, _ in self.calls]
        return [
            list(itertools.chain.from_iterable(steps[start : start + n_steps]))
            for start in range(0, len(steps), n_steps)
        ]


def prescribe_scores(monkeypatch: pytest.MonkeyPatch, scores: Sequence[float]) -> None:
    """Make validation return these mAPs, one per epoch."""
    left = iter(scores)
    monkeypatch.setattr(metrics, "evaluate", lambda *_: {"mAP": next(left)})


EVERYTHING = {"mixup": 0.5, "frame_masking": 0.2, "balance": 0.5, "ema": 0.99, "epochs": 3}
RESUMED = {
    "logistic": small_config(**EVERYTHING, sampling="random", n_frames=3),
    "feature-attention": small_config(
        **EVERYTHING,
        head="feature-attention",
        settings=SMALL_HEADS["feature-attention"],
        optimiser="adamw",
        weight_decay=0.01,
        schedule="flat-cosine",
    ),
    "gru": small_config(
        **{**EVERYTHING, "balance": 0, "mixup": 0},
        head="gru",
        settings=SMALL_HEADS["gru"],
        n_frames=2,
    ),
}


@pytest.fixture(scope="module")
def uninterrupted(
    data: tuple[FrameExamples, FrameExamples], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], tuple[Run, Result]]:
    """Return a function that trains a config of `RESUMED`, once per name."""

    @functools.cache
    def uninterrupted(name: str) -> tuple[Run, Result]:
        return trained(tmp_path_factory.mktemp(name) / "run", RESUMED[name], data)

    return uninterrupted


# --- Learning ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", RESUMED)
def test_head_learns_separable_classes(
    uninterrupted: Callable[[str], tuple[Run, Result]], name: str
) -> None:
    run, result = uninterrupted(name)
    assert result.metrics["mAP"] > 0.9
    assert (result.is_finished, result.n_epochs) == (True, 3)
    assert run.is_finished
    assert curve(run, "loss")[-1] < curve(run, "loss")[0]


def test_saved_metrics_match_the_saved_weights(
    tmp_path: Path, data: tuple[FrameExamples, FrameExamples]
) -> None:
    config = small_config(head="feature-attention", settings=SMALL_HEADS["feature-attention"])
    run, result = trained(tmp_path / "run", config, data)
    network = Network([config], N_CLASSES)
    set_weights(network.model, weights_in(run.best))
    store, indices = data[1].store, data[1].indices
    scores = network.scores(*store.gather(indices))
    found = metrics.evaluate(scores, store.label_matrix(indices, N_CLASSES))
    for name in ("mAP", "mAUC", "GAP"):
        assert result.metrics[name] == pytest.approx(found[name], abs=1e-6)
        assert run.metrics()[name] == result.metrics[name]
    assert run.metrics()["epoch"] == result.best_epoch
    kept = run.read_validation()
    assert kept is not None
    assert list(kept.ids) == [store.ids[index] for index in indices]
    np.testing.assert_allclose(kept.scores, scores, atol=1e-6)
    np.testing.assert_array_equal(kept.truth, store.label_matrix(indices, N_CLASSES))


def test_weights_depend_on_the_seed(
    tmp_path: Path, data: tuple[FrameExamples, FrameExamples]
) -> None:
    one, _ = trained(tmp_path / "one", small_config(), data)
    same, _ = trained(tmp_path / "same", small_config(), data)
    assert_same_arrays(one.state, same.state)
    other, _ = trained(tmp_path / "other", small_config(seed=1), data)
    weights, others = (weights_in(run.best)["classes/0"] for run in (one, other))
    assert np.abs(weights - others).mean() > 0.01


def test_new_head_starts_at_class_frequencies(
    tmp_path: Path, data: tuple[FrameExamples, FrameExamples]
) -> None:
    rare = [clip for clip in made_clips(200) if clip.labels != (0,) or clip.clip_id.endswith("0")]
    config = small_config(epochs=1, learning_rate=1e-6, ema=0)
    run, _ = trained(tmp_path / "run", config, (split_clips(rare)[0], None))
    labels = split_clips(rare)[0]
    shares = labels.store.label_matrix(labels.indices, N_CLASSES).mean(0)
    bias = weights_in(run.best)["classes/1"]
    np.testing.assert_allclose(1 / (1 + np.exp(-bias)), shares, atol=1e-3)


# --- Batches -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        *({"loss": loss} for loss in LOSSES),
        *({"optimiser": name, "weight_decay": 0.01} for name in OPTIMISERS[1:]),
        *({"schedule": schedule} for schedule in SCHEDULES if schedule != "cosine"),
        {"precision": "bfloat16"},
        {
            "precision": "bfloat16",
            "head": "feature-attention",
            "settings": SMALL_HEADS["feature-attention"],
        },
        {"class_weights": "balanced", "label_smoothing": 0.1, "frame_masking": 0.3},
        {"clip_norm": 0.1, "mixup": 0, "ema": 0},
        {"sampling": "run", "n_frames": 2},
        *(
            {
                "head": kind,
                "settings": {"units": 8},
                "sampling": "run",
                "n_frames": 1,
                "clip_norm": 1,
            }
            for kind in ("gru", "lstm")
        ),
    ],
    ids=lambda changes: " ".join(f"{v}" for v in changes.values() if not isinstance(v, dict)),
)
def test_each_training_option_learns(
    tmp_path: Path, data: tuple[FrameExamples, FrameExamples], changes: dict[str, Any]
) -> None:
    run, result = trained(tmp_path / "run", small_config(epochs=1, **changes), data)
    assert result.metrics["mAP"] > 0.5  # chance is 0.25
    assert all(math.isfinite(value) for value in read_curves(run.curves)[0].values())
    assert all(np.isfinite(array).all() for array in weights_in(run.best).values())
    assert all(array.dtype == np.float32 for array in weights_in(run.best).values())


def test_learning_rates_follow_the_schedule(
    tmp_path: Path, data: tuple[FrameExamples, FrameExamples]
) -> None:
    config = small_config(epochs=3, schedule="exponential", decay_examples=50, decay_rate=0.5)
    run, _ = trained(tmp_path / "run", config, data)
    n_steps = len(data[0]) // 16
    expected = [learning_rate(config, n * n_steps - 1, 3 * n_steps, 16) for n in (1, 2, 3)]
    assert curve(run, "learning_rate") == pytest.approx(expected)
    assert expected[0] > expected[1] > expected[2]


def test_epoch_uses_each_clip_once_in_a_new_order(
    tmp_path: Path, data: tuple[FrameExamples, FrameExamples], monkeypatch: pytest.MonkeyPatch
) -> None:
    gathered = Gathered(monkeypatch)
    trained(tmp_path / "run", small_config(batch_size=20), (data[0], None))
    first, second = gathered.epochs(n_steps=6)
    assert sorted(first) == sorted(second) == data[0].indices.tolist()
    assert first != second


def test_balanced_sampling_draws_rare_classes_more_often(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips = made_clips(400)
    rare = [clip for number, clip in enumerate(clips) if clip.labels != (3,) or number < 40]
    store = ClipStore.from_clips(rare)
    share = np.mean([clip.labels == (3,) for clip in rare])
    assert share < 0.04
    gathered = Gathered(monkeypatch)
    training = FrameExamples(store, np.arange(len(store)), N_CLASSES)
    trained(tmp_path / "run", small_config(balance=1, epochs=3), (training, None))
    drawn = list(itertools.chain.from_iterable(gathered.epochs(n_steps=1)))
    assert np.mean([store[index].labels == (3,) for index in drawn]) == pytest.approx(0.25, abs=0.1)


def test_frames_are_sampled_in_training_but_not_in_validation(
    tmp_path: Path, data: tuple[FrameExamples, FrameExamples], monkeypatch: pytest.MonkeyPatch
) -> None:
    gathered = Gathered(monkeypatch)
    config = small_config(epochs=1, sampling="random", n_frames=3)
    trained(tmp_path / "run", config, data)
    *steps, validation = gathered.calls
    assert {(n_frames, sampling) for _, n_frames, sampling in steps} == {(3, "random")}
    assert validation == (data[1].indices.tolist(), 4, "all")


@pytest.mark.parametrize(
    ("asked", "n_clips", "expected"),
    [(0, 100_000, 128), (0, 1000, 50), (0, 100, 8), (0, 5, 5), (64, 1000, 64), (64, 10, 10)],
)
def test_small_data_gets_small_batches(asked: int, n_clips: int, expected: int) -> None:
    assert batch_size_for(small_config(batch_size=asked), n_clips) == expected


# --- Saved weights and curves ------------------------------------------------------------


def test_weights_of_the_best_epoch_are_kept(
    tmp_path: Path, data: tuple[FrameExamples, FrameExamples], monkeypatch: pytest.MonkeyPatch
) -> None:
    prescribe_scores(monkeypatch, [0.3, 0.9, 0.9])
    watcher = Watcher()
    run, result = trained(tmp_path / "run", small_config(epochs=3), data, observers=[watcher])
    assert result.best_epoch == 2
    assert result.metrics["mAP"] == 0.9
    first, second, third = (weights_in(path)["classes/0"] for path in run.checkpoints())
    best = weights_in(run.best)["classes/0"]
    np.testing.assert_array_equal(best, second)
    assert not np.array_equal(best, first)
    assert not np.array_equal(best, third)
    assert [is_best for _, is_best in watcher.epochs] == [True, True, False]


def test_only_the_latest_checkpoints_are_kept(
    tmp_path: Path, data: tuple[FrameExamples, FrameExamples]
) -> None:
    run, _ = trained(tmp_path / "run", small_config(epochs=5, batch_size=60), data)
    names = [path.name for path in run.checkpoints()]
    assert names == ["epoch-0003.npz", "epoch-0004.npz", "epoch-0005.npz"]


def test_training_stops_early_without_improvement(
    tmp_path: Path, data: tuple[FrameExamples, FrameExamples], monkeypatch: pytest.MonkeyPatch
) -> None:
    prescribe_scores(monkeypatch, [0.2, 0.8, 0.7, math.nan])
    config = small_config(epochs=9, patience=2, batch_size=60)
    run, result = trained(tmp_path / "run", config, data)
    assert (result.best_epoch, result.n_epochs, result.is_finished) == (2, 4, True)
    _, again = trained(run.directory, config, data, resume=True)
    assert again == result


def test_last_epoch_is_kept_without_validation(
    tmp_path: Path, data: tuple[FrameExamples, FrameExamples]
) -> None:
    config = small_config(epochs=3, patience=1)
    run, result = trained(tmp_path / "run", config, (data[0], None))
    assert (result.best_epoch, result.n_epochs, dict(result.metrics)) == (3, 3, {})
    assert_same_arrays(run.best, run.checkpoints()[-1])
    assert all(math.isnan(value) for value in curve(run, "mAP"))


def test_moving_average_is_saved_as_the_best_weights(
    tmp_path: Path, data: tuple[FrameExamples, FrameExamples]
) -> None:
    training = (data[0], None)
    averaged, _ = trained(tmp_path / "averaged", small_config(ema=0.9), training)
    plain, _ = trained(tmp_path / "plain", small_config(ema=0), training)
    weights = weights_in(plain.best)["classes/0"]
    np.testing.assert_array_equal(weights, weights_in(plain.state)["model/0"])
    # Training is unaffected; only the saved weights differ.
    np.testing.assert_array_equal(weights, weights_in(averaged.state)["model/0"])
    kept = weights_in(averaged.best)["classes/0"]
    np.testing.assert_array_equal(kept, weights_in(averaged.state)["average/0"])
    assert 0 < np.abs(kept - weights).max() < 0.5


def test_curves_have_one_row_per_epoch(
    tmp_path: Path, data: tuple[FrameExamples, FrameExamples]
) -> None:
    watcher = Watcher()
    run, _ = trained(tmp_path / "run", small_config(), data, observers=[watcher])
    rows = read_curves(run.curves)
    assert [row["epoch"] for row in rows] == [1, 2]
    n_steps = len(data[0]) // 16
    assert [row["examples"] for row in rows] == [n_steps * 16, n_steps * 32]
    assert 0 < rows[0]["seconds"] < rows[1]["seconds"]
    for row, (told, _) in zip(rows, watcher.epochs, strict=True):
        assert row == {name: pytest.approx(value, rel=1e-6) for name, value in told.items()}


def test_observer_is_called_after_each_step(
    tmp_path: Path, data: tuple[FrameExamples, FrameExamples]
) -> None:
    watcher = Watcher()
    trained(tmp_path / "run", small_config(), data, observers=[watcher])
    n_steps = len(data[0]) // 16
    places = [(told.epoch, told.step) for told in watcher.steps]
    assert places == [(epoch, step + 1) for epoch in (1, 2) for step in range(n_steps)]
    last, first = watcher.steps[-1], watcher.steps[0]
    assert (last.n_epochs, last.n_steps, last.seconds_left) == (2, n_steps, 0)
    assert math.isnan(first.mean_average_precision)
    assert last.mean_average_precision == watcher.epochs[0][0]["mAP"]
    assert last.loss == pytest.approx(watcher.epochs[1][0]["loss"])
    assert first.seconds_left > 0
    assert first.examples_per_second > 0


# --- Stopping and resuming ---------------------------------------------------------------


def assert_same_run(found: tuple[Run, Result], expected: tuple[Run, Result]) -> None:
    assert found[1] == expected[1]
    assert_same_arrays(found[0].state, expected[0].state)
    assert_same_arrays(found[0].best, expected[0].best)
    for column in ("epoch", "examples", "learning_rate", "loss", "val_loss", "mAP"):
        assert curve(found[0], column) == curve(expected[0], column)


@pytest.mark.parametrize("name", RESUMED)
def test_run_stopped_within_an_epoch_resumes_exactly(
    tmp_path: Path,
    data: tuple[FrameExamples, FrameExamples],
    uninterrupted: Callable[[str], tuple[Run, Result]],
    name: str,
) -> None:
    config = RESUMED[name]
    run, stopped = trained(tmp_path / "run", config, data, should_stop=stop_after(10))
    assert (stopped.is_finished, stopped.n_epochs) == (False, 1)
    assert not run.is_finished
    resumed = trained(run.directory, config, data, resume=True)
    assert_same_run(resumed, uninterrupted(name))


# The gru is omitted: it compiles slowly and is covered above.
@pytest.mark.parametrize("name", ["logistic", "feature-attention"])
def test_killed_run_resumes_from_its_last_state(
    tmp_path: Path,
    data: tuple[FrameExamples, FrameExamples],
    uninterrupted: Callable[[str], tuple[Run, Result]],
    name: str,
) -> None:
    config, directory = RESUMED[name], tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        trained(directory, config, data, observers=[Watcher(die_after_epoch=1)])
    with pytest.raises(KeyboardInterrupt):
        trained(directory, config, data, resume=True, observers=[Watcher(die_after_steps=3)])
    resumed = trained(directory, config, data, resume=True)
    assert_same_run(resumed, uninterrupted(name))


def test_state_is_saved_within_long_epochs(
    tmp_path: Path, data: tuple[FrameExamples, FrameExamples], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("classifier.training.loop._STATE_SECONDS", 0.0)
    directory = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        trained(directory, small_config(), data, observers=[Watcher(die_after_steps=4)])
    assert read_arrays(Run(directory).state)[1]["step_of_epoch"] == 3


def test_run_stopped_before_its_first_step_can_be_resumed(
    tmp_path: Path, data: tuple[FrameExamples, FrameExamples]
) -> None:
    config = small_config(epochs=1)
    run, stopped = trained(tmp_path / "run", config, data, should_stop=stop_after(0))
    assert (stopped.n_epochs, stopped.best_epoch) == (0, 0)
    assert not run.best.exists()
    _, result = trained(run.directory, config, data, resume=True)
    assert result.is_finished


def test_state_of_another_head_is_rejected(
    tmp_path: Path, data: tuple[FrameExamples, FrameExamples]
) -> None:
    run, _ = trained(tmp_path / "run", small_config(epochs=1), data)
    with pytest.raises(RunError, match="does not fit this head"):
        trained(run.directory, small_config(epochs=1, head="moe"), data, resume=True)


def test_run_without_a_state_cannot_be_resumed(
    tmp_path: Path, data: tuple[FrameExamples, FrameExamples]
) -> None:
    run = begun_run(tmp_path / "run", small_config())
    with pytest.raises(RunError, match="stopped before its first checkpoint"):
        trained(run.directory, small_config(), data, resume=True)


# --- Invalid data ------------------------------------------------------------------------


def test_nan_loss_stops_training_and_reports_the_step(
    tmp_path: Path, data: tuple[FrameExamples, FrameExamples], monkeypatch: pytest.MonkeyPatch
) -> None:
    n_steps = len(data[0]) // 16
    rate_of = {n_steps + 1: math.inf}
    monkeypatch.setattr(
        "classifier.training.loop.learning_rate", lambda config, step, *_: rate_of.get(step, 0.01)
    )
    with pytest.raises(TrainingError, match=r"in epoch 2, step 3; .*--learning-rate"):
        trained(tmp_path / "run", small_config(mixup=0), data)
    kept = Run(tmp_path / "run")
    assert read_arrays(kept.state)[1]["epoch"] == 2
    assert np.isfinite(weights_in(kept.best)["classes/0"]).all()


def test_training_without_clips_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no clips"):
        trained(tmp_path / "run", small_config(), (examples_of([]), None))


@pytest.mark.parametrize("labels", [None, ()])
def test_training_without_labels_is_rejected(tmp_path: Path, labels: Any) -> None:
    clips = [Clip(clip.clip_id, clip.frames, labels) for clip in made_clips(20)]
    with pytest.raises(TrainingError, match="no training clip has a label"):
        trained(tmp_path / "run", small_config(), (examples_of(clips), None))


def test_label_out_of_range_error_names_the_clip() -> None:
    clips = made_clips(20)
    clips[7] = Clip("odd one", clips[7].frames, (N_CLASSES,))
    with pytest.raises(FrameFileError, match="'odd one' has the label 4"):
        examples_of(clips)


def test_invalid_validation_clips_are_found_before_training(
    tmp_path: Path, data: tuple[FrameExamples, FrameExamples]
) -> None:
    watcher = Watcher()
    with pytest.raises(TrainingError, match="no validation clip has a label"):
        trained(tmp_path / "none", small_config(), (data[0], examples_of([])), observers=[watcher])
    assert not watcher.steps


# --- Several GPUs ------------------------------------------------------------------------

TWO_REPLICAS = """
import json, sys
from pathlib import Path
from classifier.heads.backend import tf

devices = [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], devices)

import classifier.training.loop
from classifier.reports.curves import read_curves
from classifier.training.loop import Training
from tests.support.training import begun_run, made_clips, small_config, split_clips, stop_after

def losses(name, config, **options):
    run = begun_run(Path(sys.argv[1]) / name, config)
    if options:
        Training(config, *data, run).run(**options)
    result = Training(config, *data, run, resume=bool(options)).run()
    rows = read_curves(run.curves)
    return [row["loss"] for row in rows], result.metrics["mAP"]

data = split_clips(made_clips())
plain = small_config(mixup=0, clip_norm=0.05)
found = {"one": losses("one", plain)}
two = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
classifier.training.loop.make_strategy = lambda: two
found["two"] = losses("two", plain)
settings = {"units": 16, "layers": 1}
full = small_config(head="feature-attention", settings=settings)
found["full"] = losses("full", full)
found["resumed"] = losses("resumed", full, should_stop=stop_after(10))
print(json.dumps(found))
"""


@pytest.mark.slow
def test_two_replicas_train_like_one(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", TWO_REPLICAS, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    losses, score = found["one"]
    assert losses[-1] < losses[0]
    assert found["two"][0] == pytest.approx(losses, rel=1e-4)
    assert found["two"][1] == pytest.approx(score, abs=1e-3)
    losses, score = found["full"]
    assert losses[-1] < losses[0]
    assert score > 0.9
    assert found["resumed"][0] == pytest.approx(losses, rel=1e-4)
