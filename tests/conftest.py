"""What many tests need: made sounds, seeded networks, a home with weights installed."""

from __future__ import annotations

import dataclasses
import hashlib
import http.server
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest

import vggish.api
from vggish import ClipFrames, write_frames
from vggish.params import EMBEDDING_SIZE, N_BANDS, PATCH_FRAMES, SAMPLE_RATE_HZ

CLIPS = Path(__file__).resolve().parents[1] / "weights" / "clips"
SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


# What is right in 100 ms is right in a second, on a machine that has more to do.
hypothesis.settings.register_profile("audiotag", deadline=None)
hypothesis.settings.load_profile("audiotag")
# All that tests take from whoever runs them.
_KEPT = {"AUDIOTAG_FFMPEG", "AUDIOTAG_CHROMIUM", "AUDIOTAG_OFFICIAL_HOME"}


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real data that is not part of the project; tests that need it are skipped without it."""
    if not SHARED_DATA.is_dir():
        pytest.skip("needs the development data, which is not there")
    return SHARED_DATA


@pytest.fixture(scope="session", autouse=True)
def _heed_interrupts() -> None:
    """A shell's background job ignores SIGINT, and so would all processes that it starts."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _own_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No settings or keys of whoever runs the tests, and no proxy before this machine itself."""
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith("AUDIOTAG_") and name not in _KEPT:
                patch.delenv(name)
        patch.setenv("AUDIOTAG_HOME", str(tmp_path_factory.mktemp("home")))
        for name in ("NO_PROXY", "no_proxy"):
            patch.setenv(name, "127.0.0.1,localhost,::1")
        yield


@pytest.fixture(autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the weights of whoever runs it, or those of another test."""
    monkeypatch.setenv("AUDIOTAG_HOME", str(tmp_path_factory.mktemp("home")))
    vggish.api._loaded.cache_clear()


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


def write_small_network(path: Path, seed: int, scale: float) -> None:
    """Write a network of an embedder's input and output that runs in microseconds.

    Band means of a patch's twelve time slices, and a seeded matrix: enough to tell one
    patch from another.
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
    """A small network in the place of VGGish's, see `write_small_network`."""
    path = tmp_path_factory.mktemp("network") / "small.onnx"
    write_small_network(path, seed=2, scale=1.0)
    return path


@pytest.fixture
def small_mini(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of a small network in the place of mini, in this process."""
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
    monkeypatch.setattr("vggish.mini.mini_directory", lambda: directory)
    return directory


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


def seeded_variables() -> dict[str, Any]:
    """All variables of VGGish, by their official names, with seeded values."""
    from vggish.model import variable_shapes

    rng = np.random.default_rng(3)
    variables = {}
    for name, shape in variable_shapes().items():
        # He's initialisation keeps activations in range through all layers.
        scale = np.sqrt(2 / np.prod(shape[:-1])) if len(shape) > 1 else 0.01
        variables[name] = rng.standard_normal(shape, np.float32) * np.float32(scale)
    return variables


@pytest.fixture(scope="session")
def seeded_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All of VGGish with seeded weights, in the official checkpoint's format and names."""
    path = tmp_path_factory.mktemp("checkpoint") / "vggish_model.ckpt"
    save_v1_checkpoint(path, seeded_variables())
    return path


@pytest.fixture
def in_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    directory = tmp_path / "cwd"
    directory.mkdir()
    monkeypatch.chdir(directory)
    return directory


@dataclasses.dataclass(frozen=True)
class Answer:
    """How `FileServer` answers a request: the file, unless it is told otherwise.

    Attributes:
        status: of the answer; anything but 200 comes without the file.
        body: bytes to send in place of the file.
        headers: more of them.
        break_after: cut the connection after so many bytes.
        ranges: False ignores what part was asked for.
        shift: send a range that begins so many bytes later.
        tell_length: False leaves out Content-Length.
        pause_seconds: before every 64 KiB.
    """

    status: int = 200
    body: bytes | None = None
    headers: tuple[tuple[str, str], ...] = ()
    break_after: int | None = None
    ranges: bool = True
    shift: int = 0
    tell_length: bool = True
    pause_seconds: float = 0.0


class FileServer:
    """A real HTTP server that serves `files` and misbehaves on demand.

    `answers` are used up one by one, then `usual` holds. `requests` logs
    (path, first byte asked for, bytes that the answer has).
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes | Path] = {}
        self.answers: list[Answer] = []
        self.usual = Answer()
        self.requests: list[tuple[str, int, int]] = []
        self._closing = threading.Event()
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/{name}"

    def close(self) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                answer = server.answers.pop(0) if server.answers else server.usual
                asked = re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))
                begin = int(asked[1]) if asked else 0
                body = answer.body if answer.body is not None else server.files.get(self.path[1:])
                if isinstance(body, Path):
                    body = body.read_bytes()
                status = answer.status if body is not None else 404
                headers = list(answer.headers)
                if status != 200 or body is None:
                    data, length = b"", 0
                elif asked and answer.ranges:
                    first = begin + answer.shift
                    status = 206 if begin < len(body) else 416
                    data = body[first:]
                    length = len(data)
                    headers.append(("Content-Range", f"bytes {first}-{len(body) - 1}/{len(body)}"))
                else:
                    data, length = body, len(body)
                self.send_response(status)
                for header in headers:
                    self.send_header(*header)
                if answer.tell_length:
                    self.send_header("Content-Length", str(length))
                view, sent = memoryview(data)[: answer.break_after], 0
                server.requests.append((self.path[1:], begin, len(view)))
                try:
                    self.end_headers()
                    while sent < len(view) and not server._closing.wait(answer.pause_seconds):
                        self.wfile.write(view[sent : sent + 65536])
                        sent += 65536
                except ConnectionError:
                    pass  # the client was killed, or has had enough

            def log_message(self, *arguments: Any) -> None:
                pass

        return Handler


@pytest.fixture
def server() -> Iterator[FileServer]:
    """A local HTTP server, see `FileServer`."""
    running = FileServer()
    yield running
    running.close()


@pytest.fixture(scope="session")
def weights_server(seeded_checkpoint: Path, pca_file: Path) -> Iterator[FileServer]:
    """Serves the seeded checkpoint and PCA parameters under the official names."""
    running = FileServer()
    running.files = {path.name: path for path in (seeded_checkpoint, pca_file)}
    yield running
    running.close()


def manifest_entry(url: Callable[[str], str], checkpoint: Path, pca: Path) -> dict[str, Any]:
    """What a manifest says of these two files."""
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
    """A manifest of the seeded weights, with the figures of its own smoke test.

    The figures come from TensorFlow's plain operations and a Fourier transform spelled out.
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
    """A home where `audiotag weights fetch` has installed the seeded VGGish, and that run."""
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
    """An `AUDIOTAG_HOME` with all of VGGish, seeded weights; shared, so leave it as it is."""
    monkeypatch.setenv("AUDIOTAG_HOME", str(fetched[0]))
    return fetched[0]


def write_labelled_frames(
    path: Path,
    n_clips: int = 40,
    *,
    n_classes: int = 4,
    seed: int = 0,
    embedder: str = "",
    n_frames: tuple[int, int] = (2, 6),
) -> Path:
    """Write a TFRecord file of clips that say their class in every frame.

    Clip `i` is of class `i % n_classes`, every fifth of the next class too; each class adds a
    pattern of its own to noise. The ids and the noise differ with the seed, the patterns do not.
    """
    rng = np.random.default_rng(seed)
    patterns = np.random.default_rng(99).normal(scale=60, size=(n_classes, EMBEDDING_SIZE))
    metadata: dict[str, Any] = {"embedder": {"name": embedder}} if embedder else {}
    clips = []
    for i in range(n_clips):
        labels = (i % n_classes, (i + 1) % n_classes)[: 1 + (i % 5 == 0)]
        n = int(rng.integers(*n_frames, endpoint=True))
        values = (
            128 + patterns[list(labels)].sum(0) + rng.normal(scale=20, size=(n, EMBEDDING_SIZE))
        )
        frames = values.clip(0, 255).astype(np.uint8)
        clips.append(ClipFrames(f"clip{seed}-{i}", frames, np.arange(float(n)), metadata, labels))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_frames(path, clips)
    return path


@pytest.fixture(scope="session")
def trained(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A directory where `audiotag train` has made a run of made clips, and that process.

    It holds data/a.tfrecord and b.tfrecord, eval/e.tfrecord, classes.csv and
    runs/feature-attention-1.
    """
    directory = tmp_path_factory.mktemp("trained")
    for seed, name in enumerate(("data/a", "data/b", "eval/e")):
        write_labelled_frames(directory / f"{name}.tfrecord", seed=seed)
    (directory / "classes.csv").write_text(
        "index,mid,display_name\n0,/m/dog,dog\n1,/m/cat,cat\n2,,rain\n3,,wind\n"
    )
    head = "--head feature-attention --set units=16 layers=1 dropout=0"
    how = "--labels classes.csv --epochs 3 --learning-rate 0.05 --ema 0.5 --licence made-up"
    command = [sys.executable, "-m", "cli", "train", "--frames", "data", *head.split()]
    done = subprocess.run(
        [*command, *how.split()],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    return directory, done


@pytest.fixture
def run_directory(
    trained: tuple[Path, subprocess.CompletedProcess[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """A copy of what `trained` made, as the working directory."""
    directory = tmp_path / "cwd"
    shutil.copytree(trained[0], directory)
    monkeypatch.chdir(directory)
    return directory


@pytest.fixture
def command_line(capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run the command line in this process: status, stdout, stderr."""
    import cli

    def run(*arguments: Any) -> tuple[int, str, str]:
        capfd.readouterr()
        try:
            status = cli.main([*map(str, arguments)])
        except SystemExit as exit_:
            status = int(exit_.code or 0)
        captured = capfd.readouterr()
        return status, captured.out, captured.err

    return run
