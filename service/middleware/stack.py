"""All middleware of the service, in order."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from service.metrics import Metrics
from service.middleware.keys import KeyCheck
from service.middleware.limits import ConcurrencyLimit, RateLimit
from service.middleware.origins import OriginCheck
from service.middleware.proxies import TrustedProxies
from service.middleware.request_context import RequestContext, send_problem
from service.problems import Problem
from service.settings.config import ServiceConfig

Check = Callable[[Scope], Problem | None]


class RequestChecks:
    """Answer a request with the problem that the first failing check returns."""

    def __init__(self, app: ASGIApp, checks: Sequence[Check], metrics: Metrics) -> None:
        self._app, self._checks, self._metrics = app, checks, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request or a WebSocket."""
        if scope["type"] in ("http", "websocket"):
            for check in self._checks:
                problem = check(scope)
                if problem is not None:
                    await send_problem(problem, self._metrics, scope, receive, send)
                    return
        await self._app(scope, receive, send)


def add_middleware(app: Starlette, config: ServiceConfig, metrics: Metrics) -> None:
    """Add the middleware that the configuration asks for, from the inside to the outside."""
    checks: list[Check] = [OriginCheck(config.cors_origins)]
    if config.rate_limit_per_minute:
        checks.append(RateLimit(config.rate_limit_per_minute, config.keys))
    if config.keys:
        checks.append(KeyCheck(config.keys))
    app.add_middleware(RequestChecks, checks, metrics)
    app.add_middleware(ConcurrencyLimit, config, metrics)
    if config.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=config.cors_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type", "X-API-Key", "X-Request-ID"],
            expose_headers=["Retry-After", "X-Request-ID"],
        )
    app.add_middleware(RequestContext, metrics, TrustedProxies(config.trusted_proxies))
