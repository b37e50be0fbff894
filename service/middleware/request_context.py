"""The context of each request: its id, its line in the log, its count, and security headers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import time
import uuid

import anyio
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect
from uvicorn.protocols.utils import ClientDisconnected

from service.logs import LOGGED, log, request_id
from service.metrics import Metrics
from service.middleware.proxies import TrustedProxies
from service.problems import Problem, problem_response

API_VERSION = "1"
API_PREFIX = f"/v{API_VERSION}"
# The page and its files; all other paths are the API.
PAGE, PAGE_PREFIXES = "/", ("/static/", "/examples/", "/problems/")
CLIENT_GONE = 499  # nginx's status of a request whose client left before the response
DISCARD_SECONDS = 10.0  # how long the rest of a refused upload is read
_PROBES = frozenset({"/healthz", "/readyz", "/metrics"})
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "WEBSOCKET"})
_SAFE_ID = re.compile(r"[\w.-]{1,64}", re.ASCII)

# A page that needs more sets its own policy.
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; worker-src 'self' blob:; connect-src 'self'; "
    "media-src 'self' blob:; img-src 'self' data: blob:; style-src 'self'; font-src 'self'; "
    "manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_API_POLICY = "default-src 'none'; frame-ancestors 'none'"
_SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
}


class RequestContext:
    """The outermost middleware. Every request gets a response, whatever happens inside.

    A safe id in the header X-Request-ID is kept, otherwise a new one is made; it is in the log, in
    problem documents and in the response. An unexpected exception is logged with its traceback
    and answered with the problem `internal`.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, proxies: TrustedProxies) -> None:
        self._app, self._metrics, self._proxies = app, metrics, proxies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request or a WebSocket."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        given_id = Headers(scope=scope).get("x-request-id", "")
        token = request_id.set(given_id if _SAFE_ID.fullmatch(given_id) else uuid.uuid4().hex)
        self._proxies.apply(scope)
        exchange = _Exchange(scope, receive, send)
        if exchange.method == "HEAD":
            # Handled as GET; the server omits the body.
            scope = {**scope, "method": "GET"}
        try:
            await self._handle(exchange, scope)
        finally:
            self._record(exchange, scope)
            request_id.reset(token)

    async def _handle(self, exchange: _Exchange, scope: Scope) -> None:
        try:
            await self._app(scope, exchange.receive, exchange.send)
        except (ClientDisconnect, ClientDisconnected, WebSocketDisconnect):
            log.debug("the client has disconnected")
        except asyncio.CancelledError as stopped:
            # The server stops, and has waited for as long as it may.
            setattr(stopped, LOGGED, True)
            problem = Problem(
                "not-ready",
                "the service is stopping; send the request again",
                retry_after_seconds=5,  # another process may have replaced this one by then
                headers={"Connection": "close"},  # no time to read the rest of the body either
            )
            with contextlib.suppress(Exception):
                await self._send_problem(problem, exchange, scope)
            raise
        except Exception as error:
            log.exception("a request failed unexpectedly")
            setattr(error, LOGGED, True)
            detail = f"the service failed; see request {request_id.get()} in its log"
            await self._send_problem(Problem("internal", detail), exchange, scope)
            if not exchange.is_complete:
                raise  # after half a response: the server closes the connection

    async def _send_problem(self, problem: Problem, exchange: _Exchange, scope: Scope) -> None:
        """Send a problem, unless the response has started already."""
        if not exchange.has_started:
            await send_problem(problem, self._metrics, scope, exchange.receive, exchange.send)
        elif scope["type"] == "websocket" and not exchange.is_complete:
            await exchange.send({"type": "websocket.close", "code": 1011})

    def _record(self, exchange: _Exchange, scope: Scope) -> None:
        seconds = time.perf_counter() - exchange.started
        method = exchange.method if exchange.method in _METHODS else "other"
        self._metrics.request(_route_of(scope, exchange.path), method, exchange.status, seconds)
        level = logging.DEBUG if exchange.path in _PROBES else logging.INFO
        extra = {
            "method": method,
            "path": exchange.path,
            "status": exchange.status,
            "seconds": round(seconds, 4),
            "client": (scope.get("client") or [None])[0],
        }
        log.log(level, "%s %s %d", method, exchange.path, exchange.status, extra=extra)


class _Exchange:
    """A request and the state of its response; adds headers to the response.

    Most clients read the response only after they have sent their whole body. The rest of a
    refused upload is therefore read and dropped, so that the client receives the problem document
    instead of a reset connection. An upload that does not end in time is cut off.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.started = time.perf_counter()
        self.status = CLIENT_GONE
        self.has_started = self.is_complete = False
        # Now, because the routers inside change the scope.
        self.path = path_of(scope)
        self.method: str = scope.get("method", "WEBSOCKET")
        self._receive, self._send = receive, send
        self._is_body_complete = scope["type"] != "http"
        # A client that expects 100 sends its body only once it is read.
        self._is_body_expected = "expect" not in Headers(scope=scope)

    async def receive(self) -> Message:
        self._is_body_expected = True
        message = await self._receive()
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            self._is_body_complete = True
        return message

    async def send(self, message: Message) -> None:
        kind = message["type"]
        if kind in ("http.response.start", "websocket.http.response.start"):
            message.setdefault("headers", [])
            headers = MutableHeaders(scope=message)
            if message["status"] >= 400 and "connection" not in headers:
                await self._discard_body()
                if not self._is_body_complete:
                    headers["Connection"] = "close"
            # Not before: while the body is discarded, another response may take its place.
            self.has_started, self.status = True, message["status"]
            self._add_headers(headers)
        elif kind == "websocket.accept":
            self.has_started, self.status = True, 101
            message.setdefault("headers", [])
            MutableHeaders(scope=message)["X-Request-ID"] = request_id.get()
        elif kind == "websocket.close":
            if not self.has_started:
                self.status = 403  # the server's response
            self.has_started = self.is_complete = True
        elif not message.get("more_body", False) and kind != "websocket.send":
            self.is_complete = True
        await self._send(message)

    async def _discard_body(self) -> None:
        with anyio.move_on_after(DISCARD_SECONDS):
            while self._is_body_expected and not self._is_body_complete:
                await self.receive()

    def _add_headers(self, headers: MutableHeaders) -> None:
        headers["X-Request-ID"] = request_id.get()
        for name, value in _SECURITY_HEADERS.items():
            headers.setdefault(name, value)
        is_page = self.path == PAGE or self.path.startswith(PAGE_PREFIXES)
        headers.setdefault("Content-Security-Policy", PAGE_POLICY if is_page else _API_POLICY)
        if not is_page or self.status >= 400:
            headers.setdefault("Cache-Control", "no-store")


async def send_problem(
    problem: Problem, metrics: Metrics, scope: Scope, receive: Receive, send: Send
) -> None:
    """Answer a request, or a WebSocket that is not accepted yet, with a problem; count it."""
    metrics.errors.labels(problem.slug).inc()
    extensions = scope.get("extensions", {})
    if scope["type"] == "websocket" and "websocket.http.response" not in extensions:
        await send({"type": "websocket.close", "code": 1008, "reason": problem.slug})
        return
    await problem_response(problem, request_id.get())(scope, receive, send)


def path_of(scope: Scope) -> str:
    """The path of a request without the prefixes of the proxy and of the API version."""
    path: str = scope["path"]
    for prefix in (scope.get("root_path", ""), API_PREFIX):
        if prefix and path.startswith(f"{prefix}/"):
            path = path[len(prefix) :]
    return path


def _route_of(scope: Scope, path: str) -> str:
    """The route's pattern, for metrics: there are few of them."""
    for folder in PAGE_PREFIXES:
        if path.startswith(folder):
            return f"{folder}*"
    pattern = getattr(scope.get("route"), "path", None)
    return pattern.removeprefix(API_PREFIX) if isinstance(pattern, str) else "other"
