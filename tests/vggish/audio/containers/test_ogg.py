"""Ogg files: chained streams, missing pages, and several streams at once."""

from __future__ import annotations

import io
import re
import struct
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from tests.support.sounds import make_sound
from vggish.audio.containers import examine
from vggish.audio.ffmpeg import find_ffmpeg
from vggish.audio.stream import open_audio

SECONDS = 2.0


def ogg(
    subtype: str = "VORBIS", rate_hz: int = 16_000, seed: int = 0, n_channels: int = 1
) -> bytes:
    buffer = io.BytesIO()
    sound = np.tile(make_sound(SECONDS, rate_hz, seed)[:, None], (1, n_channels))
    soundfile.write(buffer, sound, rate_hz, format="OGG", subtype=subtype)
    return buffer.getvalue()


def read(data: bytes) -> tuple[Any, list[str]]:
    with open_audio(data) as stream:
        waveform = np.concatenate(list(stream.blocks()))
    return waveform, stream.warnings


def pages(data: bytes) -> list[bytes]:
    starts = [match.start() for match in re.finditer(b"OggS\0", data)]
    return [data[start:end] for start, end in zip(starts, [*starts[1:], len(data)], strict=True)]


@pytest.mark.parametrize("second", [("VORBIS", 16_000), ("VORBIS", 44_100), ("OPUS", 48_000)])
@pytest.mark.parametrize("first", [("VORBIS", 16_000), ("OPUS", 16_000)])
def test_chained_streams_are_decoded_one_after_the_other(
    first: tuple[str, int], second: tuple[str, int]
) -> None:
    with open_audio(ogg(*first)) as stream:
        rate_hz = stream.sample_rate_hz
    waveform, warnings = read(ogg(*first) + ogg(*second, seed=1) + ogg(*first, seed=2))
    n_samples = round(SECONDS * rate_hz)
    assert warnings == []
    assert len(waveform) == pytest.approx(3 * n_samples, abs=8)
    for number in range(3):
        part = waveform[number * n_samples : (number + 1) * n_samples - 8 : rate_hz // 16_000]
        expected = make_sound(SECONDS, 16_000, seed=number)[: len(part)]
        # At another rate, the bursts are other noise.
        assert np.corrcoef(part, expected)[0, 1] > (0.9 if second[1] != 44_100 else 0.7)


def test_chained_mono_and_stereo_are_one_piece_of_audio() -> None:
    waveform, warnings = read(ogg(n_channels=2) + ogg())
    assert (len(waveform), warnings) == (2 * SECONDS * 16_000, [])
    # Both are the same sound on all channels.
    assert np.corrcoef(waveform[:32_000], waveform[32_000:])[0, 1] > 0.9


def test_stream_that_ends_without_a_last_page_before_another_is_whole() -> None:
    whole = pages(ogg())
    waveform, warnings = read(b"".join(whole[:-1]) + ogg(seed=1))
    assert len(waveform) > 1.5 * SECONDS * 16_000
    assert warnings == []


def test_missing_page_has_a_warning() -> None:
    buffer = io.BytesIO()
    soundfile.write(buffer, make_sound(20.0), 16_000, format="OGG", subtype="VORBIS")
    parts = pages(buffer.getvalue())
    assert len(parts) > 6
    _, warnings = read(b"".join(parts[:4] + parts[5:]))
    assert any("1 page of the Ogg stream missing" in warning for warning in warnings)


def test_damage_between_pages_has_a_warning() -> None:
    parts = pages(ogg())
    waveform, warnings = read(b"".join(parts[:-1]) + b"?" * 500 + parts[-1])
    assert len(waveform) == SECONDS * 16_000
    assert warnings == ["damaged: 500 bytes are not Ogg pages; they were not decoded"]


def test_streams_at_once_are_counted(tmp_path: Path) -> None:
    first, second = pages(ogg()), pages(ogg(seed=1))
    # The pages of another stream have another serial number.
    second = [page[:14] + struct.pack("<I", 77) + page[18:] for page in second]
    path = tmp_path / "two.ogg"
    path.write_bytes(b"".join([first[0], second[0], *first[1:], *second[1:]]))
    layout = examine(str(path))
    assert layout.n_streams == 2
    assert layout.links is not None
    assert len(layout.links) == 1


def test_chained_streams_that_only_ffmpeg_decodes_are_decoded_one_by_one(tmp_path: Path) -> None:
    executable = find_ffmpeg()
    if executable is None:
        pytest.skip("needs ffmpeg")
    source = tmp_path / "a.wav"
    soundfile.write(source, make_sound(SECONDS), 16_000)
    command = [executable, "-v", "error", "-i", str(source), "-c:a", "flac", "-f", "ogg", "pipe:1"]
    flac = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
    waveform, warnings = read(flac + ogg() + flac)
    assert (len(waveform), warnings) == (3 * SECONDS * 16_000, [])
