"""Metrics of the service for Prometheus; with several workers, of all of them together."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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

# Where prometheus_client keeps the values of several processes; it reads it when it is imported.
_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - holds a new private directory
_REQUEST_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_STAGE_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60)
_POWERS_OF_TWO = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """The metrics of one process. Safe to use from several threads.

    Gauges are summed over the running workers. `errors` counts by the kind of the problem,
    `stage_seconds` by stage, such as "decode", and `reloads` by result ("loaded" or "failed").
    """

    def __init__(self, config: ServiceConfig) -> None:
        # Without the directory, as in a test of one process, each worker counts for itself.
        self._is_shared = config.workers > 1 and bool(os.environ.get(_VARIABLE))
        self._registry = registry = CollectorRegistry()

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(f"audiotag_{name}", text, registry=registry, multiprocess_mode="livesum")

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"audiotag_{name}", text, labels, registry=registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(f"audiotag_{name}", text, labels, registry=registry, buckets=buckets)

        self.queue_depth = gauge("queue_depth", "Requests that wait for a thread")
        self.in_flight = gauge("in_flight", "Clips that a thread is processing")
        self.uploads = gauge("uploads", "Request bodies that are being received")
        self.streams = gauge("streams", "Open streams")
        self._requests = counter("requests", "Requests answered", "route", "method", "status")
        text = "Time from the head of a request to the end of its response"
        self._request_seconds = histogram(
            "request_seconds", text, _REQUEST_SECONDS, "route", "method"
        )
        self.errors = counter("errors", "Problem documents sent, by kind", "kind")
        text = "Time spent on a clip in each stage"
        self.stage_seconds = histogram("stage_seconds", text, _STAGE_SECONDS, "stage")
        text = "Patches in a batch of the network"
        self._batch_patches = histogram("batch_patches", text, _POWERS_OF_TWO)
        text = "Requests in a batch of the network"
        self._batch_requests = histogram("batch_requests", text, _POWERS_OF_TWO)
        self.audio_seconds = counter("audio_seconds", "Duration of the audio processed")
        self.reloads = counter("reloads", "Reloads of changed bundles, by result", "result")
        info: Any = {"registry": registry, "multiprocess_mode": "livemax"}
        build = Gauge("audiotag_build_info", "The running version", ["version"], **info)
        build.labels(VERSION).set(1)
        if not self._is_shared:
            ProcessCollector(registry=registry)

    def request(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count a request; `route` is the pattern of its path."""
        self._requests.labels(route, method, str(status)).inc()
        self._request_seconds.labels(route, method).observe(seconds)

    def batch(self, n_patches: int, n_requests: int) -> None:
        """Record the size of a batch of the network."""
        self._batch_patches.observe(n_patches)
        self._batch_requests.observe(n_requests)

    def render(self) -> tuple[bytes, str]:
        """Return all metrics in Prometheus's text format, and its content type."""
        registry = self._registry
        if self._is_shared:
            registry = CollectorRegistry()
            multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry), CONTENT_TYPE_LATEST


@contextlib.contextmanager
def shared_between_workers(temporary_directory: Path | None) -> Iterator[Path]:
    """Share the metrics of all workers started in the block, in a private directory.

    The directory is in shared memory if possible. prometheus_client maps its files into memory,
    and a worker that writes to them would be killed if uploads had filled the disk.
    """
    in_memory = _SHARED_MEMORY.is_dir() and os.access(_SHARED_MEMORY, os.W_OK | os.X_OK)
    scratch = ScratchDirectory(
        "audiotag-metrics-", _SHARED_MEMORY if in_memory else temporary_directory
    )
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
    """Drop the gauges of a worker that has ended, and keep its counters."""
    multiprocess.mark_process_dead(pid, str(directory))  # type: ignore[no-untyped-call]
