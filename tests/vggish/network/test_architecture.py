"""The network in tf-keras, and its optional packages."""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np
import pytest

from vggish.common.extras import import_extra
from vggish.errors import MissingPackageError
from vggish.network.architecture import build_model, variable_shapes


@pytest.fixture(scope="module")
def model() -> Any:
    """The network as initialised by `build_model`."""
    pytest.importorskip("tf_keras").utils.set_random_seed(6)
    return build_model()


def test_network_has_the_published_number_of_parameters(model: Any) -> None:
    assert sum(math.prod(shape) for shape in variable_shapes().values()) == 72_141_184
    assert model.count_params() == 72_141_184


def test_variables_have_the_official_names_and_shapes() -> None:
    shapes = variable_shapes()
    convolutions = ["conv1", "conv2", "conv3/conv3_1", "conv3/conv3_2", "conv4/conv4_1"]
    scopes = [*convolutions, "conv4/conv4_2", "fc1/fc1_1", "fc1/fc1_2", "fc2"]
    assert list(shapes) == [f"vggish/{s}/{kind}" for s in scopes for kind in ("weights", "biases")]
    assert shapes["vggish/conv1/weights"] == (3, 3, 1, 64)
    assert shapes["vggish/conv4/conv4_2/weights"] == (3, 3, 512, 512)
    assert shapes["vggish/fc1/fc1_1/weights"] == (12288, 4096)
    assert shapes["vggish/fc2/weights"] == (4096, 128)
    assert shapes["vggish/fc2/biases"] == (128,)


def test_keras_layers_have_the_checkpoint_s_shapes(model: Any) -> None:
    for name, shape in variable_shapes().items():
        scope, kind = name.rsplit("/", 1)
        layer = model.get_layer(scope.replace("/", "."))
        variable = layer.kernel if kind == "weights" else layer.bias
        assert tuple(variable.shape) == shape


def test_batch_equals_one_by_one_and_the_output_has_no_activation(
    model: Any, rng: np.random.Generator
) -> None:
    patches = rng.normal(size=(5, 96, 64)).astype("f")
    batch = model(patches, training=False).numpy()
    single = np.concatenate([model(patch[None], training=False).numpy() for patch in patches])
    assert batch.shape == (5, 128)
    np.testing.assert_allclose(batch, single, atol=1e-5 * np.abs(batch).max())
    assert 0.2 < (batch < 0).mean() < 0.8


def test_error_for_a_missing_package_has_the_pip_command() -> None:
    with pytest.raises(MissingPackageError) as caught:
        import_extra("no_such_package.part", extra="train", purpose="dreaming")
    assert str(caught.value) == (
        "dreaming needs the package 'no_such_package', which is not installed.\n"
        "Install it with: pip install 'audiotag[train]'"
    )


def test_broken_package_is_not_reported_as_missing(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_package.py").write_text("import missing_dependency")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    with pytest.raises(MissingPackageError, match=r"cannot be loaded \(.*missing_dependency.*\)"):
        import_extra("broken_package", extra="train", purpose="dreaming")
