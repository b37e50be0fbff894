"""The ASGI application: all parts of the service put together."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator

from fastapi import FastAPI, Request, WebSocket
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import RedirectResponse, Response
from starlette.routing import WebSocketRoute

from service import page
from service.api import routes, schemas, stream
from service.api.options import options_problem
from service.engine.service import Service
from service.logs import log, request_id
from service.metrics import Metrics
from service.middleware.request_context import API_PREFIX, CLIENT_GONE, path_of, send_problem
from service.middleware.stack import add_middleware
from service.problems import Problem, problem_response, to_problem
from service.settings.config import ServiceConfig
from vggish.errors import AudiotagError
from vggish.params import VERSION

_DESCRIPTION = """Tag audio: which sounds occur in a recording, and when.

Errors are problem documents (RFC 9457). Their `type` is stable, and its address explains it.
"""


def create_app(config: ServiceConfig) -> FastAPI:
    """Create the application of one process; it loads the models when it starts."""
    metrics = Metrics(config)
    app = FastAPI(
        title="audiotag",
        version=VERSION,
        description=_DESCRIPTION,
        lifespan=lambda app: _lifespan(app, config, metrics),
        # These pages load scripts from other hosts.
        docs_url=None,
        redoc_url=None,
        # Behind a proxy they would redirect to the service's own address.
        redirect_slashes=False,
    )
    # For proxies that remove the prefix and for those that pass it on. The argument of FastAPI
    # handles only the former.
    app.root_path = config.root_path
    app.include_router(routes.router)
    app.include_router(routes.router, prefix=API_PREFIX, include_in_schema=False)
    app.include_router(routes.probes)
    app.include_router(stream.router)
    app.include_router(stream.router, prefix=API_PREFIX)
    app.include_router(page.router, include_in_schema=False)
    _add_error_handlers(app, metrics)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    add_middleware(app, config, metrics)
    return app


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI, config: ServiceConfig, metrics: Metrics) -> AsyncIterator[None]:
    service = await asyncio.to_thread(Service, config, metrics)
    app.state.audiotag = service
    reloading = asyncio.create_task(_reload_models(service))
    try:
        yield
    finally:
        reloading.cancel()
        await service.close()


def _add_error_handlers(app: FastAPI, metrics: Metrics) -> None:
    def respond(problem: Problem) -> Response:
        metrics.errors.labels(problem.slug).inc()
        return problem_response(problem, request_id.get())

    @app.exception_handler(AudiotagError)
    async def on_audiotag_error(_: Request, error: AudiotagError) -> Response:
        problem = to_problem(error)
        if problem.slug == "internal":
            log.error("a request failed", exc_info=error)
        return respond(problem)

    @app.exception_handler(RequestValidationError)
    async def on_validation_error(_: Request, error: RequestValidationError) -> Response:
        return respond(options_problem(error.errors()))

    @app.exception_handler(HTTPException)
    async def on_http_error(request: Request, error: HTTPException) -> Response:
        if app.root_path and request.scope["path"] == app.root_path:
            # The page's relative addresses need the slash.
            return RedirectResponse(f"{app.root_path}/")
        where = f"{request.method} {request.url.path}"[:200]
        if error.status_code == 404:
            detail = f"there is nothing at {where!r}; GET /openapi.json lists the addresses"
            return respond(Problem("not-found", detail, headers=error.headers))
        if error.status_code == 405:
            methods = (error.headers or {}).get("Allow", "other methods")
            detail = f"{where!r} is not supported; this address supports {methods}"
            return respond(Problem("method-not-allowed", detail, headers=error.headers))
        return respond(Problem("bad-request", str(error.detail), headers=error.headers))

    @app.exception_handler(ClientDisconnect)
    async def on_disconnect(_: Request, error: ClientDisconnect) -> Response:
        metrics.errors.labels("client-gone").inc()
        return Response(status_code=CLIENT_GONE)  # which nobody receives

    async def other_stream(websocket: WebSocket) -> None:
        where = path_of(websocket.scope)[:200]
        problem = Problem("not-found", f"there is no stream at {where!r}; use /stream")
        await send_problem(problem, metrics, websocket.scope, websocket.receive, websocket.send)

    # Without it Starlette closes a WebSocket to another address without a reason.
    app.router.routes.append(WebSocketRoute("/{path:path}", other_stream))


async def _reload_models(service: Service) -> None:
    """Reload changed models every few seconds, and on SIGHUP."""
    is_requested = asyncio.Event()
    loop = asyncio.get_running_loop()
    # There is no SIGHUP on Windows and in threads, only the interval.
    with contextlib.suppress(AttributeError, NotImplementedError, RuntimeError, ValueError):
        loop.add_signal_handler(signal.SIGHUP, is_requested.set)
    seconds = service.config.reload_seconds
    while True:
        with contextlib.suppress(TimeoutError, asyncio.TimeoutError):
            await asyncio.wait_for(is_requested.wait(), seconds if seconds else None)
        retry = is_requested.is_set()
        is_requested.clear()
        await asyncio.to_thread(service.reload, retry=retry)


def _openapi(app: FastAPI) -> dict[str, object]:
    """Describe the API, with problem documents in place of FastAPI's validation errors."""
    if app.openapi_schema is None:
        schema = FastAPI.openapi(app)
        components = schema.setdefault("components", {}).setdefault("schemas", {})
        components["Problem"] = schemas.Problem.model_json_schema()
        for name in ("HTTPValidationError", "ValidationError"):
            components.pop(name, None)
        schemas.describe_documents(components)
        for operations in schema["paths"].values():
            for operation in operations.values():
                if "HTTPValidationError" in str(operation["responses"].get("422")):
                    del operation["responses"]["422"]
        app.openapi_schema = schema
    return app.openapi_schema
