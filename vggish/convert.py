"""The official checkpoint -> tf-keras -> ONNX float32 and int8, each step checked.

    vggish_model.ckpt   TensorFlow V1 checkpoint, variables as in `model.variable_shapes`
      -> tf-keras       = an independent numpy convolution, on a few patches
      -> ONNX float32   = tf-keras, on the same patches; the published smoke test
      -> ONNX int8      static, per channel, calibrated on real sound; fidelity measured

The ONNX graph is written from the same table as the Keras model. tf2onnx gives the same graph
in 80 s and several gigabytes where this takes a second, for it optimises and copies 289 MB of
constants many times over.
"""

from __future__ import annotations

import logging
import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vggish.audio import load_audio
from vggish.errors import ConversionError
from vggish.extras import import_extra
from vggish.mel_features import log_mel_patches
from vggish.model import ARCHITECTURE, build_model, import_tensorflow, variable_shapes
from vggish.params import EMBEDDING_SIZE, N_BANDS, PATCH_FRAMES, SAMPLE_RATE_HZ, VERSION
from vggish.postprocess import Pca, quantize
from vggish.runtime import Embedder

Weights = dict[str, npt.NDArray[np.float32]]
Patches = npt.NDArray[np.float32]

# Largest difference, relative to the largest embedding value, between implementations that
# add the same 12288 float32 products in another order.
MAX_RELATIVE_DIFFERENCE = 2e-5
N_CHECK_PATCHES = 3
# Real sound is played at these gains, so that quiet and loud recordings are both in range.
CALIBRATION_GAINS = (1.0, 0.1)
CALIBRATION_BATCH = 8
OPSET, IR_VERSION = 17, 8


def convert_checkpoint(
    checkpoint: Path,
    checkpoint_sha256: str,
    pca: Pca,
    sounds: Sequence[Path],
    smoke_test: dict[str, float] | None,
    out_dir: Path,
    report: Callable[[str], None],
) -> dict[str, Any]:
    """Convert a checkpoint into `float32.onnx` and `int8.onnx` in `out_dir`.

    Args:
        checkpoint: V1-format TensorFlow checkpoint of VGGish.
        checkpoint_sha256: goes into the ONNX files as provenance.
        pca: for the smoke test and the fidelity.
        sounds: real recordings: two thirds calibrate int8, one third measures its fidelity.
        smoke_test: expected `raw_mean`, `raw_std`, `frame_mean`, `frame_std` on 3 s of a 1 kHz
            sine, and `relative_tolerance`; None to leave it out.
        out_dir: an existing directory.
        report: called with a line about each step.

    Returns:
        What was measured: `keras_difference`, `onnx_difference`, `smoke_test`, `int8_fidelity`.

    Raises:
        ConversionError: the checkpoint is no VGGish, or a check failed.
        MissingPackageError: the extra `train` is not installed.
    """
    weights = read_checkpoint(checkpoint)
    calibration, held_out = sound_patches(sounds)
    check = np.concatenate([smoke_patches()[:1], held_out])[:N_CHECK_PATCHES]

    report("tf-keras: building the network and comparing it with numpy")
    model = build_model()
    for layer in ARCHITECTURE:
        if layer.kind != "pool":
            values = [weights[f"{layer.name}/weights"], weights[f"{layer.name}/biases"]]
            model.get_layer(layer.name.replace("/", ".")).set_weights(values)
    expected = numpy_vggish(weights, check)
    keras_raw = model(check, training=False).numpy()
    keras_difference = _difference("tf-keras", keras_raw, "numpy", expected)

    report("ONNX float32: writing it and comparing it with tf-keras")
    float32_path, int8_path = out_dir / "float32.onnx", out_dir / "int8.onnx"
    keras_weights = {
        name: value
        for layer in ARCHITECTURE
        if layer.kind != "pool"
        for name, value in zip(
            (f"{layer.name}/weights", f"{layer.name}/biases"),
            model.get_layer(layer.name.replace("/", ".")).get_weights(),
            strict=True,
        )
    }
    write_onnx(keras_weights, float32_path, checkpoint_sha256)
    float32 = _load(float32_path, checkpoint_sha256, "float32")
    onnx_difference = _difference("ONNX", float32(check), "tf-keras", keras_raw)

    measured_smoke = measure_smoke(float32, pca)
    if smoke_test is not None:
        report("ONNX float32: the published smoke test, 3 s of a 1 kHz sine")
        _check_smoke(measured_smoke, smoke_test)

    report(f"ONNX int8: calibrating on {len(calibration)} patches of real sound")
    quantize_onnx(float32_path, calibration, int8_path)
    int8 = _load(int8_path, checkpoint_sha256, "int8")
    fidelity = measure_fidelity(float32, int8, pca, held_out)
    report(
        f"ONNX int8: cosine {fidelity['cosine_after_pca']:.4f} to float32 after PCA, "
        f"mean change {fidelity['mean_absolute_change']:.2f} of 255"
    )
    return {
        "keras_difference": keras_difference,
        "onnx_difference": onnx_difference,
        "smoke_test": measured_smoke,
        "int8_fidelity": fidelity,
    }


def read_checkpoint(path: Path) -> Weights:
    """The variables of a VGGish checkpoint, by their official names.

    Raises:
        ConversionError: it cannot be read, or a variable is missing, misshapen or not finite.
        MissingPackageError: TensorFlow is not installed.
    """
    tensorflow = import_tensorflow()
    try:
        reader = tensorflow.train.load_checkpoint(str(path))
        shapes = reader.get_variable_to_shape_map()
    except Exception as error:  # TensorFlow's errors for a bad file have no common base
        raise ConversionError(f"{path} is no TensorFlow checkpoint: {error}") from error
    weights: Weights = {}
    for name, shape in variable_shapes().items():
        if name not in shapes:
            raise ConversionError(f"{path} is no VGGish checkpoint: it lacks the variable {name}")
        if tuple(shapes[name]) != shape:
            raise ConversionError(
                f"{path} is no VGGish checkpoint: {name} must have the shape {shape}. "
                f"Received: {tuple(shapes[name])}"
            )
        weights[name] = np.asarray(reader.get_tensor(name), np.float32)
        if not np.isfinite(weights[name]).all():
            raise ConversionError(f"{path}: the variable {name} holds values that are no numbers")
    return weights


def numpy_vggish(weights: Weights, patches: Patches) -> npt.NDArray[np.float32]:
    """VGGish in plain numpy, as a check on the others: [n, 96, 64] -> [n, 128].

    A 3x3 convolution is nine shifted matrix products, in channels-last order.
    """
    hidden = patches[..., None].astype(np.float64)  # [n, rows, columns, channels]
    for layer in ARCHITECTURE:
        if layer.kind == "pool":
            n, rows, columns, channels = hidden.shape
            tiles = hidden.reshape(n, rows // 2, 2, columns // 2, 2, channels)
            hidden = tiles.max(axis=(2, 4))
            continue
        kernel = weights[f"{layer.name}/weights"].astype(np.float64)
        if layer.kind == "conv":
            rows, columns = hidden.shape[1:3]
            padded = np.pad(hidden, ((0, 0), (1, 1), (1, 1), (0, 0)))
            hidden = sum(
                padded[:, i : i + rows, j : j + columns] @ kernel[i, j]
                for i in range(3)
                for j in range(3)
            )
        else:
            hidden = hidden.reshape(len(hidden), -1) @ kernel
        hidden = hidden + weights[f"{layer.name}/biases"]
        if layer.relu:
            hidden = np.maximum(hidden, 0.0)
    return hidden.astype(np.float32)


def write_onnx(weights: Weights, path: Path, weights_sha256: str) -> None:
    """Write VGGish as ONNX: `patches` float32 [n, 96, 64] -> `raw_embeddings` float32 [n, 128].

    ONNX is channels-first. The first dense layer's rows are permuted once, here, from (time,
    band, channel) to (channel, time, band), so that no transpose is left at run time.

    Raises:
        MissingPackageError: the package onnx is not installed.
    """
    onnx = _import_onnx()
    helper, to_tensor = onnx.helper, onnx.numpy_helper.from_array
    nodes = [helper.make_node("Reshape", ["patches", "image_shape"], ["image"])]
    tensors = [to_tensor(np.array([-1, 1, PATCH_FRAMES, N_BANDS]), "image_shape")]
    current, rows, columns, channels, flattened = "image", PATCH_FRAMES, N_BANDS, 1, False
    for layer in ARCHITECTURE:
        output = layer.name
        if layer.kind == "pool":
            nodes.append(
                helper.make_node(
                    "MaxPool", [current], [output], kernel_shape=[2, 2], strides=[2, 2]
                )
            )
            current, rows, columns = output, rows // 2, columns // 2
            continue
        kernel = weights[f"{layer.name}/weights"]
        parameters = [f"{layer.name}/weights", f"{layer.name}/biases"]
        if layer.kind == "conv":
            kernel, channels = kernel.transpose(3, 2, 0, 1), layer.size
            operator, attributes = "Conv", {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
        else:
            if not flattened:
                nodes.append(helper.make_node("Flatten", [current], ["flat"]))
                current, flattened = "flat", True
                kernel = kernel.reshape(rows, columns, channels, -1).transpose(2, 0, 1, 3)
                kernel = kernel.reshape(rows * columns * channels, -1)
            operator, attributes = "Gemm", {}
        tensors.append(to_tensor(np.ascontiguousarray(kernel), parameters[0]))
        tensors.append(to_tensor(weights[parameters[1]], parameters[1]))
        linear = f"{output}/linear" if layer.relu else "raw_embeddings"
        nodes.append(helper.make_node(operator, [current, *parameters], [linear], **attributes))
        if layer.relu:
            nodes.append(helper.make_node("Relu", [linear], [output]))
        current = output
    value_info, float32 = helper.make_tensor_value_info, onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "vggish",
        [value_info("patches", float32, ["n", PATCH_FRAMES, N_BANDS])],
        [value_info("raw_embeddings", float32, ["n", EMBEDDING_SIZE])],
        tensors,
    )
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="audiotag",
        producer_version=VERSION,
    )
    helper.set_model_props(model, {"weights_sha256": weights_sha256})
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def quantize_onnx(float32_path: Path, calibration: Patches, int8_path: Path) -> None:
    """Static int8: uint8 activations, int8 weights per channel, ranges seen on `calibration`.

    Raises:
        MissingPackageError: the package onnx is not installed.
    """
    _import_onnx()
    quantization: Any = import_extra(
        "onnxruntime.quantization", extra="train", purpose="quantising a network"
    )

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            starts = range(0, len(calibration), CALIBRATION_BATCH)
            self._batches = iter(calibration[i : i + CALIBRATION_BATCH] for i in starts)

        def get_next(self) -> dict[str, Patches] | None:
            batch = next(self._batches, None)
            return None if batch is None else {"patches": batch}

    with _quiet_root_logger(), tempfile.TemporaryDirectory(dir=int8_path.parent) as scratch:
        # ONNX Runtime leaves its calibration graph beside the model; give it a place of its own.
        staged = Path(scratch) / "int8.onnx"
        quantization.quantize_static(
            str(float32_path),
            str(staged),
            Reader(),
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
        )
        staged.replace(int8_path)


def measure_fidelity(
    float32: Embedder, int8: Embedder, pca: Pca, patches: Patches
) -> dict[str, float]:
    """How near int8 frames are to float32 frames on `patches` [n, 96, 64].

    Returns:
        `cosine_after_pca` (mean over patches), `mean_absolute_change` of the uint8 frames (in
        levels of 255), `n_patches`.
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


def sound_patches(sounds: Sequence[Path]) -> tuple[Patches, Patches]:
    """Patches of recordings, for calibration and for measuring: two arrays [n, 96, 64].

    Every third recording is kept for measuring.

    Raises:
        ConversionError: fewer than three recordings.
        AudioError: a recording cannot be read.
    """
    if len(sounds) < 3:
        raise ConversionError(f"calibration needs at least 3 recordings. Received: {len(sounds)}")
    kept: tuple[list[Patches], list[Patches]] = ([], [])
    for index, sound in enumerate(sorted(sounds)):
        waveform = load_audio(sound)
        for gain in CALIBRATION_GAINS:
            patches = log_mel_patches(waveform * np.float32(gain)).astype(np.float32)
            kept[index % 3 == 2].append(patches)
    return np.concatenate(kept[0]), np.concatenate(kept[1])


def _load(path: Path, weights_sha256: str, precision: Any) -> Embedder:
    return Embedder(
        path, name="vggish", weights_sha256=weights_sha256, precision=precision, device="cpu"
    )


def _difference(
    name: str, received: npt.NDArray[np.float32], reference: str, expected: npt.NDArray[np.float32]
) -> float:
    """Largest relative difference of two sets of embeddings, refused when it is too large."""
    scale = max(float(np.abs(expected).max()), float(np.finfo(np.float32).tiny))
    difference = float(np.abs(received - expected).max()) / scale
    if not difference <= MAX_RELATIVE_DIFFERENCE:
        raise ConversionError(
            f"conversion failed: {name} differs from {reference} by {difference:.1e} of the largest"
            f" value (at most {MAX_RELATIVE_DIFFERENCE:.0e} is rounding)"
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


def _import_onnx() -> Any:
    return import_extra("onnx", extra="train", purpose="converting a network")


@contextmanager
def _quiet_root_logger() -> Iterator[None]:
    """ONNX Runtime's quantiser advises on the root logger; its advice is not for our users."""
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
