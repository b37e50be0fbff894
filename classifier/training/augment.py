"""Augmentation of a batch of frames: mixup and frame masking.

The random choices are drawn outside the graph, from a generator that the caller seeds by step,
and applied inside it.

Source: Zhang et al., "mixup: beyond empirical risk minimization" (2018); Park et al.,
"SpecAugment" (2019), whose time masking applies to embeddings too.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from classifier.heads.backend import tf
from classifier.training.config import TrainingConfig

# The code of a zero, which is the mean of all frames.
NEUTRAL_CODE = 127.0


def draw(
    config: TrainingConfig, batch_size: int, n_frames: int, rng: np.random.Generator
) -> dict[str, npt.NDArray[Any]]:
    """Draw the random choices of one batch.

    With mixup, `share` float32 [B], the weight of a clip from 0.5 to 1, and `partner` int32 [B],
    the clip to mix it with; with masking, `keep` bool [B, T], the frames to keep.
    """
    choices: dict[str, npt.NDArray[Any]] = {}
    if config.mixup:
        share = rng.beta(config.mixup, config.mixup, batch_size)
        choices["share"] = np.maximum(share, 1 - share).astype(np.float32)
        choices["partner"] = rng.permutation(batch_size).astype(np.int32)
    if config.frame_masking:
        choices["keep"] = rng.random((batch_size, n_frames)) >= config.frame_masking
    return choices


def augment(batch: dict[str, Any]) -> dict[str, Any]:
    """Apply the choices of `draw` to `frames` [B, T, 128], `n_frames` [B] and `labels` [B, C].

    A mixed clip is as long as the longer of the two; the shorter one is padded with neutral frames.
    The frames become float32.
    """
    n_frames, labels = batch["n_frames"], batch["labels"]
    real = tf.sequence_mask(n_frames, batch["frames"].shape[1] or tf.shape(batch["frames"])[1])
    if "keep" in batch:
        real = real & batch["keep"]
    frames = tf.cast(batch["frames"], tf.float32)
    frames = tf.where(real[..., tf.newaxis], frames, NEUTRAL_CODE)
    if "share" in batch:
        partner, share = batch["partner"], batch["share"][:, tf.newaxis]
        labels = share * labels + (1 - share) * tf.gather(labels, partner)
        share = share[..., tf.newaxis]
        frames = share * frames + (1 - share) * tf.gather(frames, partner)
        n_frames = tf.maximum(n_frames, tf.gather(n_frames, partner))
    return {"frames": frames, "n_frames": n_frames, "labels": labels}
