"""Benchmark of the service under load: throughput, latency and memory compared with the tagger.

    python -m benchmarks.serve                    measure all and write docs/serve-benchmarks.md
    python -m benchmarks.serve --quick            measure mini for a minute, print only
    python -m benchmarks.serve --set threads=4    change a setting of the service, print only

The service and its clients run in separate processes and communicate over the loopback interface
in a closed loop. Every answer is compared with the tagger's result for the same file. The limit is
that tagger with the same files, in threads and without HTTP. Measurements that are compared
alternate, because the speed of a machine changes from minute to minute.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import embed
from benchmarks.serve.clips import write_clips, write_requests
from benchmarks.serve.findings import (
    BATCHING,
    CLIENTS,
    LARGE_BATCH_PATCHES,
    N_LATENCY_CLIENTS,
    N_SOAK_CLIENTS,
    N_THROUGHPUT_CLIENTS,
    NO_BATCHING,
    WORKERS,
    Findings,
    Measured,
    SoakTest,
)
from benchmarks.serve.load_generator import Plan
from benchmarks.serve.processes import HOST, DirectTagger, MemorySamples, Service, generate_load
from vggish.common.cores import n_cores

REPORT = Path(__file__).resolve().parents[2] / "docs" / "serve-benchmarks.md"

# For each choice: embedder, precision ("" for the default), and title in the report.
EMBEDDERS = {"mini": ("mini", "", "mini"), "vggish": ("vggish", "int8", "VGGish int8")}
DIRECT_THREADS = sorted({1, n_cores(), 2 * n_cores()})
# The warm-up ends once a service of this speed has answered each client.
SLOWEST_CLIPS_PER_SECOND = 20.0
N_TAGS = 10
# Tags with nearly the same score as the last one may take its place.
N_SPARE_TAGS = 4
# The size of a batch may change int8 frames by one unit in the last place, and scores by this much.
TOLERANCE = 5e-3
PATCHES_METRIC = "audiotag_batch_patches"


@dataclass(frozen=True)
class Effort:
    """Durations of the measurements.

    Attributes:
        rounds: number of rounds over all setups and numbers of clients.
        seconds: duration of each measurement in a round.
        soak_minutes: duration of the soak test with many clients; 0 for none.
    """

    rounds: int = 5
    seconds: float = 6.0
    soak_minutes: float = 10.0


@dataclass
class Bench:
    """The inputs of a run and its results."""

    scratch: Path
    home: Path
    effort: Effort
    settings: Mapping[str, str]
    clips: Sequence[Path] = ()
    requests: Sequence[Path] = ()
    findings: Findings = field(default_factory=Findings)


def measure(bench: Bench, embedder: str) -> None:
    """Measure one embedder in all setups and with all numbers of clients."""
    name, precision, title = EMBEDDERS[embedder]
    settings = {"embedder": name, **({"precision": precision} if precision else {})}
    direct = DirectTagger(bench.home, name, precision, bench.clips)
    expected = direct.ask(n_tags=N_TAGS + N_SPARE_TAGS)
    setups = {
        WORKERS: {**settings, "workers": "0"},
        NO_BATCHING: {**settings, "batch_window_ms": "0"},
        # With the default, a clip of ten patches is a batch of its own.
        BATCHING: {**settings, "full_batch_patches": str(LARGE_BATCH_PATCHES)},
    }
    measured = Measured(title)
    with services(bench, title, setups) as served:
        for turn in range(bench.effort.rounds):
            progress(f"{title}, round {turn + 1} of {bench.effort.rounds}")
            for n_clients in CLIENTS:
                # The limit is measured next to the throughput that is compared with it.
                if n_clients == N_THROUGHPUT_CLIENTS:
                    for n_threads in DIRECT_THREADS:
                        clips = direct.ask(n_threads=n_threads, seconds=bench.effort.seconds)
                        measured.direct.setdefault(n_threads, []).append(clips)
                for setup, service in served.items():
                    plan = make_plan(bench, service, expected, n_clients, bench.effort.seconds)
                    measured.served.setdefault((setup, n_clients), []).append(generate_load(plan))
        measured.mean_batch_patches = mean_batch_patches(served[BATCHING].metrics())
    direct.stop()
    bench.findings.add(measured)


def soak(bench: Bench, embedder: str) -> None:
    """Run a soak test: lost answers and memory with many clients, and recovery afterwards."""
    name, precision, title = EMBEDDERS[embedder]
    direct = DirectTagger(bench.home, name, precision, bench.clips)
    expected = direct.ask(n_tags=N_TAGS + N_SPARE_TAGS)
    direct.stop()
    minutes, calm_seconds = bench.effort.soak_minutes, 2 * bench.effort.seconds
    settings = {"embedder": name, **({"precision": precision} if precision else {})}
    with services(bench, title, {WORKERS: {**settings, "workers": "0"}}) as served:
        service = served[WORKERS]
        name = f"{title}, {N_SOAK_CLIENTS} clients for {minutes:g} min"
        progress(name)
        calm = make_plan(bench, service, expected, N_LATENCY_CLIENTS, calm_seconds)
        before = generate_load(calm)
        with MemorySamples(service) as samples:
            busy = make_plan(bench, service, expected, N_SOAK_CLIENTS, 60 * minutes)
            during = generate_load(busy)
        after = generate_load(calm)
        result = SoakTest(
            title=name,
            before=before,
            during=during,
            after=after,
            mib=samples.mib,
            mib_after=service.resident_mib(),
        )
    bench.findings.add_soak_test(result)


@contextmanager
def services(
    bench: Bench, title: str, setups: Mapping[str, Mapping[str, str]]
) -> Iterator[dict[str, Service]]:
    """Run a service for each setup at the same time; idle ones use no processor time."""
    running: dict[str, Service] = {}
    try:
        for number, (setup, settings) in enumerate(setups.items()):
            log = bench.scratch / f"service-{number}.log"
            running[setup] = Service(bench.home, {**bench.settings, **settings}, log)
        yield running
    finally:
        statuses = {setup: service.stop() for setup, service in running.items()}
    for setup, status in statuses.items():
        what = f"{title}, {setup}: exit status after SIGTERM"
        bench.findings.add_target(what, str(status), "0", status == 0)


def make_plan(
    bench: Bench, service: Service, expected: Any, n_clients: int, seconds: float
) -> Plan:
    """Make the plan of clients that upload all clips in turn."""
    return Plan(
        host=HOST,
        port=service.port,
        requests=[str(path) for path in bench.requests],
        expected=expected,
        tolerance=TOLERANCE,
        n_tags=N_TAGS,
        n_clients=n_clients,
        seconds=seconds,
        # Enough for one answer to each client.
        warm_up_seconds=max(1.0, n_clients / SLOWEST_CLIPS_PER_SECOND),
    )


def mean_batch_patches(metrics: str) -> float:
    """Return the mean of the batch-size histogram over its labels; NaN if it is missing."""
    sums = {
        end: sum(
            float(line.rsplit(" ", 1)[1])
            for line in metrics.splitlines()
            if line.startswith(f"{PATCHES_METRIC}_{end}")
        )
        for end in ("sum", "count")
    }
    return sums["sum"] / sums["count"] if sums["count"] else math.nan


def progress(what: str) -> None:
    """Print the name of the current measurement to standard error."""
    print(f"measuring {what} ...", file=sys.stderr, flush=True)


def install_vggish(scratch: Path) -> Path:
    """Install VGGish with seeded weights, on whose values its speed does not depend."""
    bench = embed.Bench(scratch, quick=True)
    embed.install_seeded_weights(bench)
    return scratch / "home"


def main() -> None:
    """Measure, print the tables, and write the report."""
    options = _parse()
    default = Effort(1, 2.0, 0.0) if options.quick else Effort()
    effort = Effort(
        options.rounds or default.rounds,
        default.seconds,
        default.soak_minutes if options.soak is None else options.soak,
    )
    with tempfile.TemporaryDirectory(prefix="audiotag-bench-") as name:
        scratch = Path(name)
        home = scratch / "home" if options.home is None else options.home.resolve()
        chosen = options.only or (["mini"] if options.quick else list(EMBEDDERS))
        if "vggish" in chosen and options.home is None:
            print("installing VGGish with seeded weights ...", file=sys.stderr, flush=True)
            home = install_vggish(scratch)
        bench = Bench(scratch, home, effort, dict(options.set))
        bench.clips = write_clips(scratch, options.channels)
        bench.requests = write_requests(list(bench.clips), scratch)
        for embedder in chosen:
            measure(bench, embedder)
        if effort.soak_minutes:
            soak(bench, chosen[0])
    bench.findings.show_targets()
    is_full_run = not (options.quick or options.only or options.set) and options.channels == 1
    if is_full_run:
        REPORT.write_text(bench.findings.report(), "utf-8")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.serve", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument(
        "--quick", action="store_true", help="measure mini for a minute, print only"
    )
    parser.add_argument(
        "--only", nargs="+", choices=EMBEDDERS, help="measure only these embedders, print only"
    )
    parser.add_argument("--rounds", type=int, help="number of rounds (default: 5, with --quick: 1)")
    parser.add_argument("--soak", type=float, metavar="MINUTES",
                        help="minutes of the soak test (default: 10, with --quick: 0)")  # fmt: skip
    parser.add_argument("--home", type=Path, metavar="DIR",
                        help="AUDIOTAG_HOME with VGGish (default: seeded weights)")  # fmt: skip
    parser.add_argument(
        "--channels", type=int, default=1,
        help="number of channels of the WAVs (default: 1; others print only)",
    )  # fmt: skip
    parser.add_argument("--set", nargs="+", default=[], type=_setting, metavar="NAME=VALUE",
                        help="change settings of the service, print only")  # fmt: skip
    return parser.parse_args()


def _setting(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"a setting must be NAME=VALUE. Received: {text!r}")
    return name, value
