"""A fake service for tests of the client: a real HTTP server that misbehaves on demand."""

from __future__ import annotations

import asyncio
import hashlib
import socket
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, UploadFile
from fastapi.responses import JSONResponse, Response

from classifier.tagger import Tagger
from classifier.tags.tracks import TagTracks

Send = Callable[[dict[str, Any]], Awaitable[None]]

MODEL = {"name": "tiny", "head": "gru", "sha256": "5" * 64}
EMBEDDER = {"name": "mini", "weights_sha256": "6" * 64}


def problem(status: int, slug: str, detail: str = "", **headers: str) -> Response:
    document = {
        "type": f"/problems/{slug}", "title": slug.replace("-", " "), "status": status,
        "detail": detail, "instance": "id-7",
    }  # fmt: skip
    return JSONResponse(document, status, headers, "application/problem+json")


def busy(retry_after: str | None = None) -> Response:
    headers = {} if retry_after is None else {"Retry-After": retry_after}
    return problem(503, "overloaded", "the queue is full; try again later", **headers)


def tagged(tagger: Tagger, data: bytes, request: Request) -> dict[str, Any]:
    """Build the response to a clip with a local tagger."""
    asked = request.query_params
    tags = tagger.tag(
        data,
        top_k=int(asked["top_k"]),
        threshold=float(asked["threshold"]),
        labels=asked.getlist("labels") or None,
        exclude_labels=asked.getlist("exclude_labels"),
    )
    answer = tags.as_json()
    answer |= {name: None for name in ("frames", "segments") if name not in asked}
    tracks = TagTracks.of(tags) if "tracks" in asked else None
    answer["tracks"] = tracks and tracks.as_json()
    return {**answer, "file": None, "request_id": "id-7"}


class FakeService:
    """A fake service. Each request consumes one of `answers`; when none is left, it succeeds.

    `requests` logs (method, path with query, headers), `names` those of the files. Tags are
    those of `tagger`; without one, the only label is the sha256 of the file.
    """

    def __init__(self) -> None:
        self.answers: list[Response | Callable[[Send], Awaitable[None]]] = []
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.names: list[str | None] = []
        self.delay_seconds = 0.0
        self.is_ready = True
        self.facts: dict[str, Any] = {}
        self.tagger: Tagger | None = None
        self._server = uvicorn.Server(
            uvicorn.Config(self._app(), port=0, log_level="critical", ws="none", lifespan="off")
        )
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],))
        self._thread.start()
        while not self._server.started:
            assert self._thread.is_alive(), "the fake service did not start"
            time.sleep(0.01)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    def reset(self) -> None:
        """Clear the state; every request succeeds again."""
        self.answers.clear()
        self.requests.clear()
        self.names.clear()
        self.facts.clear()
        self.delay_seconds, self.is_ready, self.tagger = 0.0, True, None

    def close(self) -> None:
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()

    def _app(self) -> Any:
        routes = FastAPI()

        async def tags_of(file: UploadFile, request: Request) -> dict[str, Any]:
            self.names.append(file.filename)
            if self.tagger is not None:
                return await asyncio.to_thread(tagged, self.tagger, await file.read(), request)
            digest = hashlib.sha256()
            n_bytes = 0
            while piece := await file.read(1 << 20):
                digest.update(piece)
                n_bytes += len(piece)
            tag = {"label": digest.hexdigest(), "mid": "", "index": 0, "score": 0.5}
            asked = request.query_params
            segment = {**tag, "start_seconds": 0.0, "end_seconds": 0.96}
            return {
                "file": file.filename,
                "tags": [tag],
                "frames": [{"start_seconds": 0.0, "tags": [tag]}] if "frames" in asked else None,
                "segments": [segment] if "segments" in asked else None,
                "tracks": {"start_seconds": [0.0, 0.96], "tags": [{**tag, "scores": [0.5, 0.25]}]}
                if "tracks" in asked
                else None,
                "duration_seconds": float(n_bytes),
                "model": MODEL,
                "embedder": EMBEDDER,
                "warnings": ["odd"],
                "timings": {"total": 0.1},
                "request_id": "id-7",
            }

        @routes.post("/classify")
        async def classify(request: Request, file: UploadFile) -> Any:
            await asyncio.sleep(self.delay_seconds)
            return await tags_of(file, request)

        @routes.post("/classify/batch")
        async def batch(request: Request, files: list[UploadFile]) -> Any:
            results = [
                await tags_of(file, request)
                if file.size
                else {"file": file.filename, "problem": {
                    "type": "/problems/empty-audio", "title": "empty", "status": 400,
                    "detail": f"{file.filename} is empty", "instance": "id-7"}}
                for file in files
            ]  # fmt: skip
            return {"results": results, "request_id": "id-7"}

        @routes.post("/embed")
        async def embed(file: UploadFile, values: str = "uint8") -> Any:
            rows = [[7 if values == "uint8" else 0.125] * 128] * 2
            metadata = {"values": values, "embedder": EMBEDDER}
            starts = [0.0, 0.96]
            return {"clip": "a", "start_seconds": starts, "frames": rows, "metadata": metadata}

        @routes.get("/models")
        async def models() -> Any:
            more = {"clip_frames": 10, "embedders": ["mini"], "embedder": EMBEDDER}
            facts = {"default": True, "n_classes": 2, "has_frame_scores": True}
            return {"models": [{**MODEL, **facts, **more, **self.facts}]}

        @routes.get("/labels")
        async def labels(model: str = "tiny") -> Any:
            rows = [
                {"index": 1, "label": "Dog", "mid": ""},
                {"index": 0, "label": "Cat", "mid": "/m/1"},
            ]
            if self.tagger is not None:
                known = self.tagger.bundle.labels
                rows = [
                    {"index": index, "label": name, "mid": mid}
                    for index, (name, mid) in enumerate(zip(known.names, known.mids, strict=True))
                ]
            return {"model": model, "labels": rows}

        @routes.get("/version")
        async def version() -> Any:
            return {"version": "1.2.3", "api": "1"}

        @routes.get("/readyz")
        async def readyz() -> Any:
            if not self.is_ready:
                return problem(503, "not-ready", "it is starting")
            return {"status": "ready"}

        async def app(scope: Any, receive: Any, send: Any) -> None:
            query = scope["query_string"].decode()
            path = scope["path"] + (f"?{query}" if query else "")
            headers = {k.decode(): v.decode("latin-1") for k, v in scope["headers"]}
            self.requests.append((scope["method"], path, headers))
            answer = self.answers.pop(0) if self.answers else None
            if answer is None:
                await routes(scope, receive, send)
            elif isinstance(answer, Response):
                while (await receive()).get("more_body"):
                    pass
                await answer(scope, receive, send)
            else:
                await answer(send)

        return app
