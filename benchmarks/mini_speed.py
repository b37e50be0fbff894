"""Speed of mini compared with VGGish, and of the `audiotag classify` process.

python -m benchmarks.mini_speed --measure ONNX SECONDS     measure one network
"""

from __future__ import annotations

import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.embed import RATE_HZ, audio_blocks, rate, seeded_patches

ROOT = Path(__file__).resolve().parents[1]
TURNS, TURN_SECONDS, CLIP_RUNS = 3, 2.0, 7
CLIP_SECONDS, LONG_SECONDS = 10, 3600
CLIP_TARGET_SECONDS, LONG_TARGET_SECONDS = 0.6, 20.0


def rates(network: Path) -> dict[str, dict[str, float]]:
    """Measure patches/s, parameters and bytes of mini, its int8 form if it exists, and VGGish."""
    with tempfile.TemporaryDirectory(prefix="audiotag-bench-") as scratch:
        files = {"mini float32": network}
        if (int8 := network.with_name("int8.onnx")).exists():
            files["mini int8"] = int8
        files["VGGish float32"] = Path(scratch) / "vggish.onnx"
        # In a separate process, because it needs much memory.
        _call("--vggish", str(files["VGGish float32"]))
        turns: dict[str, list[float]] = {name: [] for name in files}
        for _ in range(TURNS):
            for name, path in files.items():
                print(f"measuring {name} ...", file=sys.stderr, flush=True)
                turns[name].append(float(_call("--measure", str(path), str(TURN_SECONDS))))
        n_parameters = _n_parameters(network)
        return {
            name: {
                "patches_per_second": max(turns[name]),
                "n_parameters": n_parameters[name],
                "bytes": path.stat().st_size,
            }
            for name, path in files.items()
        }


def processes() -> dict[str, tuple[float, float]]:
    """Measure the seconds of whole processes; return each with its target."""
    with tempfile.TemporaryDirectory(prefix="audiotag-bench-") as scratch:
        # An empty home: VGGish is not installed.
        environment = {**os.environ, "AUDIOTAG_HOME": scratch}
        short, long = Path(scratch) / "short.wav", Path(scratch) / "long.wav"
        _write_audio(short, CLIP_SECONDS)
        _write_audio(long, LONG_SECONDS)
        times = [_classify(environment, str(short), "--embedder", "mini") for _ in range(CLIP_RUNS)]
        whole, failed = _classify(environment, str(long), "--embedder", "mini")
        if failed or any(status for _, status in times):
            sys.exit("audiotag classify failed")
        median = statistics.median(seconds for seconds, _ in times)
        return {
            f"`audiotag classify` of a {CLIP_SECONDS} s clip, median of {CLIP_RUNS}": (
                median,
                CLIP_TARGET_SECONDS,
            ),
            "`audiotag classify` of an hour": (whole, LONG_TARGET_SECONDS),
        }


def _classify(environment: dict[str, str], *arguments: str) -> tuple[float, int]:
    """Run `audiotag classify`; return its seconds and exit status."""
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "cli", "classify", *arguments],
        env=environment, cwd=ROOT, check=False, capture_output=True,
    )  # fmt: skip
    return time.perf_counter() - start, done.returncode


def _write_audio(path: Path, seconds: int) -> None:
    import soundfile

    with soundfile.SoundFile(path, "w", RATE_HZ, 2, "PCM_16") as file:
        for block in audio_blocks(seconds):
            file.write(block)


def _call(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.mini_speed", *arguments],
        cwd=ROOT, check=False, capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode != 0:
        sys.exit(f"the measurement {' '.join(arguments)} failed:\n{done.stderr}")
    return done.stdout.strip().splitlines()[-1] if done.stdout.strip() else ""


def _n_parameters(network: Path) -> dict[str, int]:
    """Count the parameters of each network: the float tensors of mini, the variables of VGGish."""
    import onnx

    from vggish.network.architecture import variable_shapes

    floats = [
        t for t in onnx.load(network).graph.initializer if t.data_type == onnx.TensorProto.FLOAT
    ]
    n = sum(math.prod(tensor.dims) for tensor in floats)
    return {
        "mini float32": n,
        "mini int8": n,
        "VGGish float32": sum(math.prod(shape) for shape in variable_shapes().values()),
    }


def main() -> None:
    """Run one measurement, or write VGGish as ONNX, in this process."""
    from vggish.network.runtime import BATCH_PATCHES, Embedder

    what, path, *more = sys.argv[1:]
    if what == "--vggish":
        from tests.support.networks import seeded_variables
        from vggish.network.onnx_graph import write_onnx

        write_onnx(seeded_variables(), Path(path), "", "winograd")
        return
    embedder: Any = Embedder(path, name="", weights_sha256="", model_sha256="", device="cpu")
    patches = seeded_patches(BATCH_PATCHES)
    print(json.dumps(rate(lambda: len(embedder(patches)), float(more[0]))))


if __name__ == "__main__":
    main()
