"""Run the service with uvicorn, in this process or in several, until a signal stops it."""

from __future__ import annotations

import contextlib
import functools
import math
import multiprocessing
import os
import signal
import socket
import threading
from collections.abc import Callable, Sequence
from logging import DEBUG, ERROR, INFO, getLogger
from pathlib import Path
from types import FrameType
from typing import TypeAlias

import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.supervisors import Multiprocess

from service.app import create_app
from service.logs import LOGGED, configure, log, print_to_stderr
from service.metrics import forget_worker, shared_between_workers
from service.server.sockets import ALL, listen, page_address
from service.settings.config import ServiceConfig
from vggish.common.cores import n_cores
from vggish.errors import AudiotagError, ListenError

STOPPED, FAILED = 0, 1
# Makes the application; picklable, since each worker makes its own.
MakeApp: TypeAlias = Callable[[ServiceConfig], ASGIApp]


def serve(config: ServiceConfig, make_app: MakeApp = create_app) -> int:
    """Serve until SIGTERM or Ctrl-C.

    Then no more connections are accepted, streams are closed, and running requests have
    `shutdown_seconds` to finish. SIGHUP reloads changed bundles. The address of the page is
    printed to stderr once requests are answered.

    Returns:
        The exit status: 0 after a stop, 1 if the service could not start or Ctrl-C was repeated.
    """
    configure(config)
    if config.workers == 0:
        config = config.model_copy(update={"workers": n_cores()})
    try:
        sockets = listen(config.host, config.port)
    except ListenError as error:
        print_to_stderr(f"error: {error}")
        return FAILED
    on_ready = functools.partial(_print_address, config, sockets)
    with contextlib.ExitStack() as stack:
        for each in sockets:
            stack.enter_context(each)
        if config.workers == 1:
            app = functools.partial(_Application, config, make_app)
            return _run(_Server(_uvicorn_config(config, app), on_ready), sockets)
        directory = stack.enter_context(shared_between_workers(config.temporary_directory))
        app = functools.partial(_Application, config, make_app, directory)
        supervisor = _Supervisor(_uvicorn_config(config, app), sockets, on_ready, directory)
        getLogger("uvicorn.error").setLevel(INFO)  # it logs which worker it replaced
        supervisor.run()
        return supervisor.status


def _print_address(config: ServiceConfig, sockets: Sequence[socket.socket]) -> None:
    others = ", and on all other addresses of this machine" if config.host in ALL else ""
    print_to_stderr(f"listening on {page_address(config.host, sockets)} (the page){others}")


def _uvicorn_config(config: ServiceConfig, app: Callable[[], ASGIApp]) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        factory=True,
        interface="asgi3",
        # h11 limits a request's head to 64 KiB, and ignores upgrades to unknown protocols: Java's
        # client and `curl --http2` ask for h2c. httptools does neither, and saves 0.4 ms a request.
        http="h11",
        lifespan="on",
        workers=config.workers,
        log_config=None,
        access_log=False,
        proxy_headers=False,  # `trusted_proxies` decides
        server_header=False,
        ws_max_size=2 << 20,  # a message over the service's limit still gets a problem document
        ws_per_message_deflate=False,
        timeout_keep_alive=75,  # longer than proxies keep an idle connection
        timeout_graceful_shutdown=math.ceil(config.shutdown_seconds),
        timeout_worker_healthcheck=60,  # a worker is silent while Python imports the service
    )


class _Application:
    """The application of one process, made at startup, whose errors are reported in one line.

    The workers share a directory; there is none in a single process.
    """

    def __init__(
        self, config: ServiceConfig, make_app: MakeApp, directory: Path | None = None
    ) -> None:
        self._config, self._make_app, self._directory = config, make_app, directory
        self._app: ASGIApp
        if hasattr(signal, "SIGHUP"):
            # Until the models are loaded there is nothing to reload, and no reason to end.
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
        if directory is not None:
            configure(config)
            threading.Thread(target=_stop_with_parent, daemon=True).start()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await self._app(scope, receive, send)
            return

        async def send_without_traceback(message: Message) -> None:
            await send({"type": message["type"]})

        try:
            self._app = self._make_app(self._config)
            await self._app(scope, receive, send_without_traceback)
        except Exception as error:
            self._report(error)
            setattr(error, LOGGED, True)
            raise
        log.info("stopped")

    def _report(self, error: Exception) -> None:
        if self._directory is not None:
            # What keeps one worker from starting keeps them all: the first one reports it.
            try:
                (self._directory / "failed").touch(exist_ok=False)
            except FileExistsError:
                return
        is_expected = isinstance(error, (AudiotagError, OSError))
        if is_expected:
            print_to_stderr(f"error: {error}")
        level = DEBUG if is_expected else ERROR
        log.log(level, "the service could not start or stop", exc_info=error)


def _stop_with_parent() -> None:
    """Stop once the supervisor is gone; orphans of a killed one would hold the port."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)


class _Server(uvicorn.Server):
    """uvicorn's server, which reports when it is ready and when it stops."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if not self.should_exit:
            self._on_ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop, and on a second Ctrl-C without waiting for requests."""
        if not self.should_exit:
            log.info("stopping", extra={"seconds": self.config.timeout_graceful_shutdown})
        super().handle_exit(sig, frame)


def _run(server: _Server, sockets: list[socket.socket]) -> int:
    # uvicorn raises the signal again once it has stopped; a stop in good order is no failure.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        server.run(sockets)
    except KeyboardInterrupt:
        return FAILED if server.force_exit else STOPPED
    except SystemExit:  # of uvicorn, after an error at startup that was reported
        return FAILED
    return STOPPED


class _Supervisor(Multiprocess):
    """uvicorn's supervisor of workers, with what the documentation promises beyond it."""

    def __init__(
        self,
        config: uvicorn.Config,
        sockets: list[socket.socket],
        on_ready: Callable[[], None],
        directory: Path,
    ) -> None:
        super().__init__(config, sockets)
        self._on_ready: Callable[[], None] | None = on_ready
        self._directory = directory

    @property
    def status(self) -> int:
        """The exit status: a worker that could not start, or was killed, makes it 1."""
        stopped = {STOPPED, -signal.SIGTERM}
        return STOPPED if {each.exitcode for each in self.processes} <= stopped else FAILED

    def keep_subprocess_alive(self) -> None:
        """Replace dead workers, drop their gauges, and report when all workers are ready."""
        for each in self.processes:
            # Or the supervisor would wait for the answer of a dead worker to a health check.
            each.child_conn.close()
        before = {each.pid for each in self.processes}
        super().keep_subprocess_alive()
        for pid in before - {each.pid for each in self.processes}:
            forget_worker(pid or 0, self._directory)
        is_ready = all(each.is_ready() for each in self.processes)
        if self._on_ready and is_ready and not self.should_exit.is_set():
            self._on_ready()
            self._on_ready = None

    def handle_hup(self) -> None:
        """Let workers reload their bundles; uvicorn would replace them, and end their streams."""
        for each in self.processes:
            if each.pid and each.is_ready():
                os.kill(each.pid, signal.SIGHUP)

    def terminate_all(self) -> None:
        """Stop the workers, and refuse connections rather than leave them unanswered."""
        for each in self.sockets:
            each.close()
        super().terminate_all()
