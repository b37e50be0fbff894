"""Who may ask, from where, and how often."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from service.metrics import Metrics
from service.middleware.keys import ApiKeys
from service.middleware.limits import RateLimit, Share
from service.middleware.origins import Origins
from service.middleware.proxies import Proxies
from service.middleware.request_context import RequestContext
from service.settings.config import ServiceConfig


def guard(app: Starlette, config: ServiceConfig, metrics: Metrics) -> None:
    """Put around an application what the configuration asks for, outermost its `RequestContext`."""
    app.add_middleware(guarded, config, metrics)


def guarded(app: ASGIApp, config: ServiceConfig, metrics: Metrics) -> ASGIApp:
    """An application within what the configuration asks for."""
    if config.keys:
        app = ApiKeys(app, config.keys, metrics)
    if config.rate_limit_per_minute:
        app = RateLimit(app, config.rate_limit_per_minute, config.keys, metrics)
    app = Share(app, config, metrics)
    app = Origins(app, config.cors_origins, metrics)
    if config.cors_origins:
        app = CORSMiddleware(
            app,
            allow_origins=config.cors_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type", "X-API-Key", "X-Request-ID"],
            expose_headers=["Retry-After", "X-Request-ID"],
        )
    return RequestContext(app, metrics, Proxies(config.trusted_proxies))
