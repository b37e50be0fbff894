"""Frozen heads that know VGGish's space, and what each should say where the teacher says something.

A head and the teacher have learnt from other clips with other priors, so that the same sound has
other logits. On pairs of sound and released embedding both can be asked: there the teacher's
logits of a class get the mean and the spread of the head's.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from classifier.heads.backend import tf
from classifier.heads.build import build_head
from classifier.labels import audioset_labels
from classifier.training.runs import Run, read_arrays
from classifier.training.transfer import set_weights
from recipes.mini.teacher import teacher_classes

FloatArray = npt.NDArray[np.float32]
# A class has few pairs with it: half of its own slope, half of that of all classes.
_OWN_SHARE = 0.5
_SLOPES = (0.05, 3.0)
# What the teacher finds less likely than this is absent; its logits go on to -300.
_LEAST_LOGIT = -14.0


@dataclass(frozen=True, eq=False)
class FrozenHead:
    """A trained head on clips of one frame.

    Attributes:
        name: of its run.
        model: frames float [n, 1, 128] in codes -> logits.
        slope, offset: teacher's logits -> this head's, [521] each.
    """

    name: str
    model: Any
    slope: Any
    offset: Any

    def logits(self, embeddings: Any) -> Any:
        """Whitened embeddings [n, 128] -> logits [n, 521] of the teacher's classes."""
        return tf.gather(_logits(self.model, embeddings), teacher_classes(), axis=1)

    def targets(self, teacher_logits: Any) -> Any:
        """What this head should say of a patch, [n, 521] -> logits [n, 521]."""
        return tf.maximum(teacher_logits, _LEAST_LOGIT) * self.slope + self.offset


def load_frozen(directory: Path, embeddings: FloatArray, teacher_logits: FloatArray) -> FrozenHead:
    """The head of a run, calibrated on pairs.

    Args:
        directory: of the run.
        embeddings: whitened [n, 128], released ones.
        teacher_logits: of the same seconds of sound, [n, 521].
    """
    run = Run(directory)
    config = run.config()
    n_classes = len(audioset_labels())
    model = build_head(config.head, config.head_settings, n_classes, n_frames=1)
    set_weights(model, read_arrays(run.best)[0])
    model.trainable = False
    own = _logits(model, tf.constant(embeddings)).numpy()[:, teacher_classes()]
    heard = np.maximum(teacher_logits, _LEAST_LOGIT)
    ratio = own.std(axis=0) / np.maximum(heard.std(axis=0), 1e-3)
    ratio = np.clip(ratio, *_SLOPES)
    slope = _OWN_SHARE * ratio + (1 - _OWN_SHARE) * np.median(ratio)
    offset = own.mean(axis=0) - slope * heard.mean(axis=0)
    constants = (tf.constant(values.astype(np.float32)) for values in (slope, offset))
    return FrozenHead(directory.name, model, *constants)


def _logits(model: Any, embeddings: Any) -> Any:
    # Without the quantiser's steps, which have no slope: an embedding is a code and a half.
    codes = (embeddings + 2.0) * 63.75 - 0.5
    n_frames = tf.ones(tf.shape(embeddings)[:1], tf.int32)
    return model({"frames": codes[:, tf.newaxis], "n_frames": n_frames}, training=False)["logits"]
