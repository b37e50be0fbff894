"""Benchmark of embedding: speed and memory compared with the reference pipeline.

    python -m benchmarks.embed            print the table and write docs/benchmarks.md
    python -m benchmarks.embed --quick    use shorter audio and fewer rounds, print only

The speed of VGGish does not depend on its weights, so they are drawn from a seed. Every
measurement runs in its own process, so that their thread pools do not disturb each other.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.console import run_benchmark
from vggish.common.cores import n_cores

ROOT = Path(__file__).resolve().parents[1]
REPORT = ROOT / "docs" / "benchmarks.md"
RATE_HZ = 44_100
BATCH_SIZES = (16, 32, 64, 128, 256)
PATCH_SECONDS = 0.96
GFLOP_PER_PATCH = 2 * 0.862
CHECKPOINT = "vggish_model.ckpt"
PACKAGES = ("numpy", "onnxruntime", "soxr", "soundfile", "tensorflow", "tf-keras", "resampy")


# --- Measurements, each run by `python -m benchmarks.embed --measure NAME ...` -------------


def measure_keras(scratch: Path, seconds: float) -> dict[str, Any]:
    """Patches/s of tf-keras in float32 at each batch size: `predict` and a compiled call."""
    import tensorflow

    from vggish.network.architecture import build_model

    model = build_model()
    compiled = tensorflow.function(lambda patches: model(patches, training=False))
    rates: dict[str, float] = {}
    for size in BATCH_SIZES:
        patches = seeded_patches(max(size, 256))
        batches = [patches[i : i + size] for i in range(0, len(patches), size)]

        def predict(patches: Any = patches, size: int = size) -> int:
            return len(model.predict(patches, batch_size=size, verbose=0))

        def call(batches: Any = batches) -> int:
            return sum(len(compiled(tensorflow.constant(batch)).numpy()) for batch in batches)

        rates[f"predict {size}"] = rate(predict, seconds)
        rates[f"function {size}"] = rate(call, seconds)
    one = seeded_patches(1)
    rates["one by one"] = rate(lambda: len(model.predict(one, verbose=0)), seconds)
    return rates


def measure_onnx(scratch: Path, seconds: float, precision: str) -> dict[str, Any]:
    """Patches/s of ONNX Runtime at each batch size; "direct" is float32 without Winograd."""
    from vggish.network import runtime

    if precision == "direct":
        embedder = direct_embedder(scratch)
    else:
        from vggish.embedders.choice import load_embedder

        embedder, _ = load_embedder(precision=precision)  # type: ignore[arg-type]
    rates: dict[str, float] = {}
    for size in (1, *BATCH_SIZES):
        runtime.BATCH_PATCHES = size
        patches = seeded_patches(size)
        rates[str(size)] = rate(lambda patches=patches: len(embedder(patches)), seconds)
    return rates


def measure_front_end(scratch: Path, seconds: float, resampler: str) -> dict[str, Any]:
    """Speed of decoding, resampling and log-mel on one core, as a multiple of real time."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    from vggish.audio.stream import open_audio, waveform_blocks
    from vggish.mel_features import PatchStream

    path = scratch / "ten_minutes.wav"

    def front_end() -> float:
        with open_audio(path) as audio:
            stream = PatchStream()
            for block in waveform_blocks(audio, resampler):
                stream.feed(block)
            stream.flush()
            return audio.seconds_read

    front_end()
    return {"times_real_time": best_rate(front_end, 3)}


def measure_end_to_end(scratch: Path, seconds: float, precision: str) -> dict[str, Any]:
    """Patches/s from file to uint8 frames, and of the network alone on the same batches."""
    import vggish
    from vggish.audio.stream import open_audio
    from vggish.extractor import patch_batches

    path = scratch / "ten_minutes.wav"
    extractor = vggish.load_extractor("vggish", precision=precision)  # type: ignore[arg-type]
    with (
        open_audio(path) as audio,
        closing(patch_batches(extractor._patches(audio, None))) as parts,
    ):
        batches = list(parts)
    extractor.embedder(batches[0])

    def network() -> int:
        return sum(len(extractor.embedder(batch)) for batch in batches)

    def whole() -> int:
        return len(extractor(path))

    # Alternate, so that a change in the machine's speed affects both.
    rounds = [(best_rate(network, 1), best_rate(whole, 1)) for _ in range(3)]
    return {"network": max(r[0] for r in rounds), "end_to_end": max(r[1] for r in rounds)}


def measure_reference(scratch: Path, seconds: float) -> dict[str, Any]:
    """Speed of the reference pipeline, as a multiple of real time.

    Its steps run one after the other: read the file with soundfile, resample with resampy,
    compute log-mel in float64, run tf-keras in float32, apply PCA, quantise.
    """
    import resampy
    import soundfile

    from vggish.embedders.installed import find_installed
    from vggish.mel_features import log_mel_patches
    from vggish.network.architecture import build_model
    from vggish.postprocess import load_pca, quantize

    path = scratch / "ten_minutes.wav"
    model, pca = build_model(), load_pca(find_installed().path("pca"))
    model.predict(seeded_patches(64), batch_size=64, verbose=0)
    resampy.resample(np.zeros(RATE_HZ), RATE_HZ, 16_000)  # compile it

    def pipeline() -> float:
        waveform, rate_hz = soundfile.read(path)
        mono = resampy.resample(waveform.mean(axis=1), rate_hz, 16_000)
        patches = log_mel_patches(mono, tail="drop")
        quantize(pca(model.predict(patches, batch_size=64, verbose=0)))
        return len(waveform) / rate_hz

    return {"times_real_time": best_rate(pipeline, 2)}


def measure_log_mel(scratch: Path, seconds: float) -> dict[str, Any]:
    """Log-mel differences on real audio: float32 from float64, and soxr HQ and VHQ from resampy."""
    import resampy
    import soundfile
    import soxr

    from vggish.embedders.install import shipped_recordings
    from vggish.mel_features import log_mel_patches, log_mel_spectrogram

    rounding, differences = 0.0, {"HQ": [], "VHQ": []}  # type: ignore[var-annotated]
    for path in shipped_recordings():
        waveform, rate_hz = soundfile.read(path, always_2d=True)
        mono = waveform.mean(axis=1)
        if rate_hz < 20_000:
            continue
        reference = resampy.resample(mono, rate_hz, 16_000)
        exact = log_mel_spectrogram(reference)
        rounded = log_mel_spectrogram(reference.astype(np.float32))
        rounding = max(rounding, float(np.abs(exact - rounded).max()))
        for quality, found in differences.items():
            ours = log_mel_spectrogram(soxr.resample(mono, rate_hz, 16_000, quality=quality))
            n = min(len(ours), len(exact))
            found.append(np.abs(ours[:n] - exact[:n]).mean(axis=0))
    noise = np.random.default_rng(0).uniform(-1, 1, 60 * 16_000)
    times = {
        name: best_rate(lambda waveform=waveform: len(log_mel_patches(waveform)) * 0.96, 3)
        for name, waveform in (("float32", noise.astype(np.float32)), ("float64", noise))
    }
    bands = {quality: np.mean(found, axis=0) for quality, found in differences.items()}
    return {
        "rounding": rounding,
        **{f"{name}_times_real_time": value for name, value in times.items()},
        **{f"{q}_0_61": float(b[:62].mean()) for q, b in bands.items()},
        **{f"{q}_62": float(b[62]) for q, b in bands.items()},
        **{f"{q}_63": float(b[63]) for q, b in bands.items()},
    }


def measure_peak(scratch: Path, seconds: float) -> dict[str, Any]:
    """GFLOP/s of a large float32 matrix product, as an upper bound of the processor's speed."""
    side = 4096
    matrix = np.random.default_rng(0).random((side, side), np.float32)

    def product() -> float:
        matrix @ matrix
        return 2e-9 * side**3

    return {"gflops": best_rate(product, 5)}


def write_checkpoint(scratch: Path, seconds: float) -> dict[str, Any]:
    """Write the seeded checkpoint in a separate process, because it needs much memory."""
    from tests.support.networks import save_v1_checkpoint, seeded_variables

    save_v1_checkpoint(scratch / CHECKPOINT, seeded_variables())
    return {}


MEASUREMENTS: dict[str, Callable[..., dict[str, Any]]] = {
    "keras": measure_keras,
    "onnx": measure_onnx,
    "front_end": measure_front_end,
    "end_to_end": measure_end_to_end,
    "reference": measure_reference,
    "log_mel": measure_log_mel,
    "peak": measure_peak,
    "checkpoint": write_checkpoint,
}


def direct_embedder(scratch: Path) -> Any:
    from tests.support.networks import seeded_variables
    from vggish.network.onnx_graph import write_onnx
    from vggish.network.runtime import Embedder

    path = scratch / "direct.onnx"
    write_onnx(seeded_variables(), path, "", "direct")
    embedder = Embedder(path, name="vggish", weights_sha256="")
    path.unlink()
    return embedder


def seeded_patches(n: int) -> Any:
    return np.random.default_rng(0).normal(-2.0, 2.0, (n, 96, 64)).astype(np.float32)


def rate(work: Callable[[], int], seconds: float) -> float:
    """Run `work` for `seconds` after a warm-up; return the sum of its results per second."""
    work()
    done, start = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - start) < seconds:
        done += work()
    return done / elapsed


def best_rate(work: Callable[[], float], rounds: int) -> float:
    """Return the result of `work` per second in the best of several rounds."""
    best = 0.0
    for _ in range(rounds):
        start = time.perf_counter()
        done = work()
        best = max(best, done / (time.perf_counter() - start))
    return best


# --- The run -----------------------------------------------------------------------------


class Bench:
    """Runs each measurement in its own process, in a scratch directory with weights."""

    def __init__(self, scratch: Path, quick: bool) -> None:
        self.scratch = scratch
        self.seconds = 1.0 if quick else 5.0
        self.audio_seconds = 60 if quick else 600
        self.rows: list[tuple[str, str, str, str]] = []
        self.environment = {
            **os.environ,
            "AUDIOTAG_HOME": str(scratch / "home"),
            "TF_CPP_MIN_LOG_LEVEL": "3",
        }

    def measure(self, name: str, *arguments: str) -> dict[str, Any]:
        """Run one of `MEASUREMENTS`."""
        print(f"measuring {' '.join([name, *arguments])} ...", file=sys.stderr, flush=True)
        command = [sys.executable, "-m", "benchmarks.embed", "--measure", name, *arguments]
        command += ["--scratch", str(self.scratch), "--seconds", str(self.seconds)]
        done = subprocess.run(
            command, env=self.environment, cwd=ROOT, capture_output=True, check=False, text=True
        )
        if done.returncode != 0:
            sys.exit(f"the measurement {name} failed:\n{done.stderr}")
        result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return result

    def embed(self, audio: Path | str, *options: str) -> tuple[float, float]:
        """Run one `audiotag embed` process; return its seconds and its peak memory in MiB.

        The peak of a child includes the memory of its parent at the fork, so this process must
        stay small.
        """
        command = [sys.executable, "-m", "cli", "embed", str(audio), "--precision", "int8"]
        command += ["--quiet", *options]
        start = time.perf_counter()
        process = subprocess.Popen(command, env=self.environment, cwd=self.scratch)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        elapsed = time.perf_counter() - start
        if process.returncode != 0:
            sys.exit(f"audiotag embed {audio} failed")
        per_mib = 2**20 if sys.platform == "darwin" else 2**10
        return elapsed, usage.ru_maxrss / per_mib

    def row(self, what: str, value: str, target: str = "", met: bool | None = None) -> None:
        """Add a row to the table, and print it."""
        verdict = "" if met is None else ("yes" if met else "**no**")
        self.rows.append((what, value, target, verdict))
        print(f"{what:<66} {value:>18}  {target:<12} {verdict}", flush=True)


def run(bench: Bench) -> None:
    """Run all measurements and add their rows to the table."""
    make_audio_files(bench)
    install_seeded_weights(bench)

    keras = bench.measure("keras")
    float32, int8 = bench.measure("onnx", "float32"), bench.measure("onnx", "int8")
    name, best = max(((k, v) for k, v in keras.items() if k != "one by one"), key=lambda kv: kv[1])
    predict = max(v for k, v in keras.items() if k.startswith("predict"))
    bench.row(f"tf-keras float32, best of all ways ({name})", f"{best:.0f} patches/s")
    bench.row("tf-keras float32, best `predict`", f"{predict:.0f} patches/s")
    peak = bench.measure("peak")["gflops"]
    bench.row(
        f"... as a share of this machine's float32 matrix product ({peak:.0f} GFLOP/s)",
        f"{best * GFLOP_PER_PATCH / peak:.0%}",
    )
    for precision, rates, target in (("float32", float32, 1.05), ("int8", int8, 3.3)):
        size, ours = max(rates.items(), key=lambda kv: kv[1])
        bench.row(f"ONNX {precision}, best batch size ({size})", f"{ours:.0f} patches/s")
        ratio = ours / best
        bench.row(f"ONNX {precision} / tf-keras", f"{ratio:.2f}", f">= {target}", ratio >= target)
    direct = max(bench.measure("onnx", "direct").values())
    bench.row("ONNX float32 without Winograd's algorithm", f"{direct:.0f} patches/s")
    bench.row(
        "one patch at a time: tf-keras, ONNX float32, ONNX int8",
        f"{keras['one by one']:.0f}, {float32['1']:.0f}, {int8['1']:.0f} patches/s",
    )

    front_end = bench.measure("front_end", "soxr")["times_real_time"]
    bench.row(
        "decode + resample + log-mel, 44.1 kHz stereo WAV, one core",
        f"{front_end:.0f} x real time",
        ">= 800",
        front_end >= 800,
    )
    slow = bench.measure("front_end", "resampy")["times_real_time"]
    bench.row("the same with resampy", f"{slow:.0f} x real time")

    reference = bench.measure("reference")["times_real_time"]
    minutes = bench.audio_seconds // 60
    bench.row(f"reference pipeline, {minutes} min file", f"{reference:.1f} x real time")
    for precision in ("float32", "int8"):
        found = bench.measure("end_to_end", precision)
        speed = found["end_to_end"] * PATCH_SECONDS
        bench.row(
            f"file to uint8 frames, {precision}, {minutes} min file", f"{speed:.0f} x real time"
        )
        share = found["end_to_end"] / found["network"]
        bench.row(
            f"... as a share of the network alone ({found['network']:.0f} patches/s)",
            f"{share:.0%}",
            ">= 85%",
            share >= 0.85,
        )
        bench.row(
            "... / reference pipeline",
            f"{speed / reference:.1f}",
            ">= 9" if precision == "int8" else "",
            speed / reference >= 9 if precision == "int8" else None,
        )

    _, short_peak = bench.embed("ten_minutes.wav")
    _, long_peak = bench.embed("one_hour.wav")
    bench.row(f"peak memory, {minutes} min file, int8", f"{short_peak:.0f} MiB")
    bench.row(
        f"peak memory, {minutes * 6} min file, int8",
        f"{long_peak:.0f} MiB",
        "<= +20",
        long_peak - short_peak <= 20,
    )
    times = [bench.embed("ten_seconds.wav")[0] for _ in range(7)]
    median = statistics.median(times)
    bench.row(
        "whole process, `audiotag embed` of a 10 s clip, int8 (median of 7)",
        f"{median:.2f} s",
        "<= 0.9",
        median <= 0.9,
    )
    n_clips = len(list((bench.scratch / "clips").iterdir()))
    for jobs in ("1", "2", "4"):
        elapsed, _ = bench.embed("clips", "--out-dir", f"out{jobs}", "--jobs", jobs)
        bench.row(
            f"{n_clips} clips of 10 s, one process, int8, --jobs {jobs}",
            f"{n_clips * 10 / elapsed:.0f} x real time",
        )

    log_mel = bench.measure("log_mel")
    bench.row("log-mel, float32: largest error against float64", f"{log_mel['rounding']:.1e}")
    bench.row(
        "log-mel speed: float32, float64",
        f"{log_mel['float32_times_real_time']:.0f}, "
        f"{log_mel['float64_times_real_time']:.0f} x real time",
    )
    for quality in ("HQ", "VHQ"):
        values = ", ".join(f"{log_mel[f'{quality}_{band}']:.1g}" for band in ("0_61", "62", "63"))
        bench.row(f"soxr {quality} - resampy, mean over log-mel bands 0..61, 62, 63", values)


def make_audio_files(bench: Bench) -> None:
    """Write stereo 16-bit WAVs at 44.1 kHz: 10 min, 1 h, 10 s, and a directory of 10 s clips."""
    import soundfile

    def write(path: Path, seconds: int) -> None:
        with soundfile.SoundFile(path, "w", RATE_HZ, 2, "PCM_16") as file:
            for block in audio_blocks(seconds):
                file.write(block)

    write(bench.scratch / "ten_minutes.wav", bench.audio_seconds)
    write(bench.scratch / "one_hour.wav", bench.audio_seconds * 6)
    write(bench.scratch / "ten_seconds.wav", 10)
    (bench.scratch / "clips").mkdir()
    for index in range(20 if bench.seconds < 2 else 200):
        os.link(bench.scratch / "ten_seconds.wav", bench.scratch / "clips" / f"{index:03}.wav")


def audio_blocks(seconds: int) -> Iterator[Any]:
    """Yield stereo chirps and noise in blocks of one second."""
    rng = np.random.default_rng(0)
    times = np.arange(RATE_HZ) / RATE_HZ
    for second in range(seconds):
        chirp = np.sin(2 * np.pi * (100 + 50 * (second % 60)) * times * (1 + times))
        yield 0.3 * chirp[:, None] + 0.1 * rng.normal(size=(RATE_HZ, 2))


def install_seeded_weights(bench: Bench) -> None:
    """Install VGGish with seeded weights, by the same command as the official ones."""
    bench.measure("checkpoint")
    checkpoint = bench.scratch / CHECKPOINT
    pca = bench.scratch / "vggish_pca_params.npz"
    np.savez(pca, pca_eigen_vectors=np.eye(128), pca_means=np.zeros(128))
    files = {
        key: {
            "name": path.name,
            "url": "http://127.0.0.1/",
            "size": path.stat().st_size,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
        for key, path in (("checkpoint", checkpoint), ("pca", pca))
    }
    entry = {"description": "seeded", "licence": "none", "files": files}
    manifest = bench.scratch / "manifest.json"
    manifest.write_text(json.dumps({"vggish": entry}))
    command = [sys.executable, "-m", "cli", "weights", "install", str(checkpoint)]
    subprocess.run(
        [*command, "--manifest", str(manifest), "--quiet"], env=bench.environment, check=True
    )
    checkpoint.unlink()


def machine() -> str:
    """Describe the processor, its number of cores and the operating system."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text().splitlines()
        values = dict(line.split(":", 1) for line in reversed(lines) if ":" in line)
        fields = {key.strip(): value.strip() for key, value in values.items()}
        model = fields.get("model name", model)
        isa = [flag for flag in ("avx512f", "avx512_vnni") if flag in fields.get("flags", "")]
        model += f" ({', '.join(isa)})" if isa else ""
    return f"{model}, {n_cores()} cores, {platform.system()} {platform.machine()}"


def write_report(bench: Bench) -> None:
    """Write the table to docs/benchmarks.md."""
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in PACKAGES)
    lines = [
        "# Benchmarks",
        "",
        "Written by `make bench`; do not edit by hand.",
        "",
        f"- Machine: {machine()}",
        f"- Python {platform.python_version()}, {versions}",
        "- VGGish has seeded weights, because its speed does not depend on their values.",
        "",
        "| measurement | result | target | met |",
        "|---|---:|---:|---|",
        *(f"| {what} | {value} | {target} | {met} |" for what, value, target, met in bench.rows),
        "",
    ]
    REPORT.write_text("\n".join(lines), "utf-8")


def main() -> None:
    """Run one measurement, or all of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--quick", action="store_true", help="use shorter audio and fewer rounds, print only"
    )
    parser.add_argument("--measure", nargs="+", help=argparse.SUPPRESS)
    parser.add_argument("--scratch", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        name, *arguments = options.measure
        print(json.dumps(MEASUREMENTS[name](options.scratch, options.seconds, *arguments)))
        return
    with tempfile.TemporaryDirectory(prefix="audiotag-bench-") as scratch:
        bench = Bench(Path(scratch), options.quick)
        run(bench)
        if not options.quick:
            write_report(bench)


if __name__ == "__main__":
    run_benchmark(main)
