"""Connections handled by uvicorn for the service: headers, bodies, upgrades, pipelining."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from websockets.sync.client import connect

from service.server import sockets
from service.settings.config import ServiceConfig
from tests.support.service_apps import guarded_app, served

HEAD_BYTES = 64 << 10
LINE = b"X-More: " + b"x" * 1000 + b"\r\n"


async def refuse(request: Request) -> Response:
    return PlainTextResponse("no", 413)


async def count(request: Request) -> Response:
    n_bytes = 0
    async for part in request.stream():
        n_bytes += len(part)
    return PlainTextResponse(str(n_bytes))


@pytest.fixture
def address() -> Iterator[tuple[str, int]]:
    app = guarded_app(ServiceConfig())
    app.add_route("/refuse", refuse, methods=["POST"])
    app.add_route("/count", count, methods=["POST"])
    with served(app) as where:
        host, port = where.split(":")
        yield host, int(port)


def received_until_closed(client: socket.socket) -> bytes:
    """Read what the server sends until it closes the connection."""
    client.settimeout(60)
    said = b""
    try:
        while part := client.recv(65536):
            said += part
    except ConnectionError:
        pass
    return said


def send_until_refused(client: socket.socket, data: bytes, pause: float = 0.0) -> None:
    """Send the same bytes repeatedly until the server closes the connection."""
    end = time.monotonic() + 60
    with contextlib.suppress(ConnectionError):
        while True:
            client.sendall(data)
            assert time.monotonic() < end
            time.sleep(pause)


def test_endless_headers_are_refused(address: Any) -> None:
    with socket.create_connection(address) as client:
        client.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\n")
        send_until_refused(client, LINE)


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
        b"FOO / HTTP/1.1\r\n\r\n",
        b"POST /count HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
        b"POST /count HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
)
def test_malformed_requests_are_refused(address: Any, data: bytes) -> None:
    with socket.create_connection(address) as client:
        client.sendall(data)
        assert received_until_closed(client).startswith(b"HTTP/1.1 400 Bad Request\r\n")


def test_endless_trailers_are_refused(address: Any) -> None:
    with socket.create_connection(address) as client:
        client.sendall(
            b"POST /count HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
        )
        send_until_refused(client, LINE)


def test_headers_of_50_kilobytes_are_accepted(address: Any) -> None:
    headers = {f"X-{n}": "x" * 1000 for n in range(50)}
    answer = httpx.get("http://{}:{}/healthz".format(*address), headers=headers)
    assert answer.status_code == 200


def test_large_and_chunked_bodies_are_received_completely(address: Any) -> None:
    url = "http://{}:{}/count".format(*address)
    body = b"x" * (5 * HEAD_BYTES)
    assert httpx.post(url, content=body).text == str(len(body))
    assert httpx.post(url, content=iter([body[:7]] * 30_000)).text == str(210_000)


def test_request_answered_early_is_closed_after_a_timeout(address: Any) -> None:
    began = time.monotonic()
    with socket.create_connection(address) as client:
        client.sendall(b"POST /refuse HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n")
        assert b"413" in client.recv(4096)
        send_until_refused(client, b"x", 0.05)
    assert time.monotonic() - began > 0.9 * 1.0


def test_slow_bodies_slow_responses_and_idle_connections_are_accepted(address: Any) -> None:
    url = "http://{}:{}".format(*address)

    def slowly() -> Iterator[bytes]:
        for _ in range(4):
            time.sleep(1.0 / 2)
            yield b"abc"

    with httpx.Client(base_url=url) as client:
        assert client.post("/count", content=slowly()).text == "12"
        assert client.get("/slow", params={"seconds": 2 * 1.0}).text == "done"
        time.sleep(2 * 1.0)
        assert client.get("/healthz").status_code == 200


def test_idle_stream_stays_open(address: Any) -> None:
    with connect("ws://{}:{}/stream".format(*address)) as stream:
        time.sleep(2 * 1.0)
        stream.send("{}")
        assert stream.recv()


UPGRADES = {
    "curl": b"Connection: close, Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n",
    "twice": b"Upgrade: h2c\r\nUpgrade: a\r\nConnection: Upgrade\r\nConnection: close\r\n",
}


@pytest.mark.parametrize("upgrade", UPGRADES)
@pytest.mark.parametrize("piece_bytes", [1000, 13])
@pytest.mark.parametrize(
    "body",
    [
        b"Content-Length: 5\r\n\r\nhello",
        b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    ],
)
def test_unknown_upgrade_is_ignored_and_the_body_is_read(
    upgrade: str, piece_bytes: int, body: bytes, address: Any
) -> None:
    data = b"POST /count HTTP/1.1\r\nHost: a\r\n" + UPGRADES[upgrade] + body
    with socket.create_connection(address) as client:
        for start in range(0, len(data), piece_bytes):
            client.sendall(data[start : start + piece_bytes])
            time.sleep(0.002)  # so that the pieces arrive separately
        said = received_until_closed(client)
    assert said.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\r\nconnection: close\r\n" in said.lower()
    assert said.endswith(b"\r\n\r\n5")


def test_many_upgrades_at_once_are_ignored_too(address: Any) -> None:
    upgrade = b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
    last = b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    with socket.create_connection(address) as client:
        client.sendall(upgrade * 2000 + last)
        assert received_until_closed(client).count(b"200 OK") == 2001


def test_requests_may_be_pipelined(address: Any) -> None:
    with socket.create_connection(address) as client:
        ask = b"GET /slow?seconds=0.4 HTTP/1.1\r\nHost: a\r\n"
        client.sendall((ask + b"\r\n") * 2 + ask + b"Connection: close\r\n\r\n")
        assert received_until_closed(client).count(b"200 OK") == 3


def test_connections_end_when_the_client_stops_reading() -> None:
    if not hasattr(socket, "TCP_USER_TIMEOUT"):
        pytest.skip("needs TCP_USER_TIMEOUT")
    (listener,) = sockets.listen("127.0.0.1", 0)
    with listener, socket.create_connection(listener.getsockname()), listener.accept()[0] as taken:
        assert taken.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert taken.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 60_000
