"""Levels: floats beyond full scale, corrupt samples, and the limiter of live audio."""

from __future__ import annotations

import io
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings, strategies as st

from tests.support.sounds import make_sound
from vggish.audio.limits import AudioLimits
from vggish.audio.mono import Level, Limiter, MonoMix, PeakMeter
from vggish.audio.stream import AudioStream, open_audio, open_waveform
from vggish.common.wording import count
from vggish.errors import AudioError, AudioLimitError, AudioTimeoutError

SOUND = make_sound(1) / np.abs(make_sound(1)).max()  # its peak is 1


def float_wav(samples: Any, rate_hz: int = 16_000, subtype: str = "FLOAT") -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate_hz, format="WAV", subtype=subtype)
    return buffer.getvalue()


def read(stream: AudioStream, block_frames: int | None = None) -> tuple[Any, list[str]]:
    with stream:
        return np.concatenate(list(stream.blocks(block_frames))), stream.warnings


# Beyond full scale


@pytest.mark.parametrize("factor", [1.01, 8.9, 200.0, 32_768.0, 2.0**31])
@pytest.mark.parametrize("block_frames", [None, 100, 7_777])
def test_floats_beyond_full_scale_are_scaled_by_their_peak(
    factor: float, block_frames: int | None
) -> None:
    loud = (SOUND * factor).astype(np.float32)
    for stream in (
        open_audio(float_wav(loud)),
        open_audio(float_wav(loud, subtype="DOUBLE")),
        open_waveform(loud, 16_000),
        open_waveform(loud.astype(np.float64), 16_000),
    ):
        waveform, (warning,) = read(stream, block_frames)
        np.testing.assert_allclose(waveform, SOUND, rtol=0, atol=1e-6)
        assert np.abs(waveform).max() == 1
        assert warning.startswith(f"samples reach {np.float32(factor):.6g} (+")
        assert warning.endswith("; scaled to full scale")
        assert ("integers saved as float" in warning) == (factor > 100)


def test_level_is_stated_in_decibels() -> None:
    _, (warning,) = read(open_waveform(8 * SOUND, 16_000))
    assert warning == "samples reach 8 (+18.1 dBFS); scaled to full scale"


def test_floats_within_full_scale_are_unchanged() -> None:
    for factor in (1.0, 0.5, 1e-2):
        samples = (SOUND * np.float32(factor)).astype(np.float32)
        waveform, warnings = read(open_audio(float_wav(samples)))
        np.testing.assert_array_equal(waveform, samples)
        assert warnings == []


def test_one_loud_channel_scales_all_channels_alike() -> None:
    stereo = np.stack([4 * SOUND, 0.5 * SOUND], axis=1)
    waveform, _ = read(open_audio(float_wav(stereo)))
    np.testing.assert_allclose(waveform, stereo.mean(axis=1) / 4, atol=1e-6)


def test_integers_and_lossy_codecs_are_clipped_as_before(tmp_path: Path) -> None:
    path = tmp_path / "a.ogg"
    soundfile.write(path, (3 * SOUND).clip(-1, 1), 16_000)
    waveform, warnings = read(open_audio(path))
    assert np.abs(waveform).max() == 1
    assert all(warning.startswith("clipped") for warning in warnings)


def test_measuring_the_level_obeys_the_limits() -> None:
    data = float_wav(np.tile(8 * SOUND, 10))
    header = bytearray(data)
    with open_audio(bytes(header), limits=AudioLimits(max_seconds=10)) as stream:
        assert len(np.concatenate(list(stream.blocks(1_000)))) == 160_000
    stream = open_audio(data)
    stream._limits = AudioLimits(max_seconds=5)  # as if the header had not stated the length
    with stream, pytest.raises(AudioLimitError, match="too long"):
        next(stream.blocks(1_000))
    stream = open_audio(data)
    stream._limits = AudioLimits(deadline=time.monotonic())
    with stream, pytest.raises(AudioTimeoutError):
        next(stream.blocks(1_000))


def test_stream_that_is_closed_is_not_opened_again() -> None:
    stream = open_audio(float_wav(8 * SOUND))
    stream.close()
    with pytest.raises(AudioError, match="was closed"):
        next(stream.blocks())


# Corrupt samples


@pytest.mark.parametrize("factor", [0.01, 1.0, 8.0])
@pytest.mark.parametrize("corrupt", [[1e30], [1e30, -3e12], [np.float32(-3.4e38), 1e9, 1e20]])
def test_lone_corrupt_samples_become_0_and_the_others_keep_their_level(
    factor: float, corrupt: list[float]
) -> None:
    samples = (SOUND * factor).astype(np.float32)
    places = [100, 5_000, 15_999][: len(corrupt)]
    samples[places] = corrupt
    expected = np.where(np.abs(samples) > factor, 0, samples / max(1.0, factor))
    waveform, warnings = read(open_audio(float_wav(samples)), 1_000)
    np.testing.assert_allclose(waveform, expected, rtol=0, atol=1e-6)
    assert warnings[0].startswith(f"{count(len(corrupt), 'corrupt sample')}, thousands")
    assert len(warnings) == (2 if factor > 1 else 1)


def test_a_loud_event_in_a_quiet_recording_is_not_corrupt() -> None:
    times = np.arange(16_000) / 16_000
    decay = np.exp(-20 * times) * np.sin(2 * np.pi * 500 * times)
    quiet = 1e-4 * np.random.default_rng(0).normal(size=32_000)
    quiet[16_000:] += 20 * decay
    _, (warning,) = read(open_waveform(quiet, 16_000))
    assert warning.endswith("scaled to full scale")


def test_impulses_alone_are_not_corrupt() -> None:
    impulses = np.zeros(16_000, np.float32)
    impulses[[10, 900]] = 8, -4
    waveform, _ = read(open_audio(float_wav(impulses)))
    assert waveform[[10, 900]].tolist() == [1, -0.5]


@settings(max_examples=50)
@given(
    exponents=st.lists(st.integers(-30, 120), min_size=1, max_size=60),
    sizes=st.lists(st.integers(1, 20), max_size=5),
)
def test_level_does_not_depend_on_blocks(exponents: list[int], sizes: list[int]) -> None:
    samples = np.exp2(np.array(exponents, np.float32))[:, None]
    whole, pieces, start = PeakMeter(), PeakMeter(), 0
    whole.feed(samples)
    for size in [*sizes, len(samples)]:
        if len(block := samples[start : start + size]):
            pieces.feed(block)
        start += size
    assert pieces.level == whole.level
    assert whole.level.peak >= 1


# Live audio


@pytest.mark.parametrize("sizes", [[16_000], [1] * 10, [160] * 50, [7, 9_000]])
def test_limiter_keeps_to_full_scale_whatever_the_blocks(sizes: list[int]) -> None:
    loud = np.stack([SOUND, 6 * SOUND], axis=1)
    loud[:2_000] *= 0.1
    expected = Limiter(16_000)(loud)
    assert np.abs(expected).max() <= 1
    np.testing.assert_array_equal(expected[:1_000], loud[:1_000])
    limiter, blocks, start = Limiter(16_000), [], 0
    for size in [*sizes, 16_000]:
        if start < len(loud):
            blocks.append(limiter(loud[start : start + size]))
        start += size
    np.testing.assert_allclose(np.concatenate(blocks), expected, rtol=1e-6)


def test_limiter_returns_to_full_scale_after_a_loud_event() -> None:
    click = np.full((16_000 * 4, 1), 0.5, np.float32)
    click[0] = 4.0  # two octaves beyond full scale; the release is two octaves a second
    limited = Limiter(16_000)(click)[:, 0]
    assert limited[0] == 1
    assert limited[1] == pytest.approx(0.125, rel=1e-3)
    assert limited[8_000] == pytest.approx(0.25, rel=1e-3)
    assert (limited[16_001:] == 0.5).all()


def test_live_audio_beyond_full_scale_has_a_warning() -> None:
    mix = MonoMix(16_000, limiter=Limiter(16_000))
    mix.feed(SOUND[:, None])
    assert mix.warnings == []
    waveform = mix.feed(3 * SOUND[:, None])
    assert np.abs(waveform).max() <= 1
    assert mix.warnings[0].startswith("samples reach 3 (+9.5 dBFS); scaled by a limiter")
    corrupt = SOUND.copy()
    corrupt[5] = 1e30
    assert np.abs(mix.feed(corrupt[:, None])[100:]).max() > 0.1
    assert mix.warnings[0].startswith("1 corrupt sample, thousands")


def test_level_is_neutral_by_default() -> None:
    assert PeakMeter().level == Level() == Level(1.0, float("inf"))
