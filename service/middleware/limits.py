"""Rate limit and concurrency limit of each client."""

from __future__ import annotations

import contextlib
import ipaddress
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.types import Scope

from service.middleware.access import is_protected, is_valid_key, key_digest, key_of
from service.middleware.proxies import parse_address
from service.middleware.request_context import path_of
from service.problems import Problem
from service.settings.config import ServiceConfig


@dataclass(eq=False)
class TokenBuckets:
    """A token bucket for each client. A bucket starts full; each request takes a token.

    Attributes:
        per_minute: capacity of a bucket, and tokens added to it in a minute.
        max_buckets: number of clients to remember; the least recent ones are forgotten.
        clock: returns the time in seconds.
    """

    per_minute: int
    max_buckets: int = 10_000
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self._buckets: OrderedDict[object, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, client: object) -> float:
        """Take a token; return 0, or the seconds until there is one."""
        now = self.clock()
        tokens, then = self._buckets.pop(client, (self.per_minute, now))
        tokens = min(self.per_minute, tokens + (now - then) * (self.per_minute / 60))
        has_token = tokens >= 1
        self._buckets[client] = (tokens - has_token, now)
        if len(self._buckets) > self.max_buckets:
            self._buckets.popitem(last=False)
        return 0.0 if has_token else (1 - tokens) / (self.per_minute / 60)


class RateLimit:
    """Limit the requests a minute of each valid key, or of each address without one."""

    def __init__(self, config: ServiceConfig) -> None:
        self._per_minute, self._keys = config.rate_limit_per_minute, config.keys
        self._buckets = TokenBuckets(self._per_minute)

    def check(self, scope: Scope) -> None:
        """Count a request or a WebSocket; raise Problem if there are too many."""
        seconds = self._buckets.take(_client_of(scope, self._keys)) if _is_limited(scope) else 0
        if seconds:
            detail = f"the limit is {self._per_minute} requests a minute; wait {seconds:.1f} s"
            raise Problem("rate-limited", detail, retry_after_seconds=seconds)


class ConcurrencyLimit:
    """Limit the concurrent requests and the open streams of each key or address.

    Without it a single slow client could occupy all slots for uploads and streams.
    """

    def __init__(self, config: ServiceConfig) -> None:
        self._limits = {
            "http": (config.max_requests_per_client, "concurrent requests"),
            "websocket": (config.max_streams_per_client, "open streams"),
        }
        self._keys = config.keys
        self._counts: Counter[object] = Counter()

    @contextlib.contextmanager
    def hold(self, scope: Scope) -> Iterator[None]:
        """Count a request or a WebSocket during the block; raise Problem if there are too many."""
        limit, what = self._limits[scope["type"]]
        if not limit or not _is_limited(scope):
            yield
            return
        client = (scope["type"], _client_of(scope, self._keys))
        if self._counts[client] >= limit:
            raise Problem(
                "rate-limited",
                f"the limit is {limit} {what} for each client; wait until one of them has ended",
                retry_after_seconds=1,  # some of the client's requests will have ended by then
            )
        self._counts[client] += 1
        try:
            yield
        finally:
            self._counts[client] -= 1
            if not self._counts[client]:
                del self._counts[client]


def _is_limited(scope: Scope) -> bool:
    return is_protected(scope) and path_of(scope) != "/metrics"


def _client_of(scope: Scope, keys: Sequence[str]) -> object:
    key = key_of(Headers(scope=scope))
    if key is not None and is_valid_key(keys, key):
        return key_digest(key)
    client = scope.get("client")
    address = parse_address(client[0]) if client else None
    if isinstance(address, ipaddress.IPv6Address):
        # Providers assign a whole /64 network to a customer.
        return ipaddress.ip_network((address, 64), strict=False)
    return address
