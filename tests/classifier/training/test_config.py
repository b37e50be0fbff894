"""Training configuration: JSON round trip, validation and comparison."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from classifier.heads.settings import HEADS, head_settings
from classifier.names import SAMPLINGS, TRAINING_PRECISIONS
from classifier.training.config import (
    CLASS_WEIGHTS,
    GROUPS,
    LOSSES,
    OPTIMISERS,
    SCHEDULES,
    TrainingConfig,
    differences,
)
from vggish.common.bounds import settings_of
from vggish.errors import OptionError, RunError

# Every field differs from its default.
ALL_OTHER: dict[str, Any] = {
    "head": "moe",
    "settings": {"mixtures": 3, "l2": 1e-6, "normalisation": "batch"},
    "epochs": 3,
    "batch_size": 17,
    "optimiser": "adamw",
    "learning_rate": 0.02,
    "weight_decay": 0.1,
    "schedule": "exponential",
    "warmup": 0.2,
    "decay_rate": 0.5,
    "decay_examples": 1000,
    "clip_norm": 1.0,
    "loss": "focal",
    "focal_gamma": 1.5,
    "label_smoothing": 0.05,
    "class_weights": "balanced",
    "mixup": 0.0,
    "frame_masking": 0.1,
    "ema": 0.0,
    "balance": 0.5,
    "sampling": "run",
    "n_frames": 8,
    "patience": 0,
    "precision": "bfloat16",
    "seed": 12,
}


def test_config_json_round_trip() -> None:
    config = TrainingConfig(**ALL_OTHER)
    default = TrainingConfig()
    assert set(ALL_OTHER) == {field.name for field in dataclasses.fields(TrainingConfig)}
    for name in ALL_OTHER:
        assert getattr(config, name) != getattr(default, name)
    for each in (config, default):
        assert TrainingConfig.from_json(json.loads(json.dumps(each.as_json()))) == each


def test_fields_missing_in_json_take_their_defaults() -> None:
    assert TrainingConfig.from_json({}) == TrainingConfig()
    assert TrainingConfig.from_json({"epochs": 3}) == TrainingConfig(epochs=3)


def test_each_setting_is_in_one_command_line_group() -> None:
    grouped = [name for names in GROUPS.values() for name in names]
    assert sorted([*grouped, "head"]) == sorted(settings_of(TrainingConfig))


@pytest.mark.parametrize("head", HEADS)
def test_head_settings_are_complete_and_typed(head: str) -> None:
    config = TrainingConfig(head=head)
    assert config.settings == dataclasses.asdict(head_settings(head))
    assert config.head_settings == head_settings(head)


def test_head_settings_are_validated_for_the_head() -> None:
    config = TrainingConfig(head="moe", settings={"mixtures": "5"})
    assert config.settings == {"mixtures": 5, "l2": 1e-8, "normalisation": "l2"}
    with pytest.raises(OptionError, match="the head moe has no setting 'units'"):
        TrainingConfig(head="moe", settings={"units": 5})
    with pytest.raises(OptionError, match="mixtures of the head moe must be from 1 to 100000"):
        TrainingConfig(head="moe", settings={"mixtures": 0})


def test_activation_matches_the_loss() -> None:
    assert TrainingConfig(loss="softmax").activation == "softmax"
    for loss in LOSSES:
        assert loss == "softmax" or TrainingConfig(loss=loss).activation == "sigmoid"


@pytest.mark.parametrize(
    ("name", "choices"),
    [
        ("head", HEADS),
        ("optimiser", OPTIMISERS),
        ("schedule", SCHEDULES),
        ("loss", LOSSES),
        ("class_weights", CLASS_WEIGHTS),
        ("precision", TRAINING_PRECISIONS),
        ("sampling", SAMPLINGS),
    ],
)
def test_every_choice_is_accepted_and_an_invalid_one_lists_them(name: str, choices: Any) -> None:
    more: dict[str, Any] = {"n_frames": 4} if name == "sampling" else {}
    for choice in choices:
        assert getattr(TrainingConfig(**{name: choice}, **more), name) == choice
    with pytest.raises(OptionError, match=f"^{name} must be one of") as caught:
        TrainingConfig(**{name: "none such"})
    assert all(choice in str(caught.value) for choice in choices)
    assert "'none such'" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("epochs", -1, "at least 0"),
        ("batch_size", -1, "from 0 to 1048576"),
        ("learning_rate", -1e-3, "more than 0 and at most 100"),
        ("learning_rate", 101, "more than 0 and at most 100"),
        ("learning_rate", 0, "more than 0"),
        ("weight_decay", 11, "from 0 to 10"),
        ("warmup", 1.1, "from 0 to 1"),
        ("decay_rate", 0, "from 0.001 to 1"),
        ("decay_examples", 0, "at least 1"),
        ("clip_norm", -1, "from 0 to"),
        ("focal_gamma", -1, "from 0 to 100"),
        ("label_smoothing", 1, "from 0 to 0.999"),
        ("mixup", -0.1, "from 0 to 100"),
        ("frame_masking", 1, "from 0 to 0.9"),
        ("ema", 1, "from 0 to 0.999999"),
        ("balance", 2, "from 0 to 1"),
        ("n_frames", -1, "from 0 to 10000"),
        ("patience", -1, "at least 0"),
        ("seed", -1, "from 0 to 2147483647"),
    ],
)
def test_number_out_of_range_error_states_the_range(name: str, value: float, message: str) -> None:
    with pytest.raises(OptionError, match=f"^{name} must be {message}"):
        TrainingConfig(**{name: value})
    if isinstance(getattr(TrainingConfig(), name), float):
        with pytest.raises(OptionError, match=f"^{name} must be .* Received: nan"):
            TrainingConfig(**{name: float("nan")})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight_decay": 0.1}, "weight_decay is for the optimiser adamw"),
        ({"sampling": "random"}, "sampling random needs n_frames"),
        ({"sampling": "run"}, "sampling run needs n_frames"),
        ({"loss": "softmax", "class_weights": "balanced"}, "no class weights"),
        ({"loss": "softmax", "label_smoothing": 0.1}, "no label smoothing"),
    ],
)
def test_mutually_exclusive_options_are_rejected(options: Any, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        TrainingConfig(**options)


def test_unknown_fields_are_rejected() -> None:
    with pytest.raises(RunError, match="unknown fields of a configuration: lookahead, rectified"):
        TrainingConfig.from_json({"rectified": True, "lookahead": 5, "epochs": 3})


def test_differences_include_nested_fields() -> None:
    before = TrainingConfig()
    now = dataclasses.replace(before, epochs=7, loss="hinge", settings={"units": 64})
    assert differences(before.as_json(), now.as_json()) == [
        "epochs: 0 -> 7",
        'loss: "cross-entropy" -> "hinge"',
        "settings.units: 512 -> 64",
    ]
    assert differences(before.as_json(), before.as_json()) == []


def test_differences_include_missing_fields() -> None:
    before = {"a": 1, "data": {"files": ["x"], "n": 2}}
    now = {"data": {"files": ["y"]}, "new": {"k": True}}
    assert differences(before, now) == [
        "a: 1 -> null",
        "data.files: without x; now with y",
        "data.n: 2 -> null",
        'new: null -> {"k": true}',
    ]


def test_differences_of_long_lists_are_summarised() -> None:
    files = [f"data/{n}.tfrecord" for n in range(100)]
    before, now = {"sources": files}, {"sources": [*files[:60], "more.npz"]}
    (line,) = differences(before, now)
    assert line == "sources: without 40 files in data/; now with more.npz"
    assert differences(before, {"sources": files[::-1]}) == ["sources: the same in another order"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learning_rate": 0.0}, "must be more than 0 and at most 100. Received: 0"),
        ({"learning_rate": 101.0}, "must be more than 0 and at most 100. Received: 101"),
        ({"clip_norm": 1e12}, "clip_norm must be from 0 to 1000000000. Rec"),
        ({"settings": {"units": 10**10}}, "units of the head gru must be from 1 to 100000. Rec"),
    ],
)
def test_range_errors_use_the_same_wording_for_both_bounds(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(OptionError, match=message):
        TrainingConfig(**changes)
