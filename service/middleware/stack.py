"""All middleware of the service, in order."""

from __future__ import annotations

import contextlib

from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from service.metrics import Metrics
from service.middleware.access import check_access, check_origin
from service.middleware.limits import ConcurrencyLimit, RateLimit
from service.middleware.proxies import TrustedProxies
from service.middleware.request_context import RequestContext, send_problem
from service.problems import Problem
from service.settings.config import ServiceConfig


class RequestChecks:
    """Answer a request that must not be served with a problem."""

    def __init__(self, app: ASGIApp, config: ServiceConfig, metrics: Metrics) -> None:
        self._app, self._config, self._metrics = app, config, metrics
        self._concurrency = ConcurrencyLimit(config)
        self._rate = RateLimit(config) if config.rate_limit_per_minute else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request or a WebSocket."""
        with contextlib.ExitStack() as stack:
            if scope["type"] in ("http", "websocket"):
                try:
                    stack.enter_context(self._concurrency.hold(scope))
                    check_origin(scope, self._config)
                    if self._rate:
                        self._rate.check(scope)
                    check_access(scope, self._config)
                except Problem as problem:
                    await send_problem(problem, self._metrics, scope, receive, send)
                    return
            await self._app(scope, receive, send)


def add_middleware(app: Starlette, config: ServiceConfig, metrics: Metrics) -> None:
    """Add the middleware that the configuration asks for, from the inside to the outside."""
    app.add_middleware(RequestChecks, config, metrics)
    if config.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=config.cors_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type", "X-API-Key", "X-Request-ID"],
            expose_headers=["Retry-After", "X-Request-ID"],
        )
    app.add_middleware(RequestContext, metrics, TrustedProxies(config.trusted_proxies))
