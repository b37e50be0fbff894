"""Results of the service benchmark: figures, tables, targets, and the report."""

from __future__ import annotations

import math
import platform
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any

from benchmarks.console import Table, as_markdown, print_table
from benchmarks.embed import machine
from benchmarks.serve.clips import CLIP_SECONDS

# Numbers of concurrent clients: all, and those for the latency, throughput and soak targets.
CLIENTS = (1, 4, 16, 64)
N_LATENCY_CLIENTS, N_THROUGHPUT_CLIENTS, N_SOAK_CLIENTS = 1, 16, 64
# Setups of the service; the targets apply to the first one.
LARGE_BATCH_PATCHES = 64
WORKERS, NO_BATCHING = "one worker for each core", "one worker, no shared batches"
BATCHING = f"one worker, batches of up to {LARGE_BATCH_PATCHES}"
SETUPS = (WORKERS, NO_BATCHING, BATCHING)
SHARE_TARGET, TAIL_TARGET, MEMORY_TARGET, RECOVERY_TARGET = 0.8, 1.6, 1.05, 1.2
PERCENTILES = (0.5, 0.95, 0.99)
PACKAGES = ("numpy", "onnxruntime", "fastapi", "uvicorn", "uvloop", "h11")
N_FAILURES_SHOWN = 5
TARGET_COLUMNS = ("measurement", "result", "target", "met")

# The `load_generator.Result` of one run, as a dictionary.
LoadResult = dict[str, Any]


@dataclass
class Measured:
    """The results of one embedder over all rounds.

    Attributes:
        title: name of the embedder.
        direct: clips/s of the tagger alone, by number of threads.
        served: results of the clients, by setup and number of clients.
        mean_batch_patches: mean number of patches in a shared batch; NaN if unknown.
    """

    title: str
    direct: dict[int, list[float]] = field(default_factory=dict)
    served: dict[tuple[str, int], list[LoadResult]] = field(default_factory=dict)
    mean_batch_patches: float = math.nan

    @property
    def best_threads(self) -> int:
        """The number of threads with which the tagger alone is fastest."""
        return max(self.direct, key=lambda n: statistics.median(self.direct[n]))

    @property
    def all_results(self) -> list[LoadResult]:
        """The results of all setups, numbers of clients and rounds."""
        return [result for results in self.served.values() for result in results]

    def share_of_limit(self, setup: str, n_clients: int) -> float:
        """Return the throughput divided by the limit in the same round, as median of the rounds."""
        limits = self.direct[self.best_threads]
        rates = [rate([result]) for result in self.served[setup, n_clients]]
        return statistics.median(rate / limit for rate, limit in zip(rates, limits, strict=True))

    def row(self, setup: str, n_clients: int) -> list[str]:
        """Format clips/s, share of the limit, p50, p95 and p99."""
        results = self.served[setup, n_clients]
        share = self.share_of_limit(setup, n_clients)
        return [f"{rate(results):.1f}", f"{share:.0%}", *percentiles(pooled(results))]


@dataclass
class SoakTest:
    """The results of many clients over minutes, and of one client before and after.

    Attributes:
        title: name of the test.
        before, during, after: results of the clients.
        mib: resident memory, once a second during the test.
        mib_after: resident memory after the test.
    """

    title: str
    before: LoadResult
    during: LoadResult
    after: LoadResult
    mib: Sequence[float]
    mib_after: float


class Findings:
    """Tables and targets, in the order in which they are added."""

    def __init__(self) -> None:
        self.tables: list[Table] = []
        self.targets: list[tuple[str, str, str, str]] = []

    def add(self, measured: Measured) -> None:
        """Add the table and the targets of one embedder."""
        rows = [[str(n), setup, *measured.row(setup, n)] for n in CLIENTS for setup in SETUPS]
        head = ("clients", "service", "clips/s", "of limit", "p50", "p95", "p99")
        self._show(Table(measured.title, _note(measured), head, rows))
        share = measured.share_of_limit(WORKERS, N_THROUGHPUT_CLIENTS)
        what = f"{measured.title}, {N_THROUGHPUT_CLIENTS} clients: share of the limit"
        self.add_target(what, f"{share:.0%}", f">= {SHARE_TARGET:.0%}", share >= SHARE_TARGET)
        latencies = pooled(measured.served[WORKERS, N_LATENCY_CLIENTS])
        tail = percentile(latencies, 0.99) / percentile(latencies, 0.5)
        what = f"{measured.title}, {N_LATENCY_CLIENTS} client: p99 / p50"
        self.add_target(what, f"{tail:.2f}", f"<= {TAIL_TARGET:g}", tail <= TAIL_TARGET)
        busiest = measured.served[WORKERS, N_SOAK_CLIENTS]
        self._add_answers(f"{measured.title}, {N_SOAK_CLIENTS} clients", busiest)
        others = [each for each in measured.all_results if each not in busiest]
        self._add_answers(f"{measured.title}, all other runs", others)

    def add_soak_test(self, soak: SoakTest) -> None:
        """Add the table and the targets of a soak test."""
        third = max(1, len(soak.mib) // 3)
        first, last = statistics.mean(soak.mib[:third]), statistics.mean(soak.mib[-third:])
        before, after = (
            percentile(result["latencies_ms"], 0.5) for result in (soak.before, soak.after)
        )
        during = soak.during
        rows = [
            ("right answers", str(during["right"])),
            ("refused (429, 503)", str(during["refused"])),
            ("wrong, lost", f"{during['wrong']}, {during['lost']}"),
            ("clips/s", f"{rate([during]):.1f}"),
            ("p50, p95, p99, ms", ", ".join(percentiles(during["latencies_ms"]))),
            ("memory, first third, MiB", f"{first:.0f}"),
            ("memory, last third, MiB", f"{last:.0f}"),
            ("memory, highest, MiB", f"{max(soak.mib):.0f}"),
            ("memory, afterwards, MiB", f"{soak.mib_after:.0f}"),
            ("p50 of one client before, ms", f"{before:.1f}"),
            ("p50 of one client afterwards, ms", f"{after:.1f}"),
        ]
        note = "Memory is the mean over the first and the last third of the time."
        self._show(Table(soak.title, note, ("measurement", "result"), rows))
        self._add_answers(soak.title, [during])
        what = f"{soak.title}: memory, last third / first"
        is_flat = last <= MEMORY_TARGET * first
        self.add_target(what, f"{last / first:.3f}", f"<= {MEMORY_TARGET:g}", is_flat)
        what = f"{soak.title}: p50 of one client, after / before"
        has_recovered = after <= RECOVERY_TARGET * before
        self.add_target(what, f"{after / before:.2f}", f"<= {RECOVERY_TARGET:g}", has_recovered)

    def add_target(self, what: str, value: str, target: str, met: bool) -> None:
        """Add a result that has a target, and whether it met the target."""
        self.targets.append((what, value, target, "yes" if met else "**no**"))

    def show_targets(self) -> None:
        """Print the table of targets."""
        print_table(Table("Targets", "", TARGET_COLUMNS, self.targets))

    def _add_answers(self, what: str, results: Sequence[LoadResult]) -> None:
        outcomes = {
            outcome: sum(each[outcome] for each in results)
            for outcome in ("right", "refused", "wrong", "lost")
        }
        text = ", ".join(f"{count} {outcome}" for outcome, count in outcomes.items())
        is_clean = outcomes["wrong"] + outcomes["lost"] == 0 and outcomes["right"] > 0
        self.add_target(f"{what}: answers", text, "0 wrong, 0 lost", is_clean)
        failures = [failure for each in results for failure in each["failures"]]
        for failure in failures[:N_FAILURES_SHOWN]:
            print(f"  {what}: {failure}", file=sys.stderr)

    def _show(self, table: Table) -> None:
        self.tables.append(table)
        print_table(table)
        print(f"\n{table.note}")

    def report(self) -> str:
        """Return the Markdown document with all tables."""
        versions = ", ".join(f"{name} {metadata.version(name)}" for name in PACKAGES)
        lines = [
            "# The service under load",
            "",
            "Written by `make bench-serve`; do not edit by hand. Each client uploads WAVs "
            f"({CLIP_SECONDS} s, 44.1 kHz, 16 bit, mono) one after the other over a persistent "
            "connection. The clients run in one process on the same machine and share its cores "
            "with the service. Every answer is compared with the tagger's. Such a clip has ten "
            "patches, so with the default `full_batch_patches` it is never batched with others; "
            "the setup with large batches shows what a higher value would bring.",
            "",
            f"- Machine: {machine()}",
            f"- Python {platform.python_version()}, {versions}",
            "- VGGish has seeded weights unless `--home` names others; its speed does not depend "
            "on their values.",
            "",
            *as_markdown(TARGET_COLUMNS, self.targets),
            "",
        ]
        for table in self.tables:
            lines += [f"## {table.title}", "", table.note, ""]
            lines += [*as_markdown(table.head, table.rows), ""]
        return "\n".join(lines)


def _note(measured: Measured) -> str:
    limits = {n: statistics.median(clips) for n, clips in sorted(measured.direct.items())}
    n_rounds = len(measured.direct[measured.best_threads])
    cpu_share = max(result["cpu_share"] for result in measured.all_results)
    difference = max(result["largest_difference"] for result in measured.all_results)
    by_threads = ", ".join(f"{n}: {clips:.1f}" for n, clips in limits.items())
    batches = f"A shared batch had {measured.mean_batch_patches:.1f} patches on average. "
    return (
        f"The limit is the tagger alone with {measured.best_threads} threads. Its clips/s by "
        f"number of threads, as median of {n_rounds} rounds: {by_threads}. Latencies are in ms, "
        f"over all rounds. {'' if math.isnan(measured.mean_batch_patches) else batches}"
        f"The load generator used at most {cpu_share:.0%} of a core; no score differed from the "
        f"tagger's by more than {difference:.1g}."
    )


def rate(results: Sequence[LoadResult]) -> float:
    """Return the correct answers per second."""
    n_answered = sum(each["answered"] for each in results)
    return float(n_answered / sum(each["seconds"] for each in results))


def pooled(results: Sequence[LoadResult]) -> list[float]:
    """Return the latencies of all rounds."""
    return [latency for each in results for latency in each["latencies_ms"]]


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that this share of the values does not exceed; NaN if empty."""
    return sorted(values)[math.ceil(share * len(values)) - 1] if values else math.nan


def percentiles(values: Sequence[float]) -> list[str]:
    """Format p50, p95 and p99."""
    return [f"{percentile(values, share):.1f}" for share in PERCENTILES]
