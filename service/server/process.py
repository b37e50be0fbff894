"""One process that serves: uvicorn, which starts, stops and fails in audiotag's way."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import math
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeAlias

import uvicorn

from service.logs import LOGGED, log, print_to_stderr
from service.server.connections import Connection
from service.settings.config import ServiceConfig
from vggish.errors import AudiotagError

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send


STOPPED, FAILED = 0, 1

STOPPING_SIGNALS = (signal.SIGTERM, signal.SIGINT)

# After requests have had their time, for all else to be put away; and after a second signal.
TIDY_SECONDS, AT_ONCE_SECONDS = 10.0, 2.0

# More than proxies keep a connection that is not used, so that they do not ask on one that ends.
_KEEP_ALIVE_SECONDS = 75

# A message that is longer than what is taken can still be answered with a problem.
_MAX_MESSAGE_BYTES = 2 << 20


def run(
    config: ServiceConfig,
    make_app: MakeApp,
    sockets: Sequence[socket.socket],
    on_ready: Callable[[], None],
    hand_over: Callable[[Server], None] | None = None,
) -> int:
    """Serve in this process; the exit status, `STOPPED` or `FAILED`.

    Args:
        config: see `ServiceConfig`.
        make_app: makes the application.
        sockets: that listen; they are closed when it stops.
        on_ready: called when requests are answered.
        hand_over: called with the server before it runs, by which it can be stopped; then it is
            not by a second signal that it ends at once.
    """
    ignore_hangup()
    try:
        server = Server(config, make_app, on_ready, heeds_repetition=hand_over is None)
        if hand_over is not None:
            hand_over(server)
        return server.run_to_the_end(sockets)
    except (AudiotagError, OSError) as error:
        print_to_stderr(f"error: {error}")
        log.debug("why it could not start", exc_info=error)
    except Exception:
        log.exception("the service could not start")
    return FAILED


def ignore_hangup() -> None:
    """Until the application takes SIGHUP for its own, there is nothing to load anew."""
    if hasattr(signal, "SIGHUP") and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGHUP, signal.SIG_IGN)


@contextlib.contextmanager
def handling(
    handler: Callable[[int, FrameType | None], object] | signal.Handlers, *numbers: int
) -> Iterator[None]:
    """Handle these signals so meanwhile, if this is the main thread: only there they can be."""
    is_main = threading.current_thread() is threading.main_thread()
    before = {number: signal.signal(number, handler) for number in numbers if is_main}
    try:
        yield
    finally:
        for number, handler_before in before.items():
            signal.signal(number, handler_before)


class Server(uvicorn.Server):
    """uvicorn's server; other threads may tell it to stop.

    Args:
        config: see `ServiceConfig`.
        make_app: makes the application.
        on_ready: called when requests are answered.
        heeds_repetition: whether a second signal ends it at once. Not so a worker, to which a
            signal may come from its parent and from whoever signals all processes.
    """

    def __init__(
        self,
        config: ServiceConfig,
        make_app: MakeApp,
        on_ready: Callable[[], None],
        *,
        heeds_repetition: bool,
    ) -> None:
        self._application = _Application(make_app())
        connection: Any = functools.partial(Connection, patience_seconds=config.upload_idle_seconds)
        super().__init__(
            uvicorn.Config(
                self._application,
                http=connection,
                interface="asgi3",
                lifespan="on",
                workers=1,
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                ws_max_size=_MAX_MESSAGE_BYTES,
                ws_per_message_deflate=False,
                timeout_keep_alive=_KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=math.ceil(config.shutdown_seconds),
            )
        )
        self._config = config
        self._on_ready = on_ready
        self._heeds_repetition = heeds_repetition
        self._last_resort = threading.Timer(0, _end_process)
        self._loop: asyncio.AbstractEventLoop | None = None

    def run_to_the_end(self, sockets: Sequence[socket.socket]) -> int:
        """Serve, and stop; the exit status.

        Raises:
            Exception: what kept the application from starting.
        """
        try:
            self.run(list(sockets))
        except SystemExit:
            if self._application.error is None:
                raise
        finally:
            self._last_resort.cancel()
        if self._application.error is not None:
            raise self._application.error
        return FAILED if self.force_exit else STOPPED

    def stop(self) -> None:
        """Take no more connections, and end when requests have ended."""
        if not self.should_exit:
            log.info("stopping", extra={"seconds": self._config.shutdown_seconds})
        self._application.drain()
        self.should_exit = True

    def stop_at_once(self) -> None:
        """Drop what is being done, put away what is to be put away, and end."""
        log.warning("stopping at once")
        self.stop()
        self.force_exit = True
        self._end_within(AT_ONCE_SECONDS)
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._cancel_requests)

    def _cancel_requests(self) -> None:
        for task in list(self.server_state.tasks):
            task.cancel()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal says that it is enough."""
        if not self.should_exit:
            self.stop()
        elif self._heeds_repetition:
            self.stop_at_once()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle signals meanwhile. They do what they are to do, and so are not raised again."""
        heeded = STOPPING_SIGNALS if self._heeds_repetition else (signal.SIGTERM,)
        with handling(self.handle_exit, *heeded):
            yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Load what is to be loaded, begin to answer, and say so."""
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        if self.started and not self.should_exit:
            self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let requests end, and put all away."""
        if not self.force_exit:
            self._end_within(self._config.shutdown_seconds + TIDY_SECONDS)
        await super().shutdown(sockets)
        if self.force_exit:  # uvicorn leaves that out
            await self.lifespan.shutdown()
        ignore_hangup()
        log.info("stopped")

    def _end_within(self, seconds: float) -> None:
        """End the process then if it has not ended, for a thread may hang."""
        self._last_resort.cancel()
        self._last_resort = threading.Timer(seconds, _end_process)
        self._last_resort.daemon = True
        self._last_resort.start()


class _Application:
    """An application, and what kept it from starting, if anything did."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.error: Exception | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass everything on; an error at the start is kept rather than logged by others."""
        if scope["type"] != "lifespan":
            await self._app(scope, receive, send)
            return

        async def send_without_traceback(message: Message) -> None:
            if message["type"].endswith(".failed"):
                message = {"type": message["type"]}
            await send(message)

        try:
            await self._app(scope, receive, send_without_traceback)
        except Exception as error:
            self.error = error
            setattr(error, LOGGED, True)
            raise

    def drain(self) -> None:
        """Say that the service is not ready any more."""
        state: Any = getattr(getattr(self._app, "state", None), "audiotag", None)
        if state is not None:
            state.draining = True


def _end_process() -> None:
    log.error("what was to end did not, and is dropped")
    logging.shutdown()
    os._exit(FAILED)


# Makes the application in each process, to which it is sent.
MakeApp: TypeAlias = Callable[[], "ASGIApp"]
