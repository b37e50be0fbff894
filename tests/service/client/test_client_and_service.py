"""The client with the real service."""

from __future__ import annotations

import asyncio
import io
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from tests.support.paths import CLIPS
from tests.support.sounds import make_sound

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")

from classifier.tagger import Tagger
from classifier.tags.tracks import TagTracks
from service.client.client import AsyncClient, Client
from tests.support.serving import Running, running
from vggish import load_extractor
from vggish.errors import ServiceError
from vggish.params import VERSION

BELL, VOICE = CLIPS / "crossing_bell.flac", CLIPS / "speech_voicemail.wav"
KEY = "k3y-of-the-tests"


@pytest.fixture(scope="module")
def tagger() -> Tagger:
    return Tagger.load(embedder="mini")


@pytest.fixture(scope="module")
def served() -> Iterator[Running]:
    with running(
        embedder="mini", api_keys=(KEY,), max_upload_bytes=4 << 20, max_audio_seconds=30.0
    ) as found:
        yield found


@pytest.fixture
def client(served: Running) -> Iterator[Client]:
    with Client(served.url, api_key=KEY) as found:
        yield found


def wav(seconds: float, rate_hz: int = 16_000) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, make_sound(seconds, rate_hz), rate_hz, format="WAV")
    return file.getvalue()


@pytest.mark.parametrize("path", [BELL, VOICE, CLIPS / "drum_roll.mp3"], ids=lambda p: p.name)
def test_the_client_returns_what_a_tagger_returns(
    client: Client, tagger: Tagger, path: Path
) -> None:
    choice: dict[str, Any] = {"top_k": 4, "threshold": 0.01, "exclude_labels": ["Music"]}
    found = client.classify(path, **choice, frames=True, segments=True, tracks=True)
    expected = tagger.tag(path, **choice)
    for name in ("tags", "frames", "segments", "duration_seconds", "model", "embedder", "warnings"):
        assert getattr(found, name) == getattr(expected, name), name
    tracks = TagTracks.of(expected)
    assert found.tracks is not None
    assert tracks is not None
    np.testing.assert_allclose(found.tracks.scores, tracks.scores, atol=1e-6)
    np.testing.assert_array_equal(found.tracks.start_seconds, tracks.start_seconds)
    assert {"upload", "queue", "total"} <= found.timings.keys()
    assert found.request_id


def test_stream_of_a_file_is_chosen_by_number(client: Client) -> None:
    assert client.classify(BELL, stream=1).tags == client.classify(BELL).tags
    assert len(client.embed(BELL, stream=1)) == len(client.embed(BELL))
    for ask in (client.classify, client.embed):
        with pytest.raises(ServiceError, match="it has 1 audio stream, but stream 2 was chosen"):
            ask(BELL, stream=2)
        with pytest.raises(ServiceError) as refused:
            ask(BELL, stream=0)
        assert refused.value.status == 422


def test_sync_and_async_return_the_same(served: Running, client: Client) -> None:
    async def ask() -> list[Any]:
        async with AsyncClient(served.url, api_key=KEY) as other:
            return await asyncio.gather(
                *(other.classify(path, top_k=3) for path in (BELL, VOICE, BELL))
            )

    found = asyncio.run(ask())
    assert [tags.tags for tags in found] == [
        client.classify(path, top_k=3).tags for path in (BELL, VOICE, BELL)
    ]


def test_a_batch_continues_after_a_bad_file(client: Client, tagger: Tagger) -> None:
    first, second, third = client.classify_batch([BELL, b"not audio", VOICE], top_k=2)
    assert not isinstance(first, ServiceError)
    assert not isinstance(third, ServiceError)
    assert first.tags == tagger.tag(BELL, top_k=2).tags
    assert third.tags == tagger.tag(VOICE, top_k=2).tags
    assert isinstance(second, ServiceError)
    assert (second.type, second.status) == ("/problems/unreadable-audio", 400)


@pytest.mark.parametrize("options", [{}, {"values": "pca", "hop_seconds": 0.48, "tail": "drop"}])
def test_frames_equal_those_of_an_extractor(client: Client, options: dict[str, Any]) -> None:
    found = client.embed(VOICE, **options)
    expected = load_extractor("mini", **options)(VOICE)
    np.testing.assert_array_equal(found.frames, expected.frames)
    np.testing.assert_array_equal(found.start_seconds, expected.start_seconds)
    assert found.frames.dtype == expected.frames.dtype
    assert found.clip_id == expected.clip_id == "speech_voicemail"
    assert found.metadata["embedder"] == expected.metadata["embedder"]


def test_models_labels_and_version_are_read(client: Client, tagger: Tagger) -> None:
    (model,) = client.models()
    assert (model.name, model.is_default, model.n_classes) == ("audioset", True, 527)
    assert model.has_frame_scores is True
    assert model.embedder["name"] == "mini"
    assert client.labels() == client.labels("audioset") == tagger.bundle.labels
    assert client.version().version == VERSION
    assert client.ready() is True


@pytest.mark.parametrize(
    ("source", "options", "status", "kind", "words"),
    [
        (b"not audio", {}, 400, "unreadable-audio", "cannot read audio bytes"),
        (b"", {}, 400, "empty-audio", "empty"),
        (wav(1.0), {"labels": ["Dgo"]}, 422, "invalid-option", "did you mean 'Dog'"),
        (wav(1.0), {"top_k": 10_001}, 422, "invalid-option", "top_k"),
        (wav(1.0), {"model": "huge"}, 404, "unknown-model", "huge"),
        (wav(31.0), {}, 413, "audio-too-long", "30"),
        (bytes(6 << 20), {}, 413, "too-large", "4,194,304"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_refusals_have_the_message_of_the_service(
    client: Client, source: bytes, options: Any, status: int, kind: str, words: str
) -> None:
    with pytest.raises(ServiceError) as caught:
        client.classify(source, **options)
    assert (caught.value.status, caught.value.type) == (status, f"/problems/{kind}")
    assert words in str(caught.value)
    assert caught.value.request_id in str(caught.value)


def test_a_pipe_beyond_the_size_limit_is_refused(
    client: Client,
) -> None:
    reader, writer = os.pipe()
    sender = threading.Thread(target=lambda: (os.write(writer, bytes(6 << 20)), os.close(writer)))
    sender.start()
    with open(reader, "rb") as pipe, pytest.raises(ServiceError) as caught:
        client.classify(pipe)
    sender.join()
    assert (caught.value.status, caught.value.type) == (413, "/problems/too-large")


def test_an_invalid_key_is_refused(served: Running) -> None:
    for key, status in ((None, 401), ("wrong", 403)):
        with Client(served.url, api_key=key) as stranger:
            with pytest.raises(ServiceError) as caught:
                stranger.classify(BELL)
            assert caught.value.status == status
            assert stranger.version().version == VERSION


def test_many_clients_are_all_served_eventually() -> None:
    sound = wav(1.0)
    found: list[Any] = []
    with running(embedder="mini", threads=1, queue_size=1) as crowded:
        with Client(crowded.url, retries=30) as client:
            threads = [
                threading.Thread(target=lambda: found.append(client.classify(sound, top_k=1).tags))
                for _ in range(12)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        refused = crowded.metric("audiotag_errors_total", kind="overloaded")
    assert len(found) == 12
    assert len(set(found)) == 1
    assert refused > 0


def test_the_command_line_prints_the_same_locally_and_remotely(
    served: Running, command_line: Any, in_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUDIOTAG_API_KEY", KEY)
    for options in ((), ("--json", "--frames", "--segments"), ("--raven",), ("--csv",)):
        arguments = ("classify", BELL, VOICE, *options)
        here = command_line(*arguments, "--embedder", "mini")
        there = command_line(*arguments, "--server", served.url)
        assert there == here
        assert here[0] == 0
    monkeypatch.delenv("AUDIOTAG_API_KEY")
    status, _, err = command_line("classify", BELL, "--server", served.url)
    assert (status, "an API key is required" in err, "AUDIOTAG_API_KEY" in err) == (2, True, True)
