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

    head: str = setting(DEFAULT_HEAD, help="type of head", choices=tuple(HEADS))
    settings: Mapping[str, Any] = field(default_factory=dict)
    epochs: int = setting(
        0,
        help="maximum passes over the training clips; 0 chooses automatically: enough for "
        "1,500 steps, from 5 to 50",
        minimum=0,
    )
    batch_size: int = setting(
        0,
        help="clips per step; 0 chooses automatically: 128, or less for small data sets",
        minimum=0,
        maximum=1 << 20,
    )
    optimiser: str = setting(
        "adam", help="optimisation algorithm; --weight-decay needs adamw", choices=OPTIMISERS
    )
    learning_rate: float = setting(1e-3, help="peak learning rate", above=0, maximum=100)
    weight_decay: float = setting(
        0.0, help="weight decay of kernels with AdamW", minimum=0, maximum=10
    )
    schedule: str = setting(
        "cosine",
        help="schedule of the learning rate; both cosine schedules begin with a warm-up",
        choices=SCHEDULES,
    )
    warmup: float = setting(
        0.05,
        help="share of all steps in which a cosine schedule's learning rate rises from 0",
        minimum=0,
        maximum=1,
    )
    decay_rate: float = setting(
        0.95, help="factor of each decay of the exponential schedule", minimum=0.001, maximum=1
    )
    decay_examples: int = setting(
        4_000_000, help="clips between two decays of the exponential schedule", minimum=1
    )
    clip_norm: float = setting(
        0.0, help="maximum global norm of gradients; 0 disables clipping", minimum=0, maximum=1e9
    )
    loss: str = setting(
        "cross-entropy",
        help="loss function; softmax is for clips with exactly one label",
        choices=LOSSES,
    )
    focal_gamma: float = setting(2.0, help="gamma of the focal loss", minimum=0, maximum=100)
    label_smoothing: float = setting(
        0.0,
        help="weight with which labels are mixed with the class frequencies",
        minimum=0,
        maximum=0.999,
    )
    class_weights: str = setting(
        "none",
        help="class weights of the loss; balanced: inverse root of the number of clips",
        choices=CLASS_WEIGHTS,
    )
    mixup: float = setting(
        0.5,
        help="alpha of the Beta distribution of mixup; 0 disables mixup",
        minimum=0,
        maximum=100,
    )
    frame_masking: float = setting(
        0.0, help="share of frames to mask with neutral ones", minimum=0, maximum=0.9
    )
    ema: float = setting(
        0.999,
        help="decay of the moving average of weights that is evaluated and exported; 0 disables it",
        minimum=0,
        maximum=0.999999,
    )
    balance: float = setting(
        0.0,
        help="class-balanced sampling: clips are drawn with probability (clips of their rarest "
        "class) ** -balance; 0 takes each clip once per epoch, 1 all classes equally often",
        minimum=0,
        maximum=1,
    )
    sampling: str = setting(
        "all",
        help="frames of a clip to train on: all, random ones with replacement, or a random run "
        "of neighbours",
        choices=SAMPLINGS,
    )
    n_frames: int = setting(
        0,
        help="frames per clip; 0 takes as many as the longest clip has, at most 300",
        minimum=0,
        maximum=10_000,
    )
    patience: int = setting(
        10,
        help="stop after this many epochs without a better validation mAP; 0 never stops early",
        minimum=0,
    )
    precision: str = setting(
        "float32",
        help="precision of activations; bfloat16 is faster on processors with AMX and on GPUs",
        choices=TRAINING_PRECISIONS,
    )
    seed: int = setting(0, help="seed of all random choices", minimum=0, maximum=2**31 - 1)

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
    """Differences of two lists, in few words."""
    gone = [item for item in before if item not in now]
    new = [item for item in now if item not in before]
    if not gone and not new:
        return "the same in another order"
    parts = [
        f"{what} {', '.join(summarise_paths(list(map(str, items))))}"
        for what, items in (("without", gone), ("now with", new))
        if items
    ]
    return "; ".join(parts)
