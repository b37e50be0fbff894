"""A local HTTP server that misbehaves on demand."""

from __future__ import annotations

import dataclasses
import http.server
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


@dataclasses.dataclass(frozen=True)
class Answer:
    """A response of `FileServer`; by default, it sends the file.

    Attributes:
        status: HTTP status; with any other than 200, the file is not sent.
        body: bytes to send in place of the file.
        headers: additional headers.
        break_after: close the connection after this number of bytes.
        ranges: False ignores the Range header.
        shift: number of bytes by which the sent range starts too late.
        tell_length: False omits Content-Length.
        pause_seconds: pause before every 64 KiB.
    """

    status: int = 200
    body: bytes | None = None
    headers: tuple[tuple[str, str], ...] = ()
    break_after: int | None = None
    ranges: bool = True
    shift: int = 0
    tell_length: bool = True
    pause_seconds: float = 0.0


class FileServer:
    """A real HTTP server that serves `files` and misbehaves on demand.

    Each request consumes one of `answers`, then `usual` applies. `requests` logs
    (path, first requested byte, number of bytes in the response).
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes | Path] = {}
        self.answers: list[Answer] = []
        self.usual = Answer()
        self.requests: list[tuple[str, int, int]] = []
        self._closing = threading.Event()
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/{name}"

    def close(self) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                answer = server.answers.pop(0) if server.answers else server.usual
                asked = re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))
                begin = int(asked[1]) if asked else 0
                body = answer.body if answer.body is not None else server.files.get(self.path[1:])
                if isinstance(body, Path):
                    body = body.read_bytes()
                status = answer.status if body is not None else 404
                headers = list(answer.headers)
                if status != 200 or body is None:
                    data, length = b"", 0
                elif asked and answer.ranges:
                    first = begin + answer.shift
                    status = 206 if begin < len(body) else 416
                    data = body[first:]
                    length = len(data)
                    headers.append(("Content-Range", f"bytes {first}-{len(body) - 1}/{len(body)}"))
                else:
                    data, length = body, len(body)
                self.send_response(status)
                for header in headers:
                    self.send_header(*header)
                if answer.tell_length:
                    self.send_header("Content-Length", str(length))
                view, sent = memoryview(data)[: answer.break_after], 0
                server.requests.append((self.path[1:], begin, len(view)))
                try:
                    self.end_headers()
                    while sent < len(view) and not server._closing.wait(answer.pause_seconds):
                        self.wfile.write(view[sent : sent + 65536])
                        sent += 65536
                except ConnectionError:
                    pass  # the client was killed or has disconnected

            def log_message(self, *arguments: Any) -> None:
                pass

        return Handler


@pytest.fixture
def server() -> Iterator[FileServer]:
    """A local HTTP server, see `FileServer`."""
    running = FileServer()
    yield running
    running.close()
