"""The live stream over a WebSocket."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from classifier.live import LiveTagger
from classifier.tagger import Tagger
from tests.support.serving import Running, running, wait_until
from tests.support.sounds import make_sound


@pytest.fixture(scope="module")
def served() -> Iterator[Running]:
    with running(embedder="mini", max_streams=2) as found:
        yield found


def wait_until_free(served: Running) -> None:
    """Wait until the slots of closed streams are free."""
    wait_until(lambda: served.service.streams.n_taken == 0)


@pytest.fixture(autouse=True)
def _no_streams(served: Running) -> None:
    wait_until_free(served)


def open_stream(served: Running, path: str = "/stream") -> ClientConnection:
    return connect(served.url.replace("http", "ws", 1) + path, proxy=None, open_timeout=30)


def send_json(connection: ClientConnection, **message: Any) -> None:
    connection.send(json.dumps(message))


def receive_json(connection: ClientConnection) -> dict[str, Any]:
    message: dict[str, Any] = json.loads(connection.recv(timeout=30))
    return message


def converse(served: Running, data: bytes, piece_bytes: int, **start: Any) -> list[dict[str, Any]]:
    """Stream samples; return all messages after "ready"."""
    with open_stream(served) as connection:
        send_json(connection, **start)
        assert receive_json(connection)["type"] == "ready"
        for begin in range(0, len(data), piece_bytes):
            connection.send(data[begin : begin + piece_bytes])
        send_json(connection, type="end")
        messages = [json.loads(message) for message in connection]
        assert connection.close_code == 1000
    return messages


@pytest.mark.parametrize("rate_hz", [16_000, 44_100])
@pytest.mark.parametrize("piece_bytes", [999, 65_536])
def test_stream_tags_equal_those_of_the_live_tagger(
    served: Running, rate_hz: int, piece_bytes: int
) -> None:
    sound = (make_sound(4.0, rate_hz) * 32767).astype("<i2")
    *found, last = converse(served, sound.tobytes(), piece_bytes, sample_rate_hz=rate_hz, top_k=3)
    live = LiveTagger(Tagger.load(embedder="mini"), rate_hz, top_k=3)
    expected = [*live.feed(sound), *live.finish()]
    assert [{**tags.as_json(), "type": "tags"} for tags in expected] == found
    assert [message["start_seconds"] for message in found] == [0.0, 0.96, 1.92, 2.88]
    assert last == {"type": "done", "duration_seconds": 4.0, "warnings": []}


def test_floats_and_several_channels_are_accepted(served: Running) -> None:
    sound = make_sound(2.0)
    stereo = np.stack([sound, sound], axis=1).astype("<f4")
    mono = converse(
        served, sound.astype("<f4").tobytes(), 4096, sample_rate_hz=16_000, encoding="f32le"
    )
    both = converse(
        served,
        stereo.tobytes(),
        4097,
        sample_rate_hz=16_000,
        encoding="f32le",
        channels=2,
    )
    assert both == mono


def test_tags_arrive_during_the_stream(served: Running) -> None:
    with open_stream(served, "/v1/stream") as connection:
        send_json(connection, sample_rate_hz=16_000)
        assert receive_json(connection)["frame_seconds"] == 0.96
        connection.send((make_sound(1.0) * 32767).astype("<i2").tobytes())
        first = receive_json(connection)
        assert first["type"] == "tags"
        assert len(first["tags"]) == len(first["clip_tags"]) == 10


def refusal(served: Running, *messages: str | bytes) -> tuple[dict[str, Any], int | None]:
    """Send messages; return the problem and the close code."""
    with open_stream(served) as connection:
        with contextlib.suppress(ConnectionClosed):  # may be refused before it sends anything
            for message in messages:
                connection.send(message)
        while (answer := receive_json(connection))["type"] != "error":
            pass
        with pytest.raises(ConnectionClosed):
            connection.recv(timeout=10)
        return answer["problem"], connection.close_code


@pytest.mark.parametrize("path", ["/streamx", "/classify", "/v1/streams", "/stream/", "/"])
def test_a_stream_to_another_address_gets_404(served: Running, path: str) -> None:
    def n_counted() -> tuple[float, float]:
        labels = {"method": "WEBSOCKET", "route": "other", "status": "404"}
        return (
            served.metric("audiotag_errors_total", kind="not-found"),
            served.metric("audiotag_requests_total", **labels),
        )

    n_errors, n_requests = n_counted()
    with pytest.raises(InvalidStatus) as caught:
        open_stream(served, path)
    answer = caught.value.response
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    problem = json.loads(answer.body or b"")
    assert problem["type"] == "/problems/not-found"
    assert problem["instance"] == answer.headers["x-request-id"]
    assert "/stream" in problem["detail"]
    wait_until(lambda: n_counted() == (n_errors + 1, n_requests + 1))


START = json.dumps({"sample_rate_hz": 16_000})


@pytest.mark.parametrize(
    ("messages", "slug"),
    [
        (["no JSON"], "bad-request"),
        ([b"\0\0"], "bad-request"),
        (["[]"], "invalid-option"),
        (["{}"], "invalid-option"),
        (['{"sample_rate_hz": 0}'], "invalid-option"),
        (['{"sample_rate_hz": 16000, "encoding": "mp3"}'], "invalid-option"),
        (['{"sample_rate_hz": 16000, "sample_rate": 1}'], "invalid-option"),
        (['{"sample_rate_hz": 16000, "model": "nobody"}'], "unknown-model"),
        (['{"sample_rate_hz": 16000, "labels": ["Dgo"]}'], "invalid-option"),
        ([START[:-1] + ', "labels": ["' + "x" * 1_000_000 + '"]}'], "invalid-option"),
        ([START, "what?"], "bad-request"),
        ([START, "[" * 500_000], "bad-request"),
        ([START, b"\0" * ((1 << 20) + 2)], "too-large"),
    ],
)
def test_an_invalid_message_is_reported_and_ends_the_stream(
    served: Running, messages: list[str | bytes], slug: str
) -> None:
    problem, code = refusal(served, *messages)
    assert problem["type"] == f"/problems/{slug}"
    assert code == 1008


def test_open_streams_are_limited(served: Running) -> None:
    with open_stream(served) as first, open_stream(served) as second:
        for connection in (first, second):
            send_json(connection, sample_rate_hz=16_000)
            assert receive_json(connection)["type"] == "ready"
        assert served.metric("audiotag_streams") == 2
        problem, code = refusal(served, START)
        assert problem["type"] == "/problems/overloaded"
        assert code == 1013


def test_a_full_queue_does_not_end_a_stream(
    served: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_stream(served) as connection:
        send_json(connection, sample_rate_hz=16_000)
        assert receive_json(connection)["type"] == "ready"
        monkeypatch.setattr(served.service.pool, "queue_size", 0)
        assert served.client.post("/classify", files={"file": b"x"}).status_code == 503
        connection.send(np.zeros(16_000, np.int16).tobytes())
        assert receive_json(connection)["type"] == "tags"


def test_a_stream_without_a_first_message_times_out() -> None:
    with (
        running(embedder="mini", upload_idle_seconds=2.0, stream_idle_seconds=60.0) as served,
        open_stream(served) as connection,
    ):
        assert receive_json(connection)["problem"]["type"] == "/problems/upload-timeout"


def test_an_invalid_key_is_not_echoed(served: Running) -> None:
    problem, _ = refusal(served, '{"sample_rate_hz": 16000, "api_key": ["a-secret"]}')
    assert problem["options"] == ["api_key"]
    assert "secret" not in json.dumps(problem)


def test_a_stream_takes_no_slot_before_its_first_message(served: Running) -> None:
    with open_stream(served), open_stream(served), open_stream(served) as third:
        send_json(third, sample_rate_hz=16_000)
        assert receive_json(third)["type"] == "ready"


def test_an_idle_stream_times_out() -> None:
    with running(embedder="mini", stream_idle_seconds=0.2) as served:
        for messages in ((), (START,)):
            problem, code = refusal(served, *messages)
            assert problem["type"] == "/problems/upload-timeout"
            assert code == 1008
        wait_until_free(served)


def test_a_disconnect_frees_the_slot(served: Running) -> None:
    for _ in range(6):
        with open_stream(served) as connection:
            send_json(connection, sample_rate_hz=16_000)
            assert receive_json(connection)["type"] == "ready"
            connection.send(b"\0" * 32_000)
        wait_until_free(served)
    problem, _ = refusal(served, START, "what?")
    assert problem["type"] == "/problems/bad-request"


def test_a_message_of_hours_of_audio_is_refused(served: Running) -> None:
    start = json.dumps({"sample_rate_hz": 10})
    problem, _ = refusal(served, start, b"\0" * 2 * 6_001)
    assert problem["detail"] == "a message may have at most 600 s of audio"


def test_a_stream_beyond_full_scale_ends_with_a_warning(served: Running) -> None:
    sound = (4 * make_sound(1.0) / np.abs(make_sound(1.0)).max()).astype("<f4")
    *_, last = converse(
        served, sound.tobytes(), 4096, sample_rate_hz=2_000, encoding="f32le", channels=1
    )
    narrow, loud = last["warnings"]
    assert narrow.startswith("sampled at 2,000 Hz")
    assert loud.startswith("samples reach 4 (+12.0 dBFS); scaled by a limiter")


def test_a_stream_without_samples_has_no_tags(served: Running) -> None:
    assert converse(served, b"", 1, sample_rate_hz=16_000) == [
        {"type": "done", "duration_seconds": 0.0, "warnings": []}
    ]
