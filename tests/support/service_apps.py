"""Small applications for tests of middleware and server, and a real server to run them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import threading
from collections.abc import Iterator
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.websockets import WebSocket

from service.logs import log, request_id
from service.metrics import Metrics
from service.middleware.access import check_key
from service.middleware.stack import add_middleware
from service.problems import Problem, problem_response
from service.settings.config import ServiceConfig


async def whoami(request: Request) -> Response:
    log.info("asked", extra={"who": "whoami"})
    return JSONResponse(
        {
            "client": request.client.host if request.client else None,
            "url": str(request.url),
            "request_id": request_id.get(),
        }
    )


async def text(request: Request) -> Response:
    return PlainTextResponse("text")


async def boom(request: Request) -> Response:
    raise RuntimeError("secret of the implementation")


async def late(request: Request) -> Response:
    async def parts() -> Any:
        yield b"begun"
        raise RuntimeError("secret of the implementation")

    return StreamingResponse(parts())


async def slow(request: Request) -> Response:
    await asyncio.sleep(float(request.query_params["seconds"]))
    return PlainTextResponse("done")


async def stream(websocket: WebSocket) -> None:
    await websocket.accept()
    key = (await websocket.receive_json()).get("api_key")
    try:
        check_key(websocket, websocket.app.state.config, key)
    except Problem as problem:
        await websocket.send_json(problem.document(request_id.get()))
        await websocket.close(1008)
        return
    if key == "boom":
        raise RuntimeError("secret of the implementation")
    await websocket.send_json({"ready": True})
    await websocket.close()


def guarded_app(config: ServiceConfig, metrics: Metrics | None = None) -> Starlette:
    paths = ("/", "/healthz", "/openapi.json", "/models", "/metrics", "/problems/{slug}")
    app = Starlette(
        routes=[
            *(Route(path, text) for path in paths),
            Mount("/static", routes=[Route("/app.js", text)]),
            *(
                Route(f"{version}/classify", whoami, methods=["GET", "POST"])
                for version in VERSIONS
            ),
            Route("/boom", boom),
            Route("/late", late),
            Route("/slow", slow),
            *(WebSocketRoute(f"{version}/stream", stream) for version in VERSIONS),
        ]
    )
    app.state.config = config
    add_middleware(app, config, metrics or Metrics(config))
    return app


VERSIONS = ("", "/v1")


async def problem_app(scope: Any, receive: Any, send: Any) -> None:
    await problem_response(Problem("overloaded", "busy"), "id")(scope, receive, send)


@contextlib.contextmanager
def served(app: Any, **options: Any) -> Iterator[str]:
    """Run a server in a thread; yield its address, such as "127.0.0.1:8123"."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        settings: dict[str, Any] = {
            "http": "h11", "log_config": None, "access_log": False, **options
        }  # fmt: skip
        server = uvicorn.Server(uvicorn.Config(app, proxy_headers=False, **settings))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            while not server.started:
                assert thread.is_alive()
                thread.join(0.01)
            yield "{}:{}".format(*listener.getsockname())
        finally:
            server.should_exit = True
            thread.join()


# --- applications of separate processes ---------------------------------------------------


def say(word: str) -> None:
    """Write a line to stderr atomically: several processes write concurrently."""
    os.write(2, f"{word}\n".encode())


def process_app(
    config: ServiceConfig, start_seconds: float = 0.0, failure: Exception | None = None
) -> Starlette:
    """An application that reports its process; it may start slowly or fail to start."""
    say("made")
    hangups: list[int] = []

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> Any:
        say("starting")
        await asyncio.sleep(start_seconds)
        if failure is not None:
            raise failure
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, hangups.append, 1)
        try:
            yield
        finally:
            say("closed")

    async def describe(request: Request) -> Response:
        say("asked")
        until = request.query_params.get("until")
        while until and not os.path.exists(until):
            await asyncio.sleep(0.01)
        await asyncio.sleep(float(request.query_params.get("seconds", 0)))
        return JSONResponse(
            {
                "pid": os.getpid(),
                "hangups": len(hangups),
                "counts": os.environ.get("PROMETHEUS_MULTIPROC_DIR"),
            },
            headers={"Connection": "close"},
        )

    async def measure(request: Request) -> Response:
        return Response(metrics.render()[0], headers={"Connection": "close"})

    routes = [Route("/", describe), Route("/metrics", measure), WebSocketRoute("/stream", stream)]
    app = Starlette(routes=routes, lifespan=lifespan)
    app.state.config = config
    metrics = Metrics(config)
    metrics.streams.set(1)
    add_middleware(app, config, metrics)
    return app
