"""Building any head from its name and settings."""

from __future__ import annotations

from typing import Any

from classifier.backend import keras
from classifier.heads import (
    DbofSettings,
    LogisticSettings,
    LstmMoeSettings,
    MoeSettings,
    PoolingSettings,
    RecurrentSettings,
    Settings,
    TransformerSettings,
)
from classifier.heads.attention import Outputs, build_pooling
from classifier.heads.layers import Inputs
from classifier.heads.recurrent import build_recurrent, takes_scale
from classifier.heads.transformer import build_transformer
from classifier.heads.youtube8m import build_dbof, build_logistic, build_lstm_moe, build_moe


def build(
    name: str, settings: Settings, n_classes: int, n_frames: int | None, judge_frames: bool
) -> Any:
    """What `classifier.heads.build_head` documents."""
    # logistic and moe normalise the mean of frames, not the frames.
    of_mean = name in ("logistic", "moe")
    leaves_scale = isinstance(settings, RecurrentSettings) and takes_scale(settings, n_frames)
    inputs = Inputs("none" if of_mean else settings.normalisation, n_frames, leaves_scale)
    outputs = _outputs(name, settings, inputs, n_classes, n_frames, judge_frames)
    return keras.Model(inputs.tensors, outputs, name=name)


def _outputs(
    name: str,
    settings: Settings,
    inputs: Inputs,
    n_classes: int,
    n_frames: int | None,
    judge_frames: bool,
) -> Outputs:
    match settings:
        case RecurrentSettings():
            return build_recurrent(name, settings, inputs, n_classes, n_frames, judge_frames)
        case PoolingSettings():
            return build_pooling(name, settings, inputs, n_classes, judge_frames)
        case TransformerSettings():
            return build_transformer(settings, inputs, n_classes, judge_frames)
        case LogisticSettings():
            return build_logistic(name, settings, inputs, n_classes, judge_frames)
        case MoeSettings():
            return build_moe(settings, inputs, n_classes)
        case DbofSettings():
            return build_dbof(settings, inputs, n_classes)
        case LstmMoeSettings():
            return build_lstm_moe(settings, inputs, n_classes, n_frames)
