"""Faults, injected into a real service: no response is lost, nothing is left behind."""

from __future__ import annotations

import collections
import contextlib
import io
import os
import random
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import soundfile
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect

from classifier.bundles.files import shipped_bundles
from tests.support.paths import ROOT
from tests.support.serving import Running, running, wait_until
from tests.support.sounds import make_sound

N_RANDOM_BODIES = 10_000
N_RANDOM_THREADS = 4


def encoded(waveform: np.ndarray, rate_hz: int = 16_000, file_format: str = "WAV") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, waveform, rate_hz, format=file_format)
    return file.getvalue()


def left_behind(served: Running) -> list[str]:
    return [path.name for path in served.service.storage.directory.iterdir()]


@pytest.fixture(scope="module")
def served() -> Iterator[Running]:
    # ffmpeg cannot decode random bytes either, and starting it takes longer than everything else.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AUDIOTAG_FFMPEG", "no-ffmpeg")
        with running(embedder="mini", max_audio_seconds=600.0) as found:
            yield found


def random_bodies(seed: int, n: int) -> Iterator[bytes]:
    """Yield noise, noise after real magic numbers, and damaged recordings."""
    rng = random.Random(seed)
    magic = [
        b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0",
        b"fLaC\0\0\0\x22",
        b"OggS\0\x02",
        b"ID3\x03\0",
        b"FORM",
    ]
    whole = [encoded(make_sound(0.3), file_format=kind) for kind in ("WAV", "FLAC", "OGG", "AIFF")]
    for _ in range(n):
        kind = rng.randrange(3)
        noise = rng.randbytes(rng.randrange(2000))
        if kind == 0:
            yield noise
        elif kind == 1:
            yield rng.choice(magic) + noise
        else:
            damaged = bytearray(rng.choice(whole))
            for _ in range(rng.randrange(1, 30)):
                damaged[rng.randrange(len(damaged))] = rng.randrange(256)
            yield bytes(damaged[: rng.randrange(1, len(damaged) + 1)])


@pytest.mark.slow
def test_ten_thousand_random_bodies_never_cause_an_internal_error(served: Running) -> None:
    statuses: collections.Counter[int] = collections.Counter()
    counting = threading.Lock()

    def send(seed: int) -> None:
        with httpx.Client(base_url=served.url, timeout=60, trust_env=False) as client:
            for i, body in enumerate(random_bodies(seed, N_RANDOM_BODIES // N_RANDOM_THREADS)):
                if i % 2:
                    answer = client.post("/classify", files={"file": ("x.wav", body)})
                else:
                    headers = {"content-type": "audio/wav"}
                    answer = client.post("/classify", content=body, headers=headers)
                with counting:
                    statuses[answer.status_code] += 1

    with ThreadPoolExecutor(N_RANDOM_THREADS) as pool:
        list(pool.map(send, range(N_RANDOM_THREADS)))
    assert statuses.total() == N_RANDOM_BODIES
    assert set(statuses) <= {200, 400, 413}
    assert statuses[400] > N_RANDOM_BODIES / 3
    assert statuses[200] > N_RANDOM_BODIES / 20
    assert left_behind(served) == ["lock"]
    assert served.client.get("/readyz").status_code == 200


@pytest.mark.parametrize(
    ("file_format", "n_minutes"), [("FLAC", 180), ("WAV", 180), ("MP3", 11), ("OGG", 11)]
)
def test_long_audio_is_refused_even_in_a_small_file(
    served: Running, file_format: str, n_minutes: int
) -> None:
    rate_hz = 8000
    file = io.BytesIO()
    options: dict[str, Any] = {"format": file_format}
    if file_format == "WAV":
        options["subtype"] = "PCM_U8"
    with soundfile.SoundFile(file, "w", rate_hz, 1, **options) as writer:
        minute = np.zeros(60 * rate_hz, np.float32)
        for _ in range(n_minutes):
            writer.write(minute)
    answer = served.client.post("/classify", files={"file": (f"a.{file_format}", file.getvalue())})
    assert answer.status_code == 413, answer.text
    assert answer.json()["type"] == "/problems/audio-too-long"
    assert left_behind(served) == ["lock"]


def test_a_decompression_bomb_is_stopped_while_it_is_decoded(served: Running) -> None:
    data = bytearray(encoded(np.zeros(700 * 16_000, np.int16), file_format="FLAC"))
    # The number of samples in STREAMINFO, 36 bits; 0 means unknown.
    data[21] &= 0xF0
    data[22:26] = bytes(4)
    answer = served.client.post("/classify", files={"file": ("bomb.flac", bytes(data))})
    assert answer.status_code in (400, 413), answer.text
    assert left_behind(served) == ["lock"]


def test_too_many_channels_and_too_high_a_sample_rate_are_refused() -> None:
    with running(embedder="mini", max_channels=2, max_sample_rate_hz=48_000) as served:
        many = encoded(np.zeros((100, 3)), 16_000)
        fast = encoded(np.zeros(100), 96_000)
        for data, message in ((many, "channels"), (fast, "96000")):
            answer = served.client.post("/classify", files={"file": ("a.wav", data)})
            assert answer.status_code == 413
            assert message in answer.json()["detail"].replace(",", "").replace(" kHz", "000")


def test_too_many_decoded_bytes_are_refused() -> None:
    with running(embedder="mini", max_decoded_bytes=1 << 20) as served:
        data = encoded(np.zeros((200_000, 2)), 16_000, "FLAC")
        answer = served.client.post("/classify", files={"file": ("a.flac", data)})
        assert answer.status_code == 413
        assert answer.json()["type"] == "/problems/audio-too-long"


def test_overload_is_refused_with_503_and_recovers(write_sound: Any) -> None:
    data = write_sound("a.wav", seconds=10, rate_hz=44_100).read_bytes()
    with running(embedder="mini", threads=1, queue_size=2) as served:
        expected = served.client.post("/classify", files={"file": ("a.wav", data)}).json()["tags"]

        def send(_: int) -> int:
            with httpx.Client(base_url=served.url, timeout=60, trust_env=False) as client:
                answer = client.post("/classify", files={"file": ("a.wav", data)})
            if answer.status_code == 200:
                assert answer.json()["tags"] == expected
            else:
                assert answer.json()["type"] == "/problems/overloaded"
                assert int(answer.headers["retry-after"]) >= 1
            return answer.status_code

        with ThreadPoolExecutor(24) as pool:
            statuses = collections.Counter(pool.map(send, range(96)))
        assert set(statuses) <= {200, 503}
        assert statuses[200] >= 3
        assert statuses[503] >= 1
        assert served.metric("audiotag_errors_total", kind="overloaded") == statuses[503]
        assert send(0) == 200
        assert served.metric("audiotag_in_flight") == served.metric("audiotag_queue_depth") == 0
        assert left_behind(served) == ["lock"]


def begin_upload(served: Running, *headers: str) -> socket.socket:
    """Send the head of a request without its body."""
    connection = socket.create_connection(("127.0.0.1", served.port))
    head = ("POST /classify HTTP/1.1", "Host: localhost", "Content-Type: audio/wav", *headers)
    connection.sendall("\r\n".join((*head, "Content-Length: 1000", "", "")).encode())
    return connection


def upload_noise(served: Running, **headers: str) -> httpx.Response:
    return served.client.post(
        "/classify", content=b"x", headers={"content-type": "audio/wav", **headers}
    )


def test_concurrent_uploads_are_limited() -> None:
    with running(embedder="mini", max_uploads=2) as served:
        waiting = [begin_upload(served) for _ in range(2)]
        wait_until(lambda: served.service.uploads.n_taken == 2)
        assert upload_noise(served).status_code == 503
        for connection in waiting:
            connection.close()
        wait_until(lambda: served.service.uploads.n_taken == 0)
        assert upload_noise(served).status_code == 400


def test_one_client_cannot_occupy_all_upload_slots() -> None:
    first, second = "192.0.2.1", "192.0.2.2"
    settings = {"trusted_proxies": ("127.0.0.1",), "max_requests_per_client": 2}
    with running(embedder="mini", max_uploads=4, **settings) as served:
        waiting = [begin_upload(served, f"X-Forwarded-For: {first}") for _ in range(2)]
        wait_until(lambda: served.service.uploads.n_taken == 2)
        refused = upload_noise(served, **{"X-Forwarded-For": first})
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        assert refused.json()["type"] == "/problems/rate-limited"
        assert "the limit is 2 concurrent requests" in refused.json()["detail"]
        assert upload_noise(served, **{"X-Forwarded-For": second}).status_code == 400
        assert served.client.get("/healthz", headers={"X-Forwarded-For": first}).is_success
        for connection in waiting:
            connection.close()
        wait_until(lambda: served.service.uploads.n_taken == 0)
        assert upload_noise(served, **{"X-Forwarded-For": first}).status_code == 400


def test_one_client_cannot_occupy_all_stream_slots() -> None:
    settings = {"trusted_proxies": ("127.0.0.1",), "max_streams_per_client": 2}
    with running(embedder="mini", **settings) as served, contextlib.ExitStack() as stack:

        def open_stream(address: str) -> ClientConnection:
            url = served.url.replace("http", "ws", 1) + "/stream"
            headers = {"X-Forwarded-For": address}
            return stack.enter_context(connect(url, proxy=None, additional_headers=headers))

        # Before their first message.
        streams = [open_stream("2001:db8::1"), open_stream("2001:db8::2")]
        with pytest.raises(InvalidStatus) as caught:
            open_stream("2001:db8::3")
        assert caught.value.response.status_code == 429
        open_stream("192.0.2.1")
        streams[0].close()
        wait_until(lambda: served.metric("audiotag_requests_total", route="/stream") == 1)
        open_stream("2001:db8::3")


def test_processing_beyond_the_deadline_is_stopped_with_504(write_sound: Any) -> None:
    data = write_sound("a.wav", seconds=600, rate_hz=16_000).read_bytes()
    with running(embedder="mini", request_timeout_seconds=0.05) as served:
        answer = served.client.post("/classify", files={"file": ("a.wav", data)})
        assert answer.status_code == 504
        assert answer.json()["type"] == "/problems/deadline-exceeded"
        wait_until(lambda: served.service.pool.n_running == 0)
        wait_until(lambda: left_behind(served) == ["lock"])


def test_processing_stops_when_the_client_disconnects(write_sound: Any) -> None:
    data = write_sound("a.wav", seconds=600, rate_hz=16_000).read_bytes()
    with running(embedder="mini") as served:
        with (
            httpx.Client(base_url=served.url, trust_env=False) as client,
            pytest.raises(httpx.ReadTimeout),
        ):
            client.post(
                "/classify",
                files={"file": ("a.wav", data)},
                timeout=httpx.Timeout(30, read=0.1),
            )
        wait_until(lambda: served.service.pool.n_running == 0)
        wait_until(lambda: left_behind(served) == ["lock"])
        assert served.metric("audiotag_errors_total", kind="client-gone") == 1
        assert served.metric("audiotag_audio_seconds_total") == 0


def test_a_bundle_corrupted_under_load_does_not_affect_responses(
    tmp_path: Path, write_sound: Any
) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(shipped_bundles()["audioset"], bundle)
    data = write_sound("a.wav", seconds=2).read_bytes()
    stop = threading.Event()
    statuses: collections.Counter[int] = collections.Counter()
    answers: list[Any] = []

    with running(embedder="mini", models=(str(bundle),), reload_seconds=0.05) as served:

        def keep_sending() -> None:
            with httpx.Client(base_url=served.url, timeout=60, trust_env=False) as client:
                while not stop.is_set():
                    answer = client.post("/classify", files={"file": ("a.wav", data)})
                    statuses[answer.status_code] += 1
                    answers.append(answer.json().get("tags"))

        def wait_for(result: str, n: int) -> None:
            wait_until(lambda: served.metric("audiotag_reloads_total", result=result) >= n)

        thread = threading.Thread(target=keep_sending)
        thread.start()
        try:
            head = (bundle / "head.onnx").read_bytes()
            (bundle / "head.onnx").write_bytes(head[: len(head) // 2])
            wait_for("failed", 1)
            assert served.client.get("/readyz").status_code == 200
            (bundle / "head.onnx").write_bytes(head)
            wait_for("loaded", 1)
        finally:
            stop.set()
            thread.join()
        assert set(statuses) == {200}
        assert all(tags == answers[0] for tags in answers)


@pytest.mark.skipif(sys.platform == "win32", reason="limits on files are POSIX")
def test_a_full_disk_gives_507_and_small_uploads_still_work(tmp_path: Path) -> None:
    """A limit on the file size makes writing fail like a full disk."""
    import resource

    program = """
import resource
from tests.support.serving import running
resource.setrlimit(resource.RLIMIT_FSIZE, (1_500_000, 1_500_000))
with running(embedder="mini") as served:
    for n_bytes in (3_000_000, 1_000):
        answer = served.client.post(
            "/classify", content=bytes(n_bytes), headers={"content-type": "audio/wav"}
        )
        print(answer.status_code, answer.json()["type"])
    print([path.name for path in served.service.storage.directory.iterdir()])
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": "."},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout.splitlines() == [
        "507 /problems/storage-full",
        "400 /problems/unreadable-audio",
        "['lock']",
    ], done.stderr
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    assert list(tmp_path.iterdir()) == []
