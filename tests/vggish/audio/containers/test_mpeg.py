"""MP3 files: joined ones, damage, and tags that state a wrong number of frames."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import pytest
import soundfile

from tests.support.sounds import make_sound
from vggish.audio.stream import open_audio

RATES_HZ = [8_000, 16_000, 24_000, 44_100, 48_000]  # MPEG-2.5, 2, 2, 1 and 1
SECONDS = 2.0


def mp3(rate_hz: int = 44_100, n_channels: int = 1, seed: int = 0) -> bytes:
    buffer = io.BytesIO()
    sound = np.tile(make_sound(SECONDS, rate_hz, seed)[:, None], (1, n_channels))
    soundfile.write(buffer, sound, rate_hz, format="MP3")
    return buffer.getvalue()


def read(data: bytes) -> tuple[Any, list[str]]:
    with open_audio(data, "a.mp3") as stream:
        waveform = np.concatenate(list(stream.blocks()))
    return waveform, stream.warnings


def tag_place(data: bytes) -> int:
    return max(data.find(b"Xing"), data.find(b"Info"))


def with_count(data: bytes, count: int) -> bytes:
    """The file with another number of frames in its tag."""
    place = tag_place(data)
    assert data[place + 7] & 1
    return data[: place + 8] + struct.pack(">I", count) + data[place + 12 :]


def count_in(data: bytes) -> int:
    return int.from_bytes(data[tag_place(data) + 8 : tag_place(data) + 12], "big")


def frame_bytes(data: bytes) -> int:
    """Bytes up to the second frame, which begins like the first."""
    return data.index(data[:2], 4)


@pytest.mark.parametrize("n_channels", [1, 2])
@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_wrong_counts_of_frames_lose_nothing(rate_hz: int, n_channels: int) -> None:
    data = mp3(rate_hz, n_channels)
    whole, _ = read(data)
    assert len(whole) == SECONDS * rate_hz
    for count in (0, 1, count_in(data) // 2):
        waveform, warnings = read(with_count(data, count))
        np.testing.assert_array_equal(waveform, whole)
        assert warnings == []


def test_count_of_a_truncated_file_has_a_warning() -> None:
    data = mp3()
    waveform, warnings = read(data[: len(data) // 2])
    assert 0.3 * SECONDS < len(waveform) / 44_100 < 0.6 * SECONDS
    assert warnings[0].startswith("truncated: the header states 2.04 s of audio, the file holds")


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_file_without_a_tag_is_read_to_its_end(rate_hz: int) -> None:
    data = mp3(rate_hz)
    data = data[frame_bytes(data) :]
    waveform, warnings = read(data)
    assert SECONDS * rate_hz <= len(waveform) < SECONDS * rate_hz + 4_000
    assert warnings == []


def test_vbri_count_is_checked_too() -> None:
    data = mp3()
    first, frames = data[: frame_bytes(data)], data[frame_bytes(data) :]
    for count in (0, count_in(data), 10):
        vbri = b"VBRI" + struct.pack(">HHHII", 1, 0, 0, len(data), count)
        tagged = (first[:4] + bytes(32) + vbri).ljust(len(first), b"\0")
        waveform, warnings = read(tagged + frames)
        assert SECONDS * 44_100 <= len(waveform) < SECONDS * 44_100 + 4_000
        assert warnings == []


@pytest.mark.parametrize("tag", [b"", b"ID3\x04\0\0\0\0\0\x10" + b"x" * 16, b"TAG" + b"x" * 125])
@pytest.mark.parametrize(("first_hz", "second_hz"), [(44_100, 44_100), (16_000, 48_000)])
def test_joined_files_are_decoded_one_after_the_other(
    first_hz: int, second_hz: int, tag: bytes
) -> None:
    waveform, warnings = read(mp3(first_hz) + tag + mp3(second_hz, seed=1) + tag)
    n_samples = round(SECONDS * first_hz)
    assert warnings == []
    assert len(waveform) == pytest.approx(2 * n_samples, abs=2)
    for number, start in enumerate((0, n_samples)):
        part = waveform[start : start + n_samples - 2]
        expected = make_sound(SECONDS, first_hz, seed=number)[: len(part)]
        # At another rate, the bursts are other noise.
        assert np.corrcoef(part, expected)[0, 1] > (0.95 if second_hz == first_hz else 0.8)


def test_joined_mono_and_stereo_are_one_piece_of_audio() -> None:
    waveform, warnings = read(mp3(44_100, 2) + mp3(44_100, 1))
    assert len(waveform) == pytest.approx(2 * SECONDS * 44_100, abs=2)
    assert warnings == []


def test_damage_between_frames_is_skipped_with_a_warning() -> None:
    data = mp3()
    junk = np.random.default_rng(0).integers(0, 200, 5_000, np.uint8).tobytes()
    half = data.index(data[:2], len(data) // 2)
    waveform, warnings = read(data[:half] + junk + data[half:])
    # A frame needs bits of the frames before it: a few are lost.
    assert SECONDS * 44_100 - 6_000 < len(waveform) < SECONDS * 44_100 + 6_000
    assert len(warnings) == 1
    assert "5,000 bytes after" in warnings[0]


def test_zeros_after_the_last_frame_are_padding() -> None:
    data = mp3()
    waveform, warnings = read(data + bytes(5_000))
    assert (len(waveform), warnings) == (SECONDS * 44_100, [])


def test_bytes_that_all_look_like_frames_do_not_take_long() -> None:
    frame = mp3()[:4]
    data = mp3() + (frame[:3] + b"\xff") * 200_000
    waveform, warnings = read(data)
    assert len(waveform) >= SECONDS * 44_100
    assert warnings
