"""Connections of clients that are slow, silent, or never come to an end."""

from __future__ import annotations

import contextlib
import functools
import json
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
from service.server.connections import MAX_HEAD_BYTES, Connection
from service.settings.config import ServiceConfig
from tests.support.service_apps import guarded_app, served

PATIENCE_SECONDS = 1.0
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
    protocol = functools.partial(Connection, patience_seconds=PATIENCE_SECONDS)
    with served(app, http=protocol) as where:
        host, port = where.split(":")
        yield host, int(port)


def said_until_closed(client: socket.socket) -> bytes:
    """What the server says before it closes a connection."""
    client.settimeout(60)
    said = b""
    try:
        while part := client.recv(65536):
            said += part
    except ConnectionError:
        pass
    return said


def send_until_refused(client: socket.socket, data: bytes, pause: float = 0.0) -> None:
    """Send the same bytes again and again, until the server has closed the connection."""
    end = time.monotonic() + 60
    with contextlib.suppress(ConnectionError):
        while True:
            client.sendall(data)
            assert time.monotonic() < end
            time.sleep(pause)


def test_a_connection_on_which_nothing_is_asked_is_closed(address: Any) -> None:
    began = time.monotonic()
    with socket.create_connection(address) as client:
        assert said_until_closed(client) == b""
    assert time.monotonic() - began > 0.9 * PATIENCE_SECONDS


@pytest.mark.parametrize("before", [b"", b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"])
def test_a_head_that_comes_in_drops_is_not_waited_for(before: bytes, address: Any) -> None:
    with socket.create_connection(address) as client:
        client.sendall(before)
        if before:
            assert b"200 OK" in client.recv(4096)
        client.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\n")
        send_until_refused(client, b"X", 0.05)


def test_a_head_without_end_is_refused(address: Any) -> None:
    with socket.create_connection(address) as client:
        client.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\n")
        send_until_refused(client, LINE)
    with socket.create_connection(address) as client:
        client.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\nX-More: " + b"x" * MAX_HEAD_BYTES)
        assert "65536 bytes" in problem_in(said_until_closed(client))["detail"]


@pytest.mark.parametrize("more", [b"", b"Connection: Upgrade\r\nUpgrade: websocket\r\n"])
@pytest.mark.parametrize("in_url", [True, False])
def test_a_whole_head_that_is_too_large_is_refused(in_url: bool, more: bytes, address: Any) -> None:
    """It may come at once."""
    url, header = (b"?" + b"x" * 65_000, b"") if in_url else (b"", b"x" * 65_000)
    head = b"POST /count" + url + b" HTTP/1.1\r\nHost: a\r\nX-More: " + header + b"\r\n" + more
    ends = {b"X: " + b"x" * n + b"\r\nContent-Length: 5\r\n\r\nhello": n > 400 for n in (200, 800)}
    for end, is_too_large in ends.items():
        with socket.create_connection(address) as client:
            client.sendall(head + b"Connection: close\r\n" + end)
            said = said_until_closed(client)
        if is_too_large:
            assert "65536 bytes" in problem_in(said)["detail"]
        else:
            assert said.startswith(b"HTTP/1.1 200 OK")


def problem_in(answer: bytes) -> dict[str, Any]:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"content-type: application/problem+json" in head
    assert b"content-length: %d\r\n" % len(body) in head
    document: dict[str, Any] = json.loads(body)
    assert f"x-request-id: {document['instance']}".encode() in head
    return document


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
        b"FOO / HTTP/1.1\r\n\r\n",
        b"POST /count HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
        b"POST /count HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
)
def test_what_is_no_request_is_told_as_a_problem(address: Any, data: bytes) -> None:
    with socket.create_connection(address) as client:
        client.sendall(data)
        document = problem_in(said_until_closed(client))
    assert document["type"] == "/problems/bad-request"
    assert "HTTP" in document["detail"]


def test_what_follows_a_body_without_end_is_refused(address: Any) -> None:
    with socket.create_connection(address) as client:
        client.sendall(
            b"POST /count HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
        )
        send_until_refused(client, LINE)


def test_a_head_of_an_honest_size_is_taken(address: Any) -> None:
    headers = {f"X-{n}": "x" * 1000 for n in range(50)}
    answer = httpx.get("http://{}:{}/healthz".format(*address), headers=headers)
    assert answer.status_code == 200


def test_large_bodies_are_taken_whole_also_in_pieces(address: Any) -> None:
    url = "http://{}:{}/count".format(*address)
    body = b"x" * (5 * MAX_HEAD_BYTES)
    assert httpx.post(url, content=body).text == str(len(body))
    assert httpx.post(url, content=iter([body[:7]] * 30_000)).text == str(210_000)


def test_what_is_answered_early_is_not_listened_to_for_ever(address: Any) -> None:
    began = time.monotonic()
    with socket.create_connection(address) as client:
        client.sendall(b"POST /refuse HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n")
        assert b"413" in client.recv(4096)
        send_until_refused(client, b"x", 0.05)
    assert time.monotonic() - began > 0.9 * PATIENCE_SECONDS


def test_slow_bodies_slow_answers_and_idle_connections_are_no_fault(address: Any) -> None:
    url = "http://{}:{}".format(*address)

    def slowly() -> Iterator[bytes]:
        for _ in range(4):
            time.sleep(PATIENCE_SECONDS / 2)
            yield b"abc"

    with httpx.Client(base_url=url) as client:
        assert client.post("/count", content=slowly()).text == "12"
        assert client.get("/slow", params={"seconds": 2 * PATIENCE_SECONDS}).text == "done"
        time.sleep(2 * PATIENCE_SECONDS)
        assert client.get("/healthz").status_code == 200


def test_a_stream_may_be_silent_for_longer(address: Any) -> None:
    with connect("ws://{}:{}/stream".format(*address)) as stream:
        time.sleep(2 * PATIENCE_SECONDS)
        stream.send("{}")
        assert stream.recv()


WISHES = {
    "curl": b"Connection: close, Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n",
    "websocket": b"Connection: close, Upgrade\r\nUpgrade: websocket\r\n",
    "twice": b"Upgrade: h2c\r\nUpgrade: a\r\nConnection: Upgrade\r\nConnection: close\r\n",
}


@pytest.mark.parametrize("wish", WISHES)
@pytest.mark.parametrize("piece_bytes", [1000, 13])
@pytest.mark.parametrize(
    "body",
    [
        b"Content-Length: 5\r\n\r\nhello",
        b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    ],
)
def test_a_wish_for_another_protocol_is_ignored_and_the_body_is_not(
    wish: str, piece_bytes: int, body: bytes, address: Any
) -> None:
    data = b"POST /count HTTP/1.1\r\nHost: a\r\n" + WISHES[wish] + body
    with socket.create_connection(address) as client:
        for start in range(0, len(data), piece_bytes):
            client.sendall(data[start : start + piece_bytes])
            time.sleep(0.002)  # or the pieces come as one
        said = said_until_closed(client)
    assert said.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\r\nconnection: close\r\n" in said
    assert said.endswith(b"\r\n\r\n5")


def test_many_wishes_at_once_are_ignored_too(address: Any) -> None:
    wish = b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
    last = b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    with socket.create_connection(address) as client:
        client.sendall(wish * 2000 + last)
        assert said_until_closed(client).count(b"200 OK") == 2001


@pytest.mark.parametrize(
    "more", [b"Content-Length: 5\r\n", b"X-More: " + b"x" * 10_000 + b"\r\n", b"X: x\r\n" * 200]
)
def test_a_websocket_that_cannot_be_understood_is_told(more: bytes, address: Any) -> None:
    head = b"GET /stream HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    with socket.create_connection(address) as client:
        client.sendall(head + more + b"\r\n")
        assert "HTTP" in problem_in(said_until_closed(client))["detail"]


def test_requests_may_come_before_answers(address: Any) -> None:
    with socket.create_connection(address) as client:
        ask = b"GET /slow?seconds=0.4 HTTP/1.1\r\nHost: a\r\n"
        client.sendall((ask + b"\r\n") * 2 + ask + b"Connection: close\r\n\r\n")
        assert said_until_closed(client).count(b"200 OK") == 3


def test_connections_end_when_the_other_end_takes_nothing() -> None:
    if not hasattr(socket, "TCP_USER_TIMEOUT"):
        pytest.skip("this system cannot be told to")
    (listener,) = sockets.listen("127.0.0.1", 0)
    with listener, socket.create_connection(listener.getsockname()), listener.accept()[0] as taken:
        assert taken.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert taken.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 60_000
