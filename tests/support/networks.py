"""Small networks and networks with seeded weights that replace VGGish and mini."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vggish.network.architecture import ARCHITECTURE, Layer, variable_shapes
from vggish.params import EMBEDDING_SIZE, N_BANDS, PATCH_FRAMES


@pytest.fixture(scope="session")
def pca_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of PCA parameters in the official format: a seeded rotation and scaling."""
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


def write_small_network(path: Path, seed: int, scale: float) -> None:
    """Write a network with the interface of an embedder that runs in microseconds.

    It multiplies band means of twelve time slices with a seeded matrix, so that different patches
    have different embeddings.
    """
    onnx = pytest.importorskip("onnx")
    helper, to_tensor = onnx.helper, onnx.numpy_helper.from_array
    rng = np.random.default_rng(seed)
    n_features = 12 * N_BANDS
    matrix = rng.normal(scale=scale, size=(n_features, EMBEDDING_SIZE)) / np.sqrt(n_features)
    nodes = [
        helper.make_node("Reshape", ["patches", "slices"], ["sliced"]),
        helper.make_node("ReduceMean", ["sliced"], ["means"], axes=[2], keepdims=0),
        helper.make_node("Flatten", ["means"], ["features"]),
        helper.make_node("MatMul", ["features", "matrix"], ["embeddings"]),
    ]
    shape = np.array([-1, 12, PATCH_FRAMES // 12, N_BANDS])
    value_info, kind = helper.make_tensor_value_info, onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "small",
        [value_info("patches", kind, ["n", PATCH_FRAMES, N_BANDS])],
        [value_info("embeddings", kind, ["n", EMBEDDING_SIZE])],
        [to_tensor(shape, "slices"), to_tensor(matrix.astype(np.float32), "matrix")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(path))


@pytest.fixture(scope="session")
def small_network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network that replaces VGGish, see `write_small_network`."""
    path = tmp_path_factory.mktemp("network") / "small.onnx"
    write_small_network(path, seed=2, scale=1.0)
    return path


@pytest.fixture
def small_mini(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Directory of a small network that replaces mini in this process."""
    directory = tmp_path / "weights" / "mini"
    directory.mkdir(parents=True)
    # Log-mel energies are of the order of 3, whitened embeddings of 1.
    write_small_network(directory / "mini.onnx", seed=4, scale=0.3)
    data = (directory / "mini.onnx").read_bytes()
    card = {
        "name": "mini",
        "version": "7",
        "sha256": hashlib.sha256(data).hexdigest(),
        "size": len(data),
        "precision": "float32",
        "n_parameters": 12 * N_BANDS * EMBEDDING_SIZE,
        "licence": "made-up",
        "training": {},
        "metrics": {},
    }
    (directory / "card.json").write_text(json.dumps(card))
    monkeypatch.setattr("vggish.embedders.mini.mini_directory", lambda: directory)
    return directory


@pytest.fixture
def small_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_network: Path, pca_file: Path
) -> Path:
    """An `AUDIOTAG_HOME` with the small network installed as VGGish."""
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


def seeded_variables() -> dict[str, Any]:
    """All variables of VGGish by their official names, with seeded values."""
    rng = np.random.default_rng(3)
    variables = {}
    for name, shape in variable_shapes().items():
        # He's initialisation keeps activations in range through all layers.
        scale = np.sqrt(2 / np.prod(shape[:-1])) if len(shape) > 1 else 0.01
        variables[name] = rng.standard_normal(shape, np.float32) * np.float32(scale)
    return variables


@pytest.fixture(scope="session")
def seeded_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of VGGish with seeded weights, in the official format and names."""
    path = tmp_path_factory.mktemp("checkpoint") / "vggish_model.ckpt"
    save_v1_checkpoint(path, seeded_variables())
    return path


def numpy_vggish(
    weights: dict[str, Any], patches: Any, architecture: Sequence[Layer] = ARCHITECTURE
) -> Any:
    """VGGish in plain numpy, an independent implementation: [n, 96, 64] -> float32 [n, 128].

    A 3x3 convolution is nine shifted matrix products, in channels-last order.
    """
    hidden = patches[..., None].astype(np.float64)  # [n, rows, columns, channels]
    for layer in architecture:
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
