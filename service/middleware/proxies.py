"""The client's address behind trusted proxies: the X-Forwarded headers."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import TypeAlias

from starlette.datastructures import Headers
from starlette.types import Scope

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address


class TrustedProxies:
    """Apply the X-Forwarded headers of trusted proxies.

    uvicorn's `ProxyHeadersMiddleware` is not enough: it ignores X-Forwarded-Host, which the check
    of origins needs, and does not recognise IPv4 proxies on a dual-stack socket (::ffff:10.0.0.1).
    """

    def __init__(self, networks: Sequence[str]) -> None:
        self._networks = [ipaddress.ip_network(network) for network in networks]

    def apply(self, scope: Scope) -> None:
        """Replace client, scheme and host of a request from a proxy by those of its client.

        Each proxy appends the address of its peer to X-Forwarded-For. The client is therefore the
        last address that is not a proxy's; everything before it is the client's own claim.
        """
        client = scope.get("client")
        if not client or not self._is_trusted(parse_address(client[0])):
            return
        headers = Headers(scope=scope)
        for text in reversed(_items(headers, "x-forwarded-for")):
            address = parse_address(text)
            if address is None:
                break
            scope["client"] = (str(address), 0)
            if not self._is_trusted(address):
                break
        schemes = _items(headers, "x-forwarded-proto")
        if schemes and schemes[-1] in ("http", "https"):
            secure = "s" if schemes[-1] == "https" else ""
            scope["scheme"] = ("ws" if scope["type"] == "websocket" else "http") + secure
        hosts = _items(headers, "x-forwarded-host")
        if hosts:
            others = [(name, value) for name, value in scope["headers"] if name != b"host"]
            scope["headers"] = [*others, (b"host", hosts[-1].encode("latin-1"))]

    def _is_trusted(self, address: Address | None) -> bool:
        return address is not None and any(address in network for network in self._networks)


def parse_address(text: str) -> Address | None:
    """Parse an IP address with or without a port; an IPv4-mapped IPv6 address becomes IPv4.

    >>> parse_address("[2001:db8::1]:443"), parse_address("::ffff:10.0.0.1"), parse_address("me")
    (IPv6Address('2001:db8::1'), IPv4Address('10.0.0.1'), None)
    """
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _items(headers: Headers, name: str) -> list[str]:
    values = headers.getlist(name)
    return [item.strip() for value in values for item in value.split(",") if item.strip()]
