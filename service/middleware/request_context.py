"""Around each request: its id, its line in the log, its count, and headers that keep it safe."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import time
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect
from uvicorn.protocols.utils import ClientDisconnected

from service.logs import LOGGED, log, request_id
from service.metrics import Metrics
from service.middleware.proxies import Proxies
from service.middleware.refused_bodies import Body
from service.problems import Problem, problem_response, stopping

API_VERSION = "1"

API_PREFIX = f"/v{API_VERSION}"

# What a browser may get from the service besides its answers: pages, and what belongs to them.
PAGE, PAGE_PREFIXES = "/", ("/static/", "/examples/", "/problems/")

_PROBES = frozenset({"/healthz", "/readyz", "/metrics"})

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

# What logs of proxies say of a client that left before it was answered.
CLIENT_GONE = 499

_SAFE_ID = re.compile(r"[\w.-]{1,64}", re.ASCII)

# A page that needs more says so itself.
PAGE_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "worker-src 'self' blob:",
        "connect-src 'self'",
        "media-src 'self' blob:",
        "img-src 'self' data: blob:",
        "style-src 'self'",
        "font-src 'self'",
        "manifest-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)

_API_POLICY = "default-src 'none'; frame-ancestors 'none'"

_SAFE_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
}


class RequestContext:
    """The outermost part: nothing gets out of it but answers.

    An id that the client sends in X-Request-ID is kept if it is safe, else there is a new one;
    it is in the log, in problems, and in the answer. An exception that nobody has turned into an
    answer is logged with its traceback and told as the problem `internal`.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, proxies: Proxies) -> None:
        self.app = app
        self._metrics = metrics
        self._proxies = proxies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or converse over one WebSocket."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        asked_id = Headers(scope=scope).get("x-request-id", "")
        token = request_id.set(asked_id if _SAFE_ID.fullmatch(asked_id) else uuid.uuid4().hex)
        self._proxies.see_through(scope)
        body = Body(scope, receive)
        exchange = _Exchange(scope, body, send)
        if exchange.method == "HEAD":
            # Answered as GET is; the server below leaves the body out.
            scope = {**scope, "method": "GET"}
        try:
            await self._answer(exchange, scope, body.receive)
        finally:
            self._note(exchange, scope)
            request_id.reset(token)

    async def _answer(self, exchange: _Exchange, scope: Scope, receive: Receive) -> None:
        try:
            await self.app(scope, receive, exchange.send)
        except (ClientDisconnect, ClientDisconnected, WebSocketDisconnect):
            log.debug("the client has left")
        except asyncio.CancelledError as stopped:
            # The server stops, and has waited for as long as it may.
            setattr(stopped, LOGGED, True)
            problem = stopping()
            # Nor is there time for the rest of a body.
            problem.headers["Connection"] = "close"
            with contextlib.suppress(Exception):
                await self._tell(problem, exchange, scope, receive)
            raise
        except Exception as error:
            log.exception("a request failed in a way that nobody expected")
            setattr(error, LOGGED, True)
            detail = f"the service failed; its log says more of the request {request_id.get()}"
            if not await self._tell(Problem("internal", detail), exchange, scope, receive):
                raise  # half an answer is out: the server below cuts the connection

    async def _tell(
        self, problem: Problem, exchange: _Exchange, scope: Scope, receive: Receive
    ) -> bool:
        """Answer with a problem, unless an answer has begun; whether one is complete now."""
        if not exchange.has_begun:
            await refuse(problem, self._metrics, scope, receive, exchange.send)
        elif scope["type"] == "websocket" and not exchange.is_complete:
            await exchange.send({"type": "websocket.close", "code": 1011})
        return exchange.is_complete

    def _note(self, exchange: _Exchange, scope: Scope) -> None:
        seconds = time.perf_counter() - exchange.began
        method = exchange.method
        method = method if method in _METHODS or method == "WEBSOCKET" else "other"
        self._metrics.request(_route_of(scope, exchange.path), method, exchange.status, seconds)
        client = scope.get("client")
        level = logging.DEBUG if exchange.path in _PROBES else logging.INFO
        if log.isEnabledFor(level):
            told = {
                "method": method,
                "path": exchange.path,
                "status": exchange.status,
                "seconds": round(seconds, 4),
                "client": client[0] if client else None,
            }
            log.log(level, "%s %s %d", method, exchange.path, exchange.status, extra=told)


class _Exchange:
    """What has been answered so far; adds the headers to it."""

    def __init__(self, scope: Scope, body: Body, send: Send) -> None:
        self.began = time.perf_counter()
        self.status = CLIENT_GONE
        self.has_begun = self.is_complete = False
        # As it is now; what answers leaves its own mark on the scope.
        self.path = path_of(scope)
        self._body = body
        self.method: str = scope.get("method", "WEBSOCKET")
        self._send = send

    async def send(self, message: Message) -> None:
        """Send a part of the answer."""
        kind = message["type"]
        if kind in ("http.response.start", "websocket.http.response.start"):
            message.setdefault("headers", [])
            headers = MutableHeaders(scope=message)
            if message["status"] >= 400 and "connection" not in headers:
                await self._end_body(headers)
            # Not before: until the rest of the body is there another answer may take its place.
            self.has_begun, self.status = True, message["status"]
            self._secure(headers)
        elif kind == "websocket.accept":
            self.has_begun, self.status = True, 101
            message.setdefault("headers", [])
            MutableHeaders(scope=message)["X-Request-ID"] = request_id.get()
        elif kind == "websocket.close":
            if not self.has_begun:
                self.status = 403  # what the server below makes of it
            self.has_begun = self.is_complete = True
        elif not message.get("more_body", False) and kind != "websocket.send":
            self.is_complete = True
        await self._send(message)

    async def _end_body(self, headers: MutableHeaders) -> None:
        if not await self._body.discard():
            headers["Connection"] = "close"

    def _secure(self, headers: MutableHeaders) -> None:
        headers["X-Request-ID"] = request_id.get()
        for name, value in _SAFE_HEADERS.items():
            headers.setdefault(name, value)
        is_page = _is_page(self.path)
        headers.setdefault("Content-Security-Policy", PAGE_POLICY if is_page else _API_POLICY)
        if not is_page or self.status >= 400:
            headers.setdefault("Cache-Control", "no-store")


async def refuse(
    problem: Problem, metrics: Metrics, scope: Scope, receive: Receive, send: Send
) -> None:
    """Answer with a problem, also in place of a WebSocket; count it."""
    metrics.error(problem.slug)
    if scope["type"] == "websocket" and "websocket.http.response" not in scope.get(
        "extensions", {}
    ):
        await send({"type": "websocket.close", "code": 1008, "reason": problem.slug})
        return
    await problem_response(problem, request_id.get())(scope, receive, send)


def path_of(scope: Scope) -> str:
    """The path within the service: without the proxy's part of it, and without the version."""
    path: str = scope["path"]
    for prefix in (scope.get("root_path", ""), API_PREFIX):
        if prefix and path.startswith(f"{prefix}/"):
            path = path[len(prefix) :]
    return path


def _route_of(scope: Scope, path: str) -> str:
    """The pattern of the path, of which there are few, for the counts."""
    for folder in PAGE_PREFIXES:
        if path.startswith(folder):
            return f"{folder}*"
    pattern = getattr(scope.get("route"), "path", None)
    return pattern.removeprefix(API_PREFIX) if isinstance(pattern, str) else "other"


def _is_page(path: str) -> bool:
    return path == PAGE or path.startswith(PAGE_PREFIXES)
