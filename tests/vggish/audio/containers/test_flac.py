"""FLAC files: joined ones, and headers that state a wrong number of samples."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import soundfile

from tests.support.sounds import make_sound
from vggish.audio.containers.layout import MAX_LINKS
from vggish.audio.stream import open_audio

N_SAMPLES = 32_000


def flac(n_channels: int = 1, rate_hz: int = 16_000, seed: int = 0) -> bytes:
    buffer = io.BytesIO()
    sound = np.tile(make_sound(N_SAMPLES / rate_hz, rate_hz, seed)[:, None], (1, n_channels))
    soundfile.write(buffer, sound, rate_hz, format="FLAC")
    return buffer.getvalue()


def with_total(data: bytes, total: int) -> bytes:
    fields = int.from_bytes(data[18:26], "big") >> 36 << 36
    return data[:18] + (fields | total).to_bytes(8, "big") + data[26:]


def read(data: bytes) -> tuple[Any, list[str]]:
    with open_audio(data) as stream:
        waveform = np.concatenate(list(stream.blocks()))
    return waveform, stream.warnings


@pytest.mark.parametrize("tag", [b"", b"TAG" + b"x" * 125])
@pytest.mark.parametrize("total", [0, 1, N_SAMPLES // 2, N_SAMPLES - 1, N_SAMPLES])
def test_wrong_totals_lose_nothing(total: int, tag: bytes) -> None:
    whole, _ = read(flac())
    assert len(whole) == N_SAMPLES
    waveform, warnings = read(with_total(flac(), total) + tag)
    np.testing.assert_array_equal(waveform, whole)
    assert warnings == []


def test_zeros_after_the_last_frame_are_padding() -> None:
    waveform, warnings = read(flac() + bytes(300))
    assert (len(waveform), warnings) == (N_SAMPLES, [])


def test_total_of_a_truncated_file_has_a_warning() -> None:
    waveform, warnings = read(flac()[: len(flac()) // 2])
    assert 0 < len(waveform) < N_SAMPLES
    assert warnings[0].startswith("truncated or damaged:")
    assert "of 2.00 s" in warnings[0]


@pytest.mark.parametrize("tag", [b"", b"ID3\x04\0\0\0\0\0\x10" + b"x" * 16])
def test_joined_files_are_decoded_one_after_the_other(tag: bytes) -> None:
    parts = [tag + flac(seed=0), tag + flac(2, seed=1), tag + flac(1, 32_000, seed=2)]
    waveform, warnings = read(b"".join(parts))
    assert warnings == []
    assert len(waveform) == pytest.approx(2.5 * N_SAMPLES, abs=1)
    expected, _ = read(flac(seed=1))
    np.testing.assert_allclose(waveform[N_SAMPLES : 2 * N_SAMPLES], expected, atol=2**-14)


def test_magic_number_inside_metadata_begins_no_file() -> None:
    data = flac()
    application = b"test" + b"fLaC" + bytes(50)
    block = bytes([2]) + len(application).to_bytes(3, "big") + application
    waveform, warnings = read(data[:42] + block + data[42:])
    assert (len(waveform), warnings) == (N_SAMPLES, [])


def test_file_of_very_many_parts_is_decoded_up_to_a_limit() -> None:
    parts = flac()[:42] * (MAX_LINKS + 5)
    waveform, warnings = read(flac() + parts)
    assert len(waveform) == N_SAMPLES
    assert any("joined from more than 4,000 parts; the last " in warning for warning in warnings)
    assert len(warnings) < 30
