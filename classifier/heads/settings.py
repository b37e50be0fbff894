"""Heads by name, and their settings. Needs no TensorFlow."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from vggish.common.bounds import check, setting, settings_of
from vggish.errors import OptionError

Normalisation = Literal["batch", "l2", "none"]

# Wider layers fit into no memory.
_MAX = 100_000


def _size(default: int, meaning: str, minimum: int = 1) -> Any:
    return setting(default, help=meaning, minimum=minimum, maximum=_MAX)


def _dropout(default: float) -> Any:
    return setting(default, help="share of values that dropout zeroes", minimum=0, below=1)


_NORMALISATION = "normalisation of the frames"
_EXPERTS = "experts of each class"
_PENALTY = "L2 penalty of the classifier's kernels"


@dataclass(frozen=True)
class RecurrentSettings:
    """gru and lstm: an optional dense layer, recurrent layers, a pooling over time."""

    units: int = _size(512, "units of each recurrent layer and direction")
    layers: int = _size(1, "number of recurrent layers")
    bidirectional: bool = setting(False, help="whether to add backward layers")
    dense: int = _size(0, "units of a dense layer before the recurrent ones; 0 omits it", 0)
    pooling: Literal["attention", "feature-attention", "last"] = setting(
        "attention", help="pooling over time, or the state at the last frame"
    )
    dropout: float = _dropout(0.3)
    normalisation: Normalisation = setting("batch", help=_NORMALISATION)


@dataclass(frozen=True)
class PoolingSettings:
    """The attention family: dense layers on each frame, then a pooling over time."""

    units: int = _size(1024, "units of each dense layer")
    layers: int = _size(3, "number of dense layers")
    dropout: float = _dropout(0.5)
    normalisation: Normalisation = setting("batch", help=_NORMALISATION)


@dataclass(frozen=True)
class TransformerSettings:
    """transformer: pre-norm encoder blocks with sinusoidal positions."""

    units: int = _size(512, "width of each encoder block, a multiple of attention_heads")
    layers: int = _size(2, "number of encoder blocks")
    attention_heads: int = _size(8, "attention heads of each encoder block")
    pooling: Literal["attention", "feature-attention"] = setting(
        "attention", help="pooling over time"
    )
    dropout: float = _dropout(0.3)
    normalisation: Normalisation = setting("batch", help=_NORMALISATION)


@dataclass(frozen=True)
class LogisticSettings:
    """logistic and frame-logistic."""

    l2: float = setting(1e-8, help=_PENALTY, minimum=0, maximum=_MAX)
    normalisation: Normalisation = setting("l2", help=_NORMALISATION)


@dataclass(frozen=True)
class MoeSettings:
    """moe: for each class a mixture of logistic experts and a dummy that always says no."""

    mixtures: int = _size(2, _EXPERTS)
    l2: float = setting(1e-8, help=_PENALTY, minimum=0, maximum=_MAX)
    normalisation: Normalisation = setting("l2", help=_NORMALISATION)


@dataclass(frozen=True)
class DbofSettings:
    """dbof: sampled frames to clusters, pooled, a hidden layer, then moe."""

    clusters: int = _size(8192, "number of clusters")
    hidden: int = _size(1024, "units of the hidden layer")
    sampled_frames: int = _size(30, "frames sampled from each clip in training")
    pooling: Literal["max", "average"] = setting("max", help="pooling over time")
    activation: Literal["relu6", "relu", "sigmoid"] = setting(
        "sigmoid", help="activation of the clusters and of the hidden layer"
    )
    mixtures: int = _size(2, _EXPERTS)
    l2: float = setting(1e-8, help=_PENALTY, minimum=0, maximum=_MAX)
    normalisation: Normalisation = setting("l2", help=_NORMALISATION)


@dataclass(frozen=True)
class LstmMoeSettings:
    """lstm-moe: stacked LSTMs, the state at the last real frame, then moe."""

    units: int = _size(1024, "units of each LSTM")
    layers: int = _size(2, "number of LSTMs")
    mixtures: int = _size(2, _EXPERTS)
    l2: float = setting(1e-8, help=_PENALTY, minimum=0, maximum=_MAX)
    normalisation: Normalisation = setting("l2", help=_NORMALISATION)


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
# A recurrent layer over at most this many frames is unrolled, which XLA makes fast.
MAX_UNROLLED_FRAMES = 32


def head_settings(name: str, values: Mapping[str, object] | None = None) -> Settings:
    """Make the settings of a head; `values` replace the published ones.

    Values are numbers, or text from the command line ("2", "true"). Raises an `OptionError` for an
    unknown head or setting, or a value that is not allowed.
    """
    if name not in HEADS:
        near = difflib.get_close_matches(name, HEADS, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise OptionError(f"head must be one of {', '.join(HEADS)}. Received: {name!r}{hint}")
    known = settings_of(HEADS[name])
    of = f"the head {name}"
    for unknown in (values or {}).keys() - known.keys():
        raise OptionError(
            f"{of} has no setting {unknown!r}; it has: "
            + ", ".join(f"{setting.name}={setting.default}" for setting in known.values())
        )
    chosen = {k: known[k].convert(value, f"{k} of {of}") for k, value in (values or {}).items()}
    settings = HEADS[name](**chosen)
    check(settings, of)
    if isinstance(settings, TransformerSettings) and settings.units % settings.attention_heads:
        raise OptionError(
            f"units of {of} must be a multiple of attention_heads. Received: "
            f"{settings.units} and {settings.attention_heads}"
        )
    return settings
