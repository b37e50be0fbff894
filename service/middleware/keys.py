"""API keys."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from service.metrics import Metrics
from service.middleware.request_context import PAGE, PAGE_PREFIXES, path_of, refuse
from service.problems import Problem
from service.settings.config import ServiceConfig

# All else needs a key where there are keys.
_OPEN = frozenset(
    {PAGE, "/favicon.ico", "/examples", "/healthz", "/readyz", "/version", "/openapi.json"}
)

METRICS_PATH, _STREAM = "/metrics", "/stream"


# --- keys --------------------------------------------------------------------------------


def given_key(headers: Headers) -> str | None:
    """The key that a request has: `Authorization: Bearer KEY`, or `X-API-Key: KEY`."""
    scheme, _, key = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and key.strip():
        return key.strip()
    return headers.get("x-api-key")


def check_key(connection: HTTPConnection, config: ServiceConfig, key: str | None) -> None:
    """Refuse a key that came in another way than a header, or none that came in no way.

    Args:
        connection: whose headers may have the key.
        config: has the keys that are right; if there are none, anybody may ask.
        key: that came in a message; it goes before that of the headers.

    Raises:
        Problem: there is no key (401), or it is not one of the service's (403).
    """
    if config.keys:
        problem = _refusal(config.keys, given_key(connection.headers) if key is None else key)
        if problem is not None:
            raise problem


class ApiKeys:
    """Lets in who has a key. A page that streams has no headers; its first message is looked at."""

    def __init__(self, app: ASGIApp, keys: Sequence[str], metrics: Metrics) -> None:
        self.app = app
        self._keys = keys
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or refuse."""
        if is_protected(scope):
            key = given_key(Headers(scope=scope))
            is_stream = scope["type"] == "websocket" and path_of(scope) == _STREAM
            problem = None if key is None and is_stream else _refusal(self._keys, key)
            if problem is not None:
                await refuse(problem, self._metrics, scope, receive, send)
                return
        await self.app(scope, receive, send)


def is_protected(scope: Scope) -> bool:
    if scope["type"] not in ("http", "websocket"):
        return False
    path = path_of(scope)
    return path not in _OPEN and not path.startswith(PAGE_PREFIXES)


def _refusal(keys: Sequence[str], key: str | None) -> Problem | None:
    if key is None:
        return Problem(
            "unauthorized",
            "this needs an API key: send the header Authorization: Bearer KEY, or X-API-Key: KEY",
            headers={"WWW-Authenticate": 'Bearer realm="audiotag"'},
        )
    if not is_one_of(keys, key):
        return Problem("forbidden", "the API key is not one of the service's")
    return None


def is_one_of(keys: Sequence[str], key: str) -> bool:
    """Compare with all keys, in a time that tells nothing of them."""
    given = digest(key)
    found = False
    for each in keys:
        found |= hmac.compare_digest(given, digest(each))
    return found


def digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
