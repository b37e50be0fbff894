"""HTTP connections that do not wait for ever, nor remember without end."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service.logs import log
from service.problems import Problem, problem_response

# Of a request's head, or of what comes after its body; browsers and proxies allow as much.
MAX_HEAD_BYTES = 64 << 10


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
        if self._n_bytes_of_head > MAX_HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response(f"the head of the request is larger than {MAX_HEAD_BYTES} bytes")

    def send_400_response(self, msg: str) -> None:
        """What came is no request: answer as to others that cannot be read, and hang up."""
        name = uuid.uuid4().hex
        told = msg if msg.startswith("the head") else "what was sent does not follow HTTP/1.1"
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
        self._be_content()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A part of its body is there."""
        self._n_bytes_of_head = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """All of it is there."""
        self._be_content()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """It is answered; perhaps before all of it was there."""
        super().on_response_complete()
        if self.cycle.more_body and self._patience is None:
            self._be_patient()

    def _be_patient(self) -> None:
        self._patience = self.loop.call_later(self._patience_seconds, self.transport.close)

    def _be_content(self) -> None:
        self._n_bytes_of_head = 0
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
