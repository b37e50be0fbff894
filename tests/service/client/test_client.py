"""The client, with a fake service on a real HTTP server that can misbehave."""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import pickle
import socket
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import service
from service.client.client import AsyncClient, Client
from service.client.outcomes import retry_after_seconds
from vggish.errors import (
    AudioError,
    AudiotagError,
    OptionError,
    ServiceError,
    ServiceUnreachableError,
)

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")

from fastapi.responses import HTMLResponse, JSONResponse, Response

from tests.support.fake_service import EMBEDDER, MODEL, FakeService, Send, busy, problem


@pytest.fixture(scope="module")
def _running() -> Iterator[FakeService]:
    fake = FakeService()
    yield fake
    fake.close()


@pytest.fixture
def fake(_running: FakeService) -> FakeService:
    _running.reset()
    return _running


class EitherClient:
    """The sync or the async client, with the interface of the sync one."""

    def __init__(self, url: str, is_async: bool, **options: Any) -> None:
        self._is_async = is_async
        self._options = (url, options)

    def __getattr__(self, name: str) -> Any:
        url, options = self._options

        async def use_async(*arguments: Any, **choices: Any) -> Any:
            async with AsyncClient(url, **options) as client:
                return await getattr(client, name)(*arguments, **choices)

        def use(*arguments: Any, **choices: Any) -> Any:
            if self._is_async:
                return asyncio.run(use_async(*arguments, **choices))
            with Client(url, **options) as client:
                return getattr(client, name)(*arguments, **choices)

        return use


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def connect(request: pytest.FixtureRequest, fake: FakeService) -> Callable[..., Any]:
    """Make a client of the fake service, or of another address."""
    return lambda url=fake.url, **options: EitherClient(url, request.param, **options)


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Record the pauses of the clients in place of sleeping."""
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr("service.client.client.time.sleep", slept.append)
    monkeypatch.setattr("anyio.sleep", sleep)
    return slept


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


SOUND = bytes(range(256)) * 3000  # several chunks


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    path = tmp_path / "dir" / "a.wav"
    path.parent.mkdir()
    path.write_bytes(SOUND)
    return path


class Pipe(io.RawIOBase):
    """A stream that is not seekable."""

    def __init__(self, data: bytes) -> None:
        self._rest = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1) -> bytes:
        return self._rest.read(size)


# --- requests and results ------------------------------------------------------------------


def test_every_kind_of_source_is_sent_completely(connect: Any, sound: Path) -> None:
    client = connect()
    with open(sound, "rb") as file:
        tagged = [client.classify(source) for source in (sound, str(sound), SOUND, file)]
        file.seek(100)
        part = client.classify(file)
        assert not file.closed
    tagged.append(client.classify(memoryview(SOUND)))
    tagged.append(client.classify(Pipe(SOUND)))
    assert {tags.tags[0].label for tags in tagged} == {sha256(SOUND)}
    assert part.tags[0].label == sha256(SOUND[100:])


def test_only_the_last_part_of_the_name_is_sent(
    connect: Any, sound: Path, fake: FakeService
) -> None:
    odd = sound.with_name(os.fsdecode(b'a"b\n\xe9.wav'))
    odd.write_bytes(SOUND)
    client = connect()
    client.classify(sound)
    client.classify(SOUND, name="there/b.flac")
    client.classify(SOUND)
    client.classify(odd)
    assert fake.names == ["a.wav", "b.flac", "audio bytes", "a%22b%0A\\udce9.wav"]
    assert {"content-length", "transfer-encoding"} & fake.requests[0][2].keys() == {
        "content-length"
    }


def test_options_are_sent_and_results_read(connect: Any, fake: FakeService) -> None:
    tags = connect().classify(
        b"x", top_k=3, threshold=0.25, labels=["Dog", "Cat, wild"], exclude_labels=("Cow",),
        frames=True, segments=True, model="tiny",
    )  # fmt: skip
    method, path, _ = fake.requests[0]
    assert method == "POST"
    assert path == (
        "/classify?top_k=3&threshold=0.25&labels=Dog&labels=Cat%2C+wild&exclude_labels=Cow"
        "&frames=true&segments=true&model=tiny"
    )
    assert [frame.start_seconds for frame in tags.frames] == [0.0]
    assert [span.end_seconds for span in tags.segments] == [0.96]
    assert (tags.duration_seconds, tags.model, tags.embedder) == (1.0, MODEL, EMBEDDER)
    assert (tags.warnings, tags.request_id, tags.tracks) == (("odd",), "id-7", None)
    assert tags.timings == {"total": 0.1}
    plain = connect().classify(b"x")
    assert (plain.frames, plain.segments) == (None, None)
    tracks = connect().classify(b"x", tracks=True).tracks
    np.testing.assert_array_equal(tracks.scores, np.float32([[0.5], [0.25]]))
    np.testing.assert_array_equal(tracks.start_seconds, [0.0, 0.96])


def test_a_batch_returns_tags_or_an_error_for_each_clip(connect: Any, sound: Path) -> None:
    first, second, third = connect().classify_batch([sound, b"", b"y"], top_k=1)
    assert first.tags[0].label == sha256(SOUND)
    assert isinstance(second, ServiceError)
    assert (second.type, second.status) == ("/problems/empty-audio", 400)
    assert str(second) == "audio bytes is empty (request id-7)"
    assert third.tags[0].label == sha256(b"y")


def test_frames_have_the_types_of_an_extractor(connect: Any, fake: FakeService) -> None:
    clip = connect().embed(b"x")
    assert (clip.clip_id, clip.frames.shape, clip.frames.dtype) == ("a", (2, 128), np.uint8)
    assert clip.frames[0, 0] == 7
    np.testing.assert_array_equal(clip.start_seconds, [0.0, 0.96])
    assert clip.metadata["embedder"] == EMBEDDER
    clip = connect().embed(b"x", values="pca", hop_seconds=0.48, tail="drop", model="other")
    assert (clip.frames.dtype, clip.frames[0, 0]) == (np.float32, 0.125)
    assert fake.requests[-1][1] == "/embed?values=pca&hop_seconds=0.48&tail=drop&model=other"


def test_models_labels_and_version_are_read(connect: Any, fake: FakeService) -> None:
    client = connect()
    (model,) = client.models()
    assert (model.name, model.is_default, model.n_classes) == ("tiny", True, 2)
    assert (model.has_frame_scores, model.embedder) == (True, EMBEDDER)
    labels = client.labels("tiny")
    assert (labels.names, labels.mids) == (("Cat", "Dog"), ("/m/1", ""))
    assert fake.requests[-1][1] == "/labels?model=tiny"
    assert (client.version().version, client.version().api) == ("1.2.3", "1")
    assert client.ready() is True


def test_not_ready_is_false_without_an_error(
    connect: Any, fake: FakeService, pauses: list[float]
) -> None:
    fake.is_ready = False
    assert connect().ready() is False
    assert (len(fake.requests), pauses) == (1, [])


def test_the_key_is_sent_and_never_shown(connect: Any, fake: FakeService) -> None:
    connect(api_key="s3cret").version()
    assert fake.requests[0][2]["authorization"] == "Bearer s3cret"
    connect().version()
    assert "authorization" not in fake.requests[1][2]
    for key in ("two\nlines s3cret", "s3crét", ""):
        with pytest.raises(OptionError, match=r"^an API key") as caught:
            connect(api_key=key).version()
        assert "cr" not in str(caught.value)


def test_the_path_of_the_address_is_kept(connect: Any, fake: FakeService) -> None:
    with pytest.raises(ServiceError, match=r'404 Not Found with application/json.*"Not Found'):
        connect(f"{fake.url}/there/").version()
    assert fake.requests[0][1] == "/there/version"


# --- retries --------------------------------------------------------------------------------


def test_a_busy_service_is_retried_after_the_requested_pause(
    connect: Any, fake: FakeService, pauses: list[float], sound: Path
) -> None:
    fake.answers = [busy("2"), problem(429, "rate-limited", **{"Retry-After": "7"})]
    assert connect().classify(sound).tags[0].label == sha256(SOUND)
    assert len(fake.requests) == 3
    assert 2 <= pauses[0] < 2.5
    assert 7 <= pauses[1] < 7.5


def test_retry_after_may_be_a_date(connect: Any, fake: FakeService, pauses: list[float]) -> None:
    when = datetime.now(timezone.utc) + timedelta(seconds=50)
    fake.answers = [busy(format_datetime(when, usegmt=True)), busy("Fri, 31 Dec 1999 23:59:59 GMT")]
    connect().classify(b"x")
    assert 30 < pauses[0] < 50.9
    assert pauses[1] < 0.5


@pytest.mark.parametrize("value", [None, "", "soon", "-3", "1.5", "\u0661", "9" * 40])
def test_an_invalid_retry_after_is_ignored(value: str | None) -> None:
    found = retry_after_seconds(value)
    assert found is None or found > 1e30


def test_pauses_grow_with_jitter_and_attempts_are_limited(
    connect: Any, fake: FakeService, pauses: list[float]
) -> None:
    fake.answers = [busy() for _ in range(10)]
    with pytest.raises(ServiceError, match="the queue is full") as caught:
        connect(retries=5).classify(b"x")
    assert (len(fake.requests), len(pauses)) == (6, 5)
    for n, pause in enumerate(pauses):
        assert 0.125 * 2**n <= pause <= 0.25 * 2**n
    assert len(set(pauses)) == 5
    assert caught.value.status == 503


def test_a_pause_beyond_the_time_limit_fails_at_once(
    connect: Any, fake: FakeService, pauses: list[float]
) -> None:
    fake.answers = [busy("3600")]
    with pytest.raises(ServiceError) as caught:
        connect(retry_seconds=10).classify(b"x")
    assert (len(fake.requests), pauses) == (1, [])
    assert caught.value.retry_after_seconds == 3600


def test_a_pipe_is_not_retried_and_the_error_says_so(
    connect: Any, fake: FakeService, pauses: list[float]
) -> None:
    fake.answers = [busy("1")]
    with pytest.raises(
        ServiceError, match=r"queue is full.*\n.*is a stream: send a path"
    ) as caught:
        connect().classify(Pipe(SOUND), name="mic.wav")
    assert "mic.wav" in str(caught.value)
    assert (len(fake.requests), pauses) == (1, [])
    assert fake.requests[0][2]["transfer-encoding"] == "chunked"


@pytest.mark.parametrize("status", [400, 401, 404, 413, 422, 500, 504, 507])
def test_permanent_failures_are_not_retried(
    connect: Any, fake: FakeService, pauses: list[float], status: int
) -> None:
    fake.answers = [problem(status, "some-slug", "what is wrong")]
    with pytest.raises(ServiceError, match=r"^what is wrong \(request id-7\)$"):
        connect().classify(b"x")
    assert (len(fake.requests), pauses) == (1, [])


class FlakyServer:
    """A server that closes its first `n_failures` connections after `n_bytes`, then responds."""

    def __init__(self, n_failures: int, n_bytes: int = 1) -> None:
        self.n_connections = 0
        self._n_failures, self._n_bytes = n_failures, n_bytes
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                self.n_connections += 1
                received = 0
                while received < self._n_bytes:
                    received += len(connection.recv(1 << 16)) or self._n_bytes
                if self.n_connections > self._n_failures:
                    body = b'{"version": "1", "api": "1"}'
                    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
                    connection.sendall(head + body)

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()


@pytest.fixture
def flaky() -> Iterator[Callable[..., FlakyServer]]:
    servers: list[FlakyServer] = []

    def start(*arguments: Any) -> FlakyServer:
        servers.append(FlakyServer(*arguments))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def test_a_broken_connection_is_retried(connect: Any, flaky: Any, pauses: list[float]) -> None:
    server = flaky(2)
    assert connect(server.url).version().api == "1"
    assert (server.n_connections, len(pauses)) == (3, 2)


def test_a_connection_that_always_breaks_is_an_error(
    connect: Any, flaky: Any, pauses: list[float], sound: Path
) -> None:
    server = flaky(9, 1 << 17)
    with pytest.raises(ServiceError, match=r"broke off, 3 times") as caught:
        connect(server.url, retries=2).classify(sound)
    assert server.n_connections == 3
    assert caught.value.status is None
    assert not isinstance(caught.value, ServiceUnreachableError)


def test_a_refused_connection_is_an_error_with_a_hint(connect: Any, pauses: list[float]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    with pytest.raises(ServiceUnreachableError, match="audiotag serve") as caught:
        connect(url, retries=2).version()
    assert f"cannot connect to {url}, 3 times" in str(caught.value)
    assert len(pauses) == 2


def test_a_response_timeout_is_not_retried(connect: Any, fake: FakeService) -> None:
    fake.delay_seconds = 3.0
    with pytest.raises(ServiceError, match="did not answer within 1 s"):
        connect(timeout_seconds=1.0).classify(b"x")
    assert len(fake.requests) == 1


# --- invalid responses ------------------------------------------------------------------------


async def truncated(send: Send) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", b"1000")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b'{"tags": [', "more_body": True})
    raise ConnectionResetError


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (
            HTMLResponse("<html>Bad\n gateway", 502),
            r"502 Bad Gateway with text/html.*<html>Bad gat",
        ),
        (
            HTMLResponse("<html>Welcome"),
            "200 OK with text/html, .*not an answer of an audiotag service",
        ),
        (Response(b'{"tags": [', media_type="application/json"), "200 OK with application/json"),
        (Response(b"[" * 100_000), "200 OK with no content type"),
        (JSONResponse([1]), "200 OK with application/json"),
        (JSONResponse({"tags": "none"}), "does not understand"),
        (JSONResponse({"tags": [{"label": 1}]}), "does not understand"),
        (JSONResponse({"error": "x"}, 500), "500 Internal Server Error with application/json"),
        (Response(b"\xff\x1b[2J", 404), "404 Not Found with no content type"),
        (
            Response(status_code=302, headers={"Location": "http://else"}),
            "redirects to http://else",
        ),
        (Response(b"no gzip", headers={"Content-Encoding": "gzip"}), "cannot be decoded"),
    ],
)
def test_response_that_is_not_from_audiotag_is_an_error(
    connect: Any, fake: FakeService, answer: Response, message: str
) -> None:
    fake.answers = [answer]
    with pytest.raises(ServiceError, match=message) as caught:
        connect().classify(b"x")
    assert "\x1b" not in str(caught.value)
    assert len(fake.requests) == 1


def test_a_truncated_response_is_retried(
    connect: Any, fake: FakeService, pauses: list[float]
) -> None:
    fake.answers = [truncated]
    assert connect().classify(b"x").tags[0].label == sha256(b"x")
    fake.answers = [truncated] * 3
    with pytest.raises(ServiceError, match="broke off, 2 times"):
        connect(retries=1).classify(b"x")


def test_a_batch_with_missing_results_is_an_error(connect: Any, fake: FakeService) -> None:
    fake.answers = [JSONResponse({"results": []})]
    with pytest.raises(ServiceError, match="0 results for 1 files"):
        connect().classify_batch([b"x"])


def test_an_error_keeps_its_fields_when_pickled() -> None:
    fields = {"status": 413, "type": "/problems/too-large", "title": "t", "detail": "d"}
    error = ServiceError("m", **fields, request_id="r", retry_after_seconds=2.0)  # type: ignore[arg-type]
    copy = pickle.loads(pickle.dumps(error))
    assert {**vars(copy)} == {**fields, "request_id": "r", "retry_after_seconds": 2.0}
    assert str(copy) == "m"
    assert isinstance(error, AudiotagError)


# --- invalid arguments --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("absent.wav", "cannot open absent.wav: No such file"),
        (".", r"\. is a directory"),
        ("nul\0", "cannot open"),
        (io.StringIO("text"), "not opened in binary mode"),
    ],
)
def test_an_unreadable_source_is_an_audio_error(
    connect: Any, in_directory: Path, source: Any, message: str
) -> None:
    with pytest.raises(AudioError, match=message):
        connect().classify(source)


def test_invalid_arguments_are_refused(connect: Any, sound: Path) -> None:
    with open(sound, "rb") as file:
        pass
    with pytest.raises(AudioError, match="closed file"):
        connect().classify(file)
    with pytest.raises(OptionError, match="Received: int"):
        connect().classify(7)
    with pytest.raises(OptionError, match="labels must be a list"):
        connect().classify(b"x", labels="Dog")
    with pytest.raises(OptionError, match="top_k must be at least 1"):
        connect().classify(b"x", top_k=0)
    with pytest.raises(OptionError, match="at least one"):
        connect().classify_batch([])


def test_a_file_that_shrinks_during_the_upload_is_an_error(connect: Any, tmp_path: Path) -> None:
    class Shrinking(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            data = super().read(size)
            self.truncate(self.tell())
            return data

    with pytest.raises(AudioError, match="became shorter"):
        connect().classify(Shrinking(bytes(1 << 18)))


@pytest.mark.parametrize(
    "url",
    ["", "127.0.0.1:8000", "ftp://x", "http://", "http://u:secret@x", "http://x?a=1", "http://x:y"],
)
def test_invalid_addresses_are_refused(url: str) -> None:
    with pytest.raises(OptionError, match="address") as caught:
        Client(url)
    assert "secret" not in str(caught.value)


def test_invalid_numbers_are_refused() -> None:
    for options in ({"timeout_seconds": 0}, {"retries": -1}, {"retry_seconds": float("nan")}):
        with pytest.raises(OptionError, match="Received"):
            Client("http://x", **options)


# --- resources ---------------------------------------------------------------------------------


def test_memory_does_not_grow_with_the_file(connect: Any, tmp_path: Path) -> None:
    path = tmp_path / "large.wav"
    with open(path, "wb") as file:
        file.truncate(96 << 20)
    client = connect()
    client.classify(b"warm")
    tracemalloc.start()
    try:
        assert client.classify(path).duration_seconds == 96 << 20
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 24 << 20  # the fake service in this process also buffers chunks


def test_a_client_is_shared_by_threads(fake: FakeService) -> None:
    found: list[str] = []
    with Client(fake.url) as client:
        sounds = [bytes([n]) * 1000 for n in range(8)]
        threads = [
            threading.Thread(target=lambda s=sound: found.append(client.classify(s).tags[0].label))
            for sound in sounds
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(found) == sorted(map(sha256, sounds))


def test_an_async_client_is_shared_by_tasks(fake: FakeService) -> None:
    async def ask() -> list[Any]:
        async with AsyncClient(fake.url) as client:
            return await asyncio.gather(*(client.classify(bytes([n])) for n in range(8)))

    assert [tags.tags[0].label for tags in asyncio.run(ask())] == [
        sha256(bytes([n])) for n in range(8)
    ]


def test_names_are_lazy_and_the_client_needs_no_server() -> None:
    assert dir(service) == ["AsyncClient", "Client"]
    assert (service.Client, service.AsyncClient) == (Client, AsyncClient)
    with pytest.raises(AttributeError, match="nothing"):
        service.nothing  # noqa: B018
    program = (
        "import sys, service\n"
        "assert 'httpx' not in sys.modules\n"
        "for name in ('fastapi', 'uvicorn', 'starlette', 'pydantic', 'onnxruntime'):\n"
        "    sys.modules[name] = None\n"
        "from service import Client, AsyncClient\n"
        "Client('http://127.0.0.1:1').close()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
