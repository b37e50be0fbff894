"""What the service counts, for Prometheus; with several workers, of all of them together."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, TypeAlias

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
    multiprocess,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from service.scratch import ScratchDirectory
from service.settings.config import ServiceConfig
from vggish.params import VERSION

# Where prometheus_client keeps the counts of several processes; it looks when it is imported.
_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
_PREFIX = "audiotag-metrics-"
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - a new directory in it, of our own

_REQUEST_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_STAGE_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60)
_POWERS_OF_TWO = (1, 2, 4, 8, 16, 32, 64, 128, 256)
# How a gauge of all workers is made of each one's.
_GaugeMode: TypeAlias = Literal["livesum", "livemax"]


class Metrics:
    """The counters of one process. Safe to call from several threads.

    Args:
        config: says how many processes there are.

    Attributes:
        queue_depth: requests that wait for a thread; a gauge with set, inc and dec, as those
            below, and summed over the workers that live.
        in_flight: sounds that a thread is at work on.
        uploads: bodies that are on their way.
        streams: streams that are open.
    """

    def __init__(self, config: ServiceConfig) -> None:
        # Without the directory, as in a test of one process, each worker tells of itself.
        self._is_shared = config.workers > 1 and bool(os.environ.get(_VARIABLE))
        self._registry = registry = CollectorRegistry()

        def gauge(name: str, what: str, *labels: str, mode: _GaugeMode = "livesum") -> Gauge:
            return Gauge(
                f"audiotag_{name}", what, labels, registry=registry, multiprocess_mode=mode
            )

        def counter(name: str, what: str, *labels: str) -> Counter:
            return Counter(f"audiotag_{name}", what, labels, registry=registry)

        def histogram(name: str, what: str, buckets: Sequence[float], *labels: str) -> Histogram:
            return Histogram(f"audiotag_{name}", what, labels, registry=registry, buckets=buckets)

        self.queue_depth = gauge("queue_depth", "Requests that wait for a thread")
        self.in_flight = gauge("in_flight", "Sounds that a thread is at work on")
        self.uploads = gauge("uploads", "Request bodies that are on their way")
        self.streams = gauge("streams", "Streams that are open")
        self._build = gauge("build_info", "The version that runs", "version", mode="livemax")
        self._requests = counter("requests", "Requests answered", "route", "method", "status")
        what = "From a request's head to the end of its answer"
        self._request_seconds = histogram(
            "request_seconds", what, _REQUEST_SECONDS, "route", "method"
        )
        self._errors = counter("errors", "Problems told to clients, by kind", "kind")
        what = "What was spent on a sound in each stage"
        self._stage_seconds = histogram("stage_seconds", what, _STAGE_SECONDS, "stage")
        what = "Patches in the network at once"
        self._batch_patches = histogram("batch_patches", what, _POWERS_OF_TWO)
        what = "Requests whose patches were in the network at once"
        self._batch_requests = histogram("batch_requests", what, _POWERS_OF_TWO)
        self._audio_seconds = counter("audio_seconds", "Sound listened to")
        self._reloads = counter("reloads", "Bundles loaded anew", "result")
        self._build.labels(VERSION).set(1)
        if not self._is_shared:
            ProcessCollector(registry=registry)

    def request(self, route: str, method: str, status: int, seconds: float) -> None:
        """A request was answered; `route` is a pattern, so that there are few of them."""
        self._requests.labels(route, method, str(status)).inc()
        self._request_seconds.labels(route, method).observe(seconds)

    def error(self, kind: str) -> None:
        """A problem of this kind, `service.problems.PROBLEMS`, was told."""
        self._errors.labels(kind).inc()

    def stage(self, name: str, seconds: float) -> None:
        """A stage, such as "decode", took so long for one sound."""
        self._stage_seconds.labels(name).observe(seconds)

    def batch(self, n_patches: int, n_requests: int) -> None:
        """So many patches of so many requests were in the network together."""
        self._batch_patches.observe(n_patches)
        self._batch_requests.observe(n_requests)

    def audio_seconds(self, seconds: float) -> None:
        """So much sound was listened to."""
        self._audio_seconds.inc(seconds)

    def reload(self, result: str) -> None:
        """A bundle was "loaded" anew, or "failed" to be."""
        self._reloads.labels(result).inc()

    def render(self) -> tuple[bytes, str]:
        """All counts in Prometheus's text format, and its content type."""
        registry = self._registry
        if self._is_shared:
            registry = CollectorRegistry()
            multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry), CONTENT_TYPE_LATEST


@contextlib.contextmanager
def shared_between_workers(temporary_directory: Path | None) -> Iterator[Path]:
    """A private directory in which the workers started meanwhile keep their counts.

    It is in shared memory where that is, for counts are written where they lie: a worker would
    be killed for writing when uploads have filled the disk.
    """
    in_memory = _SHARED_MEMORY.is_dir() and os.access(_SHARED_MEMORY, os.W_OK | os.X_OK)
    scratch = ScratchDirectory(_PREFIX, _SHARED_MEMORY if in_memory else temporary_directory)
    before = os.environ.get(_VARIABLE)
    os.environ[_VARIABLE] = str(scratch.path)
    try:
        yield scratch.path
    finally:
        if before is None:
            del os.environ[_VARIABLE]
        else:
            os.environ[_VARIABLE] = before
        scratch.close()


def forget_worker(pid: int, directory: Path) -> None:
    """Drop the gauges of a worker that is no more; what it counted stays."""
    multiprocess.mark_process_dead(pid, str(directory))  # type: ignore[no-untyped-call]
