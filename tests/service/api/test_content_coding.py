"""Compressed request bodies, over real connections and piece by piece."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import soundfile
from hypothesis import given, settings, strategies as st

from service.api.content_coding import BodyDecoder
from service.problems import Problem
from tests.support.serving import Running, running
from tests.support.sounds import make_sound


@pytest.fixture(scope="module")
def served() -> Iterator[Running]:
    with running(embedder="mini", max_upload_bytes=1 << 20) as found:
        yield found


@pytest.fixture(scope="module")
def wav() -> bytes:
    file = io.BytesIO()
    soundfile.write(file, make_sound(2.0), 16_000, format="WAV")
    return file.getvalue()


def deflated(data: bytes, window_bits: int) -> bytes:
    compressor = zlib.compressobj(wbits=window_bits)
    return compressor.compress(data) + compressor.flush()


def post(served: Running, body: bytes, coding: str, kind: str = "audio/wav") -> httpx.Response:
    headers = {"Content-Type": kind, "Content-Encoding": coding}
    return served.client.post("/classify", content=body, headers=headers)


def test_compressed_audio_gives_the_tags_of_the_audio(served: Running, wav: bytes) -> None:
    expected = served.client.post(
        "/classify", content=wav, headers={"Content-Type": "audio/wav"}
    ).json()
    half = len(wav) // 2
    bodies = {
        "gzip": gzip.compress(wav),
        "x-gzip": gzip.compress(wav[:half]) + gzip.compress(wav[half:]),
        "GZIP, identity": gzip.compress(wav),
        "deflate": deflated(wav, 15),
        "Deflate": deflated(wav, -15),
        "identity": wav,
    }
    for coding, body in bodies.items():
        answer = post(served, body, coding)
        assert answer.status_code == 200, answer.text
        assert answer.json()["tags"] == expected["tags"]


def test_compressed_forms_are_decoded_too(served: Running, wav: bytes) -> None:
    form = httpx.Request("POST", "http://a", files={"file": ("a.wav", wav)})
    kind = form.headers["content-type"]
    answer = post(served, gzip.compress(form.read()), "gzip", kind)
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("coding", ["br", "zstd", "compress", "gzip, gzip", "nonsense"])
def test_other_codings_are_refused_by_their_name(served: Running, coding: str) -> None:
    answer = post(served, b"whatever", coding)
    assert answer.status_code == 415
    assert answer.headers["accept-encoding"] == "gzip, deflate, identity"
    assert f"the content encoding {coding!r}" in answer.json()["detail"]


def test_damaged_bodies_do_not_blame_the_audio(served: Running, wav: bytes) -> None:
    whole = gzip.compress(wav)
    for body in (wav, whole[:-20], whole[:100] + b"?" * 100, b"", deflated(wav, 15) + b"more"):
        coding = "deflate" if body.endswith(b"more") else "gzip"
        answer = post(served, body, coding)
        assert answer.status_code == 400
        assert answer.json()["type"] == "/problems/bad-request"
        assert f"cannot be decoded as {coding}" in answer.json()["detail"]


def test_body_that_is_too_large_when_decoded_is_refused(served: Running) -> None:
    for bomb in (gzip.compress(bytes(1 << 28)), gzip.compress(bytes(1 << 19)) * 5):
        answer = post(served, bomb, "gzip")
        assert answer.status_code == 413
        assert answer.json()["type"] == "/problems/too-large"


@pytest.mark.parametrize(
    "kind", ["video/quicktime", "video/x-matroska", "video/mp4", "video/x-msvideo"]
)
def test_audio_in_a_video_container_is_accepted_without_a_form(
    served: Running, wav: bytes, kind: str
) -> None:
    # The format is detected from the content.
    answer = served.client.post("/classify", content=wav, headers={"Content-Type": kind})
    assert answer.status_code == 200, answer.text


@given(
    data=st.binary(max_size=200_000),
    sizes=st.lists(st.integers(1, 5_000), min_size=1, max_size=20),
    coding=st.sampled_from(["gzip", "deflate", "raw", ""]),
)
@settings(max_examples=60, deadline=None)
def test_decoding_in_pieces_restores_the_body(data: bytes, sizes: list[int], coding: str) -> None:
    bits = {"gzip": 31, "deflate": 15, "raw": -15}
    body = deflated(data * 3, bits[coding]) if coding else data * 3
    decoder = BodyDecoder(coding.replace("raw", "deflate"))
    decoded: list[bytes] = []
    while body:
        for size in sizes:
            decoded += decoder.feed(body[:size])
            body = body[size:]
    decoder.finish()
    assert b"".join(decoded) == data * 3
    assert all(len(piece) <= 1 << 16 for piece in decoded)


def test_much_from_little_is_decoded_in_small_pieces() -> None:
    decoder: Any = BodyDecoder("gzip")
    n_bytes = 0
    for piece in decoder.feed(gzip.compress(bytes(10_000_000))):
        assert len(piece) <= 1 << 16
        n_bytes += len(piece)
    assert n_bytes == 10_000_000
    with pytest.raises(Problem, match="the content encoding 'br' are not decoded"):
        BodyDecoder("br")
