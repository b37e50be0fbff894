"""Conversion of the checkpoint to ONNX: refused inputs, and the checks of each step."""

from __future__ import annotations

import json
import logging
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.networks import numpy_vggish, save_v1_checkpoint
from vggish.embedders.choice import load_embedder
from vggish.embedders.install import shipped_recordings
from vggish.errors import AudioError, ConversionError
from vggish.network import convert
from vggish.network.architecture import Layer, variable_shapes
from vggish.network.convert import measure_fidelity, read_checkpoint, smoke_patches
from vggish.network.runtime import Embedder

KERNEL, BIASES = "vggish/conv1/weights", "vggish/conv1/biases"


def naive_network(weights: dict[str, Any], patch: Any, layers: list[Layer]) -> Any:
    """Compute the same network with scalar multiplications: [rows, columns] -> [n]."""
    hidden = {
        (r, c, 0): float(patch[r, c]) for r in range(len(patch)) for c in range(len(patch[0]))
    }
    for layer in layers:
        positions = sorted({(r, c) for r, c, _ in hidden})
        channels = range(1 + max(k for _, _, k in hidden))
        output: dict[tuple[int, int, int], float] = {}
        if layer.kind == "pool":
            for (r, c, k), value in hidden.items():
                key = (r // 2, c // 2, k)
                output[key] = max(value, output.get(key, value))
            hidden = output
            continue
        kernel, bias = weights[f"{layer.name}/weights"], weights[f"{layer.name}/biases"]
        if layer.kind == "dense":
            flat = [hidden[(*p, k)] for p in positions for k in channels]
            for unit in range(layer.size):
                total = sum(x * float(kernel[i, unit]) for i, x in enumerate(flat))
                output[0, 0, unit] = total + float(bias[unit])
        else:
            for r, c in positions:
                for f in range(layer.size):
                    output[r, c, f] = float(bias[f]) + sum(
                        hidden.get((r + i - 1, c + j - 1, k), 0.0) * float(kernel[i, j, k, f])
                        for i in range(3)
                        for j in range(3)
                        for k in channels
                    )
        hidden = {p: max(0.0, v) if layer.relu else v for p, v in output.items()}
    return np.array([value for _, value in sorted(hidden.items())])


def test_numpy_network_is_the_sum_of_its_products(rng: np.random.Generator) -> None:
    layers = [Layer("conv", "a", 3), Layer("pool", "p"), Layer("conv", "b", 4), Layer("pool", "q")]
    layers += [Layer("dense", "c", 6), Layer("dense", "d", 5, relu=False)]
    shapes = {"a": (3, 3, 1, 3), "b": (3, 3, 3, 4), "c": (4 * 2 * 4, 6), "d": (6, 5)}
    weights = {f"{name}/weights": rng.normal(size=shape) for name, shape in shapes.items()}
    weights |= {f"{name}/biases": rng.normal(size=shape[-1]) for name, shape in shapes.items()}
    patches = rng.normal(size=(2, 16, 8)).astype("f")
    expected = [naive_network(weights, patch, layers) for patch in patches]
    np.testing.assert_allclose(
        numpy_vggish(weights, patches, layers), expected, rtol=1e-5, atol=1e-5
    )


@pytest.mark.slow
def test_installed_onnx_equals_numpy_on_the_checkpoint(
    seeded_home: Path, seeded_checkpoint: Path, rng: np.random.Generator
) -> None:
    weights = read_checkpoint(seeded_checkpoint)
    assert {name: value.shape for name, value in weights.items()} == variable_shapes()
    patches = np.concatenate([smoke_patches()[:1], rng.normal(-2, 2, (2, 96, 64)).astype("f")])
    expected = numpy_vggish(weights, patches)
    received = load_embedder()[0](patches)
    np.testing.assert_allclose(received, expected, rtol=0, atol=2e-5 * np.abs(expected).max())


@pytest.mark.slow
def test_checks_and_fidelity_are_recorded_with_the_weights(seeded_home: Path) -> None:
    facts = json.loads((seeded_home / "vggish" / "installed.json").read_text())["facts"]
    assert 0 < facts["onnx_difference"] < 2e-5
    assert facts["calibration"] == [path.name for path in shipped_recordings()]
    assert {"audiotag", "onnx", "onnxruntime", "tensorflow", "tf-keras"} <= set(facts["versions"])
    (float32, pca), (int8, _) = load_embedder(), load_embedder(precision="int8")
    _, held_out = convert.recording_patches(shipped_recordings())
    again = measure_fidelity(float32, int8, pca, held_out)
    assert again == pytest.approx(facts["int8_fidelity"], abs=0.01)
    assert 0.99 < again["cosine_after_pca"] < 1
    exact, rough = pca(float32(held_out)), pca(int8(held_out))
    levels = [np.floor((y.astype("f4").clip(-2, 2) + 2) * 63.75) for y in (exact, rough)]
    change = np.abs(levels[0] - levels[1]).mean()
    assert again["mean_absolute_change"] == pytest.approx(change, abs=0.01)


def test_fidelity_of_a_network_to_itself_is_perfect(
    small_home: Path, rng: np.random.Generator
) -> None:
    embedder, pca = load_embedder()
    patches = rng.normal(size=(4, 96, 64)).astype("f")
    assert measure_fidelity(embedder, embedder, pca, patches) == {
        "cosine_after_pca": pytest.approx(1.0, abs=1e-6),
        "mean_absolute_change": 0.0,
        "n_patches": 4,
    }


def test_smoke_patches_have_the_published_statistics() -> None:
    patches = smoke_patches()
    assert patches.shape == (3, 96, 64)
    assert patches.mean() == pytest.approx(-3.42961870, abs=1e-5)
    assert patches.std() == pytest.approx(2.12657734, abs=1e-5)
    assert patches.mean(axis=(0, 1)).argmax() == 19


@pytest.mark.parametrize(
    ("variables", "complaint"),
    [
        ({"other": np.zeros(3, "f")}, f"not a VGGish checkpoint: it lacks the variable {KERNEL}"),
        ({KERNEL: np.zeros((3, 3, 1, 64), "f")}, f"it lacks the variable {BIASES}"),
        ({KERNEL: np.zeros((3, 3, 64), "f")}, r"must have the shape \(3, 3, 1, 64\). Received: \("),
        ({KERNEL: np.full((3, 3, 1, 64), np.nan, "f")}, "holds NaN or infinite values"),
        ({KERNEL: np.full((3, 3, 1, 64), np.inf, "f")}, "holds NaN or infinite values"),
    ],
    ids=["another network", "missing", "shape", "nan", "infinite"],
)
def test_checkpoint_of_another_network_is_refused(
    variables: dict[str, Any], complaint: str, tmp_path: Path
) -> None:
    path = tmp_path / "model.ckpt"
    save_v1_checkpoint(path, variables)
    with pytest.raises(ConversionError, match=complaint) as caught:
        read_checkpoint(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("damage", ["absent", "directory", "empty", "text", "cut", "flipped"])
def test_file_that_is_not_a_checkpoint_is_refused(damage: str, tmp_path: Path) -> None:
    path, whole = tmp_path / "model.ckpt", tmp_path / "whole.ckpt"
    values = np.random.default_rng(7).normal(size=(100_000 + 3 * 3 * 64)).astype("f")
    kernel = values[100_000:].reshape(3, 3, 1, 64)
    # The large variable before it moves the kernel into a separate block.
    save_v1_checkpoint(whole, {"vggish/a": values[:100_000], KERNEL: kernel})
    data = whole.read_bytes()
    middle, place = len(data) // 2, data.index(kernel.tobytes()[1000:1020])
    flipped = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
    if damage == "directory":
        path.mkdir()
    elif damage != "absent":
        contents = {"empty": b"", "text": b"hello" * 99, "cut": data[:middle], "flipped": flipped}
        path.write_bytes(contents[damage])
    told = "damaged: the variable .* cannot be read" if damage == "flipped" else "checkpoint"
    with pytest.raises(ConversionError, match=told) as caught:
        read_checkpoint(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("suffix", ["", ".index", ".data-00000-of-00001"])
def test_checkpoint_in_the_newer_format_is_refused(suffix: str, tmp_path: Path) -> None:
    tensorflow = pytest.importorskip("tensorflow")
    kernel = tensorflow.Variable(np.zeros((3, 3, 1, 64), "f"))
    tensorflow.train.Checkpoint(kernel=kernel).write(str(tmp_path / "v2.ckpt"))
    with pytest.raises(ConversionError, match=r"v2\.ckpt"):
        read_checkpoint(tmp_path / f"v2.ckpt{suffix}")


def test_difference_beyond_rounding_is_refused() -> None:
    expected = np.array([[1.0, -4.0]], "f")
    assert convert._difference(expected, expected) == 0
    near = expected * np.float32(1 + 1e-6)
    assert 0 < convert._difference(near, expected) < 2e-6
    for wrong in (expected * np.float32(1.001), np.full_like(expected, np.nan)):
        with pytest.raises(
            ConversionError, match="conversion failed: ONNX differs from tf-keras by"
        ):
            convert._difference(wrong, expected)


def test_network_that_cannot_be_quantised_is_a_conversion_error(tmp_path: Path) -> None:
    (tmp_path / "float32.onnx").write_bytes(b"hello")
    patches = np.zeros((2, 96, 64), np.float32)
    scratch_before, level_before = tempfile.tempdir, logging.getLogger().level
    with pytest.raises(ConversionError, match="quantising to int8 failed: "):
        convert.quantize_onnx(tmp_path / "float32.onnx", patches, tmp_path / "int8.onnx")
    assert tempfile.tempdir == scratch_before
    assert logging.getLogger().level == level_before


def test_every_third_recording_is_held_out_at_every_gain(write_sound: Any) -> None:
    sounds = [write_sound(f"{i}.wav", seconds=2.88, seed=i) for i in range(6)]
    calibration, held_out = convert.recording_patches(sounds)
    n_gains = len(convert.CALIBRATION_GAINS)
    assert calibration.shape == (4 * 3 * n_gains, 96, 64)
    assert held_out.shape == (2 * 3 * n_gains, 96, 64)
    assert calibration.dtype == held_out.dtype == np.float32
    shuffled, _ = convert.recording_patches(sounds[::-1])
    np.testing.assert_array_equal(shuffled, calibration)


def test_too_few_or_unreadable_recordings_are_refused(write_sound: Any, tmp_path: Path) -> None:
    sounds = [write_sound(f"{i}.wav") for i in range(2)]
    with pytest.raises(ConversionError, match=r"at least 3 recordings. Received: 2"):
        convert.recording_patches(sounds)
    (tmp_path / "no.wav").write_text("hello")
    with pytest.raises(AudioError, match=r"no\.wav"):
        convert.recording_patches([*sounds, tmp_path / "no.wav"])


def test_error_of_the_smoke_test_lists_all_deviations(small_home: Path) -> None:
    embedder, pca = load_embedder()
    assert isinstance(embedder, Embedder)
    measured = convert.measure_smoke(embedder, pca)
    convert._check_smoke(measured, {**measured, "relative_tolerance": 0.1})
    wrong = {**measured, "raw_std": 9e9, "frame_mean": -1.0, "relative_tolerance": 0.1}
    with pytest.raises(ConversionError, match=r"raw_std .*9e\+09.*frame_mean .*expected -1\)") as e:
        convert._check_smoke(measured, wrong)
    assert "raw_mean" not in str(e.value)
