"""Heads: a contract that all share, and a numpy reference for each."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from classifier.bundles.files import Weights
from classifier.export import export
from classifier.heads.attention import Logit
from classifier.heads.backend import keras, tf
from classifier.heads.build import build_head
from classifier.heads.layers import (
    BatchNorm,
    Dequantise,
    Dropout,
    L2Normalise,
    TimeMax,
    TimeMean,
    TimeWeights,
)
from classifier.heads.recurrent import LastState, Reverse
from classifier.heads.settings import DEFAULT_HEAD, HEADS, head_settings
from classifier.heads.transformer import Positions
from classifier.heads.youtube8m import Mixture, SampleFrames
from classifier.labels import Labels
from classifier.training.config import TrainingConfig
from classifier.training.losses import make_loss
from classifier.training.runs import Run, read_arrays, write_arrays
from classifier.training.transfer import set_weights, weights_of
from vggish.errors import OptionError
from vggish.postprocess import dequantize

N_CLASSES = 5
TINY: dict[str, dict[str, object]] = {
    "gru": {"units": 16},
    "lstm": {"units": 16},
    "average": {"units": 16, "layers": 2},
    "max": {"units": 16, "layers": 2},
    "attention": {"units": 16, "layers": 2},
    "multi-level-attention": {"units": 16, "layers": 2},
    "feature-attention": {"units": 16, "layers": 2},
    "transformer": {"units": 16, "layers": 1},
    "logistic": {},
    "moe": {},
    "frame-logistic": {},
    "dbof": {"clusters": 32, "hidden": 16},
    "lstm-moe": {"units": 16},
}
VARIANTS: list[tuple[str, dict[str, object]]] = [
    ("gru", {"units": 16, "dense": 16, "bidirectional": True, "pooling": "feature-attention"}),
    ("gru", {"units": 16, "dense": 0, "bidirectional": False, "pooling": "last", "layers": 2}),
    ("gru", {"units": 16, "dense": 16, "bidirectional": False, "normalisation": "l2"}),
    ("lstm", {"units": 16, "bidirectional": True, "pooling": "last", "normalisation": "none"}),
    ("lstm", {"units": 16, "layers": 2, "pooling": "feature-attention", "dropout": 0}),
    ("transformer", {"units": 16, "attention_heads": 2, "pooling": "feature-attention"}),
    ("dbof", {"clusters": 32, "hidden": 16, "pooling": "average", "activation": "relu6"}),
    ("moe", {"mixtures": 3, "normalisation": "batch"}),
    ("frame-logistic", {"normalisation": "none"}),
]
CASES = [*TINY.items(), *VARIANTS]
# Heads whose exported graphs differ in structure.
EXPORTED = [*TINY.items(), *(case for case in VARIANTS if case[1].get("bidirectional"))]
SCORES_FRAMES = {
    "gru", "lstm", "average", "max", "attention", "feature-attention", "transformer",
    "logistic", "frame-logistic",
}  # fmt: skip
# Heads where a frame's score depends on that frame only.
FRAME_BY_FRAME = SCORES_FRAMES - {"gru", "lstm", "transformer"}
LENGTHS = np.array([12, 3, 1, 0, 7, 10], np.int32)


def named(case: tuple[str, dict[str, object]]) -> str:
    name, settings = case
    own = [] if settings is TINY[name] else [f"{key}={value}" for key, value in settings.items()]
    return "-".join([name, *own])


@pytest.fixture(scope="module", params=CASES, ids=map(named, CASES))
def case(request: pytest.FixtureRequest) -> tuple[str, dict[str, object]]:
    return request.param  # type: ignore[no-any-return]


def build(case: tuple[str, Mapping[str, object]], **options: Any) -> Any:
    name, values = case
    return build_head(name, head_settings(name, values), N_CLASSES, **options)


def stirred(model: Any) -> Any:
    """Randomise all weights of a model, including biases, scales and statistics."""
    rng = np.random.default_rng(5)
    weights = {}
    for name, value in weights_of(model).items():
        noise = rng.normal(size=value.shape).astype(np.float32)
        is_variance = name.endswith("/3") and "norm" in name
        weights[name] = value * np.exp(noise / 2) if is_variance else value + 0.2 * noise
    set_weights(model, weights)
    return model


@functools.cache
def _head(index: int) -> Any:
    return stirred(build(CASES[index], frame_scores=True))


@functools.cache
def _learner(index: int) -> Any:
    model = _head(index)
    return keras.Model(model.input, {"logits": model.output["logits"]})


@pytest.fixture
def learner(case: tuple[str, dict[str, object]]) -> Iterator[Any]:
    """Yield the same head built for training, without frame scores."""
    model = _learner(CASES.index(case))
    before = weights_of(model)
    yield model
    set_weights(model, before)


@pytest.fixture
def head(case: tuple[str, dict[str, object]]) -> Any:
    """Return the head of the case; seeded and shared, do not modify its weights."""
    return _head(CASES.index(case))


def codes(n: int, n_frames: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).integers(0, 256, (n, n_frames, 128)).astype(np.float32)


def run(model: Any, frames: Any, n_frames: Any, **options: Any) -> dict[str, Any]:
    inputs = {"frames": tf.constant(frames), "n_frames": tf.constant(n_frames, tf.int32)}
    return {name: value.numpy() for name, value in model(inputs, **options).items()}


def logits_of(model: Any, frames: Any, n_frames: Any, **options: Any) -> Any:
    return run(model, frames, n_frames, **options)["logits"]


def assert_near(got: Any, expected: Any, tolerance: float = 2e-5) -> None:
    np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance)


# --- The contract of all heads -----------------------------------------------------------


def test_logits_are_finite_and_differ_between_clips(head: Any) -> None:
    logits = logits_of(head, codes(6, 12), LENGTHS)
    assert (logits.shape, logits.dtype) == ((6, N_CLASSES), np.float32)
    assert np.isfinite(logits).all()
    assert np.ptp(logits, axis=0).min() > 1e-3


def test_saved_weights_give_the_same_logits_in_an_unrolled_head(
    case: tuple[str, dict[str, object]], head: Any, tmp_path: Path
) -> None:
    write_arrays(tmp_path / "w.npz", weights_of(head), {})
    weights, _ = read_arrays(tmp_path / "w.npz")
    frames, n_frames = codes(6, 6), np.minimum(LENGTHS, 6)
    expected = logits_of(head, frames, n_frames)
    written_out = build(case, n_frames=6)
    assert set(written_out.output) == {"logits"}  # frame logits are optional
    assert np.abs(logits_of(written_out, frames, n_frames) - expected).max() > 1e-3
    set_weights(written_out, weights)
    assert_near(logits_of(written_out, frames, n_frames), expected)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"bidirectional": True, "normalisation": "l2"},
        {"dense": 8, "layers": 2, "pooling": "last"},
    ],
    ids=["scaled", "not scaled", "dense first"],
)
@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_unrolled_recurrent_head_has_the_gradients_of_keras_layers(
    kind: str, settings: dict[str, object]
) -> None:
    keras.utils.set_random_seed(0)
    settings = {"units": 8, "dropout": 0, **settings}
    model = stirred(build((kind, settings)))
    weights = weights_of(model)
    for n_frames in (6, 1):
        lengths = np.minimum([6, 1, 0, 4], n_frames).astype(np.int32)
        # Rounding errors of one batch may be of any size; their mean over several is not.
        batches = [{"frames": codes(4, n_frames, seed), "n_frames": lengths} for seed in range(6)]
        exact, statistics = learnt_from(batches, model, weights)
        for precision, tolerance in (("float32", 1e-4), ("mixed_bfloat16", 0.05)):
            with policy(precision):
                heads = build((kind, settings)), build((kind, settings), n_frames=n_frames)
            (by_keras, _), (gradients, moved) = (
                learnt_from(batches, head, weights) for head in heads
            )
            # Normalising so few frames amplifies bfloat16 rounding in both implementations.
            allowed = tolerance * _norm(exact) + 2 * _apart(by_keras, exact)
            assert _apart(gradients, exact) <= allowed
            for name, value in moved.items():
                np.testing.assert_allclose(value, statistics[name], tolerance, tolerance / 10)


def _norm(gradients: list[Any]) -> float:
    return float(np.linalg.norm(np.concatenate([part.ravel() for part in gradients])))


def _apart(some: list[Any], others: list[Any]) -> float:
    return _norm([one - other for one, other in zip(some, others, strict=True)])


def learnt_from(batches: Any, model: Any, weights: Weights) -> tuple[list[Any], Weights]:
    """The gradients of each batch at the same weights, and the weights moved by the last one."""
    gradients: list[Any] = []
    for batch in batches:
        set_weights(model, weights)
        found, moved = learnt(model, batch)
        gradients += found
    return gradients, moved


def learnt(model: Any, batch: dict[str, Any]) -> tuple[list[Any], Weights]:
    """Return the gradients of one training step, and the weights with updated statistics."""
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(batch, training=True)["logits"] ** 2)
    zero = tf.UnconnectedGradients.ZERO
    gradients = tape.gradient(loss, model.trainable_variables, unconnected_gradients=zero)
    return [gradient.numpy() for gradient in gradients], weights_of(model)


def test_padding_does_not_change_scores(head: Any) -> None:
    frames = codes(6, 12)
    expected = run(head, frames, LENGTHS)
    for n_more, seed in ((0, 1), (1, 2), (9, 3)):
        padded = codes(6, 12 + n_more, seed)
        for row, n in zip(range(6), LENGTHS, strict=True):
            padded[row, :n] = frames[row, :n]
        got = run(head, padded, LENGTHS)
        assert_near(got["logits"], expected["logits"])
        if "frame_logits" in expected:
            for row, n in zip(range(6), LENGTHS, strict=True):
                assert_near(got["frame_logits"][row, :n], expected["frame_logits"][row, :n])


def test_batch_equals_clips_one_by_one(head: Any) -> None:
    frames = codes(6, 12)
    batch = logits_of(head, frames, LENGTHS)
    for row, n in enumerate(LENGTHS[:4]):
        single = logits_of(head, frames[row : row + 1, : max(1, n)], [n])
        assert_near(single, batch[row : row + 1])


def test_frame_order_matters_only_for_sequence_heads(
    case: tuple[str, dict[str, object]], head: Any
) -> None:
    frames = codes(1, 8)
    same = np.allclose(
        logits_of(head, frames, [8]), logits_of(head, frames[:, ::-1], [8]), atol=1e-5
    )
    assert same == (case[0] not in ("gru", "lstm", "lstm-moe", "transformer"))


def test_empty_clips_have_finite_logits_and_gradients(head: Any, learner: Any) -> None:
    assert np.isfinite(logits_of(head, codes(2, 4), [0, 0])).all()
    with tf.GradientTape() as tape:
        inputs = {"frames": tf.constant(codes(3, 4)), "n_frames": tf.constant([0, 2, 0])}
        total = tf.reduce_sum(learner(inputs, training=True)["logits"])
    for gradient in tape.gradient(total, learner.trainable_variables):
        assert np.isfinite(gradient.numpy()).all()


def test_frame_logits_are_returned_if_supported(
    case: tuple[str, dict[str, object]], head: Any
) -> None:
    outputs = run(head, codes(6, 12), LENGTHS)
    assert ("frame_logits" in outputs) == (case[0] in SCORES_FRAMES and _judges(case[1]))
    if "frame_logits" in outputs:
        assert outputs["frame_logits"].shape == (6, 12, N_CLASSES)
        assert outputs["frame_logits"].dtype == np.float32
        assert np.isfinite(outputs["frame_logits"]).all()


def _judges(settings: Mapping[str, object]) -> bool:
    return settings.get("pooling") != "last"


@pytest.mark.parametrize("name", sorted(FRAME_BY_FRAME))
def test_frame_score_equals_score_of_a_one_frame_clip(name: str) -> None:
    head = _head(CASES.index((name, TINY[name])))
    frames = codes(1, 6)
    judged = run(head, frames, [6])["frame_logits"][0]
    alone = logits_of(head, np.swapaxes(frames, 0, 1), np.ones(6))
    # Compare scores, since clip logits are limited by the precision of float32 near 1.
    np.testing.assert_allclose(sigmoid(judged), sigmoid(alone), atol=2e-6)


def test_randomness_is_active_only_in_training(
    case: tuple[str, dict[str, object]], learner: Any
) -> None:
    name, values = case
    frames, n_frames = codes(6, 12), LENGTHS
    first, second = (logits_of(learner, frames, n_frames) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    reset_chance(learner)
    first, second = (logits_of(learner, frames, n_frames, training=True) for _ in range(2))
    is_random = name == "dbof" or getattr(head_settings(name, values), "dropout", 0) > 0
    assert np.array_equal(first, second) == (not is_random)
    reset_chance(learner)
    again = logits_of(learner, frames, n_frames, training=True)
    np.testing.assert_array_equal(again, first)


def reset_chance(model: Any) -> None:
    """Reset random layers so that they repeat their first draws."""
    for weight in model.weights:
        if weight.dtype == tf.int32:
            weight.assign(0)


def test_training_steps_lower_the_loss(learner: Any) -> None:
    frames = tf.constant(codes(8, 6))
    n_frames = tf.constant([6, 5, 4, 3, 2, 1, 6, 6])
    labels = tf.constant(np.eye(N_CLASSES, dtype=np.float32)[np.arange(8) % N_CLASSES])
    loss_of = make_loss(TrainingConfig(), np.full(N_CLASSES, 0.2, np.float32))
    optimiser = keras.optimizers.Adam(0.01, jit_compile=False)
    losses = []
    for _ in range(4):
        reset_chance(learner)
        with tf.GradientTape() as tape:
            logits = learner({"frames": frames, "n_frames": n_frames}, training=True)["logits"]
            loss = tf.reduce_mean(loss_of(labels, logits)) + sum(learner.losses)
        gradients = tape.gradient(loss, learner.trainable_variables)
        assert all(gradient is not None for gradient in gradients)
        optimiser.apply_gradients(zip(gradients, learner.trainable_variables, strict=True))
        losses.append(float(loss))
    assert losses[1] < losses[0]
    assert losses[-1] < 0.98 * losses[0]


@contextlib.contextmanager
def policy(name: str) -> Iterator[None]:
    before = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy(name)
    try:
        yield
    finally:
        keras.mixed_precision.set_global_policy(before)


@pytest.mark.parametrize("name", HEADS)
def test_bfloat16_logits_are_close_to_float32(name: str) -> None:
    head = _head(CASES.index((name, TINY[name])))
    with policy("mixed_bfloat16"):
        coarse = build((name, TINY[name]))
    assert all(w.dtype in (tf.float32, tf.int32) for w in coarse.weights)
    set_weights(coarse, weights_of(head))
    got, expected = (logits_of(model, codes(6, 12), LENGTHS) for model in (coarse, head))
    assert got.dtype == np.float32
    assert np.abs(got - expected).max() < 0.05 * np.abs(expected).max()


@pytest.mark.parametrize("case", EXPORTED, ids=map(named, EXPORTED))
def test_exported_head_equals_keras_head(
    case: tuple[str, dict[str, object]], tmp_path: Path
) -> None:
    head = _head(CASES.index(case))
    config = TrainingConfig(head=case[0], settings=case[1])
    begun = Run(tmp_path / "run")
    labels = Labels(tuple("abcde"), ("",) * N_CLASSES)
    facts = {"sources": ["made"], "n_clips": 6, "fingerprint": "", "embedders": ["vggish"]}
    begun.begin(config, facts, labels, [])
    write_arrays(begun.best, weights_of(head), {})
    begun.write_sample(codes(6, 12).astype(np.uint8), LENGTHS)
    bundle = export([begun], tmp_path / "bundle")
    for n, time in ((1, 1), (3, 12), (2, 40)):  # batch and time are dynamic
        frames, n_frames = codes(n, time, seed=n), np.array([time, 0, 5][:n])
        expected = run(head, frames, n_frames)
        scores = bundle.scores(frames.astype(np.uint8), n_frames)
        np.testing.assert_allclose(scores, sigmoid(expected["logits"]), atol=1e-5)
        judged = bundle.frame_scores(frames.astype(np.uint8), n_frames)
        assert (judged is None) == ("frame_logits" not in expected)
        if judged is not None:
            for row, length in enumerate(n_frames):
                right = sigmoid(expected["frame_logits"][row, :length])
                np.testing.assert_allclose(judged[row, :length], right, atol=1e-5)


# --- Whole heads in numpy ----------------------------------------------------------------


def sigmoid(values: Any) -> Any:
    return 1 / (1 + np.exp(-np.asarray(values, np.float64)))


def logit(values: Any) -> Any:
    return np.log(values / (1 - values))


def unit(rows: Any) -> Any:
    return rows / np.sqrt((rows**2).sum(-1, keepdims=True))


class Reference:
    """Layers of a head for one unpadded clip, in float64."""

    def __init__(self, weights: Weights) -> None:
        self.weights = {name: value.astype(np.float64) for name, value in weights.items()}

    def dense(self, name: str, values: Any) -> Any:
        return values @ self.weights[f"{name}/0"] + self.weights.get(f"{name}/1", 0.0)

    def norm(self, name: str, values: Any) -> Any:
        gamma, beta, mean, variance = (self.weights[f"{name}/{i}"] for i in range(4))
        return (values - mean) / np.sqrt(variance + 1e-5) * gamma + beta

    def layer_norm(self, name: str, values: Any) -> Any:
        gamma, beta = self.weights[f"{name}/0"], self.weights[f"{name}/1"]
        centred = values - values.mean(-1, keepdims=True)
        return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-3) * gamma + beta

    def hidden(self, name: str, values: Any) -> Any:
        return np.maximum(0, self.norm(f"{name}_norm", self.dense(f"{name}_dense", values)))

    def class_attention(self, name: str, values: Any) -> Any:
        exponentials = np.exp(self.dense(f"classes_{name}_weights", values))
        weights = exponentials / exponentials.sum(0)
        return (weights * sigmoid(self.dense(f"classes_{name}", values))).sum(0)

    def feature_attention(self, values: Any) -> Any:
        weights = sigmoid(self.dense("attention", values))
        weights = weights / weights.sum(0)
        pooled = (weights * self.dense("features", values)).sum(0)
        return self.dense("classes", np.maximum(0, self.norm("features_norm", pooled)))

    def pooled(self, pooling: str, values: Any) -> Any:
        if pooling == "feature-attention":
            return self.feature_attention(values)
        return logit(self.class_attention("attention", values))

    def mixture(self, values: Any, mixtures: int) -> Any:
        gates = np.exp(self.dense("classes_gates", values).reshape(N_CLASSES, mixtures + 1))
        gates /= gates.sum(1, keepdims=True)
        experts = sigmoid(self.dense("classes_experts", values).reshape(N_CLASSES, mixtures))
        return logit((gates[:, :mixtures] * experts).sum(1))

    def gru(self, name: str, values: Any) -> Any:
        kernel, recurrent, biases = (self.weights[f"{name}/{i}"] for i in range(3))
        units = len(recurrent)
        state, states = np.zeros(units), []
        for x in values @ kernel + biases[0]:
            of_state = state @ recurrent + biases[1]
            update, reset = (
                sigmoid(x[k * units : (k + 1) * units] + of_state[k * units : (k + 1) * units])
                for k in (0, 1)
            )
            new = np.tanh(x[2 * units :] + reset * of_state[2 * units :])
            state = update * state + (1 - update) * new
            states.append(state)
        return np.array(states)

    def lstm(self, name: str, values: Any) -> Any:
        kernel, recurrent, bias = (self.weights[f"{name}/{i}"] for i in range(3))
        units = len(recurrent)
        state, cell, states = np.zeros(units), np.zeros(units), []
        for x in values @ kernel + bias:
            admit, forget, new, show = np.split(x + state @ recurrent, 4)
            cell = sigmoid(forget) * cell + sigmoid(admit) * np.tanh(new)
            state = sigmoid(show) * np.tanh(cell)
            states.append(state)
        return np.array(states)

    def both_ways(self, kind: str, name: str, values: Any) -> Any:
        layer = {"gru": self.gru, "lstm": self.lstm}[kind]
        backward = layer(f"{name}_backward", values[::-1])[::-1]
        return np.concatenate([layer(f"{name}_forward", values), backward], 1)

    def self_attention(self, name: str, values: Any) -> Any:
        """Weights in order: query, key, value, output; kernel then bias of each."""
        kernels, biases = (
            [self.weights[f"{name}/{i}"] for i in range(first, 8, 2)] for first in (0, 1)
        )
        output = 0
        for k in range(kernels[0].shape[1]):
            query, key, value = (values @ kernels[i][:, k] + biases[i][k] for i in range(3))
            exponentials = np.exp(query @ key.T / np.sqrt(query.shape[1]))
            weights = exponentials / exponentials.sum(1, keepdims=True)
            output = output + weights @ value @ kernels[3][k]
        return output + biases[3]

    def block(self, name: str, values: Any) -> Any:
        normed = self.layer_norm(f"{name}_attention_norm", values)
        values = values + self.self_attention(f"{name}_attention", normed)
        hidden = self.dense(f"{name}_dense1", self.layer_norm(f"{name}_dense_norm", values))
        return values + self.dense(f"{name}_dense2", np.maximum(0, hidden))


def positions(n: int, width: int) -> Any:
    return np.array(
        [
            [np.sin(t / 10_000 ** (2 * i / width)) for i in range(width // 2)]
            + [np.cos(t / 10_000 ** (2 * i / width)) for i in range(width // 2)]
            for t in range(n)
        ]
    )


def expected_logits(name: str, settings: Any, of: Reference, x: Any) -> Any:
    """Return the logits of one clip; `x` is float64 [n, 128], dequantised, with n > 0."""
    mean = x.mean(0)
    if name in ("logistic", "moe"):
        row = of.norm("normalise", mean) if settings.normalisation == "batch" else unit(mean)
        is_moe = name == "moe"
        return of.mixture(row, settings.mixtures) if is_moe else of.dense("classes", row)
    if settings.normalisation == "batch":
        x = of.norm("normalise", x)
    elif settings.normalisation == "l2":
        x = unit(x)
    if name == "frame-logistic":
        return of.dense("classes", x).mean(0)
    if name == "lstm-moe":
        for number in (1, 2):
            x = of.lstm(f"lstm{number}_forward", x)
        return of.mixture(x[-1], settings.mixtures)
    if name == "dbof":
        bound = {"sigmoid": sigmoid, "relu6": lambda v: v.clip(0, 6)}[settings.activation]
        x = of.dense("clusters", of.norm("input_norm", x))
        x = bound(of.norm("clusters_norm", x))
        bag = x.max(0) if settings.pooling == "max" else x.mean(0)
        hidden = bound(of.norm("hidden_norm", of.dense("hidden", bag)))
        return of.mixture(hidden, settings.mixtures)
    if name == "transformer":
        x = of.dense("input", x) + positions(len(x), settings.units)
        for number in range(1, settings.layers + 1):
            x = of.block(f"block{number}", x)
        return of.pooled(settings.pooling, of.layer_norm("output_norm", x))
    if name in ("gru", "lstm"):
        return _recurrent_logits(name, settings, of, x)
    levels = []
    for number in range(1, settings.layers + 1):
        x = of.hidden(f"hidden{number}", x)
        levels.append(of.class_attention(f"level{number}", x) if "multi" in name else None)
    if name == "multi-level-attention":
        return of.dense("classes", np.concatenate(levels))
    if name in ("feature-attention", "attention"):
        return of.pooled(name, x)
    frame_logits = of.dense("classes", x)
    return frame_logits.max(0) if name == "max" else logit(sigmoid(frame_logits).mean(0))


def _recurrent_logits(kind: str, settings: Any, of: Reference, x: Any) -> Any:
    if settings.dense:
        x = of.hidden("hidden1", x)
    for number in range(1, settings.layers + 1):
        if settings.bidirectional:
            x = of.both_ways(kind, f"{kind}{number}", x)
        else:
            x = getattr(of, kind)(f"{kind}{number}_forward", x)
    if settings.pooling == "last":
        # The backward layer ends at the first frame.
        units = settings.units
        ends = np.concatenate([x[-1, :units], x[0, units:]])
        return of.dense("classes", ends)
    return of.pooled(settings.pooling, x)


def test_each_head_matches_its_numpy_reference(
    case: tuple[str, dict[str, object]], head: Any
) -> None:
    name, values = case
    frames = codes(6, 12)
    logits = logits_of(head, frames, LENGTHS)
    reference = Reference(weights_of(head))
    for row, n in enumerate(LENGTHS):
        if n:
            real = frames[row, :n].astype(np.float64) * (4 / 255) + 4 / 512 - 2
            expected = expected_logits(name, head_settings(name, values), reference, real)
            assert_near(logits[row], expected, 2e-4)


# --- Layers ------------------------------------------------------------------------------


def mask_of(lengths: Any, n_frames: int) -> Any:
    return (np.arange(n_frames) < np.asarray(lengths)[:, None])[..., None].astype(np.float32)


def test_dequantise_layer_equals_dequantize_with_zero_padding() -> None:
    all_codes = np.arange(256, dtype=np.uint8).reshape(1, 2, 128)
    got = Dequantise()(all_codes.astype(np.float32), mask_of([2], 2)).numpy()
    np.testing.assert_allclose(got, dequantize(all_codes), atol=5e-7)
    assert not Dequantise()(all_codes.astype(np.float32), mask_of([1], 2)).numpy()[0, 1].any()
    # The layer is linear, so mixed codes are interpolated.
    between = Dequantise()(np.full((1, 1, 128), 3.25, np.float32), mask_of([1], 1)).numpy()
    np.testing.assert_allclose(between[0, 0], got[0, 0, 3] + 0.25 * 4 / 255, atol=5e-7)


def test_l2_normalisation_of_zeros_is_zero() -> None:
    rows = np.array([[3.0, 4.0], [0.0, 0.0]], np.float32)
    np.testing.assert_allclose(L2Normalise()(rows).numpy(), [[0.6, 0.8], [0, 0]], atol=1e-6)


def test_batch_norm_ignores_padding(rng: np.random.Generator) -> None:
    values = rng.normal(3, 2, (4, 6, 8)).astype(np.float32)
    lengths = np.array([6, 2, 0, 1])
    real = np.concatenate([values[row, :n] for row, n in enumerate(lengths)])
    for padding in (0.0, 1e4):
        norm = BatchNorm()
        given = np.where(mask_of(lengths, 6) > 0, values, padding).astype(np.float32)
        got = norm(given, mask=mask_of(lengths, 6), training=True).numpy()
        expected = (values - real.mean(0)) / np.sqrt(real.var(0) + 1e-5)
        for row, n in enumerate(lengths):
            np.testing.assert_allclose(got[row, :n], expected[row, :n], atol=1e-4)
        np.testing.assert_allclose(norm.mean.numpy(), 0.1 * real.mean(0), rtol=1e-5)
        np.testing.assert_allclose(norm.variance.numpy(), 0.9 + 0.1 * real.var(0), rtol=1e-5)
        before = norm.mean.numpy()
        got = norm(values, mask=mask_of(lengths, 6)).numpy()
        np.testing.assert_array_equal(norm.mean.numpy(), before)
        scale = 1 / np.sqrt(norm.variance.numpy() + 1e-5)
        np.testing.assert_allclose(got, (values - before) * scale, atol=1e-4)


def test_batch_norm_without_mask_uses_all_rows(rng: np.random.Generator) -> None:
    values = rng.normal(3, 2, (50, 8)).astype(np.float32)
    got = BatchNorm()(values, training=True).numpy()
    np.testing.assert_allclose(got.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(got.std(0), 1, atol=1e-4)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.999])
def test_dropout_keeps_the_mean_and_the_rate(rate: float) -> None:
    ones = np.ones((30, 20, 101), np.float32)  # 101 is no multiple of a word's size
    layer = Dropout(rate, seed=1)
    first, second = (layer(ones, training=True).numpy() for _ in range(2))
    dropped = min(round(rate * 256), 255) / 256
    assert {0.0} < set(np.unique(first).tolist())
    np.testing.assert_allclose(first[first > 0], 1 / (1 - dropped), rtol=1e-6)
    assert (first == 0).mean() == pytest.approx(dropped, abs=0.01)
    assert first.mean() == pytest.approx(1, abs=5 * np.sqrt(dropped / (1 - dropped) / ones.size))
    assert (first != second).any()
    if rate == 0.5:  # positions are dropped independently
        alike = np.corrcoef(first.reshape(-1, 101), rowvar=False)
        assert np.abs(alike - np.eye(101)).max() < 0.25
    np.testing.assert_array_equal(layer(ones).numpy(), ones)
    np.testing.assert_array_equal(Dropout(0.0, seed=1)(ones, training=True).numpy(), ones)


def test_dropout_depends_on_the_seed() -> None:
    ones = np.ones((4, 64), np.float32)
    draws = [Dropout(0.5, seed)(ones, training=True).numpy() for seed in (1000, 1000, 2000)]
    np.testing.assert_array_equal(draws[0], draws[1])
    assert (draws[0] != draws[2]).any()


def test_frames_are_sampled_uniformly_without_padding() -> None:
    n_frames = np.array([5, 1, 0])
    frames = np.tile(np.arange(6, dtype=np.float32)[None, :, None], (3, 1, 2))
    layer = SampleFrames(4000, seed=3)
    sampled, mask = (v.numpy() for v in layer(frames, mask_of(n_frames, 6), training=True))
    assert sampled.shape == (3, 4000, 2)
    shares = np.bincount(sampled[0, :, 0].astype(int), minlength=6) / 4000
    np.testing.assert_allclose(shares, [0.2] * 5 + [0], atol=0.03)
    assert not sampled[1].any()
    np.testing.assert_array_equal(mask[..., 0].mean(1), [1, 1, 0])
    kept, _ = layer(frames, mask_of(n_frames, 6))
    np.testing.assert_array_equal(kept.numpy(), frames)


def test_pooling_ignores_padding(rng: np.random.Generator) -> None:
    values, lengths = rng.normal(size=(4, 6, 3)).astype(np.float32) - 5, np.array([6, 2, 0, 1])
    mask = mask_of(lengths, 6)
    mean, top = TimeMean()(values, mask).numpy(), TimeMax()(values, mask).numpy()
    for row, n in enumerate(lengths):
        real = values[row, :n]
        np.testing.assert_allclose(mean[row], real.mean(0) if n else 0, rtol=1e-5)
        np.testing.assert_array_equal(top[row], real.max(0) if n else np.zeros(3))


@pytest.mark.parametrize("function", ["softmax", "sigmoid"])
def test_time_weights_sum_to_one_without_padding(function: str, rng: np.random.Generator) -> None:
    values = rng.normal(0, 30, (4, 6, 3)).astype(np.float32)
    values[0, :, 0] = [-500, -501, -502, -503, -504, -505]
    lengths = np.array([6, 2, 0, 1])
    shares = TimeWeights(function)(values, mask_of(lengths, 6)).numpy()
    assert np.isfinite(shares).all()
    for row, n in enumerate(lengths):
        np.testing.assert_allclose(shares[row].sum(0), float(n > 0), atol=1e-5)
        assert not shares[row, n:].any()
    real = values[1, :2].astype(np.float64)
    weights = np.exp(real) if function == "softmax" else sigmoid(real).clip(1e-7)
    np.testing.assert_allclose(shares[1, :2], weights / weights.sum(0), atol=1e-4)


def test_reverse_keeps_padding_and_is_its_own_inverse() -> None:
    values = np.arange(12, dtype=np.float32).reshape(2, 6, 1)
    lengths = np.array([4, 0], np.int32)
    got = Reverse()(values, lengths).numpy()
    assert got[0, :, 0].tolist() == [3, 2, 1, 0, 4, 5]
    np.testing.assert_array_equal(got[1], values[1])
    np.testing.assert_array_equal(Reverse()(got, lengths).numpy(), values)


def test_last_state_ignores_padding() -> None:
    values = np.arange(1, 13, dtype=np.float32).reshape(3, 4, 1)
    last = LastState()(values, np.array([4, 1, 0], np.int32)).numpy()
    assert last[:, 0].tolist() == [4, 5, 0]


@pytest.mark.parametrize("width", [8, 7])
def test_positional_encoding_works_for_any_number_of_frames(width: int) -> None:
    got = Positions()(np.zeros((2, 50, width), np.float32)).numpy()
    half = (width + 1) // 2
    angles = np.arange(50)[:, None] / 10_000 ** (2 * np.arange(half) / width)
    waves = np.concatenate([np.sin(angles), np.cos(angles)], 1)[:, :width]
    np.testing.assert_allclose(got, np.stack([waves, waves]), atol=1e-5)


def test_logit_layer_is_finite_at_zero_and_one() -> None:
    given = np.array([0.0, 0.25, 0.5, 1.0], np.float32)
    got = Logit()(given).numpy()
    np.testing.assert_allclose(got[1:3], [np.log(1 / 3), 0], atol=1e-6)
    assert got[0] < -13 < 13 < got[3] < np.inf


def test_mixture_is_precise_near_zero_and_one(rng: np.random.Generator) -> None:
    gates = rng.normal(0, 3, (6, 2, 3))
    experts = rng.normal(0, 3, (6, 2, 2))
    experts[1] -= 60
    experts[2] += 60
    gates[2, :, 2] -= 60
    got = Mixture(2)(
        gates.reshape(6, 6).astype(np.float32), experts.reshape(6, 4).astype(np.float32)
    ).numpy()
    # Sum p and 1 - p separately, so that float64 is precise enough.
    shares = np.exp(gates) / np.exp(gates).sum(-1, keepdims=True)
    yes = (shares[..., :2] * sigmoid(experts)).sum(-1)
    no = (shares[..., :2] * sigmoid(-experts)).sum(-1) + shares[..., 2]
    np.testing.assert_allclose(got, np.log(yes) - np.log(no), rtol=1e-4, atol=1e-4)
    extreme = Mixture(1)(np.array([[1e4, -1e4]], "f"), np.array([[3e4]], "f")).numpy()
    assert np.isfinite(extreme).all()


# --- Settings ----------------------------------------------------------------------------


def test_default_settings_equal_the_class_defaults() -> None:
    for name, kind in HEADS.items():
        assert head_settings(name) == kind()
    assert DEFAULT_HEAD in HEADS
    assert head_settings("dbof") == head_settings("dbof", {"clusters": 8192, "mixtures": 2})


def test_settings_are_parsed_from_command_line_strings() -> None:
    settings = head_settings(
        "gru", {"units": "64", "layers": "2.0", "bidirectional": "No", "dropout": "0.25"}
    )
    assert settings == head_settings(
        "gru", {"units": 64, "layers": 2, "bidirectional": False, "dropout": 0.25}
    )
    assert type(settings.units) is int
    assert head_settings("gru", {"dense": "0", "dropout": 0}).dense == 0


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("grru", {}, r"head must be one of gru, lstm, .* 'grru'; did you mean 'gru'\?"),
        ("?", {}, r"Received: '\?'$"),
        ("moe", {"units": 3}, "the head moe has no setting 'units'; it has: mixtures=2, l2="),
        ("gru", {"units": "abc"}, "units of the head gru must be a whole number, such as 512"),
        ("gru", {"units": "2.5"}, "units .* must be a whole number.* Received: '2.5'"),
        ("gru", {"units": "nan"}, "units .* must be a whole number"),
        ("gru", {"units": "inf"}, "units .* must be a whole number"),
        ("gru", {"units": None}, "units .* must be a whole number.* Received: None"),
        ("gru", {"units": "-1"}, "units of the head gru must be from 1 to 100000. Received: -1"),
        ("gru", {"layers": 0}, "layers .* from 1 to 100000. Received: 0"),
        ("gru", {"dense": -1}, "dense .* from 0 to 100000"),
        ("gru", {"dropout": "nan"}, "dropout .* at least 0 and below 1. Received: nan"),
        ("gru", {"dropout": None}, "dropout .* must be a number, such as .* Received: None"),
        ("gru", {"dropout": [0.5]}, "dropout .* must be a number"),
        ("gru", {"dropout": 1}, "dropout of the head gru .* at least 0 and below 1. Received: 1.0"),
        ("gru", {"dropout": -0.1}, "dropout .* at least 0"),
        ("gru", {"bidirectional": "maybe"}, "bidirectional .* must be true or false"),
        ("gru", {"pooling": "max"}, "must be one of attention, feature-attention, last"),
        ("transformer", {"pooling": "last"}, "must be one of attention, feature-attention. R"),
        ("dbof", {"pooling": "last"}, "pooling of the head dbof must be one of max, average"),
        ("dbof", {"activation": "tanh"}, "must be one of relu6, relu, sigmoid"),
        ("average", {"normalisation": "layer"}, "must be one of batch, l2, none"),
        ("moe", {"l2": "inf"}, "l2 of the head moe must be from 0 to 100000. Received: inf"),
        ("transformer", {"units": 20}, "a multiple of attention_heads. Received: 20 and 8"),
    ],
)
def test_invalid_head_settings_are_rejected(name: str, values: Any, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        head_settings(name, values)


def test_head_without_classes_is_rejected() -> None:
    with pytest.raises(OptionError, match=r"at least one class\. Received: 0"):
        build_head("logistic", head_settings("logistic"), 0)


def test_l2_penalty_is_half_the_sum_of_squares() -> None:
    model = build(("logistic", {"l2": 0.5}))
    kernel = weights_of(model)["classes/0"]
    assert float(sum(model.losses)) == pytest.approx(0.25 * (kernel**2).sum(), rel=1e-5)
    assert build(("logistic", {"l2": 0})).losses == []
