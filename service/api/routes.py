"""The HTTP interface: each address, what it takes and what it answers."""

from __future__ import annotations

import asyncio
import json
import re
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Query, Request
from fastapi.responses import PlainTextResponse, Response
from starlette.requests import ClientDisconnect

from classifier.tags.tracks import TagTracks
from service.api import schemas
from service.api.options import with_fields
from service.api.schemas import ClassifyOptions, EmbedRequestOptions
from service.api.uploads import BINARY, Form, receive, upload_schema
from service.documents import (
    ModelLabel,
    ModelLabels,
    ServiceModels,
    ServiceTags,
    ServiceVersion,
)
from service.engine.jobs import Job
from service.engine.models import Model
from service.engine.service import Service
from service.engine.storage import Upload
from service.logs import request_id
from service.middleware.request_context import API_VERSION
from service.problems import MEDIA_TYPE, PROBLEMS, Problem, problem_of
from vggish.errors import AudiotagError
from vggish.extractor import EmbedOptions
from vggish.frames.clip import ClipFrames
from vggish.frames.files import write_frames
from vggish.params import VERSION

_JSON = "application/json"
# A score of 0.12345678 is known no better than that.
_DECIMALS = 6

_FRAME_FORMATS = {"application/x-npz": "npz", "application/x-tfrecord": "tfrecord"}

T = TypeVar("T")

OptionsT = TypeVar("OptionsT", ClassifyOptions, EmbedRequestOptions)


def _problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The problem documents of an address, for OpenAPI."""
    return {
        status: {
            "description": "; ".join(
                f"`{slug}`: {kind.title}"
                for slug, kind in PROBLEMS.items()
                if kind.status == status
            ),
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for status in statuses
    }


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
    """What is heard in a sound.

    Send it as the field `file` of a form, or as the body itself with an audio content type. The
    options may be in the query or in the form.
    """
    began = time.perf_counter()
    service = _service(request)
    form, options, model = await _received(request, options)
    upload = form.uploads[0]
    work = _classification(service, model, upload, options, began)
    return _json(await _unless_gone(request, service.engine.run(work, upload.remove)))


@router.post(
    "/classify/batch",
    response_model=schemas.ClassifiedBatch,
    responses=_problems(*_WORK),
    openapi_extra=upload_schema(ClassifyOptions, many=True),
)
async def classify_batch(
    request: Request, options: Annotated[ClassifyOptions, Query()]
) -> Response:
    """What is heard in several sounds; one that cannot be read does not fail the others."""
    began = time.perf_counter()
    service = _service(request)
    form, options, model = await _received(request, options, service.config.max_batch_files)
    try:
        # Not more at once than there are threads: others have their turn, too.
        turns = asyncio.Semaphore(service.engine.n_threads)

        async def one(upload: Upload) -> bytes:
            async with turns:
                work = _classification(service, model, upload, options, began)
                return await _result_or_problem(service, upload, work)

        results = await _unless_gone(request, _all([one(upload) for upload in form.uploads]))
    finally:
        form.remove()
    head = b'{"results": [' + b", ".join(results)
    return _json(head + b'], "request_id": ' + _encoded(request_id.get()) + b"}")


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
    """The frames of a sound: JSON, or npz or TFRecord if the header Accept says so."""
    service = _service(request)
    media_type = _negotiated(request.headers.get("accept") or "*/*", (_JSON, *_FRAME_FORMATS))
    form, options, model = await _received(request, options)
    upload = form.uploads[0]

    def work(job: Job) -> bytes:
        extractor = model.network.extractor(
            EmbedOptions(options.values, options.hop_seconds, options.tail)
        )
        clip = extractor(service.open(job, upload), on_progress=job.check)
        seconds = clip.metadata["duration_seconds"]
        service.note(seconds, {"queue": job.queue_seconds, **clip.timings})
        if media_type == _JSON:
            return _encoded(
                {
                    "clip": clip.clip_id,
                    "start_seconds": clip.start_seconds.tolist(),
                    "frames": clip.frames.tolist(),
                    "metadata": clip.metadata,
                }
            )
        return _frame_file(service, clip, _FRAME_FORMATS[media_type])

    body = await _unless_gone(request, service.engine.run(work, upload.remove))
    return Response(body, media_type=media_type)


@router.get("/models", response_model=ServiceModels, responses=_problems(*_ACCESS))
async def models(request: Request) -> Response:
    """The models that the service has; the first one is the default."""
    return _json(_encoded(_service(request).models.describe().as_json()))


@router.get("/labels", response_model=ModelLabels, responses=_problems(*_ACCESS, 404, 422))
async def labels(
    request: Request,
    model: Annotated[str | None, Query(description="One of GET /models.")] = None,
) -> Response:
    """The classes of a model."""
    bundle = _service(request).models.get(model).bundle
    names, mids = bundle.labels.names, bundle.labels.mids
    found = tuple(map(ModelLabel, range(len(names)), names, mids))
    return _json(_encoded(ModelLabels(bundle.name, found).as_json()))


@router.get("/version", response_model=ServiceVersion)
async def version() -> Response:
    """Of the software and of this interface."""
    return _json(_encoded(ServiceVersion(VERSION, API_VERSION).as_json()))


@probes.get("/healthz", response_model=schemas.Status)
async def healthz() -> Response:
    """Whether the process is alive: it answers."""
    return _json(_encoded({"status": "alive"}))


@probes.get("/readyz", response_model=schemas.Status, responses=_problems(503))
async def readyz(request: Request) -> Response:
    """Whether work would be taken now: models are loaded, the queue is not full."""
    _service(request).check_ready()
    return _json(_encoded({"status": "ready"}))


@probes.get("/metrics", response_class=PlainTextResponse, responses=_problems(*_ACCESS))
async def metrics(request: Request) -> Response:
    """Counters, for Prometheus."""
    body, media_type = _service(request).metrics.render()
    return Response(body, media_type=media_type)


@probes.get("/problems/{slug}", response_class=PlainTextResponse, responses=_problems(404))
async def problem(slug: str) -> Response:
    """What a type of problem means and calls for."""
    if slug not in PROBLEMS:
        raise Problem("not-found", f"there is no such problem; there are: {', '.join(PROBLEMS)}")
    kind = PROBLEMS[slug]
    return PlainTextResponse(f"{kind.title} ({kind.status})\n\n{kind.explanation}\n")


def _service(request: Request) -> Service:
    service: Service = request.app.state.audiotag
    return service


async def _received(
    request: Request, options: OptionsT, max_files: int = 1
) -> tuple[Form, OptionsT, Model]:
    """The body of a request, its options with those of the form, and the model that they name.

    Whoever gets the form must `remove` it.

    Raises:
        Problem: see `receive`; or an option cannot be honoured, or there is no such model.
        ClientDisconnect: the client left.
    """
    service = _service(request)
    service.models.get(options.model)  # before the body, which would be sent for nothing
    with service.receiving():
        form = await receive(request, service.storage, service.config, max_files=max_files)
    try:
        options = with_fields(options, form.fields)
        return form, options, service.models.get(options.model)
    except Problem:
        form.remove()
        raise


def _classification(
    service: Service, model: Model, upload: Upload, options: ClassifyOptions, began: float
) -> Callable[[Job], bytes]:
    """The work of a request that has been received, with its answer in JSON."""
    uploaded = time.perf_counter()
    service.metrics.stage("upload", uploaded - began)
    request = request_id.get()

    def work(job: Job) -> bytes:
        tags = service.tag(job, model, upload, options.choice())
        timings = {
            "upload": uploaded - began,
            "queue": job.queue_seconds,
            **tags.timings,
            "total": time.perf_counter() - began,
        }
        answer = ServiceTags(
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
            request_id=request,
        )
        return _encoded(answer.as_json())

    return work


async def _result_or_problem(
    service: Service, upload: Upload, work: Callable[[Job], bytes]
) -> bytes:
    """One of several results, in JSON."""
    try:
        return await service.engine.run(work, upload.remove)
    except AudiotagError as error:
        problem = problem_of(error)
        service.metrics.error(problem.slug)
        return _encoded({"file": upload.name, "problem": problem.document(request_id.get())})


def _frame_file(service: Service, clip: ClipFrames, file_format: str) -> bytes:
    file = service.storage.directory / f"{uuid.uuid4()}.{file_format}"
    try:
        write_frames(file, clip, file_format)
        return file.read_bytes()
    finally:
        file.unlink(missing_ok=True)


async def _all(awaitables: Sequence[Awaitable[T]]) -> list[T]:
    """What each of them gives; once one fails nobody waits for the others, and they end."""
    tasks = [asyncio.ensure_future(each) for each in awaitables]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


async def _unless_gone(request: Request, work: Awaitable[T]) -> T:
    """Wait for the work, unless the client leaves before.

    Raises:
        ClientDisconnect: it left; the work is cancelled.
    """
    doing = asyncio.ensure_future(work)
    doing.add_done_callback(_take_note)
    leaving = asyncio.ensure_future(_left(request))
    try:
        await asyncio.wait({doing, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not doing.done():
            raise ClientDisconnect
        return doing.result()
    finally:
        for task in (doing, leaving):
            task.cancel()


def _take_note(done: asyncio.Future[Any]) -> None:
    """Look at what has failed, or asyncio logs that nobody did: nobody waits any more."""
    if not done.cancelled():
        done.exception()


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _negotiated(accept: str, offers: Sequence[str]) -> str:
    """The best of the media types that the client takes; the first one if all are as good.

    Raises:
        Problem: it takes none of them.
    """
    wanted: dict[str, float] = {}
    for item in accept.split(","):
        kind, _, parameters = item.partition(";")
        found = re.search(r"(?:^|;)\s*q=([01](?:\.\d{0,3})?)\s*(?:;|$)", parameters)
        wanted[kind.strip().lower()] = float(found[1]) if found else 1.0

    def quality(offer: str) -> float:
        general = f"{offer.split('/')[0]}/*"
        return next((wanted[kind] for kind in (offer, general, "*/*") if kind in wanted), 0.0)

    best = max(offers, key=quality)
    if quality(best) == 0:
        raise Problem("not-acceptable", f"the answer can be {', '.join(offers)}")
    return best


def _encoded(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")


def _json(body: bytes) -> Response:
    return Response(body, media_type=_JSON)
