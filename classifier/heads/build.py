"""Building any head from its name and settings."""

from __future__ import annotations

from typing import Any

from classifier.heads.attention import Outputs, build_pooling
from classifier.heads.backend import keras
from classifier.heads.layers import Inputs
from classifier.heads.recurrent import build_recurrent, takes_scale
from classifier.heads.settings import (
    DbofSettings,
    LogisticSettings,
    LstmMoeSettings,
    MoeSettings,
    PoolingSettings,
    RecurrentSettings,
    Settings,
    TransformerSettings,
)
from classifier.heads.transformer import build_transformer
from classifier.heads.youtube8m import build_dbof, build_logistic, build_lstm_moe, build_moe
from vggish.errors import OptionError


def build_head(
    name: str,
    settings: Settings,
    n_classes: int,
    *,
    n_frames: int | None = None,
    judge_frames: bool = False,
) -> Any:
    """A head as a `tf_keras.Model`.

    Args:
        name: one of `HEADS`.
        settings: as `head_settings` makes them.
        n_classes: number of classes C.
        n_frames: the number of frames T if it is always the same, which makes training of
            recurrent heads faster; None takes any. The weights are the same.
        judge_frames: add the scores of single frames, where the head has them. For use, not
            for training: they would take part in the batch's statistics.

    Returns:
        A model of a dict: `frames` float32 [B, T, 128], codes from 0 to 255 as the quantiser
        gives them (mixed ones lie between), and `n_frames` int32 [B], how many of them are
        real; what stands beyond never matters. Its output is a dict: `logits` float32 [B, C],
        and `frame_logits` float32 [B, T, C] if asked for.

    Raises:
        OptionError: there is no class.
        MissingPackageError: TensorFlow or tf-keras is not installed.
    """
    if n_classes < 1:
        raise OptionError(f"a head needs at least one class. Received: {n_classes}")
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
