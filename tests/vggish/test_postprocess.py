"""Post-processing: PCA and the truncating quantiser, against the published arithmetic."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as npst

from vggish.errors import OptionError, WeightsError
from vggish.postprocess import Pca, dequantize, load_pca, quantize

ALL_LEVELS = np.arange(256, dtype=np.uint8)
WHITENED = npst.arrays(
    st.sampled_from([np.float32, np.float64]),
    npst.array_shapes(min_dims=1, max_dims=2, min_side=0),
    elements=st.floats(-4, 4, width=32),
)


@pytest.mark.parametrize(
    ("value", "level"),
    [(0.0, 127), (-2.0, 0), (2.0, 255), (-9e9, 0), (np.inf, 255), (-np.inf, 0), (1.9999, 254)],
)
def test_known_values_are_quantised_as_published(value: float, level: int) -> None:
    assert quantize(value) == level


def test_known_levels_are_dequantised_as_published() -> None:
    np.testing.assert_array_equal(
        dequantize([0, 255]), np.array([-1.9921875, 2.0078125], np.float32)
    )


def test_requantising_returns_every_level() -> None:
    np.testing.assert_array_equal(quantize(dequantize(ALL_LEVELS)), ALL_LEVELS)


@settings(max_examples=100)
@given(WHITENED)
def test_quantiser_truncates_and_keeps_the_shape(values: Any) -> None:
    levels = quantize(values)
    scaled = (np.clip(values, -2, 2) + values.dtype.type(2)) * 63.75
    assert (levels.dtype, levels.shape) == (np.uint8, values.shape)
    np.testing.assert_array_equal(levels, np.trunc(scaled))


@settings(max_examples=100)
@given(WHITENED)
def test_dequantised_values_are_within_half_a_level(values: Any) -> None:
    error = np.abs(dequantize(quantize(values)) - np.clip(values, -2, 2))
    assert error.max(initial=0) < 0.00788


def test_dequantiser_has_no_bias() -> None:
    values = np.linspace(-2, 2, 100_000, endpoint=False)
    assert abs(np.mean(dequantize(quantize(values)) - values)) < 1e-4


def test_nan_is_not_quantised() -> None:
    with pytest.raises(OptionError, match="cannot quantise embeddings that contain NaN"):
        quantize([0.0, np.nan])


# PCA


def test_pca_subtracts_the_mean_then_rotates(pca_file: Path, rng: np.random.Generator) -> None:
    pca = load_pca(pca_file)
    raw = rng.normal(size=(5, 128)).astype(np.float32)
    expected = [[row @ (clip - pca.means) for row in pca.eigen_vectors] for clip in raw]
    whitened = pca(raw)
    assert whitened.dtype == np.float32
    np.testing.assert_allclose(whitened, expected, rtol=1e-6, atol=1e-5)


def test_pca_of_a_batch_equals_one_by_one(pca_file: Path, rng: np.random.Generator) -> None:
    pca = load_pca(pca_file)
    raw = rng.normal(size=(7, 128)).astype(np.float32)
    np.testing.assert_array_equal(pca(raw), np.concatenate([pca(row[None]) for row in raw]))
    assert pca(raw[:0]).shape == (0, 128)


def test_official_pca_has_the_published_spectrum(shared_data: Path) -> None:
    pca = load_pca(shared_data / "pca" / "vggish_pca_params.npz")
    singular_values = np.linalg.svd(pca.eigen_vectors, compute_uv=False)
    np.testing.assert_allclose(singular_values[[0, -1]], [45.5, 0.515], rtol=0.002)


@pytest.mark.parametrize("shape", [(128,), (2, 127), (1, 2, 128)])
def test_raw_embeddings_of_another_shape_are_refused(pca_file: Path, shape: Any) -> None:
    with pytest.raises(OptionError, match=r"shape \[n, 128\]"):
        load_pca(pca_file)(np.zeros(shape))


def npz(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def npy(array: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


SQUARE, MEANS = np.eye(128), np.zeros(128)
GOOD_FILE = npz(pca_eigen_vectors=SQUARE, pca_means=MEANS)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "does not hold"),
        (b"not an archive", "does not hold"),
        (npy(SQUARE), "does not hold"),
        (npz(other=SQUARE), "does not hold"),
        (npz(pca_eigen_vectors=np.array([{}]), pca_means=MEANS), "does not hold"),
        (npz(pca_eigen_vectors=SQUARE[:64], pca_means=MEANS), "must have shapes"),
        (npz(pca_eigen_vectors=SQUARE * np.nan, pca_means=MEANS), "finite"),
    ],
)
def test_a_file_without_pca_parameters_is_refused(
    tmp_path: Path, content: bytes, problem: str
) -> None:
    path = tmp_path / "pca.npz"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=problem):
        load_pca(path)


def test_missing_pca_file_and_directories_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no PCA parameters at"):
        load_pca(tmp_path / "absent.npz")
    with pytest.raises(WeightsError, match="does not hold"):
        load_pca(tmp_path)


@settings(max_examples=150)
@given(
    changes=st.lists(
        st.tuples(st.integers(0, len(GOOD_FILE) - 1), st.integers(0, 255)), max_size=6
    ),
    length=st.integers(0, len(GOOD_FILE)),
)
def test_a_damaged_pca_file_is_refused_or_harmless(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, int]], length: int
) -> None:
    damaged = bytearray(GOOD_FILE)
    for position, value in changes:
        damaged[position] = value
    path = tmp_path_factory.getbasetemp() / "damaged.npz"
    for content in (damaged, damaged[:length]):
        path.write_bytes(content)
        try:
            pca = load_pca(path)
        except WeightsError:
            continue
        assert isinstance(pca, Pca)
        np.testing.assert_array_equal(pca.eigen_vectors, SQUARE)


def test_only_integers_are_dequantised() -> None:
    with pytest.raises(OptionError, match="only 8-bit levels"):
        dequantize(np.zeros((2, 128), np.float32))
