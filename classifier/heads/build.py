"""Build any head from its name and settings."""

from __future__ import annotations

from typing import Any

from classifier.heads import settings as kinds
from classifier.heads.attention import build_pooling
from classifier.heads.backend import keras
from classifier.heads.layers import HeadContext, Outputs
from classifier.heads.recurrent import build_recurrent, takes_scale
from classifier.heads.transformer import build_transformer
from classifier.heads.youtube8m import build_dbof, build_logistic, build_lstm_moe, build_moe
from vggish.errors import OptionError


def build_head(
    name: str,
    settings: kinds.Settings,
    n_classes: int,
    *,
    n_frames: int | None = None,
    frame_scores: bool = False,
) -> Any:
    """Build a head of `HEADS` as a `tf_keras.Model` from a dict to a dict.

    Inputs: `frames` float32 [B, T, 128], codes from 0 to 255 or values between them, and `n_frames`
    int32 [B], the number of real frames; the others are ignored. Outputs: `logits` float32 [B, C],
    and `frame_logits` float32 [B, T, C] with `frame_scores`, if the head has them. These are not
    for training, where they would take part in the batch statistics. With a fixed number of frames
    T, `n_frames`, recurrent heads train faster; the weights are the same.
    """
    if n_classes < 1:
        raise OptionError(f"a head needs at least one class. Received: {n_classes}")
    # logistic and moe normalise the mean frame instead of the frames.
    normalises_mean = name in ("logistic", "moe")
    context = HeadContext(
        "none" if normalises_mean else settings.normalisation,
        n_classes,
        n_frames,
        frame_scores=frame_scores,
        leaves_scale=isinstance(settings, kinds.RecurrentSettings)
        and takes_scale(settings, n_frames),
    )
    return keras.Model(context.inputs, _outputs(name, settings, context), name=name)


def _outputs(name: str, settings: kinds.Settings, context: HeadContext) -> Outputs:
    match settings:
        case kinds.RecurrentSettings():
            return build_recurrent(name, settings, context)
        case kinds.PoolingSettings():
            return build_pooling(name, settings, context)
        case kinds.TransformerSettings():
            return build_transformer(settings, context)
        case kinds.LogisticSettings():
            return build_logistic(name, settings, context)
        case kinds.MoeSettings():
            return build_moe(settings, context)
        case kinds.DbofSettings():
            return build_dbof(settings, context)
        case kinds.LstmMoeSettings():
            return build_lstm_moe(settings, context)
