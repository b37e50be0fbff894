"""The live stream over a WebSocket: samples in, tags out as each frame completes."""

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
from service.api.options import options_problem
from service.api.schemas import StreamStart
from service.engine.jobs import Job
from service.engine.service import Service
from service.middleware.access import check_key
from service.problems import Problem
from vggish.errors import AudiotagError
from vggish.params import PATCH_SECONDS

_MAX_MESSAGE_BYTES = 1 << 20
# At low rates, few bytes are hours of audio.
_MAX_MESSAGE_SECONDS = 600
_DTYPES: dict[str, np.dtype[Any]] = {"s16le": np.dtype("<i2"), "f32le": np.dtype("<f4")}
# Close codes of RFC 6455: normal closure, policy violation, internal error, try again later.
_NORMAL, _POLICY, _INTERNAL, _TRY_LATER = 1000, 1008, 1011, 1013
router = APIRouter()


@router.websocket("/stream")
async def stream(websocket: WebSocket) -> None:
    """Tag a live stream. docs/api.md describes the messages."""
    service: Service = websocket.app.state.audiotag
    await websocket.accept()
    code = _NORMAL
    try:
        # No slot is taken before the key has been checked.
        start = await _receive_start(websocket, service)
        with service.streams.take(retry_after_seconds=10):
            await _tag_stream(websocket, service, start)
    except WebSocketDisconnect:
        return
    except AudiotagError as error:
        document = service.problem_document(error)
        await _send(websocket, {"type": "error", "problem": document})
        status = document["status"]
        code = _TRY_LATER if status in (429, 503) else _INTERNAL if status >= 500 else _POLICY
    await websocket.close(code)


async def _receive_start(websocket: WebSocket, service: Service) -> StreamStart:
    message = await _receive(websocket, service.config.upload_idle_seconds)
    text = message.get("text")
    if text is None:
        raise Problem("bad-request", "the first message must be JSON with a sample_rate_hz")
    try:
        start = StreamStart.model_validate_json(text)
    except ValidationError as error:
        if error.errors()[0]["type"] == "json_invalid":
            raise Problem("bad-request", "the first message is not valid JSON") from error
        raise options_problem(error.errors()) from error
    check_key(websocket, service.config, start.api_key)
    return start


async def _tag_stream(websocket: WebSocket, service: Service, start: StreamStart) -> None:
    model = service.models.get(start.model)
    live = LiveTagger(model.tagger, start.sample_rate_hz, **vars(start.choice()))
    ready = {
        "type": "ready",
        "model": model.bundle.provenance,
        "embedder": dict(model.tagger.extractor.embedder.provenance),
        "frame_seconds": PATCH_SECONDS,
    }
    await _send(websocket, ready)
    data: bytes | None = b""
    rest = b""
    while data is not None:
        message = await _receive(websocket, service.config.stream_idle_seconds)
        samples, data = None, message.get("bytes")
        if data is None:
            _check_end(message.get("text") or "")
        else:
            samples, rest = _split(rest, data, start)
        for tags in await _tag(service, live, samples):
            await _send(websocket, {"type": "tags", **tags.as_json()})
    seconds = round(live.duration_seconds, 6)
    await _send(websocket, {"type": "done", "duration_seconds": seconds, "warnings": live.warnings})


async def _tag(
    service: Service, live: LiveTagger, samples: npt.NDArray[Any] | None
) -> Sequence[LiveTags]:
    """The tags of the frames that new samples complete; None stands for the end of the stream."""

    def work(job: Job) -> Sequence[LiveTags]:
        return live.finish() if samples is None else live.feed(samples)

    before = live.duration_seconds
    # A full queue must not end a stream that holds a slot.
    found = await service.pool.run(work, ignore_limit=True)
    service.metrics.audio_seconds.inc(live.duration_seconds - before)
    return found


def _split(rest: bytes, data: bytes, start: StreamStart) -> tuple[npt.NDArray[Any], bytes]:
    """Samples [n, channels] of a message and the bytes left over from it."""
    if len(data) > _MAX_MESSAGE_BYTES:
        raise Problem("too-large", f"a message may have at most {_MAX_MESSAGE_BYTES:,} bytes")
    data = rest + data
    dtype = _DTYPES[start.encoding]
    whole = len(data) - len(data) % (dtype.itemsize * start.channels)
    n_bytes_per_second = dtype.itemsize * start.channels * start.sample_rate_hz
    if whole > _MAX_MESSAGE_SECONDS * n_bytes_per_second:
        raise Problem("too-large", f"a message may have at most {_MAX_MESSAGE_SECONDS} s of audio")
    return np.frombuffer(data[:whole], dtype).reshape(-1, start.channels), data[whole:]


def _check_end(text: str) -> None:
    try:
        kind = json.loads(text).get("type")
    except (ValueError, AttributeError, RecursionError):
        kind = None
    if kind != "end":
        raise Problem(
            "bad-request",
            'expected samples as a binary message, or {"type": "end"} as text. '
            f"Received: {text[:64]!r}",
        )


async def _receive(websocket: WebSocket, seconds: float) -> dict[str, Any]:
    try:
        message = dict(await asyncio.wait_for(websocket.receive(), seconds))
    except (TimeoutError, asyncio.TimeoutError) as error:
        raise Problem("upload-timeout", f"nothing arrived for {seconds:g} s") from error
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message.get("code", _NORMAL))
    return message


async def _send(websocket: WebSocket, message: dict[str, Any]) -> None:
    await websocket.send_text(json.dumps(message, ensure_ascii=False))
