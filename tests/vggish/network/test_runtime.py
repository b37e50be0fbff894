"""Embedders on ONNX Runtime."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vggish.common.choices import Precision
from vggish.embedders.choice import load_embedder
from vggish.errors import OptionError, WeightsError
from vggish.network.runtime import Embedder, choose_providers

CPU: tuple[str, dict[str, str]] = ("CPUExecutionProvider", {})


def load(path: Path, **options: Any) -> Embedder:
    return Embedder(path, name="small", weights_sha256="5" * 64, **options)


def some_patches(n: int, rng: np.random.Generator) -> Any:
    return rng.normal(-2.0, 2.0, size=(n, 96, 64)).astype("f")


@pytest.mark.parametrize("n", [0, 1, 31, 32, 33, 100])
def test_any_number_of_patches_equals_one_by_one(
    n: int, small_network: Path, rng: np.random.Generator
) -> None:
    embedder, patches = load(small_network), some_patches(n, rng)
    raw = embedder(patches)
    assert raw.shape == (n, 128)
    assert raw.dtype == np.float32
    for patch, row in zip(patches, raw, strict=True):
        np.testing.assert_allclose(embedder(patch[None])[0], row, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-5), ("int8", 1e-5)])
def test_embeddings_of_vggish_do_not_depend_on_the_batch(
    precision: Precision, tolerance: float, seeded_home: Path, rng: np.random.Generator
) -> None:
    embedder, _ = load_embedder(precision=precision)
    patches = some_patches(34, rng)
    raw = embedder(patches)
    single = np.concatenate([embedder(patches[i : i + 1]) for i in (0, 1, 32, 33)])
    np.testing.assert_allclose(raw[[0, 1, 32, 33]], single, atol=tolerance * np.abs(raw).max())


def test_threads_get_the_results_of_a_single_thread(
    small_network: Path, rng: np.random.Generator
) -> None:
    embedder = load(small_network)
    batches = [some_patches(40, rng) for _ in range(32)]
    alone = [embedder(batch) for batch in batches]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(embedder, batches))
    for expected, received in zip(alone, together, strict=True):
        np.testing.assert_array_equal(received, expected)


def test_float64_and_strided_patches_are_accepted(
    small_network: Path, rng: np.random.Generator
) -> None:
    embedder, patches = load(small_network), some_patches(6, rng)
    np.testing.assert_array_equal(embedder(patches.astype(float)), embedder(patches))
    np.testing.assert_array_equal(embedder(patches[::2]), embedder(patches)[::2])


@pytest.mark.parametrize("shape", [(96, 64), (1, 64, 96), (1, 96, 64, 1), (1, 96, 65), ()])
def test_patches_of_another_shape_are_refused(shape: tuple[int, ...], small_network: Path) -> None:
    with pytest.raises(OptionError, match=r"shape \[n, 96, 64\]. Received: \("):
        load(small_network)(np.zeros(shape, np.float32))


def test_provenance_describes_the_network(small_network: Path) -> None:
    assert load(small_network, device="cpu").provenance == {
        "name": "small",
        "weights_sha256": "5" * 64,
        "model_sha256": hashlib.sha256(small_network.read_bytes()).hexdigest(),
        "precision": "float32",
        "provider": "CPUExecutionProvider",
    }


@pytest.mark.parametrize("damage", ["absent", "empty", "text", "cut"])
def test_damaged_network_is_an_error_that_names_the_file(
    damage: str, small_network: Path, tmp_path: Path
) -> None:
    path = tmp_path / "damaged.onnx"
    if damage != "absent":
        data = small_network.read_bytes()
        path.write_bytes({"empty": b"", "text": b"hello", "cut": data[: len(data) // 2]}[damage])
    with pytest.raises(WeightsError, match=r"cannot load the network .*damaged.onnx: .*\n.*verify"):
        load(path)


def test_network_with_other_inputs_and_outputs_is_refused(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    info = [onnx.helper.make_tensor_value_info(name, 1, ["n", 3]) for name in "ab"]
    node = onnx.helper.make_node("Relu", ["a"], ["b"])
    graph = onnx.helper.make_graph([node], "other", info[:1], info[1:])
    opset = [onnx.helper.make_opsetid("", 17)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=8), tmp_path / "o.onnx")
    with pytest.raises(
        WeightsError, match=r"o.onnx is not a network from patches .*\[\[3\], \[3\]\]"
    ):
        load(tmp_path / "o.onnx")


@pytest.mark.parametrize(("option", "value"), [("precision", "int4"), ("device", "tpu")])
def test_unknown_option_is_refused(option: str, value: str, small_network: Path) -> None:
    with pytest.raises(OptionError, match=f"{option} must be one of .* Received: '{value}'"):
        load(small_network, **{option: value})


def test_gpu_is_preferred_with_the_cpu_as_fallback() -> None:
    cuda = ("CUDAExecutionProvider", {"use_tf32": "0"})
    dml: tuple[str, dict[str, str]] = ("DmlExecutionProvider", {})
    assert choose_providers([cuda[0], CPU[0]], "float32", "auto") == [cuda, CPU]
    assert choose_providers([cuda[0], CPU[0]], "float32", "gpu") == [cuda, CPU]
    assert choose_providers([dml[0], CPU[0]], "float32", "auto") == [dml, CPU]
    assert choose_providers([dml[0], cuda[0], CPU[0]], "float32", "auto") == [cuda, CPU]
    assert choose_providers([cuda[0], CPU[0]], "float32", "cpu") == [CPU]
    assert choose_providers(["AzureExecutionProvider", CPU[0]], "float32", "auto") == [CPU]


def test_int8_stays_on_the_cpu() -> None:
    available = ["CUDAExecutionProvider", CPU[0]]
    assert choose_providers(available, "int8", "auto") == [CPU]
    with pytest.raises(OptionError, match="--precision float32"):
        choose_providers(available, "int8", "gpu")


def test_error_for_a_missing_gpu_has_the_pip_command() -> None:
    with pytest.raises(OptionError, match=r"no GPU provider .*CPU(.|\n)*pip install onnxruntime-g"):
        choose_providers([CPU[0]], "float32", "gpu")


@pytest.mark.filterwarnings("ignore:Specified provider 'CUDAExecutionProvider':UserWarning")
def test_gpu_that_does_not_start_is_an_error(
    small_network: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("a GPU may be there")
    claimed = ["CUDAExecutionProvider", CPU[0]]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: claimed)
    with pytest.raises(OptionError, match="could not start CUDAExecutionProvider"):
        load(small_network, device="gpu")
    assert load(small_network, device="auto").provider == CPU[0]


def test_unusual_paths_are_opened(small_network: Path, tmp_path: Path) -> None:
    path = tmp_path / "Gewichte für Töne 音" / "a network.onnx"
    path.parent.mkdir()
    shutil.copyfile(small_network, path)
    assert load(path)(np.zeros((1, 96, 64), np.float32)).shape == (1, 128)


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 2e-5), ("int8", 0.2)])
def test_official_weights_give_the_published_embedding(
    precision: Precision, tolerance: float, shared_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = os.environ.get("AUDIOTAG_OFFICIAL_HOME")
    if home is None:
        pytest.skip("AUDIOTAG_OFFICIAL_HOME names no home with the official weights")
    monkeypatch.setenv("AUDIOTAG_HOME", home)
    embedder, _ = load_embedder(precision=precision)
    patch = np.load(shared_data / "golden" / "vggish_patch.npy").reshape(1, 96, 64)
    expected = np.load(shared_data / "golden" / "vggish_patch_embedding.npy").reshape(1, 128)
    received = embedder(patch)
    if precision == "int8":
        tolerance *= np.abs(expected).max()
    np.testing.assert_allclose(received, expected, rtol=0, atol=tolerance)


def test_telemetry_is_off(small_network: Path, tmp_path: Path) -> None:
    code = "import sys, vggish; vggish.Embedder(sys.argv[1], name='', weights_sha256='')"
    environment = {k: v for k, v in os.environ.items() if k not in ("ORT_DISABLE_TELEMETRY", "CI")}
    subprocess.run(
        [sys.executable, "-c", code, str(small_network)],
        env={**environment, "TMPDIR": str(tmp_path), "HOME": str(tmp_path)},
        check=True,
    )
    assert list(tmp_path.iterdir()) == []
