"""HTTP connections that do not wait for ever, nor remember without end."""

from __future__ import annotations

import asyncio
import sys
import uuid
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service.logs import log
from service.problems import Problem, problem_response

# Of a request's head, or of what comes after its body; browsers and proxies allow as much.
MAX_HEAD_BYTES = 64 << 10

# What each of its lines has besides: the colon, a space, and the end.
_MORE_OF_LINE = 4

# Headers that speak of another protocol; `Connection` names them among others.
_OF_UPGRADES = frozenset({b"upgrade", b"http2-settings"})


class Connection(HttpToolsProtocol):
    """uvicorn's connection, with limits that it lacks.

    Args:
        patience_seconds: for the head of a request to arrive, from the first byte on; for the
            first one, from the connection on; and for the rest of a body that was refused.
        more: what uvicorn gives.
    """

    def __init__(self, *, patience_seconds: float, **more: Any) -> None:
        super().__init__(**more)
        self._patience_seconds = patience_seconds
        self._patience: asyncio.TimerHandle | None = None
        self._n_bytes_of_head = 0
        self._is_head_too_large = False
        # Where in the bytes that came last a head ends whose wish for a protocol is ignored.
        self._end_of_wish: int | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Somebody has come."""
        super().connection_made(transport)
        self._be_patient()

    def connection_lost(self, exc: Exception | None) -> None:
        """Somebody has left."""
        self._be_content()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes have come: of a head, unless the parser finds out that they are of a body."""
        self._n_bytes_of_head += len(data)
        super().data_received(data)
        while self._end_of_wish is not None:
            data = self._without_wish(data)
            super().data_received(data)
        if self._n_bytes_of_head > MAX_HEAD_BYTES and not self.transport.is_closing():
            self._is_head_too_large = True
            self.send_400_response("too large")

    def send_400_response(self, msg: str) -> None:
        """What came is no request: answer as to others that cannot be read, and hang up."""
        name = uuid.uuid4().hex
        told = "what was sent does not follow HTTP/1.1"
        if self._is_head_too_large:
            told = f"the head of the request is larger than {MAX_HEAD_BYTES} bytes"
        answer = problem_response(Problem("bad-request", told), name)
        headers = {"x-request-id": name, "connection": "close", **answer.headers}
        lines = ["HTTP/1.1 400 Bad Request", *(f"{k}: {v}" for k, v in headers.items()), "", ""]
        self.transport.write("\r\n".join(lines).encode("latin-1") + bytes(answer.body))
        self.transport.close()
        client = self.client[0] if self.client else None
        log.info("no request: %s", told, extra={"request_id": name, "client": client})

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        if self._patience is None:
            self._be_patient()

    def on_headers_complete(self) -> None:
        """Its head is there."""
        lines = [self.url, *(name + value for name, value in self.headers)]
        if sum(len(line) + _MORE_OF_LINE for line in lines) > MAX_HEAD_BYTES:
            self._is_head_too_large = True
            raise ValueError("the parser is to go no further")
        if self._has_vain_wish():
            return  # it comes again without the wish
        self._be_content()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A part of its body is there."""
        self._n_bytes_of_head = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """All of it is there."""
        if self._has_vain_wish():
            return
        self._be_content()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """It is answered; perhaps before all of it was there."""
        super().on_response_complete()
        if self.cycle.more_body and self._patience is None:
            self._be_patient()

    def handle_websocket_upgrade(self) -> None:
        """It becomes a WebSocket, unless what speaks WebSocket cannot read the head."""
        super().handle_websocket_upgrade()
        if not getattr(self.transport.get_protocol(), "handshake_initiated", True):
            # It would say nothing, and wait for ever.
            self.send_400_response("no request for a WebSocket")

    def _should_upgrade(self) -> bool:
        return self.parser.get_method() == b"GET" and super()._should_upgrade()

    def _has_vain_wish(self) -> bool:
        """Whether it would go on in a protocol that is not spoken here, such as h2c."""
        is_tunnel = self.parser.get_method() == b"CONNECT"
        return self.parser.should_upgrade() and not is_tunnel and not self._should_upgrade()

    def _unsupported_upgrade_warning(self) -> None:
        error = sys.exc_info()[1]
        if self._has_vain_wish() and isinstance(error, httptools.HttpParserUpgrade):
            self._end_of_wish = error.args[0]

    def _without_wish(self, data: bytes) -> bytes:
        """What a new parser is to read again; this one has stopped, and would miss the body."""
        version = self.parser.get_http_version().encode()
        lines = [b" ".join((self.parser.get_method(), self.url, b"HTTP/" + version))]
        for name, value in self.headers:
            if name == b"connection":
                tokens = (token.strip() for token in value.split(b","))
                value = b", ".join(t for t in tokens if t.lower() not in _OF_UPGRADES)
            if name not in _OF_UPGRADES:
                lines.append(name + b": " + value)
        rest, self._end_of_wish = data[self._end_of_wish :], None
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
        return b"\r\n".join((*lines, b"", b"")) + rest

    def _be_patient(self) -> None:
        self._patience = self.loop.call_later(self._patience_seconds, self.transport.close)

    def _be_content(self) -> None:
        self._n_bytes_of_head = 0
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
