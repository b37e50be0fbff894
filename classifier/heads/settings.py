"""Heads by name, and their settings: plain dataclasses, checked without TensorFlow."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from vggish.errors import OptionError

Normalisation = Literal["batch", "l2", "none"]


@dataclass(frozen=True)
class RecurrentSettings:
    """gru and lstm: a dense layer (0: none), recurrent layers, a pooling over time."""

    units: int = 512
    layers: int = 1
    bidirectional: bool = False
    dense: int = 0
    pooling: Literal["attention", "feature-attention", "last"] = "attention"
    dropout: float = 0.3
    normalisation: Normalisation = "batch"


@dataclass(frozen=True)
class PoolingSettings:
    """The attention family: dense layers on each frame, then a pooling over time."""

    units: int = 1024
    layers: int = 3
    dropout: float = 0.5
    normalisation: Normalisation = "batch"


@dataclass(frozen=True)
class TransformerSettings:
    """transformer: encoder blocks with the normalisation first, and sinusoidal positions."""

    units: int = 512
    layers: int = 2
    attention_heads: int = 8
    pooling: Literal["attention", "feature-attention"] = "attention"
    dropout: float = 0.3
    normalisation: Normalisation = "batch"


@dataclass(frozen=True)
class LogisticSettings:
    """logistic and frame-logistic."""

    l2: float = 1e-8
    normalisation: Normalisation = "l2"


@dataclass(frozen=True)
class MoeSettings:
    """moe: for each class a mixture of logistic experts and a dummy that says no."""

    mixtures: int = 2
    l2: float = 1e-8
    normalisation: Normalisation = "l2"


@dataclass(frozen=True)
class DbofSettings:
    """dbof: sampled frames to clusters, pooled, a hidden layer, then moe."""

    clusters: int = 8192
    hidden: int = 1024
    sampled_frames: int = 30
    pooling: Literal["max", "average"] = "max"
    activation: Literal["relu6", "relu", "sigmoid"] = "sigmoid"
    mixtures: int = 2
    l2: float = 1e-8
    normalisation: Normalisation = "l2"


@dataclass(frozen=True)
class LstmMoeSettings:
    """lstm-moe: stacked LSTMs, the last one's state at the true end, then moe."""

    units: int = 1024
    layers: int = 2
    mixtures: int = 2
    l2: float = 1e-8
    normalisation: Normalisation = "l2"


Settings = (
    RecurrentSettings
    | PoolingSettings
    | TransformerSettings
    | LogisticSettings
    | MoeSettings
    | DbofSettings
    | LstmMoeSettings
)

HEADS: dict[str, type[Settings]] = {
    "gru": RecurrentSettings,
    "lstm": RecurrentSettings,
    "average": PoolingSettings,
    "max": PoolingSettings,
    "attention": PoolingSettings,
    "multi-level-attention": PoolingSettings,
    "feature-attention": PoolingSettings,
    "transformer": TransformerSettings,
    "logistic": LogisticSettings,
    "moe": MoeSettings,
    "frame-logistic": LogisticSettings,
    "dbof": DbofSettings,
    "lstm-moe": LstmMoeSettings,
}

DEFAULT_HEAD = "gru"

# Up to so many frames a recurrent layer is written out step by step, which XLA makes fast.
MAX_UNROLLED_FRAMES = 32


def head_settings(name: str, values: Mapping[str, object] | None = None) -> Settings:
    """The settings of a head, the published ones where `values` says nothing.

    Args:
        name: one of `HEADS`.
        values: settings by name, as numbers or as text of the command line ("2", "true").

    Raises:
        OptionError: no such head or setting, or a value that it cannot have.
    """
    if name not in HEADS:
        near = difflib.get_close_matches(name, HEADS, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise OptionError(f"head must be one of {', '.join(HEADS)}. Received: {name!r}{hint}")
    kind = HEADS[name]
    fields = {field.name: field for field in dataclasses.fields(kind)}
    chosen: dict[str, Any] = {}
    for key, value in (values or {}).items():
        if key not in fields:
            raise OptionError(
                f"the head {name} has no setting {key!r}; it has: "
                + ", ".join(f"{f.name}={f.default}" for f in fields.values())
            )
        chosen[key] = _converted(name, key, value, fields[key].default)
    settings = kind(**chosen)
    _check(name, settings)
    return settings


def _converted(name: str, key: str, value: object, default: object) -> object:
    kind = type(default)
    try:
        if kind is bool:
            words = {"true": True, "false": False, "1": True, "0": False, "yes": True, "no": False}
            return words[str(value).lower()]
        if kind is int and float(str(value)) != int(float(str(value))):
            raise ValueError
        return int(float(str(value))) if kind is int else kind(value)  # type: ignore[call-arg]
    except (KeyError, TypeError, ValueError, OverflowError):
        raise OptionError(
            f"{key} of the head {name} must be {_KINDS[kind]}, such as {default}. "
            f"Received: {value!r}"
        ) from None


_KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a word"}

_CHOICES: dict[tuple[object, ...], tuple[str, ...]] = {
    ("normalisation",): ("batch", "l2", "none"),
    ("pooling", RecurrentSettings): ("attention", "feature-attention", "last"),
    ("pooling", TransformerSettings): ("attention", "feature-attention"),
    ("pooling", DbofSettings): ("max", "average"),
    ("activation",): ("relu6", "relu", "sigmoid"),
}

# What may be 0: a dense layer that is left out, and penalties.
_MAY_BE_ZERO = {"dense", "l2", "dropout"}

# A layer of more units fits into no memory.
_MOST = 100_000


def _check(name: str, settings: Settings) -> None:
    for key, value in dataclasses.asdict(settings).items():
        choices = _CHOICES.get((key,)) or _CHOICES.get((key, type(settings)))
        where = f"{key} of the head {name}"
        if choices and value not in choices:
            raise OptionError(f"{where} must be one of {', '.join(choices)}. Received: {value!r}")
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            least = 0 if key in _MAY_BE_ZERO else 1
            if not value >= least:  # NaN fails here, too
                raise OptionError(f"{where} must be at least {least}. Received: {value}")
            if value > _MOST:
                raise OptionError(f"{where} must be at most {_MOST:,}. Received: {value}")
        if key == "dropout" and value >= 1:
            raise OptionError(f"{where} must be below 1. Received: {value}")
    if isinstance(settings, TransformerSettings) and settings.units % settings.attention_heads:
        raise OptionError(
            f"units of the head {name} must be a multiple of attention_heads. Received: "
            f"{settings.units} and {settings.attention_heads}"
        )
