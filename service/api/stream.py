"""Live sound over a WebSocket: samples in, tags out as each frame completes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from fastapi import APIRouter, WebSocket
from pydantic import ValidationError
from starlette.websockets import WebSocketDisconnect

from classifier.live import LiveTagger
from classifier.tags.types import LiveTags
from service.api.options import invalid
from service.api.schemas import StreamStart
from service.engine.jobs import Job
from service.engine.service import Service
from service.logs import request_id
from service.middleware.keys import check_key
from service.problems import Problem, problem_of
from vggish.errors import AudiotagError
from vggish.params import PATCH_SECONDS

_MAX_MESSAGE_BYTES = 1 << 20

_DTYPES: dict[str, np.dtype[Any]] = {"s16le": np.dtype("<i2"), "f32le": np.dtype("<f4")}

# Codes of RFC 6455 and its registry: normal, policy, internal error, try again later.
_DONE, _REFUSED, _FAILED, _BUSY = 1000, 1008, 1011, 1013

router = APIRouter()


@router.websocket("/stream")
async def stream(websocket: WebSocket) -> None:
    """Tags of a live sound. See docs/service.md for the messages."""
    service: Service = websocket.app.state.audiotag
    await websocket.accept()
    code = _DONE
    try:
        await _converse(websocket, service)
    except WebSocketDisconnect:
        return
    except AudiotagError as error:
        problem = problem_of(error)
        service.metrics.error(problem.slug)
        document = problem.document(request_id.get())
        await _send(websocket, {"type": "error", "problem": document})
        status = problem.kind.status
        code = _BUSY if status in (429, 503) else _FAILED if status >= 500 else _REFUSED
    await websocket.close(code)


async def _converse(websocket: WebSocket, service: Service) -> None:
    # Whoever has shown no key takes nobody's place.
    start = await _start(websocket, service)
    with service.streaming():
        model = service.models.get(start.model)
        live = LiveTagger(model.tagger, start.sample_rate_hz, **vars(start.choice()))
        ready = {
            "type": "ready",
            "model": model.bundle.provenance,
            "embedder": dict(model.tagger.extractor.embedder.provenance),
            "frame_seconds": PATCH_SECONDS,
        }
        await _send(websocket, ready)
        await _listen(websocket, service, start, live)


async def _start(websocket: WebSocket, service: Service) -> StreamStart:
    """The first message; it may take no longer than the head of a request."""
    message = await _receive(websocket, service.config.upload_idle_seconds)
    text = message.get("text")
    if text is None:
        raise Problem("bad-request", "the first message must be JSON, with a sample_rate_hz")
    try:
        start = StreamStart.model_validate_json(text)
    except ValidationError as error:
        if error.errors()[0]["type"] == "json_invalid":
            raise Problem("bad-request", "the first message is no JSON") from error
        raise invalid(error.errors()) from error
    check_key(websocket, service.config, start.api_key)
    return start


async def _listen(
    websocket: WebSocket, service: Service, start: StreamStart, live: LiveTagger
) -> None:
    """Take samples and tell tags until the client says that it is the end."""
    samples = _Samples(start)
    while True:
        message = await _receive(websocket, service.config.stream_idle_seconds)
        data = message.get("bytes")
        if data is None:
            _check_end(message.get("text") or "")
            break
        await _tell(websocket, await _heard(service, live, samples.take(data)))
    await _tell(websocket, await _heard(service, live, None))
    await _send(websocket, {"type": "done", "duration_seconds": round(live.seconds_heard, 6)})


async def _heard(
    service: Service, live: LiveTagger, samples: npt.NDArray[Any] | None
) -> Sequence[LiveTags]:
    """What new samples complete; None for the end."""

    def work(job: Job) -> Sequence[LiveTags]:
        return live.finish() if samples is None else live.feed(samples)

    before = live.seconds_heard
    # A stream has its place; that others send too much must not end it.
    found = await service.engine.run(work, is_admitted=True)
    service.metrics.audio_seconds(live.seconds_heard - before)
    return found


class _Samples:
    """Messages cut anywhere -> whole samples [n, channels]."""

    def __init__(self, start: StreamStart) -> None:
        self._dtype = _DTYPES[start.encoding]
        self._channels = start.channels
        self._rest = b""

    def take(self, data: bytes) -> npt.NDArray[Any]:
        if len(data) > _MAX_MESSAGE_BYTES:
            raise Problem("too-large", f"a message may have {_MAX_MESSAGE_BYTES:,} bytes")
        data = self._rest + data
        row = self._dtype.itemsize * self._channels
        whole = len(data) - len(data) % row
        self._rest = data[whole:]
        return np.frombuffer(data[:whole], self._dtype).reshape(-1, self._channels)


def _check_end(text: str) -> None:
    try:
        kind = json.loads(text).get("type")
    except (ValueError, AttributeError, RecursionError):
        kind = None
    if kind != "end":
        raise Problem(
            "bad-request",
            'after the first message come samples as binary messages, and {"type": "end"}. '
            f"Received: {text[:64]!r}",
        )


async def _receive(websocket: WebSocket, seconds: float) -> dict[str, Any]:
    try:
        message = dict(await asyncio.wait_for(websocket.receive(), seconds))
    except (TimeoutError, asyncio.TimeoutError) as error:
        raise Problem("upload-timeout", f"nothing arrived for {seconds:g} s") from error
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message.get("code", _DONE))
    return message


async def _tell(websocket: WebSocket, found: Sequence[LiveTags]) -> None:
    for tags in found:
        await _send(websocket, {"type": "tags", **tags.as_json()})


async def _send(websocket: WebSocket, message: dict[str, Any]) -> None:
    await websocket.send_text(json.dumps(message, ensure_ascii=False))
