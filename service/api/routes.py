"""The routes of the HTTP API."""

from __future__ import annotations

import asyncio
import json
import re
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Query, Request
from fastapi.responses import PlainTextResponse, Response
from starlette.requests import ClientDisconnect

from classifier.tags.tracks import TagTracks
from service.api import schemas
from service.api.options import with_fields
from service.api.schemas import ClassifyOptions, EmbedRequestOptions
from service.api.uploads import BINARY, Form, receive, upload_schema
from service.documents import ModelLabel, ModelLabels, ServiceModels, ServiceTags, ServiceVersion
from service.engine.jobs import Job
from service.engine.models import Model
from service.engine.service import Service
from service.engine.storage import Upload
from service.logs import request_id
from service.middleware.request_context import API_VERSION
from service.problems import MEDIA_TYPE, PROBLEMS, Problem
from vggish.errors import AudiotagError
from vggish.extractor import EmbedOptions
from vggish.frames.files import write_frames
from vggish.params import VERSION

_JSON = "application/json"
_DECIMALS = 6  # of scores over time, and of timings
_FRAME_FORMATS = {"application/x-npz": "npz", "application/x-tfrecord": "tfrecord"}
T = TypeVar("T")
OptionsT = TypeVar("OptionsT", ClassifyOptions, EmbedRequestOptions)


def _problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    found: dict[int | str, dict[str, Any]] = {}
    for status in statuses:
        kinds = [f"`{slug}`: {k.title}" for slug, k in PROBLEMS.items() if k.status == status]
        content: dict[str, Any] = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
        if status == 400:  # uvicorn refuses a request whose head is malformed or over 64 KiB
            content["text/plain"] = {"schema": {"type": "string"}}
        found[status] = {"description": "; ".join(kinds), "content": content}
    return found


_ACCESS = (401, 403, 429)
_WORK = (400, *_ACCESS, 404, 408, 413, 415, 422, 500, 503, 504, 507)
router = APIRouter()
probes = APIRouter()


@router.post(
    "/classify",
    response_model=ServiceTags,
    responses=_problems(*_WORK),
    openapi_extra=upload_schema(ClassifyOptions),
)
async def classify(request: Request, options: Annotated[ClassifyOptions, Query()]) -> Response:
    """Tag a clip.

    Send it as the field `file` of a form, or as the body itself with an audio content type. The
    options may be in the query or in the form.
    """
    started = time.perf_counter()
    service = _service(request)
    form, options, model = await _received(request, options)
    work = _classification(service, model, form.uploads[0], options, started)
    body = await _unless_disconnected(request, service.pool.run(work, form.remove))
    return Response(body, media_type=_JSON)


@router.post(
    "/classify/batch",
    response_model=schemas.ClassifiedBatch,
    responses=_problems(*_WORK),
    openapi_extra=upload_schema(ClassifyOptions, many=True),
)
async def classify_batch(
    request: Request, options: Annotated[ClassifyOptions, Query()]
) -> Response:
    """Tag several clips. A clip that cannot be read does not affect the others."""
    started = time.perf_counter()
    service = _service(request)
    form, options, model = await _received(request, options, service.config.max_batch_files)
    try:
        # No more jobs at once than threads, so that other requests are not held up.
        semaphore = asyncio.Semaphore(service.pool.n_threads)

        async def classify_one(upload: Upload) -> bytes:
            async with semaphore:
                work = _classification(service, model, upload, options, started)
                try:
                    return await service.pool.run(work, upload.remove)
                except AudiotagError as error:
                    document = service.problem_document(error)
                    return _encode({"file": upload.name, "problem": document})

        batch = _gather([classify_one(upload) for upload in form.uploads])
        results = await _unless_disconnected(request, batch)
    finally:
        form.remove()
    parts = (b'{"results": [', b", ".join(results), b'], "request_id": ', _encode(request_id.get()))
    return Response(b"".join(parts) + b"}", media_type=_JSON)


@router.post(
    "/embed",
    response_model=schemas.Embedded,
    responses={
        200: {"content": {kind: {"schema": BINARY} for kind in _FRAME_FORMATS}},
        **_problems(*_WORK, 406),
    },
    openapi_extra=upload_schema(EmbedRequestOptions),
)
async def embed(request: Request, options: Annotated[EmbedRequestOptions, Query()]) -> Response:
    """Compute the frames of a clip, as JSON, npz or TFRecord (header Accept)."""
    service = _service(request)
    media_type = _negotiated(request.headers.get("accept") or "*/*", (_JSON, *_FRAME_FORMATS))
    form, options, model = await _received(request, options)

    def work(job: Job) -> bytes:
        embed_options = EmbedOptions(options.values, options.hop_seconds, options.tail)
        extractor = model.network.extractor(embed_options)
        audio = service.open(job, form.uploads[0], options.stream)
        clip = extractor(audio, on_progress=job.raise_if_stopped)
        service.record(job, clip.metadata["duration_seconds"], clip.timings)
        if media_type != _JSON:
            file_format = _FRAME_FORMATS[media_type]
            with tempfile.TemporaryDirectory(dir=service.storage.directory) as directory:
                file = Path(directory, f"frames.{file_format}")
                write_frames(file, clip, file_format)
                return file.read_bytes()
        document = {
            "clip": clip.clip_id,
            "start_seconds": clip.start_seconds.tolist(),
            "frames": clip.frames.tolist(),
            "metadata": clip.metadata,
        }
        return _encode(document)

    body = await _unless_disconnected(request, service.pool.run(work, form.remove))
    return Response(body, media_type=media_type)


@router.get("/models", responses=_problems(*_ACCESS))
async def models(request: Request) -> ServiceModels:
    """List the models, the default one first."""
    return _service(request).models.describe()


@router.get("/labels", responses=_problems(*_ACCESS, 404, 422))
async def labels(
    request: Request,
    model: Annotated[str | None, Query(description="Name of a model from GET /models.")] = None,
) -> ModelLabels:
    """List the classes of a model."""
    bundle = _service(request).models.get(model).bundle
    names, mids = bundle.labels.names, bundle.labels.mids
    return ModelLabels(bundle.name, tuple(map(ModelLabel, range(len(names)), names, mids)))


@router.get("/version")
async def version() -> ServiceVersion:
    """Get the versions of the service and of the API."""
    return ServiceVersion(VERSION, API_VERSION)


@probes.get("/healthz")
async def healthz() -> schemas.Status:
    """Check that the process is alive."""
    return schemas.Status(status="alive")


@probes.get("/readyz", responses=_problems(503))
async def readyz(request: Request) -> schemas.Status:
    """Check that the service accepts work: models are loaded, the queue is not full."""
    _service(request).pool.check_capacity()
    return schemas.Status(status="ready")


@probes.get("/metrics", response_class=PlainTextResponse, responses=_problems(*_ACCESS))
async def metrics(request: Request) -> Response:
    """Get the metrics in Prometheus's text format."""
    body, media_type = _service(request).metrics.render()
    return Response(body, media_type=media_type)


@probes.get("/problems/{slug}", response_class=PlainTextResponse, responses=_problems(404))
async def problem(slug: str) -> Response:
    """Explain a type of problem."""
    if slug not in PROBLEMS:
        known = ", ".join(PROBLEMS)
        raise Problem("not-found", f"there is no such problem type; available: {known}")
    kind = PROBLEMS[slug]
    return PlainTextResponse(f"{kind.title} ({kind.status})\n\n{kind.explanation}\n")


def _service(request: Request) -> Service:
    service: Service = request.app.state.audiotag
    return service


async def _received(
    request: Request, options: OptionsT, max_files: int = 1
) -> tuple[Form, OptionsT, Model]:
    """Receive the body of a request, its options from query and form, and their model.

    The caller must `remove` the form. Raises what `receive` does, and Problem for the options.
    """
    service = _service(request)
    service.models.get(options.model)  # before the body is received in vain
    service.pool.check_capacity()
    with service.uploads.take(service.pool.retry_after_seconds):
        form = await receive(request, service, max_files=max_files)
    try:
        options = with_fields(options, form.fields)
        return form, options, service.models.get(options.model)
    except Problem:
        form.remove()
        raise


def _classification(
    service: Service, model: Model, upload: Upload, options: ClassifyOptions, started: float
) -> Callable[[Job], bytes]:
    """Make the job of a request that has been received; it returns the response in JSON."""
    upload_seconds = time.perf_counter() - started
    service.metrics.stage_seconds.labels("upload").observe(upload_seconds)
    current_id = request_id.get()

    def work(job: Job) -> bytes:
        choice = options.choice()
        with service.open(job, upload, options.stream) as audio:
            tags = model.tagger.tag(audio, on_progress=job.raise_if_stopped, **vars(choice))
        service.record(job, tags.duration_seconds, tags.timings)
        timings = {
            "upload": upload_seconds,
            "queue": job.queue_seconds,
            **tags.timings,
            "total": time.perf_counter() - started,
        }
        found = ServiceTags(
            tags=tags.tags,
            frames=tags.frames if options.frames else None,
            segments=tags.segments if options.segments else None,
            tracks=TagTracks.of(tags, _DECIMALS) if options.tracks else None,
            duration_seconds=tags.duration_seconds,
            model=tags.model,
            embedder=tags.embedder,
            warnings=tags.warnings,
            timings={name: round(seconds, _DECIMALS) for name, seconds in timings.items()},
            file=upload.name,
            request_id=current_id,
        )
        return _encode(found.as_json())

    return work


async def _gather(awaitables: Sequence[Awaitable[T]]) -> list[T]:
    """Gather results; if one fails or this is cancelled, cancel the others."""
    tasks = [asyncio.ensure_future(each) for each in awaitables]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


async def _unless_disconnected(request: Request, work: Awaitable[T]) -> T:
    """Wait for work; cancel it and raise ClientDisconnect if the client disconnects."""

    async def wait_for_disconnect() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    task = asyncio.ensure_future(work)
    # Retrieve the exception of work that nobody waits for, or asyncio logs it.
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    disconnected = asyncio.ensure_future(wait_for_disconnect())
    try:
        await asyncio.wait({task, disconnected}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    finally:
        task.cancel()
        disconnected.cancel()


def _negotiated(accept: str, offers: Sequence[str]) -> str:
    """The offer that the client prefers; the first one of equals."""
    qualities: dict[str, float] = {}
    for item in accept.split(","):
        kind, _, parameters = item.partition(";")
        found = re.search(r"(?:^|;)\s*q=([01](?:\.\d{0,3})?)\s*(?:;|$)", parameters)
        qualities[kind.strip().lower()] = float(found[1]) if found else 1.0

    def quality(offer: str) -> float:
        general = f"{offer.split('/')[0]}/*"
        return next((qualities[k] for k in (offer, general, "*/*") if k in qualities), 0.0)

    best = max(offers, key=quality)
    if quality(best) == 0:
        raise Problem("not-acceptable", f"available formats: {', '.join(offers)}")
    return best


def _encode(value: Any) -> bytes:
    # Lone surrogates, which may come from file names, are replaced.
    return json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")
