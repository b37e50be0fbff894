"""How a head is trained: one frozen description, checked once and kept beside the result."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from classifier.heads.settings import DEFAULT_HEAD, HEADS, Settings, head_settings
from vggish.common.wording import paths_in_few_words
from vggish.errors import OptionError, RunError

LOSSES = ("cross-entropy", "focal", "hinge", "softmax", "mse")

OPTIMISERS = ("adam", "adamw")

SCHEDULES = ("constant", "exponential", "cosine", "flat-cosine")

SAMPLINGS = ("all", "random", "run")

PRECISIONS = ("float32", "bfloat16")

CLASS_WEIGHTS = ("none", "balanced")


@dataclass(frozen=True)
class TrainingConfig:
    """Everything that decides what training gives, apart from the data.

    Attributes:
        head: one of `classifier.heads.settings.HEADS`.
        settings: of the head, complete.
        epochs: passes over the training clips, at most; 0 takes as many as make 1,500 steps, but
            from 5 to 50.
        batch_size: clips a step; 0 takes 128, or less so that an epoch has 20 steps or more.
        optimiser: Adam, or AdamW with `weight_decay` of kernels.
        learning_rate: the highest one.
        schedule: constant; exponential, x `decay_rate` every `decay_examples` clips, as
            YouTube-8M; cosine down to 1 %; flat-cosine, the last 28 % of it a cosine. The
            latter two begin with a warm-up.
        warmup: share of all steps in which a cosine schedule's rate rises from 0.
        clip_norm: gradients are scaled down to this norm; 0 leaves them.
        loss: summed over classes, averaged over clips. softmax is for clips of one label; its
            scores sum to 1.
        focal_gamma: of the focal loss (Lin et al. 2017).
        label_smoothing: share of each label that is given to how often its class is.
        class_weights: balanced weighs classes by the inverse root of their number of clips.
        mixup: alpha of Beta(alpha, alpha), by which each clip is mixed with another (Zhang et
            al. 2018); 0 leaves them.
        frame_masking: share of frames replaced by neutral ones (SpecAugment in time).
        ema: decay of the moving average of weights that is evaluated and kept; 0 is none.
        balance: clips are drawn by their rarest class's number to the power of -balance; 0
            takes each clip once an epoch.
        sampling: all frames; random ones with replacement; or a random run of them.
        n_frames: how many of them; 0 takes as many as the longest clip has (300 at most).
        patience: epochs without a better mAP before training stops; 0 never stops early.
        precision: float32, or bfloat16 for products and activations with float32 weights.
        seed: of all random choices.
    """

    head: str = DEFAULT_HEAD
    settings: Mapping[str, Any] = field(default_factory=dict)
    epochs: int = 0
    batch_size: int = 0
    optimiser: str = "adam"
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    schedule: str = "cosine"
    warmup: float = 0.05
    decay_rate: float = 0.95
    decay_examples: int = 4_000_000
    clip_norm: float = 0.0
    loss: str = "cross-entropy"
    focal_gamma: float = 2.0
    label_smoothing: float = 0.0
    class_weights: str = "none"
    mixup: float = 0.5
    frame_masking: float = 0.0
    ema: float = 0.999
    balance: float = 0.0
    sampling: str = "all"
    n_frames: int = 0
    patience: int = 10
    precision: str = "float32"
    seed: int = 0

    def __post_init__(self) -> None:
        settings = dataclasses.asdict(head_settings(self.head, self.settings))
        object.__setattr__(self, "settings", settings)
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise OptionError(
                    f"{name} must be one of {', '.join(choices)}. Received: {getattr(self, name)!r}"
                )
        for name, (least, most) in _RANGES.items():
            value, kind = getattr(self, name), _KINDS[name]
            if isinstance(value, bool) or not isinstance(value, kind):
                what = "a whole number" if kind is int else "a number"
                raise OptionError(f"{name} must be {what}. Received: {value!r}")
            is_too_low = value <= least if name in _ABOVE else value < least
            if is_too_low or not value <= most:  # NaN fails here, too
                bounds = f"from {least} to {most:.12g}"
                if name in _ABOVE:
                    bounds = f"more than {least} and at most {most:.12g}"
                elif most == _ANY:
                    bounds = f"at least {least}"
                raise OptionError(f"{name} must be {bounds}. Received: {value}")
        if self.weight_decay and self.optimiser != "adamw":
            raise OptionError("weight_decay is for the optimiser adamw")
        if self.sampling != "all" and not self.n_frames:
            raise OptionError(f"sampling {self.sampling} needs n_frames, how many to take")
        if self.loss == "softmax" and (self.class_weights != "none" or self.label_smoothing):
            raise OptionError("the softmax loss has no class weights and no label smoothing")

    @property
    def head_settings(self) -> Settings:
        """The settings of the head, typed."""
        return head_settings(self.head, self.settings)

    @property
    def activation(self) -> str:
        """What makes scores of logits: sigmoid, or softmax."""
        return "softmax" if self.loss == "softmax" else "sigmoid"

    def as_json(self) -> dict[str, Any]:
        """All fields, JSON-ready."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> TrainingConfig:
        """The inverse of `as_json`.

        Raises:
            RunError: there are other fields, as of another version of audiotag.
        """
        unknown = set(values) - {f.name for f in dataclasses.fields(cls)}
        if unknown:
            raise RunError(f"unknown fields of a configuration: {', '.join(sorted(unknown))}")
        return cls(**values)


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs between two configurations, a line each: `name: before -> now`."""
    lines = []
    for name in sorted({*before, *now}):
        old, new = before.get(name), now.get(name)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            lines += [f"{name}.{line}" for line in differences(old, new)]
        elif old != new and isinstance(old, list) and isinstance(new, list):
            lines.append(f"{name}: {_lists_apart(old, new)}")
        elif old != new:
            lines.append(f"{name}: {json.dumps(old)} -> {json.dumps(new)}")
    return lines


def _lists_apart(before: list[Any], now: list[Any]) -> str:
    """What one of two lists has and the other has not, in few words."""
    gone = [item for item in before if item not in now]
    new = [item for item in now if item not in before]
    if not gone and not new:
        return "the same in another order"
    parts = [
        f"{what} {', '.join(paths_in_few_words(list(map(str, items))))}"
        for what, items in (("without", gone), ("now with", new))
        if items
    ]
    return "; ".join(parts)


# A number without fraction may stand for one with.
_KINDS: dict[str, Any] = {
    f.name: int if isinstance(f.default, int) else (int, float)
    for f in dataclasses.fields(TrainingConfig)
}

_ANY = float("inf")

# Of fields that are words.
CHOICES = {
    "head": tuple(HEADS),
    "optimiser": OPTIMISERS,
    "schedule": SCHEDULES,
    "loss": LOSSES,
    "class_weights": CLASS_WEIGHTS,
    "sampling": SAMPLINGS,
    "precision": PRECISIONS,
}

# Fields whose least value is not among those that they can have.
_ABOVE = {"learning_rate"}

_RANGES: dict[str, tuple[float, float]] = {
    "epochs": (0, _ANY),
    "batch_size": (0, 1 << 20),
    "learning_rate": (0, 100),
    "weight_decay": (0, 10),
    "warmup": (0, 1),
    "decay_rate": (0.001, 1),
    "decay_examples": (1, _ANY),
    "clip_norm": (0, 1e9),
    "focal_gamma": (0, 100),
    "label_smoothing": (0, 0.999),
    "mixup": (0, 100),
    "frame_masking": (0, 0.9),
    "ema": (0, 0.999999),
    "balance": (0, 1),
    "n_frames": (0, 10_000),
    "patience": (0, _ANY),
    "seed": (0, 2**31 - 1),
}
