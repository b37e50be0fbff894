"""The network of mini in tf-keras: log-mel patches -> embeddings in VGGish's whitened space.

A plain residual network (He et al., 2016) with few filters where the feature maps are large.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from classifier.heads.backend import keras
from vggish.params import EMBEDDING_SIZE, N_BANDS, PATCH_FRAMES


class Stage(NamedTuple):
    """A convolution with stride 2, then residual blocks of two 3x3 convolutions each."""

    filters: int
    kernel: int
    blocks: int


# 0.97 M parameters and 36 MMAC for each patch, a twenty-fourth of VGGish.
STAGES = (
    Stage(16, 5, 0),  # [48, 32, 16]
    Stage(32, 3, 0),  # [24, 16, 32]
    Stage(64, 3, 2),  # [12, 8, 64]
    Stage(128, 3, 2),  # [6, 4, 128]
)
FEATURES = 512
# Log-mel values range from ln(0.01) for silence to about 5; this centres them.
_CENTRE, _SCALE = -2.0, 2.0


def build_mini() -> Any:
    """Build the network: patches float32 [n, 96, 64] -> embeddings [n, 128], features [n, 512]."""
    layers = keras.layers
    patches = layers.Input((PATCH_FRAMES, N_BANDS), name="patches")
    hidden = layers.Reshape((PATCH_FRAMES, N_BANDS, 1))(patches)
    hidden = layers.Rescaling(1 / _SCALE, -_CENTRE / _SCALE)(hidden)
    for stage in STAGES:
        hidden = _relu(_convolved(hidden, stage.filters, stage.kernel, 2))
        for _ in range(stage.blocks):
            inner = _relu(_convolved(hidden, stage.filters, 3, 1))
            hidden = _relu(layers.Add()([hidden, _convolved(inner, stage.filters, 3, 1)]))
    hidden = _relu(_convolved(hidden, FEATURES, 1, 1))
    features = layers.GlobalAveragePooling2D(dtype="float32", name="features")(hidden)
    embeddings = layers.Dense(EMBEDDING_SIZE, dtype="float32", name="embeddings")(features)
    return keras.Model(patches, {"embeddings": embeddings, "features": features}, name="mini")


def _convolved(hidden: Any, filters: int, kernel: int, stride: int) -> Any:
    """Apply a convolution with batch normalisation, which provides the bias."""
    hidden = keras.layers.Conv2D(filters, kernel, stride, padding="same", use_bias=False)(hidden)
    return keras.layers.BatchNormalization(momentum=0.98)(hidden)


def _relu(hidden: Any) -> Any:
    return keras.layers.Activation("relu")(hidden)
