"""Protection against pages of other sites."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.types import Scope

from service.problems import Problem

_UNSAFE_METHODS = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


class OriginCheck:
    """Check that a browser's request comes from our own page or from an allowed origin.

    A browser lets any page submit a form or open a WebSocket to any host. It sends the origin of
    the page along.
    """

    def __init__(self, allowed: Sequence[str]) -> None:
        self._allowed = frozenset(allowed)

    def __call__(self, scope: Scope) -> Problem | None:
        """Check a request or a WebSocket."""
        is_checked = scope["type"] == "websocket" or scope["method"] in _UNSAFE_METHODS
        if not is_checked or self._is_allowed(Headers(scope=scope)):
            return None
        return Problem(
            "forbidden",
            "the request comes from a page of another site; to allow it, add its origin to "
            "cors_origins. A proxy in front of the service must pass on the header Host",
        )

    def _is_allowed(self, headers: Headers) -> bool:
        origin = headers.get("origin")
        if origin is None or headers.get("sec-fetch-site") == "same-origin":
            return True  # not a browser, or one that has compared the origins itself
        if not self._allowed.isdisjoint({"*", origin.lower()}):
            return True
        scheme, _, netloc = origin.lower().partition("://")
        port = _DEFAULT_PORTS.get(scheme, "")
        host = headers.get("host", "").lower()
        return bool(host) and netloc.removesuffix(port) == host.removesuffix(port)
