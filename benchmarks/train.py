"""Benchmark of training: examples/s compared with PyTorch and the limit of matrix products.

    python -m benchmarks.train            print the tables and write docs/training-benchmarks.md
    python -m benchmarks.train --quick    measure three heads briefly, print only
    python -m benchmarks.train --heads gru-512 feature-attention     measure these, print only

"audiotag" is `classifier.training.loop` on clips in memory. "PyTorch" is the same head in a
plain training loop on float32 batches in memory. "Limit" is the time of a step's float32 matrix
products alone, in TensorFlow or PyTorch, whichever is faster. Each runs in its own process, because
TensorFlow and PyTorch conflict in one. The processes alternate, so that a change in the machine's
speed affects all of them, and the best turn of each counts.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks import read
from benchmarks.console import run_benchmark
from benchmarks.embed import machine
from classifier.heads.settings import (
    DbofSettings,
    LogisticSettings,
    LstmMoeSettings,
    MoeSettings,
    PoolingSettings,
    RecurrentSettings,
    TransformerSettings,
    head_settings,
)
from vggish.common.cores import n_cores

ROOT = Path(__file__).resolve().parents[1]
REPORT = ROOT / "docs" / "training-benchmarks.md"
BATCH, FRAMES, WIDTH, CLASSES = 512, 10, 128, 527
LABELS_PER_CLIP = 4
# Steps in an epoch: enough to outlast most turns, since time between epochs is not counted.
OUR_STEPS, TORCH_STEPS = 128, 32
# The first step compiles, the second allocates memory that is kept.
WARM_UP_STEPS = 2
QUICK_HEADS = ("gru-512", "feature-attention", "logistic")
START_HEADS = ("gru", "feature-attention")
TARGET_START_SECONDS = 15.0
PACKAGES = ("numpy", "tensorflow", "tf-keras", "torch")
NO_TORCH = "Without PyTorch, which is not installed: pip install 'audiotag[bench]'"


@dataclass(frozen=True)
class Case:
    """A head to measure, with its targets: the ratio to PyTorch and the share of the limit."""

    head: str
    settings: Mapping[str, object] = field(default_factory=dict)
    as_published: bool = True
    least_ratio: float | None = None
    least_share: float | None = None


LAST_STATE = {"dense": 0, "bidirectional": False, "pooling": "last"}
CASES = {
    "gru-512": Case("gru", LAST_STATE, least_ratio=1.1, least_share=0.85),
    "lstm-512": Case("lstm", LAST_STATE, least_ratio=1.1, least_share=0.85),
    "gru": Case("gru"),
    "lstm": Case("lstm"),
    "feature-attention": Case("feature-attention", least_ratio=1.3),
    "feature-attention-linear": Case("feature-attention", as_published=False),
    "attention": Case("attention"),
    "average": Case("average"),
    "max": Case("max"),
    "multi-level-attention": Case("multi-level-attention"),
    "transformer": Case("transformer"),
    "logistic": Case("logistic"),
    "moe": Case("moe"),
    "frame-logistic": Case("frame-logistic"),
    "dbof": Case("dbof"),
    "lstm-moe": Case("lstm-moe"),
}


# --- The matrix products of a step -------------------------------------------------------


class Product(NamedTuple):
    """A matrix product [rows, inner] x [inner, columns].

    Attributes:
        transposed: the operand stored transposed: "left", "right" or "" for neither.
        times: how often the product is computed, one after the other.
        stacked: number of independent products in one call, as in attention; 0 for one product.
    """

    rows: int
    inner: int
    columns: int
    transposed: str = ""
    times: int = 1
    stacked: int = 0


def products_of(case: Case) -> list[Product]:
    """List the matrix products of one training step of a head, forward and backward."""
    settings = head_settings(case.head, case.settings)
    rows = BATCH * FRAMES
    # Only a trainable normalisation of the frames needs a gradient below the first layer.
    learns_below = settings.normalisation == "batch"
    match settings:
        case RecurrentSettings(units=units, dense=hidden):
            found, width = [], WIDTH
            if hidden:
                found, width = dense(rows, width, hidden, learns_below), hidden
            for _ in range(settings.layers):
                # Batch normalisation is folded into the first kernel and trained by its gradient.
                one_way = recurrent(case.head, width, units, learns_below=bool(found))
                found, width = [*found, *one_way * (1 + settings.bidirectional)], units
                width *= 1 + settings.bidirectional
            return found + pooling(settings.pooling, width)
        case PoolingSettings(units=units, layers=layers):
            found = dense(rows, WIDTH, units, learns_below)
            found += dense(rows, units, units) * (layers - 1)
            if case.head in ("feature-attention", "attention"):
                return found + pooling(case.head, units)
            if case.head == "multi-level-attention":
                found += dense(rows, units, CLASSES) * 2 * layers
                return found + dense(BATCH, layers * CLASSES, CLASSES)
            return found + dense(rows, units, CLASSES)
        case TransformerSettings(units=units):
            block = dense(rows, units, units) * 4 + attended(settings)
            block += dense(rows, units, 2 * units) + dense(rows, 2 * units, units)
            found = dense(rows, WIDTH, units, learns_below) + block * settings.layers
            return found + pooling(settings.pooling, units)
        case LogisticSettings():
            return dense(BATCH, WIDTH, CLASSES, learns_below)
        case MoeSettings():
            return mixture(WIDTH, settings.mixtures, learns_below)
        case DbofSettings(clusters=clusters, hidden=hidden):
            found = dense(BATCH * settings.sampled_frames, WIDTH, clusters)
            return found + dense(BATCH, clusters, hidden) + mixture(hidden, settings.mixtures)
        case LstmMoeSettings(units=units):
            found = recurrent("lstm", WIDTH, units, learns_below)
            found += recurrent("lstm", units, units) * (settings.layers - 1)
            return found + mixture(units, settings.mixtures)


def dense(rows: int, n_in: int, n_out: int, learns_below: bool = True) -> list[Product]:
    """Forward pass, gradient of the weights, and gradient of the input if layers below train."""
    found = [Product(rows, n_in, n_out), Product(n_in, rows, n_out, "left")]
    return [*found, Product(rows, n_out, n_in, "right")] if learns_below else found


def recurrent(kind: str, n_in: int, units: int, learns_below: bool = True) -> list[Product]:
    """One direction of a recurrent layer.

    The input needs one product over all steps, the state one in each step but the first, which has
    no state yet.
    """
    gates = {"gru": 3, "lstm": 4}[kind] * units
    steps = FRAMES - 1
    return [
        *dense(BATCH * FRAMES, n_in, gates, learns_below),
        Product(BATCH, units, gates, times=steps),
        Product(BATCH, gates, units, "right", times=steps),
        Product(units, BATCH * steps, gates, "left"),
    ]


def pooling(kind: str, width: int) -> list[Product]:
    if kind == "last":
        return dense(BATCH, width, CLASSES)
    if kind == "feature-attention":
        return dense(BATCH * FRAMES, width, width) * 2 + dense(BATCH, width, CLASSES)
    return dense(BATCH * FRAMES, width, CLASSES) * 2


def attended(settings: TransformerSettings) -> list[Product]:
    """Attention scores and weighted values, each with two gradients."""
    n, width = BATCH * settings.attention_heads, settings.units // settings.attention_heads
    scores = Product(FRAMES, width, FRAMES, "right", stacked=n)
    values = Product(FRAMES, FRAMES, width, stacked=n)
    turned = values._replace(transposed="left")
    return [scores, values, turned, values, scores, turned]


def mixture(width: int, mixtures: int, learns_below: bool = True) -> list[Product]:
    gates = dense(BATCH, width, CLASSES * (mixtures + 1), learns_below)
    return gates + dense(BATCH, width, CLASSES * mixtures, learns_below)


# --- Measurements, each run by `python -m benchmarks.train --measure NAME ...` -----------


class Turns:
    """Runs a loop in turns whose length the parent process sets, and reports the rate of each."""

    def __init__(self, warm_up: int) -> None:
        self.began = time.perf_counter()
        self.warm_up, self.n_steps, self.seconds = warm_up, 0, 0.0
        self.start_seconds, self.from_, self.last = 0.0, self.began, self.began

    def step_done(self) -> None:
        """Count a step, and wait for the next turn at the end of this one."""
        self.last = time.perf_counter()
        self.n_steps += 1
        self.start_seconds = self.start_seconds or self.last - self.began
        if self.warm_up:
            if self.n_steps == self.warm_up:
                self.warm_up = 0
                self.wait({"start_seconds": self.start_seconds})
            return
        elapsed = self.last - self.from_
        if elapsed >= self.seconds:
            self.wait({"examples_per_second": self.n_steps * BATCH / elapsed})

    def pause_done(self) -> None:
        """Exclude the time since the last step from the measurement."""
        now = time.perf_counter()
        self.from_ += now - self.last
        self.last = now

    def wait(self, answer: Mapping[str, float]) -> None:
        """Print the result of a turn, and wait for the length of the next one in seconds."""
        print(json.dumps(answer), flush=True)
        line = sys.stdin.readline()
        if not line:
            raise SystemExit
        self.seconds, self.n_steps = float(line), 0
        self.from_ = self.last = time.perf_counter()

    # The observer interface of `classifier.training.loop.Training`:

    def on_step(self, progress: Any) -> None:
        """Count a finished step."""
        self.step_done()

    def on_epoch(self, row: Mapping[str, float], is_best: bool) -> None:
        """Exclude the time that writing curves and checkpoints took."""
        self.pause_done()


def train_ours(name: str, kind: str) -> None:
    """Train with audiotag without end: with the defaults, or without mixup and moving average."""
    from classifier.frame_data.clip_store import ClipStore
    from classifier.labels import Labels
    from classifier.training.config import TrainingConfig
    from classifier.training.examples import FrameExamples
    from classifier.training.loop import Training
    from classifier.training.runs import Run

    case, n = CASES[name], BATCH * OUR_STEPS
    rng = np.random.default_rng(0)
    plain = {"mixup": 0.0, "ema": 0.0} if kind == "plain" else {}
    config = TrainingConfig(
        case.head, case.settings, epochs=1_000_000, batch_size=BATCH, patience=0, **plain
    )
    store = ClipStore(
        rng.integers(0, 256, (n * FRAMES, WIDTH), np.uint8),
        np.full(n, FRAMES),
        [str(i) for i in range(n)],
        [""] * n,
        rng.integers(0, CLASSES, n * LABELS_PER_CLIP, np.int32),
        np.full(n, LABELS_PER_CLIP),
    )
    labels = Labels(tuple(str(i) for i in range(CLASSES)), ("",) * CLASSES)
    with tempfile.TemporaryDirectory(prefix="audiotag-bench-") as scratch:
        run = Run(Path(scratch) / "run")
        run.begin(config, {}, labels, [])
        turns = Turns(WARM_UP_STEPS)
        examples = FrameExamples(store, np.arange(n), CLASSES)
        Training(config, examples, None, run).run([turns])


def train_torch(name: str) -> None:
    """Train the same head in plain PyTorch without end."""
    import torch

    from benchmarks.torch_heads import build_torch_head

    torch.set_num_threads(n_cores())
    torch.manual_seed(0)
    case = CASES[name]
    settings = head_settings(case.head, case.settings)
    frames = torch.rand(TORCH_STEPS, BATCH, FRAMES, WIDTH) * 4 - 2
    labels = torch.zeros(TORCH_STEPS, BATCH, CLASSES)
    labels.scatter_(2, torch.randint(CLASSES, (TORCH_STEPS, BATCH, LABELS_PER_CLIP)), 1.0)
    turns = Turns(WARM_UP_STEPS)
    model = build_torch_head(case.head, settings, CLASSES, case.as_published)
    penalty = getattr(settings, "l2", 0.0)
    optimiser = torch.optim.Adam(model.parameters(), 1e-3, weight_decay=penalty)
    loss_of = torch.nn.BCEWithLogitsLoss()
    while True:
        for batch, truth in zip(frames, labels, strict=True):
            optimiser.zero_grad()
            loss = loss_of(model(batch), truth)
            loss.backward()
            optimiser.step()
            loss.item()
            turns.step_done()


def multiply(name: str, library: str) -> None:
    """Compute only the matrix products of a training step, without end."""
    turns = Turns(1)
    works = [
        (work, product.times)
        for product in products_of(CASES[name])
        for work in [WORK_OF[library](product)]
    ]
    while True:
        for work, times in works:
            for _ in range(times):
                work()
        turns.step_done()


def tensorflow_work(product: Product) -> Callable[[], object]:
    """Return a function computing the product in TensorFlow, whose CPU kernels are synchronous."""
    import tensorflow as tf

    left, right = (tf.constant(operand) for operand in operands(product))
    flags = {f"transpose_{'a' if product.transposed == 'left' else 'b'}": bool(product.transposed)}
    return lambda: tf.matmul(left, right, **flags)


def torch_work(product: Product) -> Callable[[], object]:
    """Return a function computing the product in PyTorch, into allocated memory."""
    import torch

    torch.set_num_threads(n_cores())
    left, right = (torch.from_numpy(operand) for operand in operands(product))
    if product.transposed == "left":
        left = left.mT
    if product.transposed == "right":
        right = right.mT
    out = torch.matmul(left, right)
    return lambda: torch.matmul(left, right, out=out)


WORK_OF = {"tensorflow": tensorflow_work, "torch": torch_work}


def operands(product: Product) -> list[Any]:
    """Return random operands in their memory layout."""
    shapes = [(product.rows, product.inner), (product.inner, product.columns)]
    if product.transposed:
        turned = 0 if product.transposed == "left" else 1
        shapes[turned] = shapes[turned][::-1]
    stack = (product.stacked,) if product.stacked else ()
    rng = np.random.default_rng(0)
    return [rng.standard_normal((*stack, *shape), np.float32) for shape in shapes]


def start_training(*arguments: str) -> None:
    """Run `audiotag train` up to the end of its first step, and print the time then."""
    import cli
    from audiotag.commands import train as command
    from audiotag.terminal import training

    class FirstStep(training.TrainingDisplay):
        def on_step(self, progress: Any) -> None:
            print(json.dumps({"time": time.time()}), flush=True)
            os._exit(0)

    command.TrainingDisplay = FirstStep  # type: ignore[misc]
    sys.exit(cli.main(["train", *arguments]))


def read_shards(*arguments: str) -> None:
    """Measure the clips/s of each reader."""
    from classifier.frame_data.finding import find_frame_files

    print(json.dumps(read.measure(find_frame_files(arguments))))


MEASUREMENTS: dict[str, Callable[..., None]] = {
    "ours": train_ours,
    "torch": train_torch,
    "products": multiply,
    "start": start_training,
    "read": read_shards,
}


# --- The run -----------------------------------------------------------------------------


class Worker:
    """A measurement in its own process, which runs only in its turns."""

    def __init__(self, *arguments: str) -> None:
        self.arguments, self.best = arguments, 0.0
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self.process = subprocess.Popen(
            command(*arguments),
            cwd=ROOT,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
        )
        self.start_seconds = 0.0

    def wait_until_warm(self) -> None:
        """Wait until its first steps are done."""
        self.start_seconds = self.answer()["start_seconds"]

    def take_turn(self, seconds: float) -> None:
        """Run it for some seconds, and keep the rate if it is the best."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{seconds}\n")
        self.process.stdin.flush()
        self.best = max(self.best, self.answer()["examples_per_second"])

    def answer(self) -> dict[str, float]:
        """Return the next line that it prints."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            self.log.seek(0)
            sys.exit(f"the measurement {' '.join(self.arguments)} failed:\n{self.log.read()}")
        answer: dict[str, float] = json.loads(line)
        return answer

    def close(self) -> None:
        """Stop it while it waits for its turn."""
        self.process.communicate()
        self.log.close()


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "benchmarks.train", "--measure", *arguments]


@dataclass
class Bench:
    """The options of a run and its results."""

    quick: bool
    has_torch: bool
    lines: list[str] = field(default_factory=list)
    verdicts: list[tuple[str, str, str, str]] = field(default_factory=list)

    @property
    def rounds(self) -> int:
        """Number of turns of each process."""
        return 1 if self.quick else 3

    @property
    def seconds(self) -> float:
        """Minimum length of a turn."""
        return 0.3 if self.quick else 1.0

    def row(self, cells: Sequence[str], widths: Sequence[int]) -> None:
        """Add a row to the table of heads, and print it."""
        self.lines.append(f"| {' | '.join(cells)} |")
        shown = [cells[0].ljust(widths[0])]
        shown += [cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True)]
        print("  ".join(shown), flush=True)

    def add_target(self, what: str, value: str, target: str, met: bool) -> None:
        """Add a result that has a target, and whether it met the target."""
        self.verdicts.append((what, value, target, "met" if met else "**missed**"))


COLUMNS = (
    "head", "MFLOP", "PyTorch", "audiotag", "audiotag / PyTorch", "limit", "share of limit",
    "audiotag, defaults", "first step",
)  # fmt: skip
COLUMN_WIDTHS = (25, 6, 8, 8, 18, 8, 14, 18, 10)


def measure_heads(bench: Bench, names: Sequence[str]) -> None:
    """Measure the heads one after the other, as rows of a table."""
    bench.row(COLUMNS, COLUMN_WIDTHS)
    bench.lines.append("|---|" + "---:|" * (len(COLUMNS) - 1))
    for name in names:
        measure_head(bench, name)


def measure_head(bench: Bench, name: str) -> None:
    """Measure audiotag, PyTorch and the matrix products of one head in turns."""
    case = CASES[name]
    workers = {"ours": Worker("ours", name, "plain")}
    workers["ours"].wait_until_warm()  # alone, so that others do not slow down its start
    workers["defaults"] = Worker("ours", name, "defaults")
    workers["limit, tensorflow"] = Worker("products", name, "tensorflow")
    if bench.has_torch:
        workers["torch"] = Worker("torch", name)
        workers["limit, torch"] = Worker("products", name, "torch")
    for worker in list(workers.values())[1:]:
        worker.wait_until_warm()
    for _ in range(bench.rounds):
        for worker in workers.values():
            worker.take_turn(bench.seconds)
    for worker in workers.values():
        worker.close()
    best = {key: worker.best for key, worker in workers.items()}
    ours, torch = best["ours"], best.get("torch")
    limit = max(best["limit, tensorflow"], best.get("limit, torch", 0.0))
    flop = sum(2 * p.rows * p.inner * p.columns * p.times * max(p.stacked, 1)
               for p in products_of(case)) / BATCH  # fmt: skip
    cells = [
        name,
        f"{flop / 1e6:.1f}",
        f"{torch:,.0f}" if torch else "-",
        f"{ours:,.0f}",
        f"{ours / torch:.2f}" if torch else "-",
        f"{limit:,.0f}",
        f"{ours / limit:.0%}",
        f"{best['defaults']:,.0f}",
        f"{workers['ours'].start_seconds:.1f} s",
    ]
    bench.row(cells, COLUMN_WIDTHS)
    if case.least_ratio and torch:
        ratio = ours / torch
        target = f">= {case.least_ratio}"
        bench.add_target(f"{name} / PyTorch", f"{ratio:.2f}", target, ratio >= case.least_ratio)
    if case.least_share:
        share, target = ours / limit, f">= {case.least_share:.0%}"
        bench.add_target(f"{name}, share of the limit", f"{share:.0%}", target,
                    share >= case.least_share)  # fmt: skip


def measure_reading(bench: Bench, frames: Sequence[str]) -> None:
    """Measure clips/s, which also warms the disk cache for the measurements that follow."""
    rates = json.loads(output_of("read", *frames).splitlines()[-1])
    what = "reading" + "".join(
        f" (TensorFlow's reader: {rate:,.0f})" for name, rate in rates.items() if name != "audiotag"
    )
    rate, least = rates["audiotag"], read.TARGET_CLIPS_PER_SECOND
    bench.add_target(what, f"{rate:,.0f} clips/s", f">= {least:,}", rate >= least)


def measure_start(bench: Bench, frames: Sequence[str], scratch: Path) -> None:
    """Measure the seconds from the start of `audiotag train` to the end of its first step."""
    for head in START_HEADS:
        seconds = []
        for number in range(bench.rounds):
            out = scratch / f"{head}-{number}"
            arguments = ["--frames", *frames, "--head", head, "-o", str(out)]
            before = time.time()
            answer = json.loads(output_of("start", *arguments).splitlines()[-1])
            seconds.append(answer["time"] - before)
        median = statistics.median(seconds)
        bench.add_target(
            f"start of `audiotag train --head {head}` to the end of its first step "
            f"(median of {bench.rounds})",
            f"{median:.1f} s",
            f"<= {TARGET_START_SECONDS:g} s",
            median <= TARGET_START_SECONDS,
        )


def output_of(*arguments: str) -> str:
    """Run a measurement without turns and return what it prints."""
    done = subprocess.run(
        command(*arguments),
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        cwd=ROOT,
        capture_output=True,
        check=False,
        text=True,
    )
    if done.returncode != 0:
        sys.exit(f"the measurement {arguments[0]} failed:\n{done.stderr}")
    return done.stdout


def print_verdicts(bench: Bench) -> None:
    print()
    for what, value, target, verdict in bench.verdicts:
        print(f"{what:<85} {value:>16}  {target:<9} {verdict.strip('*')}")


def write_report(bench: Bench, data: str) -> None:
    """Write the tables to docs/training-benchmarks.md."""
    found = [name for name in PACKAGES if bench.has_torch or name != "torch"]
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in found)
    lines = [
        "# Training benchmarks",
        "",
        "Written by `make bench-train`; do not edit by hand.",
        "",
        f"- Machine: {machine()}",
        f"- Python {platform.python_version()}, {versions}",
        *([] if bench.has_torch else [f"- {NO_TORCH}"]),
        "",
        "| measurement | result | target | |",
        "|---|---:|---:|---|",
        *(f"| {' | '.join(verdict)} |" for verdict in bench.verdicts),
        "",
        f"Reading and starting were measured on {data}.",
        "",
        "## Examples/s of each head",
        "",
        f"Batches of {BATCH} clips of {FRAMES} frames, {CLASSES} classes, float32, Adam, "
        f"{n_cores()} threads; the best of {bench.rounds} turns.",
        "",
        "- MFLOP: the matrix products of one example, forward and backward.",
        "- PyTorch: the same head in a plain training loop, without loading data.",
        "- audiotag: `classifier.training.loop`, from clips in memory to the end of the step, "
        "without mixup and moving average, as in the PyTorch loop. The column *defaults* includes "
        "both.",
        "- limit: the matrix products alone, in TensorFlow or PyTorch, whichever is faster.",
        "- first step: includes building and compiling; not part of the examples/s.",
        "- gru-512 and lstm-512 have no dense layer, one direction, and use the last state. "
        "feature-attention-linear uses `nn.Linear` in PyTorch instead of the published 1 x 1 "
        "convolutions. All other heads have their default settings.",
        "",
        *bench.lines,
        "",
    ]
    REPORT.write_text("\n".join(lines), "utf-8")


def main() -> None:
    """Run one measurement, or all of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--quick", action="store_true", help="measure three heads briefly, print only"
    )
    parser.add_argument("--heads", nargs="+", choices=CASES, metavar="HEAD",
                        help=f"measure only these, print only: {', '.join(CASES)}")  # fmt: skip
    parser.add_argument(
        "--frames", nargs="+", help="read these files or quoted patterns, not generated shards"
    )
    parser.add_argument("--measure", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        name, *arguments = options.measure
        MEASUREMENTS[name](*arguments)
        return
    bench = Bench(options.quick, importlib.util.find_spec("torch") is not None)
    print(f"{machine()}; examples/s in batches of {BATCH}")
    if not bench.has_torch:
        print(NO_TORCH)
    measure_heads(bench, options.heads or (QUICK_HEADS if options.quick else list(CASES)))
    if options.heads:
        print_verdicts(bench)
        return
    with tempfile.TemporaryDirectory(prefix="audiotag-bench-") as scratch:
        frames = options.frames or [str(Path(scratch) / "shards")]
        if not options.frames:
            Path(frames[0]).mkdir()
            read.write_shards(Path(frames[0]))
        measure_reading(bench, frames)
        measure_start(bench, frames, Path(scratch))
    print_verdicts(bench)
    if not options.quick:
        generated = f"{read.N_SHARDS:,} generated shards with {read.N_CLIPS:,} clips"
        write_report(bench, "the shards named by `--frames`" if options.frames else generated)


if __name__ == "__main__":
    run_benchmark(main)
