"""Listening sockets, opened before anything that takes long."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Sequence

from vggish.errors import ListenError

# Hosts that stand for all addresses of this machine.
ALL = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - on request only
# A host name may have addresses of a family that this machine does not support.
_NOT_HERE = {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}


def listen(host: str, port: int) -> list[socket.socket]:
    """Listen on all addresses of a host; connections then wait until they are accepted.

    The host "::" includes all IPv4 addresses; port 0 is a free one, the same on all addresses.
    uvicorn would listen on one address only, or on several with different free ports.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:
        raise ListenError(
            f"cannot listen on the host {host!r}: it is neither an address nor a known name"
        ) from error
    sockets: list[socket.socket] = []
    reasons = []
    for family, address in dict.fromkeys((family, address) for family, *_, address in found):
        try:
            sockets.append(_open(family, (address[0], port, *address[2:])))
            port = sockets[0].getsockname()[1]
        except OSError as error:
            reasons.append(error)
    if sockets and all(reason.errno in _NOT_HERE for reason in reasons):
        return sockets
    for each in sockets:
        each.close()
    raise ListenError(_explained(reasons[-1], host, port)) from reasons[-1]


def page_address(host: str, sockets: Sequence[socket.socket]) -> str:
    """The address of the page for a browser on this machine: "http://127.0.0.1:8000/"."""
    name = ALL.get(host, host)
    return f"http://{f'[{name}]' if ':' in name else name}:{sockets[0].getsockname()[1]}/"


def _open(family: int, address: tuple[object, ...]) -> socket.socket:
    both = address[0] == "::" and socket.has_dualstack_ipv6()
    made = socket.create_server(address, family=family, backlog=2048, dualstack_ipv6=both)
    # Accepted connections inherit these.
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        # A connection ends when its client accepts no byte for a minute.
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 60_000)
    return made


def _explained(error: OSError, host: str, port: int) -> str:
    where = f"cannot listen on port {port} of {host}: "
    if error.errno == errno.EADDRINUSE:
        return f"{where}another program uses it; choose another, or --port 0 for a free one"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"{where}the system does not permit it; use a port from 1024 on"
    if error.errno in _NOT_HERE:
        return f"{where}this machine has no such address; --host 0.0.0.0 stands for all of them"
    return f"{where}{os.strerror(error.errno) if error.errno else error}"
