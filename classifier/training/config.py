"""The configuration of a training run, saved beside its result."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from classifier.heads.settings import DEFAULT_HEAD, HEADS, Settings, head_settings
from classifier.names import SAMPLINGS, TRAINING_PRECISIONS
from vggish.common.bounds import check, setting
from vggish.common.wording import summarise_paths
from vggish.errors import OptionError, RunError

LOSSES = ("cross-entropy", "focal", "hinge", "softmax", "mse")
OPTIMISERS = ("adam", "adamw")
SCHEDULES = ("constant", "exponential", "cosine", "flat-cosine")
CLASS_WEIGHTS = ("none", "balanced")

# Settings as the command line groups them.
GROUPS = {
    "training": ("epochs", "batch_size", "patience", "precision", "seed"),
    "frames of a clip": ("sampling", "n_frames"),
    "optimiser": (
        *("optimiser", "learning_rate", "schedule", "warmup", "decay_rate", "decay_examples"),
        *("weight_decay", "clip_norm", "ema"),
    ),
    "loss": ("loss", "focal_gamma", "label_smoothing", "class_weights"),
    "augmentation": ("mixup", "frame_masking", "balance"),
}


def _range(default: float, minimum: float, maximum: float, meaning: str) -> Any:
    return setting(default, help=meaning, minimum=minimum, maximum=maximum)


def _choice(default: str, choices: tuple[str, ...], meaning: str) -> Any:
    return setting(default, help=meaning, choices=choices)


@dataclass(frozen=True)
class TrainingConfig:
    """Everything that decides the result of a training run, apart from the data.

    Attributes:
        settings: complete settings of the head.

    `settings_of(TrainingConfig)` describes the other attributes. Sources: the exponential
    schedule is YouTube-8M's; focal loss: Lin et al. 2017; mixup: Zhang et al. 2018; frame
    masking: SpecAugment, Park et al. 2019.

    Raises:
        OptionError: a value is out of its bounds, or excludes another.
    """

    head: str = _choice(DEFAULT_HEAD, tuple(HEADS), "type of head")
    settings: Mapping[str, Any] = field(default_factory=dict)
    epochs: int = setting(
        0,
        help="maximum passes over the training clips; 0 chooses automatically: enough for "
        "1,500 steps, from 5 to 50",
        minimum=0,
    )
    batch_size: int = _range(
        0, 0, 1 << 20, "clips per step; 0 chooses automatically: 128, or less for small data sets"
    )
    optimiser: str = _choice(
        "adam", OPTIMISERS, "optimisation algorithm; --weight-decay needs adamw"
    )
    learning_rate: float = setting(1e-3, help="peak learning rate", above=0, maximum=100)
    weight_decay: float = _range(0.0, 0, 10, "weight decay of kernels with AdamW")
    schedule: str = _choice(
        "cosine",
        SCHEDULES,
        "schedule of the learning rate; both cosine schedules begin with a warm-up",
    )
    warmup: float = _range(
        0.05, 0, 1, "share of all steps in which a cosine schedule's learning rate rises from 0"
    )
    decay_rate: float = _range(0.95, 0.001, 1, "factor of each decay of the exponential schedule")
    decay_examples: int = setting(
        4_000_000, help="clips between two decays of the exponential schedule", minimum=1
    )
    clip_norm: float = _range(0.0, 0, 1e9, "maximum global norm of gradients; 0 disables clipping")
    loss: str = _choice(
        "cross-entropy", LOSSES, "loss function; softmax is for clips with exactly one label"
    )
    focal_gamma: float = _range(2.0, 0, 100, "gamma of the focal loss")
    label_smoothing: float = _range(
        0.0, 0, 0.999, "weight with which labels are mixed with the class frequencies"
    )
    class_weights: str = _choice(
        "none",
        CLASS_WEIGHTS,
        "class weights of the loss; balanced: inverse root of the number of clips",
    )
    mixup: float = _range(0.5, 0, 100, "alpha of the Beta distribution of mixup; 0 disables mixup")
    frame_masking: float = _range(0.0, 0, 0.9, "share of frames to mask with neutral ones")
    ema: float = _range(
        0.999,
        0,
        0.999999,
        "decay of the moving average of weights that is evaluated and exported; 0 disables it",
    )
    balance: float = _range(
        0.0,
        0,
        1,
        "class-balanced sampling: clips are drawn with probability (clips of their rarest "
        "class) ** -balance; 0 takes each clip once per epoch, 1 all classes equally often",
    )
    sampling: str = _choice(
        "all",
        SAMPLINGS,
        "frames of a clip to train on: all, random ones with replacement, or a random run "
        "of neighbours",
    )
    n_frames: int = _range(
        0, 0, 10_000, "frames per clip; 0 takes as many as the longest clip has, at most 300"
    )
    patience: int = setting(
        10,
        help="stop after this many epochs without a better validation mAP; 0 never stops early",
        minimum=0,
    )
    precision: str = _choice(
        "float32",
        TRAINING_PRECISIONS,
        "precision of activations; bfloat16 is faster on processors with AMX and on GPUs",
    )
    seed: int = _range(0, 0, 2**31 - 1, "seed of all random choices")

    def __post_init__(self) -> None:
        settings = dataclasses.asdict(head_settings(self.head, self.settings))
        object.__setattr__(self, "settings", settings)
        check(self)
        if self.weight_decay and self.optimiser != "adamw":
            raise OptionError("weight_decay is for the optimiser adamw")
        if self.sampling != "all" and not self.n_frames:
            raise OptionError(f"sampling {self.sampling} needs n_frames, how many to take")
        if self.loss == "softmax" and (self.class_weights != "none" or self.label_smoothing):
            raise OptionError("the softmax loss has no class weights and no label smoothing")

    @property
    def head_settings(self) -> Settings:
        """The settings of the head as its dataclass."""
        return head_settings(self.head, self.settings)

    @property
    def activation(self) -> str:
        """The function from logits to scores: sigmoid or softmax."""
        return "softmax" if self.loss == "softmax" else "sigmoid"

    def as_json(self) -> dict[str, Any]:
        """All fields, JSON-ready."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> TrainingConfig:
        """Make a configuration from the result of `as_json`.

        Raises:
            RunError: there are unknown fields, as from another version of audiotag.
        """
        unknown = set(values) - {f.name for f in dataclasses.fields(cls)}
        if unknown:
            raise RunError(f"unknown fields of a configuration: {', '.join(sorted(unknown))}")
        return cls(**values)


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Differences of two configurations, a line each: `name: before -> now`."""
    lines = []
    for name in sorted({*before, *now}):
        old, new = before.get(name), now.get(name)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            lines += [f"{name}.{line}" for line in differences(old, new)]
        elif old != new and isinstance(old, list) and isinstance(new, list):
            lines.append(f"{name}: {_list_differences(old, new)}")
        elif old != new:
            lines.append(f"{name}: {json.dumps(old)} -> {json.dumps(new)}")
    return lines


def _list_differences(before: list[Any], now: list[Any]) -> str:
    gone = [item for item in before if item not in now]
    new = [item for item in now if item not in before]
    if not gone and not new:
        return "the same in another order"
    return "; ".join(
        f"{what} {', '.join(summarise_paths(list(map(str, items))))}"
        for what, items in (("without", gone), ("now with", new))
        if items
    )
