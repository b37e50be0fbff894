"""The application: all parts of the service put together."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator

from fastapi import FastAPI, Request, WebSocket
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import RedirectResponse, Response
from starlette.routing import WebSocketRoute

from service import page
from service.api import routes, schemas, stream
from service.api.options import invalid
from service.engine.service import Service
from service.logs import log, request_id
from service.metrics import Metrics
from service.middleware.request_context import API_PREFIX, CLIENT_GONE, path_of, refuse
from service.middleware.stack import guard
from service.problems import Problem, problem_of, problem_response
from service.settings.config import ServiceConfig
from vggish.errors import AudiotagError
from vggish.params import VERSION

_DESCRIPTION = """Sound in, tags out: what is heard in a recording, and when.

Errors are problem documents (RFC 9457); their `type` is stable and explains itself at its address.
"""


def create_app(config: ServiceConfig) -> FastAPI:
    """The application of one process; it loads the models when it starts.

    Args:
        config: see `ServiceConfig`.
    """
    metrics = Metrics(config)
    app = FastAPI(
        title="audiotag",
        version=VERSION,
        description=_DESCRIPTION,
        lifespan=lambda app: _lifespan(app, config, metrics),
        # Their pages would load scripts from other hosts.
        docs_url=None,
        redoc_url=None,
        # They would lead to where the service thinks it is, which behind a proxy is elsewhere.
        redirect_slashes=False,
    )
    # Whether the proxy passes it on or takes it away; FastAPI no longer wants it as an argument.
    app.root_path = config.root_path
    app.include_router(routes.router)
    app.include_router(routes.router, prefix=API_PREFIX, include_in_schema=False)
    app.include_router(routes.probes)
    app.include_router(stream.router)
    app.include_router(stream.router, prefix=API_PREFIX)
    app.include_router(page.router, include_in_schema=False)
    _refuse_other_streams(app, metrics)
    _tell_problems(app, metrics)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    guard(app, config, metrics)
    return app


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI, config: ServiceConfig, metrics: Metrics) -> AsyncIterator[None]:
    service = await asyncio.to_thread(Service.start, config, metrics)
    app.state.audiotag = service
    reloading = asyncio.create_task(_keep_reloading(service))
    try:
        yield
    finally:
        service.draining = True
        reloading.cancel()
        await service.close()


def _refuse_other_streams(app: FastAPI, metrics: Metrics) -> None:
    """A WebSocket to an address that has none is told so; it would be refused without a word."""

    async def other(websocket: WebSocket) -> None:
        where = path_of(websocket.scope)
        detail = f"there is no stream at {where[:200]!r}; there is one at /stream"
        problem = Problem("not-found", detail)
        await refuse(problem, metrics, websocket.scope, websocket.receive, websocket.send)

    app.router.routes.append(WebSocketRoute("/{path:path}", other))


def _tell_problems(app: FastAPI, metrics: Metrics) -> None:
    """Every error becomes a problem document, and is counted."""

    def told(problem: Problem) -> Response:
        metrics.error(problem.slug)
        return problem_response(problem, request_id.get())

    @app.exception_handler(AudiotagError)
    async def on_error(_: Request, error: AudiotagError) -> Response:
        problem = problem_of(error)
        if problem.slug == "internal":
            log.error("a request failed", exc_info=error)
        return told(problem)

    @app.exception_handler(RequestValidationError)
    async def on_invalid(_: Request, error: RequestValidationError) -> Response:
        return told(invalid(error.errors()))

    @app.exception_handler(HTTPException)
    async def on_http(request: Request, error: HTTPException) -> Response:
        if app.root_path and request.scope["path"] == app.root_path:
            # Where a proxy has the service; the page's own addresses begin after the slash.
            return RedirectResponse(f"{app.root_path}/")
        slug = {404: "not-found", 405: "method-not-allowed"}.get(error.status_code, "bad-request")
        where = f"{request.method} {request.url.path}"
        detail = {
            "not-found": f"there is nothing at {where[:200]!r}; GET /openapi.json lists what is",
            "method-not-allowed": f"{where[:200]!r}: this address takes "
            + (error.headers or {}).get("Allow", "other methods"),
        }.get(slug, str(error.detail))
        return told(Problem(slug, detail, headers=error.headers))

    @app.exception_handler(ClientDisconnect)
    async def on_leaving(_: Request, error: ClientDisconnect) -> Response:
        metrics.error("client-gone")
        return Response(status_code=CLIENT_GONE)  # nobody is there to read it


async def _keep_reloading(service: Service) -> None:
    """Look for changed bundles every few seconds, and at once on SIGHUP."""
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()
    # Not on Windows, and not in a thread: then it is done by time alone.
    with contextlib.suppress(AttributeError, NotImplementedError, RuntimeError, ValueError):
        loop.add_signal_handler(signal.SIGHUP, asked.set)
    seconds = service.config.reload_seconds
    while True:
        with contextlib.suppress(TimeoutError, asyncio.TimeoutError):
            await asyncio.wait_for(asked.wait(), seconds if seconds else None)
        is_asked = asked.is_set()
        asked.clear()
        await asyncio.to_thread(service.reload, retry=is_asked)


def _openapi(app: FastAPI) -> dict[str, object]:
    """The description of the interface, with the problem document in it."""
    if app.openapi_schema is None:
        schema = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes
        )
        components = schema.setdefault("components", {}).setdefault("schemas", {})
        components["Problem"] = schemas.Problem.model_json_schema()
        # FastAPI's own document of what is invalid; here it is a problem like all others.
        for name in ("HTTPValidationError", "ValidationError"):
            components.pop(name, None)
        schemas.describe_documents(components)
        for operations in schema["paths"].values():
            for operation in operations.values():
                if "HTTPValidationError" in str(operation["responses"].get("422")):
                    del operation["responses"]["422"]
        app.openapi_schema = schema
    return app.openapi_schema
