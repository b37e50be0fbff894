"""The training loop: epochs of steps, validation, the best weights kept, all of it resumable."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from classifier import metrics
from classifier.bundles.files import Weights
from classifier.heads.backend import keras, tf
from classifier.heads.build import build_head
from classifier.reports.curves import CurveWriter
from classifier.tags.types import Scores
from classifier.training.config import TrainingConfig
from classifier.training.examples import Examples, Indices, LabelMatrix
from classifier.training.network import Network
from classifier.training.observers import Observer, TrainingProgress
from classifier.training.optimisers import MovingAverage, learning_rate, make_optimiser
from classifier.training.runs import Result, Run, read_arrays, write_arrays
from classifier.training.step import (
    layer_precision,
    make_step,
    make_strategy,
    out_of_memory_as_error,
)
from classifier.training.transfer import set_weights, start_at_shares, weights_of
from vggish.errors import RunError, TrainingError

# Later frames of a clip are left out, as in YouTube-8M.
MAX_FRAMES = 300
# Small data sets get smaller batches, so that an epoch has enough steps.
_BATCH_SIZE, _MIN_STEPS = 128, 20
# More epochs overfit AudioSet's balanced set; small data sets get more of them.
_TOTAL_STEPS, _EPOCHS = 1500, (5, 50)
# Enough to fit the two numbers of a calibration.
_CALIBRATION_CLIPS = 2000
_SCORED_AT_ONCE = 1024
# A killed run loses no more than this.
_STATE_SECONDS = 300.0

_CURVES = (
    *("epoch", "examples", "seconds", "learning_rate", "loss"),
    *("val_loss", "mAP", "mAUC", "lwlrap", "GAP", "Hit@1"),
)

ShouldStop = Callable[[], bool]


@dataclass
class _State:
    """The position of a run, saved beside the variables."""

    epoch: int = 1
    step_of_epoch: int = 0
    loss_sum: float = 0.0
    seconds: float = 0.0
    best: Mapping[str, float] = field(default_factory=dict)
    best_epoch: int = 0


def check_labels(training: Examples, validation: Examples | None) -> None:
    """Raise a `TrainingError` unless there are labels to learn from and to validate on."""
    if not len(training):
        raise TrainingError("there are no clips to train on")
    if not training.labels.any():
        raise TrainingError(
            "no training clip has a label; are these frames to predict from? Labels come with "
            "AudioSet's records, or by: audiotag embed --format tfrecord --labels labels.csv"
        )
    if validation is not None and not validation.labels.any():
        raise TrainingError(
            "no validation clip has a label, so the best epoch cannot be chosen; give others with "
            "--val, or train without validation: --val-share 0"
        )


def batch_size_for(config: TrainingConfig, n_clips: int) -> int:
    """The number of clips per step: the configured one, or one that suits the data set."""
    size = config.batch_size or max(8, min(_BATCH_SIZE, n_clips // _MIN_STEPS))
    return min(size, n_clips)


class Training:
    """The training of a head: its model, its optimiser and its position.

    `validation` chooses the best epoch; None keeps the last one. `initialise` is called with the
    new model, to set its initial weights; `resume` continues from the run's state, exactly as if it
    had never stopped.

    Raises a `TrainingError` if there is nothing to learn from, memory runs out, or the loss becomes
    infinite or NaN; a `RunError` if the state cannot be read, or the run cannot be written.
    """

    def __init__(
        self,
        config: TrainingConfig,
        training: Examples,
        validation: Examples | None,
        run: Run,
        *,
        initialise: Callable[[Any], object] | None = None,
        resume: bool = False,
    ) -> None:
        check_labels(training, validation)
        self._config, self._training, self._validation = config, training, validation
        self._directory, self._state = run, _State()
        self._probabilities = _probabilities(training.labels, config.balance)
        self._strategy = make_strategy()
        n_replicas = self._strategy.num_replicas_in_sync
        size = batch_size_for(config, len(training))
        self._batch_size = max(n_replicas, size - size % n_replicas)
        self._n_steps = max(1, len(training) // self._batch_size)
        some_epochs = min(max(math.ceil(_TOTAL_STEPS / self._n_steps), _EPOCHS[0]), _EPOCHS[1])
        self._n_epochs = config.epochs or some_epochs
        self._n_frames = config.n_frames or min(training.longest, MAX_FRAMES)
        n_classes = training.labels.shape[1]
        class_shares = training.labels.mean(0)
        keras.utils.set_random_seed(config.seed)
        with out_of_memory_as_error(config):
            with self._strategy.scope(), layer_precision(config.precision):
                settings, n_frames = config.head_settings, self._n_frames
                model = build_head(config.head, settings, n_classes, n_frames=n_frames)
                start_at_shares(model, class_shares)
                if initialise is not None:
                    initialise(model)
                self._model = model
                self._optimiser = make_optimiser(config, model.trainable_variables)
                self._average = MovingAverage(model, config.ema) if config.ema else None
                parts = model, self._optimiser, self._average, training.augment
                self._step = make_step(config, *parts, class_shares, n_frames)
            self._network = Network([config], n_classes)
        self._scores: Scores = np.zeros((0, n_classes), np.float32)
        if resume:
            self._restore()

    def run(
        self, observers: Sequence[Observer] = (), should_stop: ShouldStop = lambda: False
    ) -> Result:
        """Train, and write the best weights, state and curves to the run's directory.

        The directory has been begun. `should_stop` is called before each step; True saves the state
        and returns.
        """
        run, state = self._directory, self._state
        with out_of_memory_as_error(self._config):
            self._curves = CurveWriter(run.curves, _CURVES, resume_after=state.epoch - 1)
            while state.epoch <= self._n_epochs and not self._has_stalled():
                if not self._run_epoch(observers, should_stop):
                    self._save()
                    return self._result(is_finished=False)
                row = self._close_epoch()
                for observer in observers:
                    observer.on_epoch(row, state.best_epoch == int(row["epoch"]))
        result = self._result(is_finished=True)
        finite = {k: v if math.isfinite(v) else None for k, v in result.metrics.items()}
        run.write_metrics({"epoch": result.best_epoch, **finite})
        return result

    def _run_epoch(self, observers: Sequence[Observer], should_stop: ShouldStop) -> bool:
        """Run the rest of an epoch; False if it was stopped on the way."""
        state, order = self._state, self._order()
        first, started, saved = state.step_of_epoch, time.monotonic(), time.monotonic()
        while state.step_of_epoch < self._n_steps:
            if should_stop():
                state.seconds += time.monotonic() - started
                return False
            state.loss_sum += self._train_step(order)
            state.step_of_epoch += 1
            now = time.monotonic()
            if observers:
                progress = self._progress(state.step_of_epoch - first, now - started)
                for observer in observers:
                    observer.on_step(progress)
            if now - saved > _STATE_SECONDS:
                self._save()
                saved = now
        state.seconds += time.monotonic() - started
        return True

    def _train_step(self, order: Indices) -> float:
        state, config, size = self._state, self._config, self._batch_size
        n_done = (state.epoch - 1) * self._n_steps + state.step_of_epoch
        # Seeded by the step, so that a resumed run draws the same numbers.
        rng = np.random.default_rng((config.seed, 1, n_done))
        chosen = order[state.step_of_epoch * size :][:size]
        n_steps = self._n_epochs * self._n_steps
        self._optimiser.learning_rate.assign(learning_rate(config, n_done, n_steps, size))
        n_replicas = self._strategy.num_replicas_in_sync
        parts = [self._batch(part, rng) for part in np.split(chosen, n_replicas)]
        loss = float(self._step(self._distributed(parts), tf.constant(n_done, tf.float32)))
        if not math.isfinite(loss):
            raise TrainingError(
                f"the loss became {loss} in epoch {state.epoch}, step {state.step_of_epoch + 1}; "
                "try a lower --learning-rate, or --clip-norm 1"
            )
        return loss

    def _order(self) -> Indices:
        """The positions of the training examples that the steps of this epoch take."""
        rng = np.random.default_rng((self._config.seed, 0, self._state.epoch))
        n = len(self._training)
        if self._probabilities is None:
            return np.asarray(rng.permutation(n), np.int64)
        return np.asarray(rng.choice(n, self._n_steps * self._batch_size, p=self._probabilities))

    def _batch(self, chosen: Indices, rng: np.random.Generator) -> dict[str, Any]:
        examples, config, n_frames = self._training, self._config, self._n_frames
        inputs, lengths, labels = examples.gather(chosen, n_frames, config.sampling, rng)
        choices = examples.draw(config, len(chosen), n_frames, rng)
        return {"inputs": inputs, "lengths": lengths, "labels": labels, **choices}

    def _distributed(self, parts: Sequence[dict[str, Any]]) -> Any:
        if len(parts) == 1:
            return {name: tf.convert_to_tensor(value) for name, value in parts[0].items()}
        return self._strategy.experimental_distribute_values_from_function(
            lambda context: parts[context.replica_id_in_sync_group]
        )

    def _close_epoch(self) -> dict[str, float]:
        """Validate, keep the best weights, write curves and state; return the curves' row."""
        state, run = self._state, self._directory
        epoch = state.epoch
        weights = self._averaged_weights()
        measured = self._validate(weights)
        row = {
            "epoch": float(epoch),
            "examples": float(epoch * self._n_steps * self._batch_size),
            "seconds": state.seconds,
            "learning_rate": float(self._optimiser.learning_rate.numpy()),
            "loss": state.loss_sum / self._n_steps,
            **{name: measured[name] for name in _CURVES if name in measured},
        }
        if not state.best or _score(measured) > _score(state.best) or self._validation is None:
            state.best, state.best_epoch = measured, epoch
            write_arrays(run.best, weights, {"epoch": epoch, "metrics": measured})
            self._keep_validation()
        run.add_checkpoint(epoch, weights)
        self._curves.append(row)
        state.epoch, state.step_of_epoch, state.loss_sum = epoch + 1, 0, 0.0
        self._save()
        return row

    def _validate(self, weights: Weights) -> dict[str, float]:
        validation = self._validation
        if validation is None:
            return {}
        set_weights(self._network.model, weights)
        n, n_frames = len(validation), min(validation.longest, MAX_FRAMES)
        parts = np.array_split(np.arange(n), math.ceil(n / _SCORED_AT_ONCE))
        self._scores = np.concatenate(
            [self._network.scores(*validation.gather(part, n_frames)[:2]) for part in parts]
        )
        val_loss = _cross_entropy(self._scores, validation.labels)
        return {**metrics.evaluate(self._scores, validation.labels), "val_loss": val_loss}

    def _keep_validation(self) -> None:
        """Write the best weights' scores of some validation examples, for the calibration."""
        validation = self._validation
        if validation is None:
            return
        n = len(self._scores)
        some = np.linspace(0, n - 1, min(n, _CALIBRATION_CLIPS)).astype(np.int64)
        ids = validation.ids
        self._directory.write_validation(
            self._scores[some],
            validation.labels[some],
            [ids[position] for position in some.tolist()],
        )

    def _has_stalled(self) -> bool:
        n_without_progress = self._state.epoch - 1 - self._state.best_epoch
        return bool(self._config.patience) and n_without_progress >= self._config.patience

    def _averaged_weights(self) -> Weights:
        if self._average is None:
            return weights_of(self._model)
        self._average.swap()
        weights = weights_of(self._model)
        self._average.swap()
        return weights

    def _result(self, *, is_finished: bool) -> Result:
        state = self._state
        return Result(state.best_epoch, state.epoch - 1, is_finished, state.best)

    def _progress(self, n_steps: int, seconds: float) -> TrainingProgress:
        state = self._state
        n_left = (self._n_epochs - state.epoch + 1) * self._n_steps - state.step_of_epoch
        return TrainingProgress(
            epoch=state.epoch,
            n_epochs=self._n_epochs,
            step=state.step_of_epoch,
            n_steps=self._n_steps,
            loss=state.loss_sum / state.step_of_epoch,
            examples_per_second=n_steps * self._batch_size / max(seconds, 1e-9),
            mean_average_precision=state.best.get("mAP", math.nan),
            seconds_left=n_left * seconds / n_steps,
        )

    def _variables(self) -> dict[str, Any]:
        """All variables that training changes, by name; counters of random layers included."""
        named = {f"model/{i}": v for i, v in enumerate(self._model.weights)}
        named |= {f"optimiser/{i}": v for i, v in enumerate(self._optimiser.variables)}
        averages = self._average.averages if self._average is not None else []
        return named | {f"average/{i}": v for i, v in enumerate(averages)}

    def _save(self) -> None:
        arrays = {name: variable.numpy() for name, variable in self._variables().items()}
        write_arrays(self._directory.state, arrays, asdict(self._state))

    def _restore(self) -> None:
        arrays, meta = read_arrays(self._directory.state)
        variables = self._variables()
        shapes = {name: tuple(variable.shape) for name, variable in variables.items()}
        if shapes != {name: array.shape for name, array in arrays.items()}:
            raise RunError(
                f"{self._directory.state} does not fit this head; was it made by another version "
                "of audiotag or TensorFlow?"
            )
        for name, variable in variables.items():
            variable.assign(arrays[name])
        self._state = _State(**meta)


def _probabilities(labels: LabelMatrix, balance: float) -> npt.NDArray[np.float64] | None:
    """The probability of drawing each example, by the number of examples of its rarest class."""
    if not balance:
        return None
    n_of_class = labels.sum(0)
    rarest = np.where(labels, n_of_class, len(labels)).min(1)
    weights = rarest.astype(np.float64) ** -balance
    probabilities: npt.NDArray[np.float64] = weights / weights.sum()
    return probabilities


def _score(measured: Mapping[str, float]) -> float:
    value = measured.get("mAP", math.nan)
    return -math.inf if math.isnan(value) else value


def _cross_entropy(scores: npt.NDArray[np.float32], truth: LabelMatrix) -> float:
    """Cross-entropy, summed over classes, mean over clips."""
    right = np.where(truth, scores, 1 - scores).clip(1e-7)
    return float(-np.log(right).sum(1).mean()) if len(scores) else math.nan
