"""The service under load, beside the tagger without a service: throughput, latency, memory.

    python -m benchmarks.serve                    all of it, and writes docs/serve-benchmarks.md
    python -m benchmarks.serve --quick            a minute, mini only, prints only
    python -m benchmarks.serve --set threads=4    the service with another setting, prints only

The service is a process of its own, and so are its clients; they talk over the loopback, in a
closed loop, and every answer is compared with what the tagger says of the same file. The limit
is that tagger with the same files, in threads and without HTTP. What is compared is measured in
turns, for the speed of a machine changes from minute to minute.
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
from benchmarks.serve.findings import (
    ALONE,
    BATCHING,
    CLIENTS,
    LARGE_BATCH_PATCHES,
    MARKED,
    ONE,
    STORM,
    WORKERS,
    Findings,
    Measured,
    Storm,
)
from benchmarks.serve.load_generator import Plan
from benchmarks.serve.processes import HOST, DirectTagger, MemorySamples, Service, put_load
from benchmarks.serve.sounds import write_clips, write_requests
from vggish.common.cores import n_cores

REPORT = Path(__file__).resolve().parents[2] / "docs" / "serve-benchmarks.md"

# The command line's names of embedder and precision ("" for what it has), and ours.
EMBEDDERS = {"mini": ("mini", "", "mini"), "vggish": ("vggish", "int8", "VGGish int8")}

DIRECT_THREADS = sorted({1, n_cores(), 2 * n_cores()})

# Of any service that is measured here; if one is slower its first answers count, too.
SLOWEST_CLIPS_A_SECOND = 20.0

N_TAGS = 10

# Tags about as likely as the last one may take its place.
N_SPARE_TAGS = 4

# Of int8 frames a unit of the last place, by another size of batch, moves a score so far.
TOLERANCE = 5e-3

PATCHES_METRIC = "audiotag_batch_patches"


@dataclass(frozen=True)
class Effort:
    """How long to measure.

    Attributes:
        rounds: turns of everything.
        seconds: of each measurement in a turn.
        storm_minutes: of the long run with many clients; 0 for none.
    """

    rounds: int = 5
    seconds: float = 6.0
    storm_minutes: float = 10.0


@dataclass
class Bench:
    """What is measured with, and what has been found."""

    scratch: Path
    home: Path
    effort: Effort
    settings: Mapping[str, str]
    clips: Sequence[Path] = ()
    requests: Sequence[Path] = ()
    findings: Findings = field(default_factory=Findings)


def measure(bench: Bench, embedder: str) -> None:
    """One embedder, in all ways and with all numbers of clients."""
    name, precision, title = EMBEDDERS[embedder]
    settings = {"embedder": name, **({"precision": precision} if precision else {})}
    direct = DirectTagger(bench.home, name, precision, bench.clips)
    expected = direct.ask(n_tags=N_TAGS + N_SPARE_TAGS)
    ways = {
        WORKERS: {**settings, "workers": "0"},
        ALONE: {**settings, "batch_window_ms": "0"},
        # As usual a clip of ten patches waits for no other.
        BATCHING: {**settings, "full_batch_patches": str(LARGE_BATCH_PATCHES)},
    }
    measured = Measured(title)
    with services(bench, title, ways) as served:
        for turn in range(bench.effort.rounds):
            progress(f"{title}, round {turn + 1} of {bench.effort.rounds}")
            for n_clients in CLIENTS:
                # The limit is measured beside what is marked.
                if n_clients == MARKED:
                    for n_threads in DIRECT_THREADS:
                        clips = direct.ask(n_threads=n_threads, seconds=bench.effort.seconds)
                        measured.direct.setdefault(n_threads, []).append(clips)
                for way, service in served.items():
                    plan = make_plan(bench, service, expected, n_clients, bench.effort.seconds)
                    measured.served.setdefault((way, n_clients), []).append(put_load(plan))
        measured.patches_a_batch = patches_a_batch(served[BATCHING].metrics())
    direct.stop()
    bench.findings.add(measured)


def storm(bench: Bench, embedder: str) -> None:
    """Many clients for minutes: is anything lost, does memory grow, is all well afterwards."""
    name, precision, title = EMBEDDERS[embedder]
    direct = DirectTagger(bench.home, name, precision, bench.clips)
    expected = direct.ask(n_tags=N_TAGS + N_SPARE_TAGS)
    direct.stop()
    minutes, calm_seconds = bench.effort.storm_minutes, 2 * bench.effort.seconds
    settings = {"embedder": name, **({"precision": precision} if precision else {})}
    with services(bench, title, {WORKERS: {**settings, "workers": "0"}}) as served:
        service = served[WORKERS]
        progress(f"{title}, {STORM} clients for {minutes:g} min")
        before = put_load(make_plan(bench, service, expected, ONE, calm_seconds))
        with MemorySamples(service) as samples:
            during = put_load(make_plan(bench, service, expected, STORM, 60 * minutes))
        after = put_load(make_plan(bench, service, expected, ONE, calm_seconds))
        found = Storm(
            title=f"{title}, {STORM} clients for {minutes:g} min",
            before=before,
            during=during,
            after=after,
            mib=samples.mib,
            rest_mib=service.resident_mib(),
        )
    bench.findings.add_storm(found)


@contextmanager
def services(
    bench: Bench, title: str, ways: Mapping[str, Mapping[str, str]]
) -> Iterator[dict[str, Service]]:
    """A service for each way of serving, all running; idle ones take nothing."""
    running: dict[str, Service] = {}
    try:
        for number, (way, settings) in enumerate(ways.items()):
            log = bench.scratch / f"service-{number}.log"
            running[way] = Service(bench.home, {**bench.settings, **settings}, log)
        yield running
    finally:
        ends = {way: service.stop() for way, service in running.items()}
    for way, status in ends.items():
        what = f"{title}, {way}: exit status after SIGTERM"
        bench.findings.mark(what, str(status), "0", status == 0)


def make_plan(
    bench: Bench, service: Service, expected: Any, n_clients: int, seconds: float
) -> Plan:
    """Clients that upload all clips in turn."""
    return Plan(
        host=HOST,
        port=service.port,
        requests=[str(path) for path in bench.requests],
        expected=expected,
        tolerance=TOLERANCE,
        n_tags=N_TAGS,
        n_clients=n_clients,
        seconds=seconds,
        # All of them have had an answer by then.
        warm_up_seconds=max(1.0, n_clients / SLOWEST_CLIPS_A_SECOND),
    )


def patches_a_batch(metrics: str) -> float:
    """The mean of the service's histogram, over its labels; NaN where there is none."""
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
    """Say what is being done."""
    print(f"measuring {what} ...", file=sys.stderr, flush=True)


def install_vggish(scratch: Path) -> Path:
    """A home with VGGish, seeded weights: its speed does not depend on their values."""
    bench = embed.Bench(scratch, quick=True)
    embed.install_seeded_weights(bench)
    return scratch / "home"


def main() -> None:
    """Measure, print, and write."""
    options = _parse()
    usual = Effort(1, 2.0, 0.0) if options.quick else Effort()
    effort = Effort(
        options.rounds or usual.rounds,
        usual.seconds,
        usual.storm_minutes if options.soak is None else options.soak,
    )
    with tempfile.TemporaryDirectory(prefix="audiotag-bench-") as name:
        scratch = Path(name)
        home = scratch / "home" if options.home is None else options.home.resolve()
        chosen = options.only or (["mini"] if options.quick else list(EMBEDDERS))
        if "vggish" in chosen and options.home is None:
            progress("nothing yet: VGGish is installed with seeded weights")
            home = install_vggish(scratch)
        bench = Bench(scratch, home, effort, dict(options.set))
        bench.clips = write_clips(scratch, options.channels)
        bench.requests = write_requests(list(bench.clips), scratch)
        for embedder in chosen:
            measure(bench, embedder)
        if effort.storm_minutes:
            storm(bench, chosen[0])
    bench.findings.show_marks()
    usually = not (options.quick or options.only or options.set) and options.channels == 1
    if usually:
        REPORT.write_text(bench.findings.report(), "utf-8")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.serve", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--quick", action="store_true", help="a minute, mini only, prints only")
    parser.add_argument("--only", nargs="+", choices=EMBEDDERS, help="these alone, prints only")
    parser.add_argument("--rounds", type=int, help="turns of everything, 5 or with --quick 1")
    parser.add_argument("--soak", type=float, metavar="MINUTES",
                        help="the storm's length, 10 or with --quick 0")  # fmt: skip
    parser.add_argument("--home", type=Path, metavar="DIR",
                        help="an AUDIOTAG_HOME with VGGish, not seeded weights")  # fmt: skip
    parser.add_argument(
        "--channels", type=int, default=1, help="of the WAVs; if not 1, prints only"
    )
    parser.add_argument("--set", nargs="+", default=[], type=_setting, metavar="NAME=VALUE",
                        help="settings of the service, prints only")  # fmt: skip
    return parser.parse_args()


def _setting(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"a setting is NAME=VALUE. Received: {text!r}")
    return name, value
