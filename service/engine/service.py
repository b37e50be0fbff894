"""The resources of one process of the service, and the operations on them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from service.engine.batching import BatchingEmbedder
from service.engine.jobs import Job, Slots, WorkerPool
from service.engine.models import Models
from service.engine.storage import Storage, Upload
from service.logs import log, request_id
from service.metrics import Metrics
from service.problems import to_problem
from service.settings.config import ServiceConfig
from vggish.audio.limits import AudioLimits
from vggish.audio.stream import AudioStream, open_audio
from vggish.common.cores import n_cores
from vggish.common.wording import one_line, printable, shortened
from vggish.errors import AudiotagError
from vggish.network.runtime import PatchEmbedder


class Service:
    """One process of the service; `uploads` and `streams` are slots for bodies and open streams.

    It loads the models and must be closed.
    """

    def __init__(self, config: ServiceConfig, metrics: Metrics) -> None:
        self.config, self.metrics = config, metrics
        n_threads = config.threads or max(1, n_cores() // max(1, config.workers))
        self.pool = WorkerPool(
            n_threads, config.queue_size, config.request_timeout_seconds, self._set_gauges
        )
        self.models = Models(config, self._batched)
        self.storage = Storage(config.temporary_directory)
        self.uploads = Slots(config.max_uploads, "concurrent uploads", metrics.uploads)
        self.streams = Slots(config.max_streams, "open streams", metrics.streams)

    def _set_gauges(self, pool: WorkerPool) -> None:
        self.metrics.queue_depth.set(pool.n_waiting)
        self.metrics.in_flight.set(pool.n_running)

    def _batched(self, embedder: PatchEmbedder) -> PatchEmbedder:
        return BatchingEmbedder(
            embedder,
            window_seconds=self.config.batch_window_ms / 1000,
            full_batch=self.config.full_batch_patches,
            n_active=lambda: self.pool.n_running,
            on_batch=self.metrics.batch,
        )

    async def close(self) -> None:
        """Wait for the running jobs, and clean up."""
        await self.pool.close()
        self.storage.close()

    def open(self, job: Job, upload: Upload, stream: int | None) -> AudioStream:
        """Open an uploaded clip with the limits of the service and the deadline of the job."""
        limits = AudioLimits(
            max_seconds=self.config.max_audio_seconds,
            max_channels=self.config.max_channels,
            max_sample_rate_hz=self.config.max_sample_rate_hz,
            max_decoded_bytes=self.config.max_decoded_bytes,
            deadline=job.deadline,
        )
        name = shortened(printable(one_line(upload.name or "the upload")), 100)
        return open_audio(upload.path(), name=name, limits=limits, stream=stream)

    def record(self, job: Job, audio_seconds: float, timings: Mapping[str, float]) -> None:
        """Count audio that was processed, and the time spent on it in each stage."""
        self.metrics.audio_seconds.inc(audio_seconds)
        for stage, seconds in {"queue": job.queue_seconds, **timings}.items():
            self.metrics.stage_seconds.labels(stage).observe(seconds)

    def problem_document(self, error: AudiotagError) -> dict[str, Any]:
        """Make the problem document of an error, and count it."""
        problem = to_problem(error)
        self.metrics.errors.labels(problem.slug).inc()
        return problem.document(request_id.get())

    def reload(self, *, retry: bool = False) -> None:
        """Reload models whose files have changed; a model that cannot be reloaded is kept."""
        started = time.monotonic()
        for name, error in self.models.reload_changed(retry=retry).items():
            self.metrics.reloads.labels("failed" if error else "loaded").inc()
            if error is None:
                seconds = round(time.monotonic() - started, 3)
                log.info("model reloaded", extra={"model": name, "seconds": seconds})
            else:
                log.error(
                    "cannot reload a model, keeping the loaded one",
                    extra={"model": name, "why": str(error)},
                    exc_info=None if isinstance(error, AudiotagError) else error,
                )
