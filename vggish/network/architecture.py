"""The VGGish network in tf-keras, built from a table.

Source: Hershey et al., ICASSP 2017, configuration A of VGG without its last pooling group,
and `vggish_slim` of Google's release. The 128-d output has no activation: AudioSet's released
features are pre-activation.
"""

from __future__ import annotations

import os
from typing import Any, Literal, NamedTuple

from vggish.common.extras import import_extra
from vggish.params import EMBEDDING_SIZE, N_BANDS, PATCH_FRAMES


class Layer(NamedTuple):
    """One row of the architecture.

    "conv" is 3x3, stride 1, SAME; "pool" is max, 2x2, stride 2, SAME; "dense" is fully connected,
    and the first one flattens [time, band, channel].
    """

    kind: Literal["conv", "pool", "dense"]
    name: str  # scope of the variables `weights` and `biases` in the official checkpoint
    size: int = 0  # number of filters or units
    relu: bool = True


# 72,141,184 parameters, 0.862 GMAC per patch.
ARCHITECTURE = (
    Layer("conv", "vggish/conv1", 64),  # [96, 64, 64]
    Layer("pool", "pool1"),
    Layer("conv", "vggish/conv2", 128),  # [48, 32, 128]
    Layer("pool", "pool2"),
    Layer("conv", "vggish/conv3/conv3_1", 256),  # [24, 16, 256]
    Layer("conv", "vggish/conv3/conv3_2", 256),
    Layer("pool", "pool3"),
    Layer("conv", "vggish/conv4/conv4_1", 512),  # [12, 8, 512]
    Layer("conv", "vggish/conv4/conv4_2", 512),
    Layer("pool", "pool4"),  # [6, 4, 512], flattened to 12288
    Layer("dense", "vggish/fc1/fc1_1", 4096),
    Layer("dense", "vggish/fc1/fc1_2", 4096),
    Layer("dense", "vggish/fc2", EMBEDDING_SIZE, relu=False),
)


def variable_shapes() -> dict[str, tuple[int, ...]]:
    """Names and shapes of the checkpoint's variables, in network order."""
    shapes: dict[str, tuple[int, ...]] = {}
    rows, columns, channels = PATCH_FRAMES, N_BANDS, 1
    flat = 0
    for layer in ARCHITECTURE:
        if layer.kind == "pool":
            rows, columns = -(-rows // 2), -(-columns // 2)
            continue
        if layer.kind == "conv":
            shapes[f"{layer.name}/weights"] = (3, 3, channels, layer.size)
            channels = layer.size
        else:
            shapes[f"{layer.name}/weights"] = (flat or rows * columns * channels, layer.size)
            flat = layer.size
        shapes[f"{layer.name}/biases"] = (layer.size,)
    return shapes


def build_model() -> Any:
    """VGGish as a `tf_keras.Model`: patches [n, 96, 64] -> raw embeddings [n, 128].

    Layers are named after the checkpoint's scopes, with `.` for `/`; weights are initialised.
    """
    keras = import_tf_keras()
    layers = keras.layers
    patches = layers.Input((PATCH_FRAMES, N_BANDS), name="patches")
    hidden = layers.Reshape((PATCH_FRAMES, N_BANDS, 1))(patches)
    for layer in ARCHITECTURE:
        name = layer.name.replace("/", ".")
        activation = "relu" if layer.relu else None
        if layer.kind == "conv":
            row = layers.Conv2D(layer.size, 3, padding="same", activation=activation, name=name)
        elif layer.kind == "pool":
            row = layers.MaxPool2D(2, 2, padding="same", name=name)
        else:
            if len(hidden.shape) > 2:
                hidden = layers.Flatten()(hidden)
            row = layers.Dense(layer.size, activation=activation, name=name)
        hidden = row(hidden)
    return keras.Model(patches, hidden, name="vggish")


def import_tensorflow() -> Any:
    """Import TensorFlow, without its start-up messages on stderr."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    return import_extra("tensorflow", extra="train", purpose="building or converting a network")


def import_tf_keras() -> Any:
    """Import tf-keras (Keras 2 on TensorFlow)."""
    import_tensorflow()
    return import_extra("tf_keras", extra="train", purpose="building or converting a network")
