"""The sockets that the service listens on, opened before anything that takes long."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Sequence

from vggish.errors import ListenError

_BACKLOG = 2048

# That a client may take no byte of what is sent to it.
_SILENCE_MILLISECONDS = 60_000

_ALL = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - only when it is asked for

# A name may have addresses of a family that this machine does not speak.
_NOT_HERE = {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}


def listen(host: str, port: int) -> list[socket.socket]:
    """Listen on all addresses of a host.

    From now on connections are taken, and wait until they are accepted.

    Args:
        host: a name or an address; "::" is all of IPv4, too.
        port: 0 for a free one, the same on all addresses.

    Raises:
        ListenError: the host is none of this machine, or the port is taken or forbidden.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:
        raise ListenError(
            f"cannot listen on the host {host!r}: it is no address and no known name"
        ) from error
    places = list(dict.fromkeys((family, address) for family, _, _, _, address in found))
    sockets: list[socket.socket] = []
    reasons = []
    for family, address in places:
        at = sockets[0].getsockname()[1] if sockets else port
        try:
            sockets.append(_open(family, (address[0], at, *address[2:]), alone=len(places) == 1))
        except OSError as error:
            reasons.append(error)
            if error.errno not in _NOT_HERE:
                break
    if sockets and all(reason.errno in _NOT_HERE for reason in reasons):
        return sockets
    for each in sockets:
        each.close()
    raise ListenError(_explained(reasons[-1], host, port)) from reasons[-1]


def page_address(host: str, sockets: Sequence[socket.socket]) -> str:
    """Where a browser on this machine finds the page: "http://127.0.0.1:8000/"."""
    name = _ALL.get(host, host)
    return f"http://{f'[{name}]' if ':' in name else name}:{sockets[0].getsockname()[1]}/"


def is_for_all(host: str) -> bool:
    """Whether this is all addresses of the machine."""
    return host in _ALL


def _open(family: int, address: tuple[object, ...], *, alone: bool) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "posix":
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            both = alone and address[0] == "::" and socket.has_dualstack_ipv6()
            with contextlib.suppress(OSError):
                made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not both)
        _drop_the_silent(made)
        made.bind(address)
        made.listen(_BACKLOG)
    except BaseException:
        made.close()
        raise
    return made


def _drop_the_silent(made: socket.socket) -> None:
    """Let the system end connections, which inherit this, to clients that take no bytes."""
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _SILENCE_MILLISECONDS)


def _explained(error: OSError, host: str, port: int) -> str:
    where = f"cannot listen on port {port} of {host}: "
    if error.errno == errno.EADDRINUSE:
        return f"{where}another program does; take another one, or a free one with --port 0"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"{where}the system does not permit it; ports from 1024 on are free for all"
    if error.errno in _NOT_HERE:
        return f"{where}this machine has no such address; --host 0.0.0.0 is all that it has"
    return f"{where}{error.strerror or error}"
