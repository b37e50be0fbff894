"""What the benchmark of the service found: figures, tables, marks, and the document."""

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
from benchmarks.serve.sounds import CLIP_SECONDS

CLIENTS = (1, 4, 16, 64)

ONE, MARKED, STORM = 1, 16, 64

# Ways to serve: the first one is marked.
LARGE_BATCH_PATCHES = 64

WORKERS, ALONE = "a worker a core", "one worker, no common batches"

BATCHING = f"one worker, batches of up to {LARGE_BATCH_PATCHES}"

WAYS = (WORKERS, ALONE, BATCHING)

SHARE_MARK, TAIL_MARK, MEMORY_MARK, AFTER_MARK = 0.8, 1.6, 1.05, 1.2

PERCENTILES = (0.5, 0.95, 0.99)

PACKAGES = ("numpy", "onnxruntime", "fastapi", "uvicorn", "uvloop", "httptools")

N_COMPLAINTS = 5

# What the clients found in one run: `load_generator.Result`.
Found = dict[str, Any]


@dataclass
class Measured:
    """Of one embedder, over all rounds.

    Attributes:
        title: the embedder.
        direct: clips/s of the tagger alone, by threads.
        served: what the clients found, by way of serving and number of clients.
        patches_a_batch: on average, where there are common ones; NaN if that is not known.
    """

    title: str
    direct: dict[int, list[float]] = field(default_factory=dict)
    served: dict[tuple[str, int], list[Found]] = field(default_factory=dict)
    patches_a_batch: float = math.nan

    @property
    def best_threads(self) -> int:
        """With which the tagger alone is fastest."""
        return max(self.direct, key=lambda n: statistics.median(self.direct[n]))

    @property
    def every(self) -> list[Found]:
        """All runs."""
        return [found for each in self.served.values() for found in each]

    def share_of_limit(self, way: str, n_clients: int) -> float:
        """Throughput beside the limit of the same round: the median of the rounds."""
        limits = self.direct[self.best_threads]
        rates = [rate([found]) for found in self.served[way, n_clients]]
        return statistics.median(rate / limit for rate, limit in zip(rates, limits, strict=True))

    def row(self, way: str, n_clients: int) -> list[str]:
        """Clips/s, share of the limit, p50, p95 and p99, in words."""
        found = self.served[way, n_clients]
        share = self.share_of_limit(way, n_clients)
        return [f"{rate(found):.1f}", f"{share:.0%}", *percentiles(pooled(found))]


@dataclass
class Storm:
    """Of many clients for minutes, and of one client before and afterwards.

    Attributes:
        title: what it was.
        before, during, after: what the clients found.
        mib: resident memory, once a second while it lasted.
        rest_mib: afterwards.
    """

    title: str
    before: Found
    during: Found
    after: Found
    mib: Sequence[float]
    rest_mib: float


class Findings:
    """Tables and marks, as they come."""

    def __init__(self) -> None:
        self.tables: list[Table] = []
        self.marks: list[tuple[str, str, str, str]] = []

    def add(self, measured: Measured) -> None:
        """One embedder."""
        rows = [[str(n), way, *measured.row(way, n)] for n in CLIENTS for way in WAYS]
        head = ("clients", "service", "clips/s", "of limit", "p50", "p95", "p99")
        self._show(Table(measured.title, _note(measured), head, rows))
        share = measured.share_of_limit(WORKERS, MARKED)
        what = f"{measured.title}, {MARKED} clients: share of the limit"
        self.mark(what, f"{share:.0%}", f">= {SHARE_MARK:.0%}", share >= SHARE_MARK)
        latencies = pooled(measured.served[WORKERS, ONE])
        tail = percentile(latencies, 0.99) / percentile(latencies, 0.5)
        what = f"{measured.title}, {ONE} client: p99 / p50"
        self.mark(what, f"{tail:.2f}", f"<= {TAIL_MARK:g}", tail <= TAIL_MARK)
        stormy = measured.served[WORKERS, STORM]
        self._mark_answers(f"{measured.title}, {STORM} clients", stormy)
        others = [each for each in measured.every if each not in stormy]
        self._mark_answers(f"{measured.title}, all other runs", others)

    def add_storm(self, storm: Storm) -> None:
        """A long run."""
        third = max(1, len(storm.mib) // 3)
        first, last = statistics.mean(storm.mib[:third]), statistics.mean(storm.mib[-third:])
        before, after = (
            percentile(found["latencies_ms"], 0.5) for found in (storm.before, storm.after)
        )
        during = storm.during
        rows = [
            ("right answers", str(during["right"])),
            ("refused (429, 503)", str(during["refused"])),
            ("wrong, lost", f"{during['wrong']}, {during['lost']}"),
            ("clips/s", f"{rate([during]):.1f}"),
            ("p50, p95, p99, ms", ", ".join(percentiles(during["latencies_ms"]))),
            ("memory, first third, MiB", f"{first:.0f}"),
            ("memory, last third, MiB", f"{last:.0f}"),
            ("memory, highest, MiB", f"{max(storm.mib):.0f}"),
            ("memory, afterwards, MiB", f"{storm.rest_mib:.0f}"),
            ("p50 of one client before, ms", f"{before:.1f}"),
            ("p50 of one client afterwards, ms", f"{after:.1f}"),
        ]
        self._show(Table(storm.title, "The first and last third of the time.", ("", ""), rows))
        self._mark_answers(storm.title, [during])
        what = f"{storm.title}: memory, last third / first"
        flat = last <= MEMORY_MARK * first
        self.mark(what, f"{last / first:.3f}", f"<= {MEMORY_MARK:g}", flat)
        what = f"{storm.title}: p50 of one client, after / before"
        recovered = after <= AFTER_MARK * before
        self.mark(what, f"{after / before:.2f}", f"<= {AFTER_MARK:g}", recovered)

    def mark(self, what: str, value: str, mark: str, met: bool) -> None:
        """Say what was asked for, and whether it was reached."""
        self.marks.append((what, value, mark, "yes" if met else "**no**"))

    def show_marks(self) -> None:
        """For a terminal."""
        print_table(Table("Marks", "", ("what", "measured", "mark", "met"), self.marks))

    def _mark_answers(self, what: str, found: Sequence[Found]) -> None:
        ends = {
            end: sum(each[end] for each in found) for end in ("right", "refused", "wrong", "lost")
        }
        told = ", ".join(f"{count} {end}" for end, count in ends.items())
        clean = ends["wrong"] + ends["lost"] == 0 and ends["right"] > 0
        self.mark(f"{what}: answers", told, "0 wrong, 0 lost", clean)
        complaints = [complaint for each in found for complaint in each["complaints"]]
        for complaint in complaints[:N_COMPLAINTS]:
            print(f"  {what}: {complaint}", file=sys.stderr)

    def _show(self, table: Table) -> None:
        self.tables.append(table)
        print_table(table)
        print(f"\n{table.note}")

    def report(self) -> str:
        """All tables, as a document."""
        versions = ", ".join(f"{name} {metadata.version(name)}" for name in PACKAGES)
        lines = [
            "# The service under load",
            "",
            "Written by `make bench-serve`; do not edit by hand. Clients upload WAVs of "
            f"{CLIP_SECONDS} s, 44.1 kHz, 16 bit, mono, one after the other on a connection that "
            "stays open, from a second process on the same machine, which has the same cores to "
            "share. Every answer is compared with the tagger's. Such a clip has ten patches, and "
            "unless `full_batch_patches` is raised none waits for those of others: the table says "
            "what that would bring.",
            "",
            f"- Machine: {machine()}",
            f"- Python {platform.python_version()}, {versions}",
            "- VGGish with seeded weights, unless `--home` says where others are (its speed does "
            "not depend on their values).",
            "",
            *as_markdown(("what", "measured", "mark", "met"), self.marks),
            "",
        ]
        for table in self.tables:
            lines += [f"## {table.title}", "", table.note, ""]
            lines += [*as_markdown(table.head, table.rows), ""]
        return "\n".join(lines)


def _note(measured: Measured) -> str:
    limits = {n: statistics.median(clips) for n, clips in sorted(measured.direct.items())}
    n_rounds = len(measured.direct[measured.best_threads])
    cpu_share = max(found["cpu_share"] for found in measured.every)
    difference = max(found["largest_difference"] for found in measured.every)
    batches = f"A common batch had {measured.patches_a_batch:.1f} patches on average. "
    return (
        f"The limit is the tagger alone with {measured.best_threads} threads. Clips/s by threads, "
        f"median of {n_rounds} rounds: {', '.join(f'{n}: {v:.1f}' for n, v in limits.items())}. "
        f"Latency in ms, over all rounds. {'' if math.isnan(measured.patches_a_batch) else batches}"
        f"The load generator took {cpu_share:.0%} of a core at most; no score differed from the "
        f"tagger's by more than {difference:.1g}."
    )


def rate(found: Sequence[Found]) -> float:
    """Right answers per second."""
    return float(sum(each["answered"] for each in found) / sum(each["seconds"] for each in found))


def pooled(found: Sequence[Found]) -> list[float]:
    """Latencies of all rounds."""
    return [latency for each in found for latency in each["latencies_ms"]]


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that so large a share of the values does not exceed; NaN of none."""
    return sorted(values)[math.ceil(share * len(values)) - 1] if values else math.nan


def percentiles(values: Sequence[float]) -> list[str]:
    """p50, p95 and p99, in words."""
    return [f"{percentile(values, share):.1f}" for share in PERCENTILES]
