"""Reading of PCM audio with times."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest

from vggish.audio.ffmpeg.matroska import MatroskaPcm


def element(name: str, content: bytes, *, n_size_bytes: int = 4) -> bytes:
    size = len(content) | 1 << 7 * n_size_bytes
    return bytes.fromhex(name) + size.to_bytes(n_size_bytes, "big") + content


def tracks(rate_hz: int, n_channels: int) -> bytes:
    audio = element("b5", struct.pack(">d", rate_hz)) + element("9f", bytes([n_channels]))
    return element("1654ae6b", element("ec", bytes(5)) + element("ae", element("e1", audio)))


def cluster(start_ms: int, *blocks: tuple[int, np.ndarray]) -> bytes:
    content = element("e7", start_ms.to_bytes(3, "big"), n_size_bytes=1)
    for relative_ms, samples in blocks:
        header = b"\x81" + struct.pack(">hB", relative_ms, 0x80)
        content += element("a3", header + samples.astype("<f4").tobytes(), n_size_bytes=2)
    return element("1f43b675", content, n_size_bytes=8)


SEGMENT = bytes.fromhex("18538067") + b"\x01" + b"\xff" * 7  # of unknown size


def test_packets_have_their_times_and_are_joined_where_there_is_no_gap() -> None:
    samples = np.arange(800, dtype=np.float32).reshape(-1, 2)  # 25 ms at 16 kHz
    data = element("1a45dfa3", b"abc") + SEGMENT + tracks(16_000, 2)
    data += cluster(0, (0, samples), (25, samples), (500, samples))
    data += element("ec", bytes(9)) + cluster(70_000, (-3, samples))
    audio = MatroskaPcm(io.BytesIO(data))
    assert (audio.sample_rate_hz, audio.n_channels) == (16_000, 2)
    packets = list(audio.packets())
    assert [(start, len(part)) for start, part in packets] == [
        (0.0, 800),
        (0.5, 400),
        (69.997, 400),
    ]
    np.testing.assert_array_equal(packets[0][1][400:], samples)


def test_stream_that_is_cut_anywhere_ends_there() -> None:
    samples = np.ones((400, 1), np.float32)
    data = SEGMENT + tracks(16_000, 1) + cluster(0, (0, samples), (25, samples))
    lengths = []
    for size in range(len(data)):
        try:
            audio = MatroskaPcm(io.BytesIO(data[:size]))
        except EOFError:
            continue
        lengths.append(sum(len(part) for _, part in audio.packets()))
    assert lengths == sorted(lengths)
    assert lengths[0] == 0
    assert lengths[-1] == 400


def test_stream_without_a_track_is_an_error() -> None:
    with pytest.raises(EOFError):
        MatroskaPcm(io.BytesIO(SEGMENT + cluster(0)))
