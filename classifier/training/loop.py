"""Training a head: epochs of steps, validation, the best weights kept, all of it resumable."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from classifier import metrics
from classifier.bundles.files import Weights
from classifier.frame_data.clip_store import ClipStore
from classifier.heads.backend import keras, tf
from classifier.heads.build import build_head
from classifier.heads.settings import MAX_UNROLLED_FRAMES, RecurrentSettings
from classifier.reports.curves import CurveWriter, read_curves
from classifier.reports.curves_plot import plot_curves
from classifier.reports.tensorboard import TensorBoardWriter
from classifier.training.augment import augment, draw
from classifier.training.config import TrainingConfig
from classifier.training.losses import make_loss
from classifier.training.network import Network
from classifier.training.optimisers import MovingAverage, learning_rate, make_optimiser
from classifier.training.runs import Run, read_arrays, write_arrays
from classifier.training.transfer import set_weights, start_at_shares, weights_of
from vggish.errors import MissingPackageError, RunError, TrainingError

# A clip's frames beyond these are left out, as YouTube-8M's are.
MAX_FRAMES = 300

# Small data gets small batches, for the sake of enough steps.
_BATCH_SIZE, _LEAST_STEPS = 128, 20

# More epochs than these overfit AudioSet's balanced set; small data gets more of them.
_TOTAL_STEPS, _EPOCHS = 1500, (5, 50)

# Two numbers are fitted to these; more clips would not make them better.
_CALIBRATION_CLIPS = 2000

# A run that is killed loses no more than this.
_STATE_SECONDS = 300.0

_CURVES = (
    "epoch", "examples", "seconds", "learning_rate", "loss", "val_loss", "mAP", "mAUC", "lwlrap",
    "GAP", "Hit@1",
)  # fmt: skip

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Clips:
    """Some clips of a store."""

    store: ClipStore
    indices: Indices

    def __len__(self) -> int:
        return len(self.indices)


@dataclass(frozen=True)
class Progress:
    """Where training is.

    Attributes:
        epoch: counted from 1, of `n_epochs`.
        step: of the epoch, counted from 1, of `n_steps`.
        loss: mean of this epoch so far.
        examples_per_second: of this epoch so far.
        mean_average_precision: of the last validation; NaN before the first.
        seconds_left: for training, if it does not stop early.
    """

    epoch: int
    n_epochs: int
    step: int
    n_steps: int
    loss: float
    examples_per_second: float
    mean_average_precision: float
    seconds_left: float


class Observer(Protocol):
    """Who watches."""

    def progress(self, progress: Progress) -> None:
        """Called after each step."""

    def epoch(self, row: Mapping[str, float], is_best: bool) -> None:
        """Called after each epoch with its row of the learning curves."""


@dataclass(frozen=True)
class Result:
    """What training came to.

    Attributes:
        best_epoch: whose weights are kept.
        n_epochs: done in all.
        is_finished: False if it was stopped from outside.
        metrics: of the best weights on the validation clips, by name.
    """

    best_epoch: int
    n_epochs: int
    is_finished: bool
    metrics: Mapping[str, float]


def train(
    config: TrainingConfig,
    n_classes: int,
    training: Clips,
    validation: Clips | None,
    run: Run,
    *,
    initial: Callable[[Any], object] | None = None,
    resume: bool = False,
    observer: Observer | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Result:
    """Train a head and leave its best weights, its state and its curves in the run's directory.

    Args:
        config: how.
        n_classes: number of classes.
        training: labelled clips to learn from.
        validation: labelled clips to choose the best epoch by; None keeps the last epoch.
        run: whose directory has been begun.
        initial: gives the model weights to start from.
        resume: go on from the run's state, exactly as if it had never stopped.
        observer: is told of the progress.
        should_stop: asked after each step; True writes the state and returns.

    Raises:
        TrainingError: there are no clips or labels to learn from, or the loss is no number.
        RunError: the state to resume cannot be read, or the directory cannot be written.
        FrameFileError: a label is beyond `n_classes`.
        MissingPackageError: TensorFlow is not installed.
    """
    return Training(
        config, n_classes, training, validation, run, initial=initial, resume=resume
    ).run(observer, should_stop)


def check_labels(training: Clips, validation: Clips | None, n_classes: int) -> None:
    """Raise what `train` would raise of the labels of these clips; see there."""
    _labels(training, n_classes)
    if validation is not None:
        _truth(validation, n_classes)


def batch_size_for(config: TrainingConfig, n_clips: int) -> int:
    """The number of clips a step: the configuration's, or one that suits the data's size."""
    size = config.batch_size or max(8, min(_BATCH_SIZE, n_clips // _LEAST_STEPS))
    return min(size, n_clips)


def epochs_for(n_steps: int) -> int:
    """The number of epochs that suits epochs of so many steps."""
    return min(max(math.ceil(_TOTAL_STEPS / n_steps), _EPOCHS[0]), _EPOCHS[1])


class Training:
    """One run: the model, its optimiser, and where it is.

    Args and errors are those of `train`. The run's directory is written by `run` alone.
    """

    def __init__(
        self,
        config: TrainingConfig,
        n_classes: int,
        training: Clips,
        validation: Clips | None,
        run: Run,
        *,
        initial: Callable[[Any], object] | None = None,
        resume: bool = False,
    ) -> None:
        self._config, self._training, self._validation = config, training, validation
        self._directory = run
        self._labels = _labels(training, n_classes)
        self._truth = None if validation is None else _truth(validation, n_classes)
        self._probabilities = _probabilities(self._labels, config.balance)
        self._strategy = _strategy()
        n_replicas = self._strategy.num_replicas_in_sync
        size = batch_size_for(config, len(training))
        self._batch_size = max(n_replicas, size - size % n_replicas)
        self._n_steps = max(1, len(training) // self._batch_size)
        self._n_epochs = config.epochs or epochs_for(self._n_steps)
        self._n_frames = config.n_frames or min(training.store.longest, MAX_FRAMES)
        keras.utils.set_random_seed(config.seed)
        with _memory_in_words(config):
            with self._strategy.scope(), _precision(config.precision):
                self._model = build_head(
                    config.head, config.head_settings, n_classes, n_frames=self._n_frames
                )
                start_at_shares(self._model, self._labels.mean(0))
                if initial is not None:
                    initial(self._model)
                self._optimiser = make_optimiser(config, self._model.trainable_variables)
                self._average = MovingAverage(self._model, config.ema) if config.ema else None
                self._step = self._make_step()
            self._network = Network(config, n_classes)
        self._epoch, self._step_of_epoch, self._loss_sum, self._seconds = 1, 0, 0.0, 0.0
        self._best: dict[str, float] = {}
        self._scores = np.zeros((0, n_classes), np.float32)
        self._best_epoch = 0
        if resume:
            self._restore()

    def run(
        self, observer: Observer | None = None, should_stop: Callable[[], bool] = lambda: False
    ) -> Result:
        """Train in the run's directory, which has been begun; see `train`."""
        with _memory_in_words(self._config):
            return self._run(observer, should_stop)

    def _run(self, observer: Observer | None, should_stop: Callable[[], bool]) -> Result:
        run, resume_after = self._directory, self._epoch - 1
        self._curves = CurveWriter(run.curves, _CURVES, resume_after=resume_after)
        self._tensorboard = TensorBoardWriter(run.tensorboard, resume_after=resume_after)
        while self._epoch <= self._n_epochs and not self._has_stalled():
            if not self._run_epoch(observer, should_stop):
                self._save()
                return self._result(is_finished=False)
            row = self._close_epoch()
            if observer is not None:
                observer.epoch(row, self._best_epoch == int(row["epoch"]))
        result = self._result(is_finished=True)
        self._directory.write_metrics({"epoch": result.best_epoch, **_finite(result.metrics)})
        return result

    # --- an epoch ------------------------------------------------------------------------

    def _run_epoch(self, observer: Observer | None, should_stop: Callable[[], bool]) -> bool:
        """The rest of an epoch; False if it was stopped on the way."""
        order = self._order()
        first, started, saved = self._step_of_epoch, time.monotonic(), time.monotonic()
        while self._step_of_epoch < self._n_steps:
            if should_stop():
                self._seconds += time.monotonic() - started
                return False
            self._loss_sum += self._train_step(order)
            self._step_of_epoch += 1
            now = time.monotonic()
            if observer is not None:
                observer.progress(self._progress(self._step_of_epoch - first, now - started))
            if now - saved > _STATE_SECONDS:
                self._save()
                saved = now
        self._seconds += time.monotonic() - started
        return True

    def _train_step(self, order: Indices) -> float:
        n_done = (self._epoch - 1) * self._n_steps + self._step_of_epoch
        config, size = self._config, self._batch_size
        # Seeded by the step, so that a resumed run draws what it would have drawn.
        rng = np.random.default_rng((config.seed, 1, n_done))
        start = self._step_of_epoch * size
        chosen = order[start : start + size]
        n_steps = self._n_epochs * self._n_steps
        self._optimiser.learning_rate.assign(learning_rate(config, n_done, n_steps, size))
        n_replicas = self._strategy.num_replicas_in_sync
        parts = [self._batch(part, rng) for part in np.split(chosen, n_replicas)]
        loss = float(self._step(self._distributed(parts), tf.constant(n_done, tf.float32)))
        if not math.isfinite(loss):
            raise TrainingError(
                f"the loss became {loss} in epoch {self._epoch}, step {self._step_of_epoch + 1}; "
                "try a lower --learning-rate, or --clip-norm 1"
            )
        return loss

    def _order(self) -> Indices:
        """Which clips the steps of this epoch take, as positions in the training clips."""
        rng = np.random.default_rng((self._config.seed, 0, self._epoch))
        n = len(self._training)
        if self._probabilities is None:
            return np.asarray(rng.permutation(n), np.int64)
        return np.asarray(rng.choice(n, self._n_steps * self._batch_size, p=self._probabilities))

    def _batch(self, chosen: Indices, rng: np.random.Generator) -> dict[str, Any]:
        config = self._config
        indices = self._training.indices[chosen]
        frames, n_frames = self._training.store.gather(
            indices, self._n_frames, config.sampling, rng
        )
        choices = draw(config, len(chosen), self._n_frames, rng)
        labels = self._labels[chosen]
        return {"frames": frames, "n_frames": n_frames, "labels": labels, **choices}

    def _distributed(self, parts: Sequence[dict[str, Any]]) -> Any:
        if len(parts) == 1:
            return {name: tf.convert_to_tensor(value) for name, value in parts[0].items()}
        return self._strategy.experimental_distribute_values_from_function(
            lambda context: parts[context.replica_id_in_sync_group]
        )

    def _make_step(self) -> Any:
        config, model, optimiser = self._config, self._model, self._optimiser
        loss_of = make_loss(config, self._labels.mean(0))
        n_replicas = self._strategy.num_replicas_in_sync

        def replica_step(batch: dict[str, Any]) -> Any:
            batch = augment({**batch, "labels": tf.cast(batch["labels"], tf.float32)})
            with tf.GradientTape() as tape:
                logits = model(
                    {"frames": batch["frames"], "n_frames": batch["n_frames"]}, training=True
                )["logits"]
                loss = tf.reduce_mean(loss_of(batch["labels"], logits))
                total = (loss + sum(model.losses)) / n_replicas
            # Of one frame a recurrence has no earlier state to learn from.
            zero = tf.UnconnectedGradients.ZERO
            gradients = tape.gradient(total, model.trainable_variables, unconnected_gradients=zero)
            if config.clip_norm:
                # The norm of all replicas together, not of each.
                gradients = tf.distribute.get_replica_context().all_reduce("sum", gradients)
                gradients, _ = tf.clip_by_global_norm(gradients, config.clip_norm)
            optimiser.apply_gradients(
                zip(gradients, model.trainable_variables, strict=True),
                skip_gradients_aggregation=bool(config.clip_norm),
            )
            return loss

        def step(batch: dict[str, Any], n_done: Any) -> Any:
            losses = self._strategy.run(replica_step, args=(batch,))
            if self._average is not None:
                self._average.update(n_done)
            return self._strategy.reduce("MEAN", losses, axis=None)

        return tf.function(step, autograph=False, jit_compile=self._is_compiled() or None)

    def _is_compiled(self) -> bool:
        """Whether XLA makes the step faster: it does for short recurrences in float32 on CPUs."""
        return (
            isinstance(self._config.head_settings, RecurrentSettings)
            and self._n_frames <= MAX_UNROLLED_FRAMES
            and self._config.precision == "float32"
            and self._strategy.num_replicas_in_sync == 1
            and not tf.config.list_physical_devices("GPU")
        )

    # --- between epochs ------------------------------------------------------------------

    def _close_epoch(self) -> dict[str, float]:
        """Validate, keep the best weights, write curves and state; the row of the curves."""
        epoch, n_done = self._epoch, self._epoch * self._n_steps
        weights = self._averaged_weights()
        measured = self._validate(weights)
        row = {
            "epoch": float(epoch),
            "examples": float(n_done * self._batch_size),
            "seconds": self._seconds,
            "learning_rate": float(self._optimiser.learning_rate.numpy()),
            "loss": self._loss_sum / self._n_steps,
            **{name: measured[name] for name in _CURVES if name in measured},
        }
        if not self._best or _score(measured) > _score(self._best) or self._validation is None:
            self._best, self._best_epoch = measured, epoch
            write_arrays(self._directory.best, weights, {"epoch": epoch, "metrics": measured})
            self._keep_validation()
        self._directory.add_checkpoint(epoch, weights)
        self._curves.append(row)
        self._tensorboard.append(row)
        with contextlib.suppress(MissingPackageError):  # the picture alone needs matplotlib
            plot_curves(read_curves(self._directory.curves), self._directory.picture)
        self._epoch, self._step_of_epoch, self._loss_sum = epoch + 1, 0, 0.0
        self._save()
        return row

    def _validate(self, weights: Weights) -> dict[str, float]:
        if self._validation is None or self._truth is None:
            return {}
        set_weights(self._network.model, weights)
        store, indices = self._validation.store, self._validation.indices
        scores = np.concatenate(
            [
                self._network.scores(*store.gather(part, min(store.longest, MAX_FRAMES)))
                for part in np.array_split(indices, math.ceil(len(indices) / 1024))
            ]
        )
        self._scores = scores
        val_loss = _cross_entropy(scores, self._truth)
        return {**metrics.evaluate(scores, self._truth), "val_loss": val_loss}

    def _keep_validation(self) -> None:
        """Write what the best weights say of some validation clips, for the calibration."""
        if self._validation is None or self._truth is None:
            return
        n = len(self._scores)
        some = np.linspace(0, n - 1, min(n, _CALIBRATION_CLIPS)).astype(np.int64)
        ids = [self._validation.store.ids[index] for index in self._validation.indices[some]]
        self._directory.write_validation(self._scores[some], self._truth[some], ids)

    def _has_stalled(self) -> bool:
        waited = self._epoch - 1 - self._best_epoch
        return bool(self._config.patience) and waited >= self._config.patience

    def _averaged_weights(self) -> Weights:
        if self._average is None:
            return weights_of(self._model)
        self._average.swap()
        weights = weights_of(self._model)
        self._average.swap()
        return weights

    def _result(self, *, is_finished: bool) -> Result:
        return Result(self._best_epoch, self._epoch - 1, is_finished, self._best)

    def _progress(self, n_steps: int, seconds: float) -> Progress:
        n_left = (self._n_epochs - self._epoch + 1) * self._n_steps - self._step_of_epoch
        return Progress(
            self._epoch,
            self._n_epochs,
            self._step_of_epoch,
            self._n_steps,
            self._loss_sum / self._step_of_epoch,
            n_steps * self._batch_size / max(seconds, 1e-9),
            self._best.get("mAP", math.nan),
            n_left * seconds / n_steps,
        )

    # --- the state -----------------------------------------------------------------------

    def _variables(self) -> dict[str, Any]:
        """All that changes while training, by name; random layers' counters included."""
        named = {f"model/{i}": v for i, v in enumerate(self._model.weights)}
        named |= {f"optimiser/{i}": v for i, v in enumerate(self._optimiser.variables)}
        averages = self._average.averages if self._average is not None else []
        return named | {f"average/{i}": v for i, v in enumerate(averages)}

    def _save(self) -> None:
        meta = {
            "epoch": self._epoch,
            "step_of_epoch": self._step_of_epoch,
            "loss_sum": self._loss_sum,
            "seconds": self._seconds,
            "best": self._best,
            "best_epoch": self._best_epoch,
        }
        arrays = {name: variable.numpy() for name, variable in self._variables().items()}
        write_arrays(self._directory.state, arrays, meta)

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
        self._epoch, self._step_of_epoch = meta["epoch"], meta["step_of_epoch"]
        self._loss_sum, self._seconds = meta["loss_sum"], meta["seconds"]
        self._best, self._best_epoch = meta["best"], meta["best_epoch"]


def _labels(training: Clips, n_classes: int) -> npt.NDArray[np.bool_]:
    if not len(training):
        raise TrainingError("there are no clips to train on")
    labels = training.store.label_matrix(training.indices, n_classes)
    if not labels.any():
        raise TrainingError(
            "no training clip has a label; are these frames to predict from? Labels come with "
            "AudioSet's records, or by: audiotag embed --format tfrecord --labels labels.csv"
        )
    return labels


def _truth(validation: Clips, n_classes: int) -> npt.NDArray[np.bool_]:
    truth = validation.store.label_matrix(validation.indices, n_classes)
    if not truth.any():
        raise TrainingError(
            "no validation clip has a label, so the best epoch cannot be told; give others with "
            "--val, or train without validation: --val-share 0"
        )
    return truth


def _probabilities(labels: npt.NDArray[np.bool_], balance: float) -> npt.NDArray[np.float64] | None:
    """How likely each clip is drawn, by the number of clips of its rarest class."""
    if not balance:
        return None
    n_of_class = labels.sum(0)
    rarest = np.where(labels, n_of_class, len(labels)).min(1)
    weights = rarest.astype(np.float64) ** -balance
    probabilities: npt.NDArray[np.float64] = weights / weights.sum()
    return probabilities


def _strategy() -> Any:
    """All GPUs together when there are several, else what TensorFlow does by itself."""
    if len(tf.config.list_logical_devices("GPU")) > 1:
        return tf.distribute.MirroredStrategy()
    return tf.distribute.get_strategy()


@contextlib.contextmanager
def _memory_in_words(config: TrainingConfig) -> Iterator[None]:
    try:
        yield
    except (MemoryError, tf.errors.ResourceExhaustedError) as error:
        settings = ", ".join(f"{name}={value}" for name, value in config.settings.items())
        raise TrainingError(
            f"training the head {config.head} ({settings}) does not fit into memory; choose "
            "smaller settings with --set, or a smaller --batch-size"
        ) from error


@contextlib.contextmanager
def _precision(precision: str) -> Iterator[None]:
    """Layers made within compute in this precision; Keras keeps it in a global."""
    before = keras.mixed_precision.global_policy()
    if precision == "bfloat16":
        keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        yield
    finally:
        keras.mixed_precision.set_global_policy(before)


def _score(measured: Mapping[str, float]) -> float:
    value = measured.get("mAP", math.nan)
    return -math.inf if math.isnan(value) else value


def _cross_entropy(scores: npt.NDArray[np.float32], truth: npt.NDArray[np.bool_]) -> float:
    """The cross-entropy of scores, summed over classes, mean over clips."""
    right = np.where(truth, scores, 1 - scores).clip(1e-7)
    return float(-np.log(right).sum(1).mean()) if len(scores) else math.nan


def _finite(values: Mapping[str, float]) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in values.items()}
