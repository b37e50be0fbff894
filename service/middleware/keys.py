"""API keys."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.types import Scope

from service.middleware.request_context import PAGE, PAGE_PREFIXES, path_of
from service.problems import Problem
from service.settings.config import ServiceConfig

# All other paths need a key if there are keys.
_PUBLIC = frozenset(
    {PAGE, "/favicon.ico", "/examples", "/healthz", "/readyz", "/version", "/openapi.json"}
)
METRICS_PATH, _STREAM_PATH = "/metrics", "/stream"


class KeyCheck:
    """Check the API key of a request.

    A browser cannot set headers on a WebSocket: a stream without a key is checked when its first
    message has arrived, with `check_key`.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        self._keys = keys

    def __call__(self, scope: Scope) -> Problem | None:
        """Check a request or a WebSocket."""
        if not is_protected(scope):
            return None
        key = key_of(Headers(scope=scope))
        if key is None and scope["type"] == "websocket" and path_of(scope) == _STREAM_PATH:
            return None
        return _key_problem(self._keys, key)


def key_of(headers: Headers) -> str | None:
    """The key in the headers: `Authorization: Bearer KEY`, or `X-API-Key: KEY`."""
    scheme, _, key = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and key.strip():
        return key.strip()
    return headers.get("x-api-key")


def check_key(connection: HTTPConnection, config: ServiceConfig, key: str | None) -> None:
    """Check the key of a message, or else of the connection's headers, if keys are configured.

    Raises Problem if there is no key (401), or it is invalid (403).
    """
    if config.keys:
        problem = _key_problem(config.keys, key_of(connection.headers) if key is None else key)
        if problem is not None:
            raise problem


def is_protected(scope: Scope) -> bool:
    """Whether a path needs a key."""
    path = path_of(scope)
    return path not in _PUBLIC and not path.startswith(PAGE_PREFIXES)


def is_valid_key(keys: Sequence[str], key: str) -> bool:
    """Compare with all keys, in a time that does not depend on them."""
    digest = key_digest(key)
    return any([hmac.compare_digest(digest, key_digest(each)) for each in keys])  # noqa: C419


def key_digest(key: str) -> bytes:
    """A hash of a key, all of one length."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def _key_problem(keys: Sequence[str], key: str | None) -> Problem | None:
    if key is None:
        return Problem(
            "unauthorized",
            "an API key is required: send the header Authorization: Bearer KEY, or X-API-Key: KEY",
            headers={"WWW-Authenticate": 'Bearer realm="audiotag"'},
        )
    return None if is_valid_key(keys, key) else Problem("forbidden", "the API key is invalid")
