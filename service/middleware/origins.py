"""Which web pages may use the service."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from service.metrics import Metrics
from service.middleware.request_context import refuse
from service.problems import Problem

_CHANGING = frozenset({"POST", "PUT", "PATCH", "DELETE"})

_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


# --- from where --------------------------------------------------------------------------


class Origins:
    """Keeps pages of other sites from working the service through the browsers of its users.

    A browser lets any page open a WebSocket to any host, and send a form there; it tells the
    page's origin. That must be the service itself, or among those that are allowed.
    """

    def __init__(self, app: ASGIApp, allowed: Sequence[str], metrics: Metrics) -> None:
        self.app = app
        self._allowed = frozenset(allowed)
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or refuse."""
        is_asked = scope["type"] == "websocket" or scope.get("method") in _CHANGING
        if is_asked and not self._is_welcome(scope):
            problem = Problem(
                "forbidden",
                "a page of another site asks; if it is to, the service needs its origin among "
                "cors_origins, and a proxy between must pass the header Host on",
            )
            await refuse(problem, self._metrics, scope, receive, send)
            return
        await self.app(scope, receive, send)

    def _is_welcome(self, scope: Scope) -> bool:
        headers = Headers(scope=scope)
        origin = headers.get("origin")
        if origin is None or headers.get("sec-fetch-site") == "same-origin":
            return True  # no browser, or one that has compared by itself
        if not self._allowed.isdisjoint({"*", origin.lower()}):
            return True
        scheme, _, netloc = origin.lower().partition("://")
        port = _DEFAULT_PORTS.get(scheme, "")
        host = headers.get("host", "").lower()
        return bool(host) and netloc.removesuffix(port) == host.removesuffix(port)
