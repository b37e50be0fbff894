"""Learning-rate schedules, weight decay and the moving average."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from classifier.heads.backend import keras, tf
from classifier.heads.build import build_head
from classifier.heads.settings import head_settings
from classifier.training.config import TrainingConfig
from classifier.training.optimisers import MovingAverage, learning_rate, make_optimiser


def rates(n_steps: int = 1000, **options: Any) -> Any:
    config = TrainingConfig(**options)
    return np.array([learning_rate(config, step, n_steps, 100) for step in range(n_steps + 1)])


def test_constant_schedule_is_constant() -> None:
    assert set(rates(schedule="constant", learning_rate=0.02)) == {0.02}


def test_youtube8m_schedule_decays_every_four_million_examples() -> None:
    config = TrainingConfig(schedule="exponential", learning_rate=0.01)
    step_of = {n: n // 1024 for n in (0, 3_999_999, 4_000_000, 8_000_000, 40_000_000)}
    for n, step in step_of.items():
        done = (step + (n % 4_000_000 == 0 and n > 0)) * 1024  # the first step at or beyond n
        expected = 0.01 * 0.95 ** (done // 4_000_000)
        got = learning_rate(config, done // 1024, 10**6, 1024)
        assert got == pytest.approx(expected, rel=1e-12)
    assert learning_rate(config, 3906, 10**6, 1024) == 0.01  # 3,999,744 examples
    assert learning_rate(config, 3907, 10**6, 1024) == pytest.approx(0.0095)


def test_exponential_schedule_uses_the_given_rate_and_period() -> None:
    got = rates(schedule="exponential", learning_rate=1, decay_rate=0.5, decay_examples=25_000)
    np.testing.assert_allclose(got[[0, 249, 250, 500, 999]], [1, 1, 0.5, 0.25, 0.125])


def test_cosine_schedule_warms_up_and_ends_at_one_per_cent() -> None:
    got = rates(schedule="cosine", learning_rate=0.004, warmup=0.1)
    np.testing.assert_allclose(got[:100], 0.004 * np.arange(1, 101) / 101)
    assert got[100] == got.max() == 0.004
    assert got[550] == pytest.approx(0.004 * (0.01 + 0.99 / 2))
    assert got[775] == pytest.approx(0.004 * (0.01 + 0.99 * (1 + np.cos(0.75 * np.pi)) / 2))
    assert got[1000] == pytest.approx(0.004 * 0.01)
    assert (np.diff(got[100:]) < 0).all()


def test_flat_cosine_schedule_is_flat_for_72_per_cent() -> None:
    got = rates(schedule="flat-cosine", learning_rate=0.004, warmup=0.0)
    assert set(got[:721]) == {0.004}
    assert got[860] == pytest.approx(0.004 * (0.01 + 0.99 / 2))
    assert got[1000] == pytest.approx(0.004 * 0.01)
    warm = rates(schedule="flat-cosine", learning_rate=0.004, warmup=0.2)
    assert warm[199] < warm[200] == 0.004 == warm[200 + int(0.72 * 800)]


@pytest.mark.parametrize("schedule", ["constant", "exponential", "cosine", "flat-cosine"])
def test_learning_rates_are_positive_and_at_most_the_peak(schedule: str) -> None:
    for n_steps in (1, 2, 7, 100):
        for warmup in (0.0, 0.5, 1.0):
            got = rates(n_steps, schedule=schedule, warmup=warmup)
            assert (got > 0).all()
            assert (got <= 1e-3 * (1 + 1e-12)).all()


@pytest.fixture
def model() -> Any:
    return build_head("gru", head_settings("gru", {"units": 4, "dense": 4}), 3)


def test_adamw_decays_only_kernels(model: Any) -> None:
    config = TrainingConfig(optimiser="adamw", weight_decay=0.5, learning_rate=0.1)
    variables = model.trainable_variables
    for variable in variables:
        variable.assign(tf.ones_like(variable))
    optimiser = make_optimiser(config, variables)
    optimiser.apply_gradients([(tf.zeros_like(v), v) for v in variables])
    kinds = set()
    for variable in variables:
        kind = variable.name.split("/")[-1].split(":")[0]
        kinds.add(kind)
        expected = 1.0 if kind in ("bias", "gamma", "beta") else 0.95
        np.testing.assert_allclose(variable.numpy(), expected, rtol=1e-6)
    assert kinds == {"kernel", "recurrent_kernel", "bias", "gamma", "beta"}


def test_adam_decays_nothing(model: Any) -> None:
    variables = model.trainable_variables
    before = [variable.numpy() for variable in variables]
    make_optimiser(TrainingConfig(), variables).apply_gradients(
        [(tf.zeros_like(v), v) for v in variables]
    )
    for variable, value in zip(variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)


@pytest.mark.parametrize("optimiser", ["adam", "adamw"])
def test_optimiser_steps_match_kingma_and_ba(optimiser: str, rng: np.random.Generator) -> None:
    variable = tf.Variable(rng.normal(size=3).astype("f"), name="kernel")
    decay = 0.1 if optimiser == "adamw" else 0.0
    config = TrainingConfig(optimiser=optimiser, weight_decay=decay)
    made = make_optimiser(config, [variable])
    value, mean, square = variable.numpy().astype(float), np.zeros(3), np.zeros(3)
    for step in range(1, 6):
        gradient, rate = rng.normal(size=3), 0.01 * step
        made.learning_rate.assign(rate)
        made.apply_gradients([(tf.constant(gradient, tf.float32), variable)])
        mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient**2
        value -= rate * decay * value
        value -= rate * (mean / (1 - 0.9**step)) / (np.sqrt(square / (1 - 0.999**step)) + 1e-7)
        np.testing.assert_allclose(variable.numpy(), value, rtol=1e-4)


def test_slot_variables_exist_before_the_first_step(model: Any) -> None:
    optimiser = make_optimiser(TrainingConfig(), model.trainable_variables)
    n_before = len(optimiser.variables)
    assert n_before >= 2 * len(model.trainable_variables)
    optimiser.apply_gradients([(tf.zeros_like(v), v) for v in model.trainable_variables])
    assert len(optimiser.variables) == n_before


def changed(model: Any, rng: np.random.Generator) -> list[Any]:
    """Assign random weights, as after a step, and return them."""
    for weight in model.weights:
        if weight.dtype.is_floating:
            weight.assign(rng.normal(size=weight.shape).astype("f"))
    return [w.numpy().astype(float) for w in model.weights if w.dtype.is_floating]


def test_moving_average_equals_numpy_reference(model: Any, rng: np.random.Generator) -> None:
    average = MovingAverage(model, 0.3)
    update = tf.function(average.update)
    expected = [w.numpy().astype(float) for w in model.weights if w.dtype.is_floating]
    for step in range(6):
        decay = min(0.3, (1 + step) / (10 + step))  # 0.1, 2/11, 0.25, 0.3, 0.3, ...
        for value, now in zip(expected, changed(model, rng), strict=True):
            value *= decay
            value += (1 - decay) * now
        update(tf.constant(step, tf.float32))
    for value, got in zip(expected, average.averages, strict=True):
        np.testing.assert_allclose(got.numpy(), value, atol=1e-5)


def test_moving_average_includes_statistics_but_not_counters(model: Any) -> None:
    average = MovingAverage(model, 0.9)
    n_counters = sum(w.dtype == tf.int32 for w in model.weights)
    assert n_counters > 0
    assert len(average.averages) == len(model.weights) - n_counters
    assert len(average.averages) > len(model.trainable_weights)


def test_swapping_twice_restores_the_weights(model: Any, rng: np.random.Generator) -> None:
    average = MovingAverage(model, 0.9)
    began = [value.numpy() for value in average.averages]
    now = changed(model, rng)
    average.swap()
    weights = [w for w in model.weights if w.dtype.is_floating]
    for weight, kept, first, last in zip(weights, average.averages, began, now, strict=True):
        np.testing.assert_array_equal(weight.numpy(), first)
        np.testing.assert_allclose(kept.numpy(), last, rtol=1e-6)
    average.swap()
    for weight, kept, first, last in zip(weights, average.averages, began, now, strict=True):
        np.testing.assert_allclose(weight.numpy(), last, rtol=1e-6)
        np.testing.assert_array_equal(kept.numpy(), first)


def test_optimisers_are_keras_classes() -> None:
    variable = tf.Variable([1.0])
    kinds = {
        name: type(make_optimiser(TrainingConfig(optimiser=name), [variable]))
        for name in ("adam", "adamw")
    }
    assert kinds == {"adam": keras.optimizers.Adam, "adamw": keras.optimizers.AdamW}
