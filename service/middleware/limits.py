"""Rate limits and concurrency limits for each client."""

from __future__ import annotations

import ipaddress
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from service.metrics import Metrics
from service.middleware.keys import METRICS_PATH, digest, given_key, is_one_of, is_protected
from service.middleware.proxies import parse_address
from service.middleware.request_context import path_of, refuse
from service.problems import Problem
from service.settings.config import ServiceConfig

# After which a client may try again that has had too much at once: soon, some of it will end.
_RETRY_SHARE_SECONDS = 1

# Clients that are remembered. One that is forgotten is as one that was never there.
_MAX_BUCKETS = 10_000


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
    return is_protected(scope) and path_of(scope) != METRICS_PATH


def _client(scope: Scope, keys: Sequence[str]) -> object:
    """Who asks: the right key that a request has, or else the address that it comes from."""
    key = given_key(Headers(scope=scope))
    if key is not None and is_one_of(keys, key):
        return digest(key)
    client = scope.get("client")
    address = parse_address(client[0]) if client else None
    if isinstance(address, ipaddress.IPv6Address):
        # One customer has a whole network of these.
        return ipaddress.ip_network((address, 64), strict=False)
    return address
