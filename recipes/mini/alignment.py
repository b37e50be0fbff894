"""Frozen heads trained on VGGish's embeddings, and their target logits for a teacher's logits.

A head and the teacher were trained on different clips with different priors, so they give the same
audio different logits. Pairs of audio and released embedding can be given to both: on these, the
teacher's logits of each class are scaled and shifted to the mean and spread of the head's.
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
# Few pairs contain any one class: use half its own slope and half the median of all classes.
_OWN_SHARE = 0.5
_SLOPES = (0.05, 3.0)
# Lower logits of the teacher, which go down to -300, all mean that a class is absent.
_LEAST_LOGIT = -14.0


@dataclass(frozen=True, eq=False)
class FrozenHead:
    """A trained head for clips of one frame.

    Attributes:
        name: name of its run.
        model: the head: frames float [n, 1, 128] in 8-bit codes -> logits.
        slope, offset: [521], conversion of the teacher's logits to this head's.
    """

    name: str
    model: Any
    slope: Any
    offset: Any

    def logits(self, embeddings: Any) -> Any:
        """Return the logits [n, 521] of the teacher's classes for embeddings [n, 128]."""
        return tf.gather(_logits(self.model, embeddings), teacher_classes(), axis=1)

    def targets(self, teacher_logits: Any) -> Any:
        """Convert the teacher's logits [n, 521] to target logits [n, 521] for this head."""
        return tf.maximum(teacher_logits, _LEAST_LOGIT) * self.slope + self.offset


def load_frozen(directory: Path, embeddings: FloatArray, teacher_logits: FloatArray) -> FrozenHead:
    """Load the head of a run, and fit its conversion of the teacher's logits on pairs.

    Args:
        directory: directory of the run.
        embeddings: released whitened embeddings [n, 128].
        teacher_logits: [n, 521], logits of the teacher for the same seconds of audio.
    """
    run = Run(directory)
    config = run.config()
    n_classes = len(audioset_labels())
    model = build_head(config.head, config.head_settings, n_classes, n_frames=1)
    set_weights(model, read_arrays(run.best)[0])
    model.trainable = False
    own = _logits(model, tf.constant(embeddings)).numpy()[:, teacher_classes()]
    bounded = np.maximum(teacher_logits, _LEAST_LOGIT)
    ratio = own.std(axis=0) / np.maximum(bounded.std(axis=0), 1e-3)
    ratio = np.clip(ratio, *_SLOPES)
    slope = _OWN_SHARE * ratio + (1 - _OWN_SHARE) * np.median(ratio)
    offset = own.mean(axis=0) - slope * bounded.mean(axis=0)
    constants = (tf.constant(values.astype(np.float32)) for values in (slope, offset))
    return FrozenHead(directory.name, model, *constants)


def _logits(model: Any, embeddings: Any) -> Any:
    # Continuous codes, because the steps of the quantiser have no gradient; a code is the lower
    # edge of its level, hence the half.
    codes = (embeddings + 2.0) * 63.75 - 0.5
    n_frames = tf.ones(tf.shape(embeddings)[:1], tf.int32)
    return model({"frames": codes[:, tf.newaxis], "n_frames": n_frames}, training=False)["logits"]
