"""Post-processing: raw embeddings -> PCA -> 8-bit frames, and back.

    raw embeddings  float32 [n, 128]   the network's pre-activation output
    PCA             float32 [n, 128]   y = P (x - mu), whitened
    frames          uint8   [n, 128]   clip y to [-2, 2], (y + 2) * 63.75, truncate

The quantiser truncates, like that of AudioSet's released features; rounding would change half of
the values. Source: `vggish_postprocess` of Google's VGGish release, and the dequantiser of the
YouTube-8M starter code.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vggish.errors import OptionError, WeightsError
from vggish.params import EMBEDDING_SIZE, QUANTIZE_MAX, QUANTIZE_MIN

N_LEVELS = 256
QUANTIZE_SCALE = (N_LEVELS - 1) / (QUANTIZE_MAX - QUANTIZE_MIN)


def quantize(values: npt.ArrayLike) -> npt.NDArray[np.uint8]:
    """Quantise whitened embeddings to 8 bits: `floor((clip(y, -2, 2) + 2) * 63.75)`.

    Shape:
        float, any shape -> uint8, same shape; 0.0 -> 127.

    Raises:
        OptionError: a value is NaN.
    """
    array = np.asarray(values)
    if np.isnan(array).any():
        raise OptionError("cannot quantise embeddings that contain NaN")
    clipped = np.clip(array, QUANTIZE_MIN, QUANTIZE_MAX)
    levels: npt.NDArray[np.uint8] = ((clipped - QUANTIZE_MIN) * QUANTIZE_SCALE).astype(np.uint8)
    return levels


def dequantize(frames: npt.ArrayLike) -> npt.NDArray[np.float32]:
    """Convert 8-bit levels to their centres: `q * 4/255 + 4/512 - 2`, within 0.0079.

    Shape:
        uint8, any shape -> float32, same shape; 0 -> -1.9921875, 255 -> 2.0078125.

    Raises:
        OptionError: the values are not integers.
    """
    levels = np.asarray(frames)
    if levels.dtype.kind not in "ui":
        raise OptionError(
            f"only 8-bit levels can be dequantised. Received dtype: {levels.dtype} (raw and PCA "
            "values are not quantised)"
        )
    step = (QUANTIZE_MAX - QUANTIZE_MIN) / (N_LEVELS - 1)
    offset = (QUANTIZE_MAX - QUANTIZE_MIN) / (2 * N_LEVELS) + QUANTIZE_MIN
    return (levels.astype(np.float64) * step + offset).astype(np.float32)


@dataclass(frozen=True)
class Pca:
    """The whitening PCA of AudioSet's features.

    Attributes:
        eigen_vectors: float64 [128, 128], one component per row.
        means: float64 [128].

    Raises:
        WeightsError: an array has another shape, or is not finite.
    """

    eigen_vectors: npt.NDArray[np.float64]
    means: npt.NDArray[np.float64]

    def __post_init__(self) -> None:
        expected = ((EMBEDDING_SIZE, EMBEDDING_SIZE), (EMBEDDING_SIZE,))
        received = (self.eigen_vectors.shape, self.means.shape)
        if received != expected:
            raise WeightsError(f"PCA parameters must have shapes {expected}. Received: {received}")
        if not (np.isfinite(self.eigen_vectors).all() and np.isfinite(self.means).all()):
            raise WeightsError("PCA parameters must be finite; the file is damaged")

    @property
    def sha256(self) -> str:
        """Checksum of the parameters, independent of the file that holds them."""
        numbers = np.concatenate([self.eigen_vectors.reshape(-1), self.means])
        return hashlib.sha256(numbers.astype("<f8").tobytes()).hexdigest()

    def __call__(self, raw: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Whiten raw embeddings.

        Shape:
            float [n, 128] -> float32 [n, 128]

        Raises:
            OptionError: the last axis is not 128 long.
        """
        embeddings = np.asarray(raw)
        if embeddings.ndim != 2 or embeddings.shape[1] != EMBEDDING_SIZE:
            raise OptionError(
                f"raw embeddings must have the shape [n, {EMBEDDING_SIZE}]. "
                f"Received: {embeddings.shape}"
            )
        # einsum stays in this thread; BLAS threads would spin on the cores of the network.
        whitened: npt.NDArray[np.float64] = np.einsum(
            "ni,ki->nk", embeddings - self.means, self.eigen_vectors
        )
        return whitened.astype(np.float32)


def load_pca(path: str | Path) -> Pca:
    """Read `vggish_pca_params.npz` (keys `pca_eigen_vectors` and `pca_means`).

    Raises:
        WeightsError: the file is missing or damaged, or an array has another shape.
    """
    try:
        with open(path, "rb") as file:
            arrays = np.load(file, allow_pickle=False)
            eigen_vectors = np.asarray(arrays["pca_eigen_vectors"], np.float64)
            means = np.asarray(arrays["pca_means"], np.float64).reshape(-1)
    except FileNotFoundError as error:
        raise WeightsError(f"no PCA parameters at {path}") from error
    except Exception as error:
        # For damaged archives numpy, zipfile, zlib and tokenize raise many kinds of errors.
        raise WeightsError(f"{path} does not hold VGGish's PCA parameters: {error}") from error
    return Pca(eigen_vectors, means)
