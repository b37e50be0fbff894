"""What many tests need: made sounds, seeded networks, a home with weights installed."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vggish.params import EMBEDDING_SIZE, N_BANDS, PATCH_FRAMES, SAMPLE_RATE_HZ

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real data that is not part of the project; tests that need it are skipped without it."""
    if not SHARED_DATA.is_dir():
        pytest.skip("needs the development data, which is not there")
    return SHARED_DATA


@pytest.fixture(autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the weights of whoever runs it."""
    monkeypatch.setenv("AUDIOTAG_HOME", str(tmp_path_factory.mktemp("home")))


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def pca_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """PCA parameters as in the official file, with seeded values: a rotation and a scaling."""
    rng = np.random.default_rng(1)
    rotation, _ = np.linalg.qr(rng.normal(size=(EMBEDDING_SIZE, EMBEDDING_SIZE)))
    scale = np.geomspace(45.0, 0.5, EMBEDDING_SIZE)
    path = tmp_path_factory.mktemp("pca") / "vggish_pca_params.npz"
    np.savez(
        path,
        pca_eigen_vectors=rotation * scale[:, None],
        pca_means=rng.normal(size=EMBEDDING_SIZE) * 0.1,
    )
    return path


@pytest.fixture(scope="session")
def small_network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of VGGish's shape, input and output, that runs in microseconds.

    Band means of a patch's twelve time slices, and a seeded matrix: enough to tell one
    patch from another.
    """
    onnx = pytest.importorskip("onnx")
    helper, to_tensor = onnx.helper, onnx.numpy_helper.from_array
    rng = np.random.default_rng(2)
    n_features = 12 * N_BANDS
    matrix = rng.normal(size=(n_features, EMBEDDING_SIZE)) / np.sqrt(n_features)
    nodes = [
        helper.make_node("Reshape", ["patches", "slices"], ["sliced"]),
        helper.make_node("ReduceMean", ["sliced"], ["means"], axes=[2], keepdims=0),
        helper.make_node("Flatten", ["means"], ["features"]),
        helper.make_node("MatMul", ["features", "matrix"], ["raw_embeddings"]),
    ]
    shape = np.array([-1, 12, PATCH_FRAMES // 12, N_BANDS])
    value_info, kind = helper.make_tensor_value_info, onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "small",
        [value_info("patches", kind, ["n", PATCH_FRAMES, N_BANDS])],
        [value_info("raw_embeddings", kind, ["n", EMBEDDING_SIZE])],
        [to_tensor(shape, "slices"), to_tensor(matrix.astype(np.float32), "matrix")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = tmp_path_factory.mktemp("network") / "small.onnx"
    onnx.save(model, str(path))
    return path


@pytest.fixture
def small_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_network: Path, pca_file: Path
) -> Path:
    """An `AUDIOTAG_HOME` where the small network is installed in VGGish's place."""
    home = tmp_path / "audiotag-home"
    directory = home / "vggish"
    directory.mkdir(parents=True)
    files = {}
    sources = {"float32": small_network, "int8": small_network, "pca": pca_file}
    for key, source in sources.items():
        data = source.read_bytes()
        name = f"{key}{source.suffix}"
        (directory / name).write_bytes(data)
        sha256 = hashlib.sha256(data).hexdigest()
        files[key] = {"name": name, "size": len(data), "sha256": sha256}
    record = {
        "checkpoint_sha256": "5" * 64,
        "files": files,
        "facts": {
            "int8_fidelity": {"cosine_after_pca": 1.0, "mean_absolute_change": 0.0},
            "installed_at": "2026-01-01T00:00:00Z",
        },
    }
    (directory / "installed.json").write_text(json.dumps(record))
    monkeypatch.setenv("AUDIOTAG_HOME", str(home))
    return home


def make_sound(seconds: float, rate_hz: int = SAMPLE_RATE_HZ, seed: int = 0) -> Any:
    """A float32 waveform with something in every band: chirp, noise bursts, silence."""
    rng = np.random.default_rng(seed)
    times = np.arange(round(seconds * rate_hz)) / rate_hz
    chirp = np.sin(2 * np.pi * (200 * times + 150 * times**2))
    bursts = rng.normal(size=len(times)) * (np.sin(2 * np.pi * 0.7 * times + seed) > 0.3)
    return (0.4 * chirp + 0.1 * bursts).clip(-0.99, 0.99).astype(np.float32)


@pytest.fixture
def write_sound(tmp_path: Path) -> Callable[..., Path]:
    """Write a made sound to a file: `write_sound("a.wav", seconds=2.0, rate_hz=44100)`."""
    import soundfile

    def write(
        name: str,
        seconds: float = 2.0,
        rate_hz: int = SAMPLE_RATE_HZ,
        n_channels: int = 1,
        seed: int = 0,
        **options: Any,
    ) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        waveform = make_sound(seconds, rate_hz, seed)
        soundfile.write(path, np.tile(waveform[:, None], (1, n_channels)), rate_hz, **options)
        return path

    return write


@pytest.fixture
def audiotag() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the command line in a process of its own: `audiotag("embed", "a.wav", cwd=...)`."""

    def run(*arguments: Any, **options: Any) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "cli", *map(str, arguments)]
        settings: dict[str, Any] = {"capture_output": True, "text": True, "timeout": 120}
        return subprocess.run(command, env=os.environ.copy(), **{**settings, **options})

    return run


def save_v1_checkpoint(path: Path, variables: dict[str, Any]) -> None:
    """Write variables as a TensorFlow V1-format checkpoint, the official file's format."""
    tensorflow = pytest.importorskip("tensorflow")
    v1 = tensorflow.compat.v1
    graph = tensorflow.Graph()
    with graph.as_default(), v1.Session() as session:
        assignments = []
        for name, value in variables.items():
            zeros = v1.zeros_initializer()
            variable = v1.get_variable(name, value.shape, initializer=zeros, use_resource=False)
            placeholder = v1.placeholder(variable.dtype.base_dtype, value.shape)
            assignments.append((v1.assign(variable, placeholder), placeholder, value))
        saver = v1.train.Saver(write_version=v1.train.SaverDef.V1)
        for assign, placeholder, value in assignments:
            session.run(assign, {placeholder: value})
        saver.save(session, str(path), write_meta_graph=False, write_state=False)


def write_seeded_checkpoint(path: Path) -> None:
    """Write all of VGGish with seeded weights, in the official checkpoint's format and names."""
    from vggish.model import variable_shapes

    rng = np.random.default_rng(3)
    variables = {}
    for name, shape in variable_shapes().items():
        # He's initialisation keeps activations in range through all layers.
        scale = np.sqrt(2 / np.prod(shape[:-1])) if len(shape) > 1 else 0.01
        variables[name] = rng.standard_normal(shape, np.float32) * np.float32(scale)
    save_v1_checkpoint(path, variables)


@pytest.fixture(scope="session")
def seeded_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All of VGGish with seeded weights, in the official checkpoint's format and names."""
    path = tmp_path_factory.mktemp("checkpoint") / "vggish_model.ckpt"
    write_seeded_checkpoint(path)
    return path


@pytest.fixture
def in_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    directory = tmp_path / "cwd"
    directory.mkdir()
    monkeypatch.chdir(directory)
    return directory
