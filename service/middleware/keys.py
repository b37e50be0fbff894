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


def check_access(scope: Scope, config: ServiceConfig) -> None:
    """Check the key of a request if its path needs one; raise Problem.

    A browser cannot set headers on a WebSocket: a stream without a key is checked when its first
    message has arrived, with `check_key`.
    """
    connection = HTTPConnection(scope)
    is_stream = scope["type"] == "websocket" and path_of(scope) == _STREAM_PATH
    if is_protected(scope) and not (is_stream and key_of(connection.headers) is None):
        check_key(connection, config)


def check_key(connection: HTTPConnection, config: ServiceConfig, key: str | None = None) -> None:
    """Check the key of a message, or else of the connection's headers, if keys are configured.

    Raises Problem if there is no key (401), or it is invalid (403).
    """
    key = key_of(connection.headers) if key is None else key
    if config.keys and key is None:
        raise Problem(
            "unauthorized",
            "an API key is required: send the header Authorization: Bearer KEY, or X-API-Key: KEY",
            headers={"WWW-Authenticate": 'Bearer realm="audiotag"'},
        )
    if config.keys and key is not None and not is_valid_key(config.keys, key):
        raise Problem("forbidden", "the API key is invalid")


def key_of(headers: Headers) -> str | None:
    """The key in the headers: `Authorization: Bearer KEY`, or `X-API-Key: KEY`."""
    scheme, _, key = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and key.strip():
        return key.strip()
    return headers.get("x-api-key")


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
