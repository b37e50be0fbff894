"""Who may ask, from where, and how often."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from service.config import ServiceConfig
from service.context import PAGE, PAGE_PREFIXES, RequestContext, path_of, refuse
from service.metrics import Metrics
from service.problems import Problem
from service.proxies import Proxies, parse_address

# All else needs a key where there are keys.
_OPEN = frozenset(
    {PAGE, "/favicon.ico", "/examples", "/healthz", "/readyz", "/version", "/openapi.json"}
)
_METRICS, _STREAM = "/metrics", "/stream"
_CHANGING = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}
# After which a client may try again that has had too much at once: soon, some of it will end.
_RETRY_SHARE_SECONDS = 1
# Clients that are remembered. One that is forgotten is as one that was never there.
_MAX_BUCKETS = 10_000


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
        if _is_protected(scope):
            key = given_key(Headers(scope=scope))
            is_stream = scope["type"] == "websocket" and path_of(scope) == _STREAM
            problem = None if key is None and is_stream else _refusal(self._keys, key)
            if problem is not None:
                await refuse(problem, self._metrics, scope, receive, send)
                return
        await self.app(scope, receive, send)


def _is_protected(scope: Scope) -> bool:
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
    if not _is_one_of(keys, key):
        return Problem("forbidden", "the API key is not one of the service's")
    return None


def _is_one_of(keys: Sequence[str], key: str) -> bool:
    """Compare with all keys, in a time that tells nothing of them."""
    given = _digest(key)
    found = False
    for each in keys:
        found |= hmac.compare_digest(given, _digest(each))
    return found


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


# --- how often, and how much at once -----------------------------------------------------


class Buckets:
    """A bucket of tokens for each client: as many as there may be requests a minute.

    It is full at first, fills steadily, and each request takes one.

    Args:
        per_minute: tokens that a bucket holds, and that it gets in a minute.
        max_buckets: those that were longest not asked for are forgotten beyond that.
        clock: seconds.
    """

    def __init__(
        self,
        per_minute: int,
        max_buckets: int = _MAX_BUCKETS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._capacity = float(per_minute)
        self._per_second = per_minute / 60
        self._max_buckets = max_buckets
        self._clock = clock
        self._buckets: OrderedDict[object, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, client: object) -> float:
        """Take a token: 0, or after how many seconds there will be one."""
        now = self._clock()
        tokens, then = self._buckets.pop(client, (self._capacity, now))
        tokens = min(self._capacity, tokens + (now - then) * self._per_second)
        is_there = tokens >= 1
        self._buckets[client] = (tokens - is_there, now)
        if len(self._buckets) > self._max_buckets:
            self._buckets.popitem(last=False)
        return 0.0 if is_there else (1 - tokens) / self._per_second


class RateLimit:
    """So many requests a minute of each key, or of each address that has no right key."""

    def __init__(
        self, app: ASGIApp, per_minute: int, keys: Sequence[str], metrics: Metrics
    ) -> None:
        self.app = app
        self._per_minute = per_minute
        self._buckets = Buckets(per_minute)
        self._keys = keys
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or refuse."""
        if _is_limited(scope):
            seconds = self._buckets.take(_client(scope, self._keys))
            if seconds:
                problem = Problem(
                    "rate-limited",
                    f"there may be {self._per_minute} requests a minute; wait {seconds:.1f} s",
                    retry_after_seconds=seconds,
                )
                await refuse(problem, self._metrics, scope, receive, send)
                return
        await self.app(scope, receive, send)


class Share:
    """So many requests at once, and so many open streams, of each key or address.

    Without this one client could have all places for uploads, in the queue and for streams, and
    keep them for as long as it likes to be slow.
    """

    def __init__(self, app: ASGIApp, config: ServiceConfig, metrics: Metrics) -> None:
        self.app = app
        self._limits = {
            "http": (config.max_requests_per_client, "requests at once"),
            "websocket": (config.max_streams_per_client, "open streams"),
        }
        self._keys = config.keys
        self._metrics = metrics
        self._n_taken: Counter[object] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or refuse."""
        limit, what = self._limits.get(scope["type"], (0, ""))
        if not limit or not _is_limited(scope):
            await self.app(scope, receive, send)
            return
        client = (scope["type"], _client(scope, self._keys))
        if self._n_taken[client] >= limit:
            problem = Problem(
                "rate-limited",
                f"a client may have {limit} {what}; wait until one has ended",
                retry_after_seconds=_RETRY_SHARE_SECONDS,
            )
            await refuse(problem, self._metrics, scope, receive, send)
            return
        self._n_taken[client] += 1
        try:
            await self.app(scope, receive, send)
        finally:
            self._n_taken[client] -= 1
            if not self._n_taken[client]:
                del self._n_taken[client]


def _is_limited(scope: Scope) -> bool:
    return _is_protected(scope) and path_of(scope) != _METRICS


def _client(scope: Scope, keys: Sequence[str]) -> object:
    """Who asks: the right key that a request has, or else the address that it comes from."""
    key = given_key(Headers(scope=scope))
    if key is not None and _is_one_of(keys, key):
        return _digest(key)
    client = scope.get("client")
    address = parse_address(client[0]) if client else None
    if isinstance(address, ipaddress.IPv6Address):
        # One customer has a whole network of these.
        return ipaddress.ip_network((address, 64), strict=False)
    return address


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
