"""Resampling: tones in the pass and stop band, lengths, blocks, and both resamplers compared."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from tests.support.sounds import make_sound
from vggish.audio.resample import make_resampler
from vggish.audio.stream import open_audio
from vggish.common.choices import RESAMPLERS
from vggish.errors import MissingPackageError, OptionError
from vggish.mel_features import log_mel_spectrogram

RESAMPLER_NAMES = sorted(RESAMPLERS)
RATES = [8_000, 11_025, 22_050, 44_100, 48_000, 96_000]
both = pytest.mark.parametrize("name", RESAMPLER_NAMES)


def tone(hertz: float, rate_hz: int, seconds: float = 1.0) -> Any:
    times = np.arange(round(seconds * rate_hz)) / rate_hz
    return (0.5 * np.sin(2 * np.pi * hertz * times)).astype(np.float32)


def in_blocks(waveform: Any, rate_hz: int, name: str, sizes: list[int]) -> Any:
    stream, parts, start = make_resampler(rate_hz, name), [], 0
    for size in sizes:
        parts.append(stream.feed(waveform[start : start + size]))
        start += size
    return np.concatenate([*parts, stream.feed(waveform[start:]), stream.flush()])


def resample(waveform: Any, rate_hz: int, name: str = "soxr") -> Any:
    return in_blocks(waveform.astype(np.float32), rate_hz, name, [])


# Analytic truths


@both
@pytest.mark.parametrize("rate_hz", RATES)
def test_tone_keeps_its_amplitude_and_phase(name: str, rate_hz: int) -> None:
    resampled = resample(tone(1_000, rate_hz), rate_hz, name)
    expected = tone(1_000, 16_000)[: len(resampled)]
    middle = slice(1_000, -1_000)
    assert resampled.dtype == np.float32
    assert np.abs(resampled - expected)[middle].max() < 1e-3


@both
@pytest.mark.parametrize("hertz", [8_700, 12_000, 20_000])
def test_tone_above_8_khz_is_removed(name: str, hertz: float) -> None:
    resampled = resample(tone(hertz, 48_000), 48_000, name)
    assert np.abs(resampled[1_000:-1_000]).max() < 1e-4


@both
@pytest.mark.parametrize("rate_hz", RATES)
def test_constant_is_kept(name: str, rate_hz: int) -> None:
    resampled = resample(np.full(rate_hz, 0.5, np.float32), rate_hz, name)
    np.testing.assert_allclose(resampled[1_000:-1_000], 0.5, atol=1e-3)


# resampy interpolates its filter from a table, which adds spurious tones at -110 dB.
@pytest.mark.parametrize(("name", "tolerance"), [("soxr", 3e-3), ("resampy", 3e-2)])
def test_log_mel_bands_do_not_depend_on_the_source_rate(name: str, tolerance: float) -> None:
    bands = [
        log_mel_spectrogram(resample(tone(440, rate), rate, name))[10:-10].mean(axis=0)
        for rate in (16_000, 22_050, 44_100, 48_000)
    ]
    for other in bands[1:]:
        np.testing.assert_allclose(other, bands[0], rtol=0, atol=tolerance)


def test_audio_at_16_khz_is_unchanged() -> None:
    waveform = make_sound(0.5)
    np.testing.assert_array_equal(resample(waveform, 16_000), waveform)


# Lengths


@settings(max_examples=80)
@given(n=st.integers(0, 30_000), rate_hz=st.sampled_from([4_000, 11_127, 15_999, *RATES, 384_000]))
def test_lengths_are_as_documented(n: int, rate_hz: int) -> None:
    waveform = np.zeros(n, np.float32)
    assert len(resample(waveform, rate_hz)) == (2 * n * 16_000 + rate_hz) // (2 * rate_hz)
    assert len(resample(waveform, rate_hz, "resampy")) == n * 16_000 // rate_hz


# Blocks


@settings(max_examples=40)
@given(
    rate_hz=st.sampled_from([11_127, *RATES]),
    sizes=st.lists(st.integers(0, 20_000), max_size=20),
    n=st.integers(0, 60_000),
)
def test_soxr_in_blocks_equals_the_whole_to_the_last_bit(
    rate_hz: int, sizes: list[int], n: int
) -> None:
    waveform = make_sound(n / rate_hz, rate_hz)
    streamed = in_blocks(waveform, rate_hz, "soxr", sizes)
    np.testing.assert_array_equal(streamed, resample(waveform, rate_hz, "soxr"))


@settings(max_examples=30)
@given(
    rate_hz=st.sampled_from([11_127, *RATES]),
    sizes=st.lists(st.integers(0, 20_000), max_size=12),
    n=st.integers(100, 60_000),
)
def test_resampy_in_blocks_equals_resampy_itself(rate_hz: int, sizes: list[int], n: int) -> None:
    resampy = pytest.importorskip("resampy")
    waveform = make_sound(n / rate_hz, rate_hz)
    expected = resampy.resample(waveform, rate_hz, 16_000, filter="kaiser_best")
    streamed = in_blocks(waveform, rate_hz, "resampy", sizes)
    assert streamed.shape == expected.shape
    np.testing.assert_allclose(streamed, expected, rtol=0, atol=1e-6)


def test_resampy_memory_is_bounded() -> None:
    stream: Any = make_resampler(44_100, "resampy")
    for _ in range(50):
        stream.feed(np.zeros(4_410, np.float32))
        assert len(stream._buffer) < 4 * 4_410


# Comparison of the two resamplers


def mean_log_mel_difference(waveform: Any, rate_hz: int) -> Any:
    """Mean absolute difference of the two resamplers in each log-mel band [64]."""
    one, other = (log_mel_spectrogram(resample(waveform, rate_hz, n)) for n in RESAMPLER_NAMES)
    n_frames = min(len(one), len(other))
    return np.abs(one[:n_frames] - other[:n_frames]).mean(axis=0)


@pytest.mark.parametrize("rate_hz", [20_000, 22_050, 32_000, 44_100, 48_000, 96_000])
def test_resamplers_agree_in_log_mel_but_for_the_last_two_bands(
    rng: np.random.Generator, rate_hz: int
) -> None:
    difference = mean_log_mel_difference(rng.uniform(-1, 1, 3 * rate_hz), rate_hz)
    assert difference[:62].mean() < 3e-4
    assert 0.02 < difference[62] < 0.05
    assert 0.2 < difference[63] < 0.4


def test_resamplers_agree_on_recordings(shared_data: Path) -> None:
    n_compared = 0
    for path in sorted((shared_data / "formats").iterdir()):
        with open_audio(path) as stream:
            rate_hz = stream.sample_rate_hz
            if rate_hz < 20_000:
                continue
            waveform = np.concatenate(list(stream.blocks()))[: 5 * rate_hz]
        difference = mean_log_mel_difference(waveform, rate_hz)
        assert difference[:62].mean() < 3e-4, path.name
        assert difference[62] < 0.05, path.name
        assert difference[63] < 0.4, path.name
        n_compared += 1
    assert n_compared >= 8


# Limits


@both
@pytest.mark.parametrize("rate_hz", [2_000, 4_000, 384_000, 384_002, 500_000, 999_983, 1_000_000])
def test_odd_and_extreme_rates_keep_a_tone(name: str, rate_hz: int) -> None:
    resampled = resample(tone(500, rate_hz), rate_hz, name)
    assert np.abs(resampled - tone(500, 16_000))[2_000:-2_000].max() < 2e-3


@both
@pytest.mark.parametrize("rate_hz", [1, 2, 7, 99])
def test_rates_of_a_few_hertz_keep_a_constant(name: str, rate_hz: int) -> None:
    n = 150 + rate_hz
    blocks = in_blocks(np.full(n, 0.5, np.float32), rate_hz, name, [60, 60])
    assert len(blocks) == (n * 16_000 + rate_hz // 2 * (name == "soxr")) // rate_hz
    middle = slice(len(blocks) // 2 - 100, len(blocks) // 2 + 100)
    np.testing.assert_allclose(blocks[middle], 0.5, atol=2e-3)


@pytest.mark.parametrize("rate_hz", [-1, 0, 1_000_001])
def test_rates_beyond_the_limits_are_refused(rate_hz: int) -> None:
    with pytest.raises(OptionError, match=rf"1 to 1000000 Hz. Received: {rate_hz}"):
        make_resampler(rate_hz)


def test_unknown_resampler_is_refused() -> None:
    with pytest.raises(OptionError, match=r"'resampy', 'soxr'.*Received: 'sinc'"):
        make_resampler(44_100, "sinc")


def test_missing_resampy_is_reported_with_the_pip_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "resampy", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'audiotag\[reference\]'"):
        make_resampler(44_100, "resampy")


def test_soxr_is_the_default_and_needs_no_resampy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "resampy", None)
    waveform = make_sound(0.2, 44_100)
    np.testing.assert_array_equal(resample(waveform, 44_100), resample(waveform, 44_100, "soxr"))
