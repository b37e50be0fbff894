"""Who asks, when proxies that are trusted stand between: the headers X-Forwarded-..."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import TypeAlias

from starlette.datastructures import Headers
from starlette.types import Scope

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address


class Proxies:
    """The proxies that are believed.

    Args:
        networks: their addresses or networks.
    """

    def __init__(self, networks: Sequence[str]) -> None:
        self._networks = [ipaddress.ip_network(network) for network in networks]

    def see_through(self, scope: Scope) -> None:
        """Where a proxy asks, put what the client asked it in the place of what it asks.

        Each proxy adds the address that it was asked from to the end of X-Forwarded-For. So the
        client is the last one that is no proxy of ours; what stands before it was said by the
        client, and is not believed.
        """
        client = scope.get("client")
        if not client or not self._has(parse_address(client[0])):
            return
        headers = Headers(scope=scope)
        for text in reversed(_items(headers, "x-forwarded-for")):
            address = parse_address(text)
            if address is None:
                break
            scope["client"] = (str(address), 0)
            if not self._has(address):
                break
        schemes = _items(headers, "x-forwarded-proto")
        if schemes and schemes[-1] in ("http", "https"):
            secure = "s" if schemes[-1] == "https" else ""
            scope["scheme"] = ("ws" if scope["type"] == "websocket" else "http") + secure
        hosts = _items(headers, "x-forwarded-host")
        if hosts:
            others = [(name, value) for name, value in scope["headers"] if name != b"host"]
            scope["headers"] = [*others, (b"host", hosts[-1].encode("latin-1"))]

    def _has(self, address: Address | None) -> bool:
        return address is not None and any(address in network for network in self._networks)


def parse_address(text: str) -> Address | None:
    """An address, also with a port; one of IPv4 as such also where it is written as IPv6.

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
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _items(headers: Headers, name: str) -> list[str]:
    """The items of a header that is a list, and may come in several lines."""
    values = headers.getlist(name)
    return [item.strip() for value in values for item in value.split(",") if item.strip()]
