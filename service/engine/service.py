"""What a running service has: models, threads, room for uploads, counters."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from classifier.tags.choice import Choice
from classifier.tags.types import Tags
from service.engine.batching import BatchingEmbedder
from service.engine.jobs import Engine, Job
from service.engine.models import Model, Models
from service.engine.places import Places
from service.engine.storage import Storage, Upload
from service.logs import log
from service.metrics import Metrics
from service.problems import stopping
from service.settings.config import ServiceConfig
from vggish.audio.limits import AudioLimits
from vggish.audio.stream import AudioStream, open_audio
from vggish.common.cores import n_cores
from vggish.common.wording import one_line, printable, shortened
from vggish.errors import AudiotagError
from vggish.network.runtime import PatchEmbedder

_RETRY_STREAM_SECONDS = 10

# Of a client's name for a sound, as messages have it.
_MAX_NAME_LENGTH = 100


@dataclass(eq=False)
class Service:
    """One process of the service.

    Attributes:
        limits: of the sound that is taken.
        draining: whether it is stopping, and wants no new work.
        uploads: places for bodies that are being received.
        streams: places for streams that are open.
    """

    config: ServiceConfig
    models: Models
    engine: Engine
    storage: Storage
    metrics: Metrics
    limits: AudioLimits
    uploads: Places
    streams: Places
    draining: bool = False

    @classmethod
    def start(cls, config: ServiceConfig, metrics: Metrics) -> Service:
        """Load the models and make everything ready; to be closed.

        Raises:
            AudiotagError: a model or an embedder cannot be loaded.
            OptionError: there is no place for uploads.
        """

        def measured(engine: Engine) -> None:
            metrics.queue_depth.set(engine.n_waiting)
            metrics.in_flight.set(engine.n_running)

        threads = config.threads or max(1, n_cores() // max(1, config.workers))
        engine = Engine(threads, config.queue_size, config.request_timeout_seconds, measured)

        def batched(embedder: PatchEmbedder) -> PatchEmbedder:
            return BatchingEmbedder(
                embedder,
                window_seconds=config.batch_window_ms / 1000,
                full_batch=config.full_batch_patches,
                n_active=lambda: engine.n_running,
                on_batch=metrics.batch,
            )

        return cls(
            config=config,
            models=Models(config, batched),
            engine=engine,
            storage=Storage(config.temporary_directory),
            metrics=metrics,
            uploads=Places(config.max_uploads, "uploads are being received", metrics.uploads),
            streams=Places(config.max_streams, "streams are open", metrics.streams),
            limits=AudioLimits(
                max_seconds=config.max_audio_seconds,
                max_channels=config.max_channels,
                max_sample_rate_hz=config.max_sample_rate_hz,
                max_decoded_bytes=config.max_decoded_bytes,
            ),
        )

    async def close(self) -> None:
        """Wait for the work that is being done, and clean up."""
        await self.engine.close()
        self.storage.close()

    def check_ready(self) -> None:
        """Refuse when new work would not be taken.

        Raises:
            Problem: the service is stopping, or its queue is full.
        """
        if self.draining:
            raise stopping()
        self.engine.check_room()

    @contextlib.contextmanager
    def receiving(self) -> Iterator[None]:
        """Around the reception of a body: there are only so many at a time.

        Raises:
            Problem: there are too many, or work would not be taken now.
        """
        self.engine.check_room()
        with self.uploads.taken(self.engine.retry_after_seconds):
            yield

    @contextlib.contextmanager
    def streaming(self) -> Iterator[None]:
        """Around a stream: there are only so many at a time.

        Raises:
            Problem: there are too many, or the service is stopping.
        """
        if self.draining:
            raise stopping()
        with self.streams.taken(_RETRY_STREAM_SECONDS):
            yield

    def tag(self, job: Job, model: Model, upload: Upload, choice: Choice) -> Tags:
        """Tag a sound that was received. Runs in a thread.

        Raises:
            AudiotagError: the sound cannot be read, or an option cannot be honoured.
        """
        with self.open(job, upload) as stream:
            tags = model.tagger.tag(stream, on_progress=job.check, **vars(choice))
        self.note(tags.duration_seconds, {"queue": job.queue_seconds, **tags.timings})
        return tags

    def open(self, job: Job, upload: Upload) -> AudioStream:
        """The sound of an upload, within the limits, and no longer than the job may take."""
        limits = dataclasses.replace(self.limits, deadline=job.deadline)
        name = shortened(printable(one_line(upload.name or "the upload")), _MAX_NAME_LENGTH)
        return open_audio(upload.path(), name=name, limits=limits)

    def note(self, audio_seconds: float, timings: Mapping[str, float]) -> None:
        """Count the sound, and what was spent on it in each stage."""
        self.metrics.audio_seconds(audio_seconds)
        for stage, seconds in timings.items():
            self.metrics.stage(stage, seconds)

    def reload(self, *, retry: bool = False) -> None:
        """Load models anew whose files have changed; what fails is told and stays as it was."""
        began = time.monotonic()
        for name, error in self.models.reload_changed(retry=retry).items():
            self.metrics.reload("failed" if error else "loaded")
            if error is None:
                seconds = round(time.monotonic() - began, 3)
                log.info("model loaded anew", extra={"model": name, "seconds": seconds})
            else:
                log.error(
                    "model not loaded, the one before stays",
                    extra={"model": name, "why": str(error)},
                    exc_info=None if isinstance(error, AudiotagError) else error,
                )
