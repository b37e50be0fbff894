"""Convert the official checkpoint: to tf-keras, then to ONNX float32 and int8.

    vggish_model.ckpt   TensorFlow V1 checkpoint, variables as in `variable_shapes`
      -> tf-keras       the reference for the embeddings of a few patches
      -> ONNX float32   must equal tf-keras on these patches; the published smoke test
      -> ONNX int8      static, per channel, calibrated on recordings; its fidelity is measured

A failed check raises an error that names the step and the difference.
"""

from __future__ import annotations

import functools
import logging
import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vggish.audio.stream import load_audio
from vggish.common.extras import import_extra
from vggish.errors import ConversionError, first_line
from vggish.mel_features import log_mel_patches
from vggish.network.architecture import (
    ARCHITECTURE,
    build_model,
    import_tensorflow,
    variable_shapes,
)
from vggish.network.onnx_graph import Weights, import_onnx, write_onnx
from vggish.network.runtime import Embedder, import_onnxruntime
from vggish.params import SAMPLE_RATE_HZ
from vggish.postprocess import Pca, quantize

Patches = npt.NDArray[np.float32]
# Largest difference, relative to the largest embedding value, between implementations that
# only round differently: sums of up to 12288 products, in another order or by another algorithm.
MAX_RELATIVE_DIFFERENCE = 2e-5
N_CHECK_PATCHES = 3
# Recordings are scaled by these gains, so that the int8 ranges cover quiet and loud ones.
CALIBRATION_GAINS = (1.0, 0.1)
CALIBRATION_BATCH = 8


def convert_checkpoint(
    checkpoint: Path,
    checkpoint_sha256: str,
    pca: Pca,
    recordings: Sequence[Path],
    smoke_test: dict[str, float] | None,
    out_dir: Path,
    report: Callable[[str], None],
) -> dict[str, Any]:
    """Convert a checkpoint (V1) into `float32.onnx` and `int8.onnx` in the directory `out_dir`.

    Two thirds of the recordings calibrate int8, one third measures its fidelity. `smoke_test` is
    the expected `raw_mean`, `raw_std`, `frame_mean`, `frame_std` on 3 s of a 1 kHz sine, and
    `relative_tolerance`; None skips the test. `report` is called with a line about each step.

    Returns the measurements `onnx_difference`, `smoke_test` and `int8_fidelity`. A failed check is
    a `ConversionError`.
    """
    calibration, held_out = recording_patches(recordings)
    check = np.concatenate([smoke_patches()[:1], held_out])[:N_CHECK_PATCHES]

    report("tf-keras: building the network")
    weights, expected = pass_through_keras(read_checkpoint(checkpoint), check)

    report("ONNX float32: writing it and comparing it with tf-keras")
    float32_path, int8_path = out_dir / "float32.onnx", out_dir / "int8.onnx"
    write_onnx(weights, float32_path, checkpoint_sha256, "winograd")
    load = functools.partial(
        Embedder, name="vggish", weights_sha256=checkpoint_sha256, device="cpu"
    )
    float32 = load(float32_path)
    onnx_difference = _difference(float32(check), expected)

    measured_smoke = measure_smoke(float32, pca)
    if smoke_test is not None:
        report("ONNX float32: the published smoke test, 3 s of a 1 kHz sine")
        _check_smoke(measured_smoke, smoke_test)

    report(f"ONNX int8: calibrating on {len(calibration)} patches of recordings")
    direct_path = out_dir / "direct.onnx"
    write_onnx(weights, direct_path, checkpoint_sha256, "direct")
    quantize_onnx(direct_path, calibration, int8_path)
    direct_path.unlink()
    int8 = load(int8_path, precision="int8")
    fidelity = measure_fidelity(float32, int8, pca, held_out)
    report(
        f"ONNX int8: cosine {fidelity['cosine_after_pca']:.4f} to float32 after PCA, "
        f"mean change {fidelity['mean_absolute_change']:.2f} of 255"
    )
    measured = {"onnx_difference": onnx_difference, "smoke_test": measured_smoke}
    return {**measured, "int8_fidelity": fidelity}


def read_checkpoint(path: Path) -> Weights:
    """Read the variables of a VGGish checkpoint, by their official names, and check them."""
    tensorflow = import_tensorflow()
    if not path.is_file():
        raise ConversionError(f"no checkpoint at {path}")
    try:
        reader = tensorflow.train.load_checkpoint(str(path))
        shapes = reader.get_variable_to_shape_map()
    except Exception as error:  # TensorFlow's errors for a bad file have no common base
        raise ConversionError(
            f"{path} is not a TensorFlow checkpoint in one file (V1): {first_line(error)}"
        ) from error
    weights: Weights = {}
    for name, shape in variable_shapes().items():
        received = tuple(shapes.get(name, ()))
        if received != shape:
            reason = f"{name} must have the shape {shape}. Received: {received}"
            if name not in shapes:
                reason = f"it lacks the variable {name}"
            raise ConversionError(f"{path} is not a VGGish checkpoint: {reason}")
        try:
            weights[name] = np.asarray(reader.get_tensor(name), np.float32)
        except Exception as error:
            raise ConversionError(
                f"{path} is damaged: the variable {name} cannot be read: {first_line(error)}"
            ) from error
        if not np.isfinite(weights[name]).all():
            raise ConversionError(f"{path}: the variable {name} holds NaN or infinite values")
    return weights


def pass_through_keras(
    weights: Weights, patches: Patches
) -> tuple[Weights, npt.NDArray[np.float32]]:
    """Load weights into the tf-keras model; return its weights and embeddings [n, 128]."""
    passed: Weights = {}
    # On a GPU TensorFlow may compute in TF32, too coarse for a comparison.
    with import_tensorflow().device("CPU:0"):
        model = build_model()
        for scope in (layer.name for layer in ARCHITECTURE if layer.kind != "pool"):
            names = (f"{scope}/weights", f"{scope}/biases")
            keras_layer = model.get_layer(scope.replace("/", "."))
            keras_layer.set_weights([weights[name] for name in names])
            passed.update(zip(names, keras_layer.get_weights(), strict=True))
        return passed, model(patches, training=False).numpy()


def quantize_onnx(direct_path: Path, calibration: Patches, int8_path: Path) -> None:
    """Quantise a network in its direct form: uint8 activations, int8 weights per channel.

    The `calibration` patches [n, 96, 64] set the static ranges of the activations.
    """
    import_onnx()
    import_onnxruntime()
    quantization: Any = import_extra(
        "onnxruntime.quantization", extra="train", purpose="quantising a network"
    )

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            starts = range(0, len(calibration), CALIBRATION_BATCH)
            batches = (calibration[i : i + CALIBRATION_BATCH] for i in starts)
            self._batches = ({"patches": batch} for batch in batches)

        def get_next(self) -> dict[str, Patches] | None:
            return next(self._batches, None)

    with _quantising_in(int8_path.parent):
        try:
            quantization.quantize_static(
                str(direct_path),
                str(int8_path),
                Reader(),
                quant_format=quantization.QuantFormat.QDQ,
                per_channel=True,
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
            )
        except Exception as error:  # ONNX Runtime's errors share no public base class
            raise ConversionError(f"quantising to int8 failed: {first_line(error)}") from error


def measure_fidelity(
    float32: Embedder, int8: Embedder, pca: Pca, patches: Patches
) -> dict[str, float]:
    """Compare int8 frames with float32 frames of `patches` [n, 96, 64].

    The cosine is the mean over patches; the change is that of the uint8 frames, 0 to 255.
    """
    exact, approximate = pca(float32(patches)), pca(int8(patches))
    norms = np.linalg.norm(exact, axis=1) * np.linalg.norm(approximate, axis=1)
    cosine = np.sum(exact * approximate, axis=1) / np.maximum(norms, np.finfo(np.float32).tiny)
    change = np.abs(quantize(exact).astype(int) - quantize(approximate).astype(int))
    return {
        "cosine_after_pca": round(float(cosine.mean()), 6),
        "mean_absolute_change": round(float(change.mean()), 4),
        "n_patches": len(patches),
    }


def smoke_patches() -> Patches:
    """Patches float32 [3, 96, 64] of the published smoke signal: 3 s of a 1 kHz sine."""
    seconds = np.arange(3 * SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ
    return log_mel_patches(np.sin(2 * np.pi * 1000 * seconds), tail="drop").astype(np.float32)


def measure_smoke(embedder: Embedder, pca: Pca) -> dict[str, float]:
    """Mean and standard deviation of the embeddings of the smoke signal."""
    raw = embedder(smoke_patches())
    frames = quantize(pca(raw))
    return {
        "raw_mean": float(raw.mean()),
        "raw_std": float(raw.std()),
        "frame_mean": float(frames.mean()),
        "frame_std": float(frames.std()),
    }


def recording_patches(recordings: Sequence[Path]) -> tuple[Patches, Patches]:
    """Patches [n, 96, 64] of recordings for calibration, and of every third for measuring."""
    if len(recordings) < 3:
        raise ConversionError(
            f"calibration needs at least 3 recordings. Received: {len(recordings)}"
        )
    calibration: list[Patches] = []
    held_out: list[Patches] = []
    for index, recording in enumerate(sorted(recordings)):
        waveform = load_audio(recording)
        patches = [log_mel_patches(waveform * np.float32(gain)) for gain in CALIBRATION_GAINS]
        (held_out if index % 3 == 2 else calibration).extend(p.astype(np.float32) for p in patches)
    return np.concatenate(calibration), np.concatenate(held_out)


def _difference(received: npt.NDArray[np.float32], expected: npt.NDArray[np.float32]) -> float:
    """Largest relative difference between ONNX and tf-keras embeddings; raise if too large."""
    scale = max(float(np.abs(expected).max()), float(np.finfo(np.float32).tiny))
    difference = float(np.abs(received - expected).max()) / scale
    if not difference <= MAX_RELATIVE_DIFFERENCE:
        raise ConversionError(
            f"conversion failed: ONNX differs from tf-keras by {difference:.1e} of the largest "
            f"value (rounding explains at most {MAX_RELATIVE_DIFFERENCE:.0e})"
        )
    return difference


def _check_smoke(measured: dict[str, float], expected: dict[str, float]) -> None:
    tolerance = expected["relative_tolerance"]
    wrong = [
        f"{name} {value:.6g} (expected {expected[name]:.6g})"
        for name, value in measured.items()
        if not math.isclose(value, expected[name], rel_tol=tolerance)
    ]
    if wrong:
        raise ConversionError(
            f"these are not the official weights: the smoke test gives {', '.join(wrong)}"
        )


@contextmanager
def _quantising_in(directory: Path) -> Iterator[None]:
    """Make temporary files in `directory`, and hide the advice that the quantiser logs.

    The files are ONNX Runtime's copies of the network; the next installation deletes those of a
    killed process.
    """
    logger = logging.getLogger()
    level, tempdir = logger.level, tempfile.tempdir
    logger.setLevel(logging.ERROR)
    tempfile.tempdir = str(directory)
    try:
        yield
    finally:
        logger.setLevel(level)
        tempfile.tempdir = tempdir
