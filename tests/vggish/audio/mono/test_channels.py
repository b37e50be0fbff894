"""Mixing channels: opposite polarity does not cancel, and true stereo is mixed as it is."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings, strategies as st

from tests.support.sounds import make_sound
from vggish.audio.mono.channels import weighted_products
from vggish.audio.stream import AudioStream, open_audio, open_waveform

RATE_HZ = 16_000
SOUND = make_sound(6)


def mixed(channels: Any, rate_hz: int = RATE_HZ, size: int | None = None) -> tuple[Any, list[str]]:
    """The mono mix of samples [n, n_channels], and the warnings."""
    return read(open_waveform(channels, rate_hz), size)


def read(stream: AudioStream, size: int | None = None) -> tuple[Any, list[str]]:
    with stream:
        blocks = list(stream.blocks(size))
    assert size is None or max(map(len, blocks)) <= size
    return np.concatenate(blocks), stream.warnings


def stack(*channels: Any) -> Any:
    return np.stack(channels, axis=1).astype(np.float32)


def noise(n: int, level: float = 0.1, seed: int = 0) -> Any:
    return level * np.random.default_rng(seed).normal(size=n).astype(np.float32)


def delayed(waveform: Any, seconds: float, rate_hz: int = RATE_HZ) -> Any:
    """Delay a waveform by any time, without wrapping around."""
    spectrum = np.fft.rfft(waveform, 2 * len(waveform))
    hertz = np.arange(len(spectrum)) * rate_hz / (2 * len(waveform))
    shifted = np.fft.irfft(spectrum * np.exp(-2j * np.pi * hertz * seconds))
    return shifted[: len(waveform)].astype(np.float32)


def power(waveform: Any) -> float:
    return float(np.mean(np.square(waveform, dtype=np.float64)))


# Inverted polarity


@pytest.mark.parametrize("rate_hz", [2_000, 8_000, 16_000, 44_100, 192_000])
@pytest.mark.parametrize("dtype", [np.float32, np.int16])
@pytest.mark.parametrize("inverted", [0, 1])
def test_inverted_channel_gives_the_waveform_of_mono_to_the_last_bit(
    rate_hz: int, dtype: Any, inverted: int
) -> None:
    sound = make_sound(2.5, rate_hz)
    mono = (sound * 32_767).astype(dtype) if dtype is np.int16 else sound
    stereo = np.stack([mono, mono], axis=1)
    stereo[:, inverted] *= -1
    waveform, (*_, warning) = mixed(stereo, rate_hz)
    expected, _ = mixed(mono, rate_hz)
    # The polarity of the mix itself is that of the first channel.
    np.testing.assert_array_equal(waveform, expected if inverted else -expected)
    assert "channel 2 of 2 inverted in 2.50 s of 2.50 s" in warning


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT"])
def test_files_are_mixed_like_arrays(subtype: str) -> None:
    buffer = io.BytesIO()
    soundfile.write(buffer, stack(SOUND, -SOUND), RATE_HZ, format="WAV", subtype=subtype)
    waveform, (warning,) = read(open_audio(buffer.getvalue()))
    np.testing.assert_allclose(waveform, SOUND, atol=2**-14)
    assert warning.startswith("channels cancel when mixed to mono (inverted polarity, or a delay)")


@pytest.mark.parametrize("level", [1.0, 0.5, 0.3])
def test_channels_of_other_levels_and_with_noise_of_their_own_are_inverted(level: float) -> None:
    n = len(SOUND)
    stereo = stack(SOUND + noise(n, 0.01, 1), -level * SOUND + noise(n, 0.01, 2))
    waveform, (warning,) = mixed(stereo)
    expected = (stereo[:, 0] - stereo[:, 1]) / 2
    np.testing.assert_allclose(waveform, expected, atol=1e-6)
    assert "inverted in 6.00 s of 6.00 s" in warning


@pytest.mark.parametrize(
    ("signs", "said"),
    [
        ([1, 1, -1, 1, -1], "channels 3, 5 of 5"),
        ([-1, 1, 1, 1], ""),  # the rest is loud enough: the mean holds half of it
        ([1, -1, 0, 0], "channel 2 of 4"),
        ([1, -1] * 16, "of 32 inverted"),
    ],
)
def test_any_number_of_channels(signs: Sequence[int], said: str) -> None:
    waveform, warnings = mixed(stack(*(sign * SOUND for sign in signs)))
    gain = np.mean(np.abs(signs)) if said else np.mean(signs)
    np.testing.assert_allclose(waveform, gain * SOUND, atol=1e-6)
    assert len(warnings) == bool(said)
    assert said in "".join(warnings)


def test_dead_channel_is_not_a_cancellation() -> None:
    waveform, warnings = mixed(stack(SOUND, 0 * SOUND))
    np.testing.assert_array_equal(waveform, SOUND / 2)
    assert warnings == []


def test_opposite_offsets_and_rumble_decide_nothing() -> None:
    times = np.arange(len(SOUND)) / RATE_HZ
    rumble = 0.3 * np.sin(2 * np.pi * 3 * times)
    stereo = stack(0.3 * SOUND + 0.4 + rumble, 0.3 * SOUND - 0.4 - rumble)
    waveform, warnings = mixed(stereo)
    np.testing.assert_allclose(waveform, 0.3 * SOUND, atol=1e-6)
    assert warnings == []
    stereo = stack(0.3 * SOUND + 0.4 + rumble, -0.3 * SOUND + 0.4 + rumble)
    waveform, (warning,) = mixed(stereo)
    np.testing.assert_allclose(waveform, 0.3 * SOUND, atol=1e-6)
    assert "channel 2 of 2" in warning


def test_ultrasonic_noise_decides_nothing() -> None:
    rate_hz = 192_000
    sound, times = 0.1 * make_sound(2, rate_hz), np.arange(2 * rate_hz) / rate_hz
    pilot = 0.5 * np.sin(2 * np.pi * 60_000 * times)
    assert mixed(stack(sound + pilot, sound - pilot), rate_hz)[1] == []
    assert mixed(stack(sound + pilot, -sound + pilot), rate_hz)[1] != []


@pytest.mark.parametrize("hertz", [130, 441.7, 1_000, 3_333, 7_000])
def test_delay_that_cancels_a_tone(hertz: float) -> None:
    times = np.arange(4 * RATE_HZ) / RATE_HZ
    left = 0.3 * np.sin(2 * np.pi * hertz * times) + noise(len(times), 1e-3, 1)
    right = 0.3 * np.sin(2 * np.pi * (hertz * times + 0.5)) + noise(len(times), 1e-3, 2)
    waveform, (warning,) = mixed(stack(left, right))
    assert power(waveform) == pytest.approx(0.045, rel=0.01)
    assert "or a delay" in warning


def test_narrow_band_sound_that_cancels() -> None:
    """Noise in a band of a few hertz, whose level varies within a second."""
    times = np.arange(8 * RATE_HZ) / RATE_HZ
    envelope = np.interp(times, np.arange(0, 8, 0.25), noise(32, 0.3))
    band = (envelope * np.sin(2 * np.pi * 900 * times)).astype(np.float32)
    waveform, _ = mixed(stack(band, -band))
    np.testing.assert_array_equal(waveform, band)


# Parts of a recording


def test_part_that_cancels_is_mended_and_the_rest_is_unchanged() -> None:
    sound = make_sound(30)
    right = sound.copy()
    right[10 * RATE_HZ : 15 * RATE_HZ] *= -1
    waveform, (warning,) = mixed(stack(sound, right))
    np.testing.assert_array_equal(waveform[: 10 * RATE_HZ], sound[: 10 * RATE_HZ])
    np.testing.assert_array_equal(waveform[16 * RATE_HZ :], sound[16 * RATE_HZ :])
    inside = slice(10 * RATE_HZ + 160, 15 * RATE_HZ)
    np.testing.assert_array_equal(waveform[inside], sound[inside])
    assert "channel 2 of 2 inverted in 5.00 s of 30.00 s" in warning


def test_change_of_sign_is_a_short_fade() -> None:
    """The left channel alone fades from one mix to the other without a step."""
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(2 * RATE_HZ) / RATE_HZ)
    right = np.where(np.arange(len(tone)) < RATE_HZ, tone, -tone)
    waveform, _ = mixed(stack(tone, right))
    slope = 0.5 * 2 * np.pi * 440 / RATE_HZ
    assert np.abs(np.diff(waveform)).max() < 1.2 * slope
    np.testing.assert_allclose(waveform[RATE_HZ + 160 :], tone[RATE_HZ + 160 :], atol=1e-6)


def test_quiet_parts_keep_the_signs() -> None:
    sound = make_sound(6)
    sound[2 * RATE_HZ : 4 * RATE_HZ] *= 1e-6
    waveform, (warning,) = mixed(stack(sound, -sound))
    np.testing.assert_array_equal(waveform, sound)
    assert "in 6.00 s of 6.00 s" in warning


@settings(max_examples=30, deadline=None)
@given(
    rate_hz=st.sampled_from([1_000, 11_025, 16_000, 48_000]),
    size=st.integers(100, 60_000),
    n=st.integers(10, 50_000),
    swapped=st.integers(0, 50_000),
)
def test_mix_does_not_depend_on_blocks(rate_hz: int, size: int, n: int, swapped: int) -> None:
    sound = make_sound(n / rate_hz, rate_hz)
    right = np.where(np.arange(len(sound)) < swapped, sound, -sound)
    whole, warnings = mixed(stack(sound, right), rate_hz)
    pieces, of_pieces = mixed(stack(sound, right), rate_hz, size)
    np.testing.assert_array_equal(pieces, whole)
    assert of_pieces == warnings
    assert len(whole) == len(sound)


def test_low_rates_are_measured_over_enough_samples() -> None:
    sound = make_sound(5_000, 2)
    waveform, (narrow, warning) = mixed(stack(sound, -sound), 2, 120)
    np.testing.assert_array_equal(waveform, sound)
    assert narrow.startswith("sampled at 2 Hz")
    assert "inverted in 5000.00 s of 5000.00 s" in warning


# True stereo


def voice(seconds: float, seed: int) -> Any:
    """Notes with twenty harmonics and vibrato, and pink noise: a pure tone may cancel by itself."""
    rng = np.random.default_rng(seed)
    times = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    pitch = np.repeat(rng.uniform(100, 300, 20), len(times) // 20 + 1)[: len(times)]
    phase = np.cumsum(pitch * (1 + 0.02 * np.sin(2 * np.pi * 5 * times))) / RATE_HZ
    harmonics = sum(np.sin(2 * np.pi * k * phase) / k for k in range(1, 21))
    spectrum = np.fft.rfft(rng.normal(size=len(times)))
    pink = np.fft.irfft(spectrum / np.sqrt(np.arange(len(spectrum)) + 1), len(times))
    return (0.2 * harmonics + 0.2 * pink / pink.std()).astype(np.float32) * 0.5


def room(sound: Any, seed: int, delay: float, level: float = 1.0, seconds: float = 0.6) -> Any:
    """A source before two microphones in a room with diffuse reverberation."""
    rng = np.random.default_rng(seed)
    decay = np.exp(-6.9 * np.arange(int(seconds * RATE_HZ)) / (seconds * RATE_HZ))
    channels = []
    for gain, seconds_late in ((1.0, 0.0), (level, delay)):
        response = 0.3 * rng.normal(size=len(decay)) * decay / np.sqrt((decay**2).sum())
        reverb = np.convolve(sound, response)[: len(sound)]
        channels.append(gain * delayed(sound, seconds_late) + reverb)
    return 0.3 * stack(*channels)


@pytest.mark.parametrize("seed", range(12))
def test_true_stereo_is_the_mean_without_a_warning(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sound, other = voice(5, seed), voice(5, seed + 100)
    late = rng.uniform(0, 1e-3)
    side = np.convolve(noise(480, 1, seed) / np.sqrt(480), sound)[: len(sound)] * rng.uniform(0, 1)
    for stereo in (
        room(sound, seed, 0.0, rng.uniform(0.2, 1)),  # coincident
        room(sound, seed, late, rng.uniform(0.5, 1)),  # spaced
        stack(sound, delayed(sound, rng.uniform(5e-3, 30e-3))),  # Haas
        stack(sound, other),  # two sources, one in each channel
        stack(0.7 * sound + 0.2 * other, 0.2 * sound + 0.7 * other),  # panned
        0.4 * stack(sound + side, sound - side),  # mid and side
        stack(noise(len(sound), seed=seed), noise(len(sound), seed=seed + 50)),
    ):
        waveform, warnings = mixed(stereo)
        np.testing.assert_allclose(waveform, stereo.mean(axis=1), atol=1e-6)
        assert warnings == []


def test_real_stereo_recordings_are_not_inverted(shared_data: Any) -> None:
    n_stereo = 0
    for path in sorted((shared_data / "formats").iterdir()):
        stream = open_audio(path)
        n_stereo += stream.n_channels > 1
        assert not any("cancel" in warning for warning in read(stream)[1]), path.name
    assert n_stereo >= 5


# The measure


def test_octaves_are_measured_down_to_the_front_end() -> None:
    times = np.arange(RATE_HZ) / RATE_HZ
    powers = []
    for hertz in (5, 150, 600, 2_400, 7_000):
        tone = np.sin(2 * np.pi * hertz * times).astype(np.float32)[None]
        powers.append(float(weighted_products(tone, RATE_HZ)[0, 0]))
    assert min(powers[1:]) > 10 * powers[0]
    assert weighted_products(np.full((2, RATE_HZ), 0.5, np.float32), RATE_HZ).max() == 0
