"""Who may use the service: API keys, and the origins of pages."""

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
_UNSAFE_METHODS = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


def check_access(scope: Scope, config: ServiceConfig) -> None:
    """Check the key of a request if its path needs one; raise Problem.

    A browser cannot set headers on a WebSocket: a stream without a key is checked when its first
    message has arrived, with `check_key`.
    """
    connection = HTTPConnection(scope)
    is_stream = scope["type"] == "websocket" and path_of(scope) == "/stream"
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


def check_origin(scope: Scope, config: ServiceConfig) -> None:
    """Raise Problem for a request from a page that is neither ours nor of an allowed origin.

    A browser lets any page submit a form or open a WebSocket to any host. It sends the origin of
    the page along.
    """
    headers = Headers(scope=scope)
    origin = headers.get("origin")
    if scope["type"] == "http" and scope["method"] not in _UNSAFE_METHODS:
        return
    if origin is None or headers.get("sec-fetch-site") == "same-origin":
        return  # not a browser, or one that has compared the origins itself
    scheme, _, netloc = origin.lower().partition("://")
    port = _DEFAULT_PORTS.get(scheme, "")
    host = headers.get("host", "").lower()
    is_own = bool(host) and netloc.removesuffix(port) == host.removesuffix(port)
    if not is_own and {"*", origin.lower()}.isdisjoint(config.cors_origins):
        raise Problem(
            "forbidden",
            "the request comes from a page of another site; to allow it, add its origin to "
            "cors_origins. A proxy in front of the service must pass on the header Host",
        )
