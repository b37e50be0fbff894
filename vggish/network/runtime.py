"""Run an embedder on ONNX Runtime: patches to embeddings."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from vggish.common.choices import DEVICES, PRECISIONS, Device, Precision, check_choice
from vggish.common.files import sha256_of
from vggish.errors import OptionError, WeightsError, first_line
from vggish.params import EMBEDDING_SIZE, N_BANDS, PATCH_FRAMES

# Large enough for full speed, small enough that activations stay near 100 MB in float32.
BATCH_PATCHES = 32

# GPU providers of ONNX Runtime, best first, with the options that keep float32 exact.
_GPU_PROVIDERS: dict[str, dict[str, str]] = {
    "CUDAExecutionProvider": {"use_tf32": "0"},
    "MIGraphXExecutionProvider": {},
    "ROCMExecutionProvider": {},
    "DmlExecutionProvider": {},
}
_CPU_PROVIDER = "CPUExecutionProvider"


class PatchEmbedder(Protocol):
    """The interface of an embedder."""

    def __call__(self, patches: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
        """Map patches float32 [n, 96, 64] to embeddings float32 [n, 128], raw or whitened."""

    @property
    def provenance(self) -> dict[str, str]:
        """Description stored with each output: name, weights_sha256, precision."""


class Embedder:
    """A network that maps patches to embeddings; may be called from several threads.

    It is pickled as its file and options, so that other processes load it from there.

    Args:
        model_path: ONNX file with one input [n, 96, 64] and one output [n, 128].
        name: of the network, "vggish" or "mini".
        weights_sha256: of the checkpoint that the file was made from, or of the file itself.
        model_sha256: of the file itself; None to compute it.
        precision: "float32" or "int8", that of the file.
        device: "cpu", "gpu", or "auto" for a GPU if ONNX Runtime has one and the precision is
            float32.
        n_threads: threads per call; 0 for one per core.

    Attributes:
        provider: the execution provider of ONNX Runtime in use.

    Raises:
        OptionError: unknown precision or device, or there is no GPU.
        WeightsError: the file is missing or damaged, or holds another kind of network.
    """

    def __init__(
        self,
        model_path: str | Path,
        *,
        name: str,
        weights_sha256: str,
        model_sha256: str | None = None,
        precision: Precision = "float32",
        device: Device = "auto",
        n_threads: int = 0,
    ) -> None:
        onnxruntime = import_onnxruntime()
        check_choice("precision", precision, PRECISIONS)
        self._path = Path(model_path).absolute()
        self._device: Device = device
        self._n_threads = n_threads
        self.name = name
        self.weights_sha256 = weights_sha256
        self.precision = precision
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = n_threads
        options.log_severity_level = 3
        # Idle threads that spin would take the cores from decoding and log-mel.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        providers = choose_providers(onnxruntime.get_available_providers(), precision, device)
        try:
            self._session: Any = onnxruntime.InferenceSession(
                os.fspath(model_path), options, providers=providers
            )
        except Exception as error:  # ONNX Runtime's errors share no public base class
            raise WeightsError(
                f"cannot load the network {model_path}: {first_line(error)}\n"
                f"Check it with: audiotag weights verify {name}"
            ) from error
        self.provider: str = self._session.get_providers()[0]
        if device == "gpu" and self.provider == _CPU_PROVIDER:
            # ONNX Runtime silently falls back to the CPU if the GPU's libraries are missing.
            raise OptionError(
                f"ONNX Runtime could not start {providers[0][0]}; are the GPU's driver and "
                "libraries installed? Use --device cpu or auto to run on the CPU"
            )
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        shapes = [list(tensor.shape[1:]) for tensor in (*inputs, *outputs)]
        if shapes != [[PATCH_FRAMES, N_BANDS], [EMBEDDING_SIZE]]:
            raise WeightsError(
                f"{model_path} is not a network from patches [n, {PATCH_FRAMES}, {N_BANDS}] to "
                f"embeddings [n, {EMBEDDING_SIZE}]. Its shapes: {shapes}"
            )
        self._input = str(inputs[0].name)
        self.model_sha256 = sha256_of(Path(model_path)) if model_sha256 is None else model_sha256

    def __call__(self, patches: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
        """Embed log-mel patches. VGGish gives raw embeddings (pre-activation), mini whitened ones.

        Shape:
            float32 [n, 96, 64] -> float32 [n, 128]; n >= 0, processed 32 at a time.

        Raises:
            OptionError: the patches have another shape.
        """
        batch = np.ascontiguousarray(patches, np.float32)
        if batch.ndim != 3 or batch.shape[1:] != (PATCH_FRAMES, N_BANDS):
            raise OptionError(
                f"patches must have the shape [n, {PATCH_FRAMES}, {N_BANDS}]. "
                f"Received: {batch.shape}"
            )
        raw = np.zeros((len(batch), EMBEDDING_SIZE), np.float32)
        for start in range(0, len(batch), BATCH_PATCHES):
            part = batch[start : start + BATCH_PATCHES]
            raw[start : start + len(part)] = self._session.run(None, {self._input: part})[0]
        return raw

    def __reduce__(self) -> tuple[Callable[..., Embedder], tuple[object, ...]]:
        """Pickle as the file and the options, from which another process loads the network."""
        how = (self.name, self.weights_sha256, self.precision, self._device, self._n_threads)
        return _load_again, (self._path, self.model_sha256, *how)

    @property
    def provenance(self) -> dict[str, str]:
        """Description stored with each output.

        `model_sha256` matters for int8: its values depend on the calibration recordings.
        """
        return {
            "name": self.name,
            "weights_sha256": self.weights_sha256,
            "model_sha256": self.model_sha256,
            "precision": self.precision,
            "provider": self.provider,
        }


# A pool pickles the same object with each task; a process loads it once.
@functools.lru_cache(maxsize=4)
def _load_again(
    path: Path,
    model_sha256: str,
    name: str,
    weights_sha256: str,
    precision: Precision,
    device: Device,
    n_threads: int,
) -> Embedder:
    try:
        found = sha256_of(path)
    except OSError as error:
        raise WeightsError(
            f"cannot load the network {path}, which was pickled by its path: "
            f"{error.strerror or error}. Install the weights on this machine too, and load the "
            "embedder in each process"
        ) from error
    if found != model_sha256:
        raise WeightsError(
            f"the network {path} has changed since it was pickled; load the embedder again"
        )
    return Embedder(
        path,
        name=name,
        weights_sha256=weights_sha256,
        model_sha256=model_sha256,
        precision=precision,
        device=device,
        n_threads=n_threads,
    )


def import_onnxruntime() -> Any:
    """Import ONNX Runtime with its telemetry off.

    Since version 1.29 it sends telemetry unless this variable is set before the import
    (microsoft/onnxruntime#27379); on Windows the call turns it off.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    onnxruntime.disable_telemetry_events()
    return onnxruntime


def choose_providers(
    available: list[str], precision: Precision, device: Device
) -> list[tuple[str, dict[str, str]]]:
    """Execution providers of ONNX Runtime to try, best first, with their options."""
    check_choice("device", device, DEVICES)
    cpu: list[tuple[str, dict[str, str]]] = [(_CPU_PROVIDER, {})]
    if precision == "int8" and device == "gpu":
        raise OptionError("int8 runs on the CPU only; use --precision float32 on a GPU")
    if precision == "int8" or device == "cpu":
        return cpu
    gpus = [(name, opts) for name, opts in _GPU_PROVIDERS.items() if name in available]
    if device == "gpu" and not gpus:
        raise OptionError(
            f"ONNX Runtime has no GPU provider here (it has: {', '.join(available)}).\n"
            "Install one in place of onnxruntime, for example: pip install onnxruntime-gpu"
        )
    return gpus[:1] + cpu
