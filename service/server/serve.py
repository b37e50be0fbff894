"""Serves until it is told to stop: in this process, or in several."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING

from service import logs
from service.server.sockets import is_for_all, listen, page_address
from service.settings.config import ServiceConfig
from vggish.common.cores import n_cores
from vggish.common.extras import import_extra
from vggish.errors import ListenError

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from service.server.process import MakeApp


NEEDED = (
    "python_multipart",
    "prometheus_client",
    "httptools",
    "uvicorn",
    "websockets",
    "fastapi",
)


def serve(config: ServiceConfig, make_app: MakeApp | None = None) -> int:
    """Serve until a signal says that it is enough.

    SIGTERM and Ctrl-C stop it: no more connections are taken, requests may end within
    `shutdown_seconds`, streams are closed; a second one ends it at once. SIGHUP loads bundles
    anew that have changed. Where the page is is told on stderr once requests are answered.

    Args:
        config: see `ServiceConfig`.
        make_app: makes an application in the place of the service's; picklable.

    Returns:
        The exit status: 0 when it was told to stop and did; 1 when it could not start, or was
        ended while there was work to be done.

    Raises:
        MissingPackageError: a package of the extra `serve` is not there.
    """
    for package in NEEDED:
        import_extra(package, extra="serve", purpose="audiotag serve")
    from service.server import process, workers

    if config.workers == 0:
        config = dataclasses.replace(config, workers=n_cores())
    try:
        sockets = listen(config.host, config.port)
    except ListenError as error:
        logs.print_to_stderr(f"error: {error}")
        return process.FAILED
    logs.configure(config)
    make_app = functools.partial(_make_app, config) if make_app is None else make_app
    on_ready = functools.partial(_tell_ready, config, sockets)
    with contextlib.ExitStack() as stack:
        for each in sockets:
            stack.enter_context(each)
        if config.workers == 1:
            return process.run(config, make_app, sockets, on_ready)
        return workers.Supervisor(config, make_app, sockets, on_ready).run()


def _make_app(config: ServiceConfig) -> ASGIApp:
    from service.app import create_app

    return create_app(config)


def _tell_ready(config: ServiceConfig, sockets: Sequence[socket.socket]) -> None:
    others = ", and on all other addresses of this machine" if is_for_all(config.host) else ""
    logs.print_to_stderr(f"listening on {page_address(config.host, sockets)} (the page){others}")
