"""Both ONNX forms of VGGish equal the numpy implementation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from tests.support.networks import numpy_vggish, seeded_variables
from tests.support.sounds import make_sound
from vggish.mel_features import log_mel_patches
from vggish.network.convert import MAX_RELATIVE_DIFFERENCE
from vggish.network.onnx_graph import Form, write_onnx
from vggish.network.runtime import Embedder

pytest.importorskip("onnx")


@pytest.fixture(scope="module")
def weights() -> dict[str, Any]:
    # Biases as large as activations, so that a misplaced one is detected.
    return {
        name: value * np.float32(30 if name.endswith("biases") else 1)
        for name, value in seeded_variables().items()
    }


@pytest.fixture(scope="module", params=["direct", "winograd"])
def network(
    request: pytest.FixtureRequest,
    weights: dict[str, Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Embedder]:
    form: Form = request.param
    path = tmp_path_factory.mktemp("onnx") / f"{form}.onnx"
    write_onnx(weights, path, "a" * 64, form)
    yield Embedder(path, name="vggish", weights_sha256="a" * 64, device="cpu")
    path.unlink()


def test_both_forms_equal_numpy(network: Embedder, weights: dict[str, Any]) -> None:
    patches = log_mel_patches(make_sound(3.0)).astype(np.float32)
    expected = numpy_vggish(weights, patches)
    difference = np.abs(network(patches) - expected).max() / np.abs(expected).max()
    assert difference < MAX_RELATIVE_DIFFERENCE


def test_a_change_at_the_edge_of_a_patch_is_not_lost(network: Embedder) -> None:
    patches = np.zeros((4, 96, 64), np.float32)
    for patch, (row, column) in zip(patches, [(0, 0), (0, 63), (95, 0), (95, 63)], strict=True):
        patch[row, column] = 100.0
    embedded = network(np.concatenate([patches, np.zeros((1, 96, 64), np.float32)]))
    assert len(np.unique(embedded.round(4), axis=0)) == 5
