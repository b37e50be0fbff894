"""Seeded VGGish weights, on a server and installed."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.file_server import FileServer


@pytest.fixture(scope="session")
def weights_server(seeded_checkpoint: Path, pca_file: Path) -> Iterator[FileServer]:
    """A server with the seeded checkpoint and PCA parameters under the official names."""
    running = FileServer()
    running.files = {path.name: path for path in (seeded_checkpoint, pca_file)}
    yield running
    running.close()


def manifest_entry(url: Callable[[str], str], checkpoint: Path, pca: Path) -> dict[str, Any]:
    """The manifest entry for these two files."""
    files = {}
    for key, path in (("checkpoint", checkpoint), ("pca", pca)):
        data = path.read_bytes()
        sha256 = hashlib.sha256(data).hexdigest()
        files[key] = {
            "name": path.name,
            "url": url(path.name),
            "size": len(data),
            "sha256": sha256,
        }
    return {"description": "seeded", "licence": "none", "files": files, "smoke_test": None}


@pytest.fixture(scope="session")
def weights_manifest(
    weights_server: FileServer,
    seeded_checkpoint: Path,
    pca_file: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A manifest of the seeded weights, with expected values of the smoke test.

    The values come from plain TensorFlow operations and an explicit Fourier transform.
    """
    import tensorflow as tf

    signal = np.sin(2 * np.pi * 1000 * np.arange(48000) / 16000)
    frames = np.lib.stride_tricks.sliding_window_view(signal, 400)[::160]
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    fourier = np.exp(-2j * np.pi * np.outer(np.arange(400), np.arange(257)) / 512)
    mel = 1127 * np.log(1 + np.arange(257) * 16000 / 512 / 700)
    low, high = 1127 * np.log(1 + np.array([125, 7500]) / 700)
    edges = np.linspace(low, high, 66)
    up = (mel[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
    down = (edges[2:] - mel[:, None]) / (edges[2:] - edges[1:-1])
    bands = np.maximum(0, np.minimum(up, down))
    bands[0] = 0
    log_mel = np.log(np.abs((frames * window) @ fourier) @ bands + 0.01)
    hidden = tf.constant(log_mel[: 3 * 96].reshape(3, 96, 64, 1).astype("f"))
    reader = tf.train.load_checkpoint(str(seeded_checkpoint))
    for group in ("1", "2", "3_1 3_2", "4_1 4_2"):
        for conv in group.split():
            scope = f"vggish/conv{conv}" if "_" not in conv else f"vggish/conv{conv[0]}/conv{conv}"
            kernel, bias = (reader.get_tensor(f"{scope}/{kind}") for kind in ("weights", "biases"))
            hidden = tf.nn.relu(tf.nn.conv2d(hidden, kernel, 1, "SAME") + bias)
        hidden = tf.nn.max_pool2d(hidden, 2, 2, "SAME")
    hidden = tf.reshape(hidden, (3, 12288))
    for scope in ("fc1/fc1_1", "fc1/fc1_2", "fc2"):
        kernel, bias = (
            reader.get_tensor(f"vggish/{scope}/{kind}") for kind in ("weights", "biases")
        )
        hidden = hidden @ kernel + bias
        hidden = hidden if scope == "fc2" else tf.nn.relu(hidden)
    raw = hidden.numpy().astype(float)
    with np.load(pca_file) as pca:
        whitened = (raw - pca["pca_means"]) @ pca["pca_eigen_vectors"].T
    quantised = np.floor((whitened.clip(-2, 2) + 2) * 63.75)
    entry = manifest_entry(weights_server.url, seeded_checkpoint, pca_file)
    entry["smoke_test"] = {
        "raw_mean": raw.mean(),
        "raw_std": raw.std(),
        "frame_mean": quantised.mean(),
        "frame_std": quantised.std(),
        "relative_tolerance": 0.001,
    }
    path = tmp_path_factory.mktemp("manifest") / "manifest.json"
    path.write_text(json.dumps({"vggish": entry}))
    return path


@pytest.fixture(scope="session")
def fetched(
    weights_manifest: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A home with seeded VGGish installed by `audiotag weights fetch`, and that process."""
    home = tmp_path_factory.mktemp("fetched")
    done = subprocess.run(
        [sys.executable, "-m", "cli", "weights", "fetch", "--manifest", str(weights_manifest)],
        env={**os.environ, "AUDIOTAG_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    return home, done


@pytest.fixture
def seeded_home(
    fetched: tuple[Path, subprocess.CompletedProcess[str]], monkeypatch: pytest.MonkeyPatch
) -> Path:
    """An `AUDIOTAG_HOME` with seeded VGGish weights; shared, so do not change it."""
    monkeypatch.setenv("AUDIOTAG_HOME", str(fetched[0]))
    return fetched[0]
