"""The front end: published numbers, the definition, YAMNet's front end, and invariants."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from tests.support.sounds import make_sound
from vggish.audio.stream import load_audio
from vggish.errors import OptionError
from vggish.mel_features import (
    PatchStream,
    hertz_to_mel,
    hop_to_frames,
    log_mel_patches,
    log_mel_spectrogram,
    mel_matrix,
    n_patches,
    n_stft_frames,
)

FULL_SCALE_SINE = np.sin(2 * np.pi * 1000 * np.arange(48_000) / 16_000)
HOPS = st.integers(1, 250).map(lambda n_frames: n_frames / 100)
TAILS = st.sampled_from(["pad", "drop"])


def slow_log_mel(waveform: Any, log_offset: float = 0.01) -> Any:
    """The definition taken literally, in float64: a DFT matrix, and one triangle at a time."""
    n_frames = 1 + (len(waveform) - 400) // 160
    window = np.array([0.5 - 0.5 * np.cos(2 * np.pi * n / 400) for n in range(400)])
    dft = np.exp(-2j * np.pi * (np.outer(np.arange(400), np.arange(257)) % 512) / 512)
    weights = np.zeros((257, 64))
    edges = np.linspace(1127 * np.log(1 + 125 / 700), 1127 * np.log(1 + 7500 / 700), 66)
    for band in range(64):
        lower, centre, upper = edges[band : band + 3]
        for k in range(1, 257):
            mel = 1127 * np.log(1 + (k * 8000 / 256) / 700)
            if lower < mel <= centre:
                weights[k, band] = (mel - lower) / (centre - lower)
            elif centre < mel < upper:
                weights[k, band] = (upper - mel) / (upper - centre)
    rows = []
    for frame in range(n_frames):
        samples = waveform[160 * frame : 160 * frame + 400].astype(np.float64) * window
        rows.append(np.log(np.abs(samples @ dft) @ weights + log_offset))
    return np.array(rows)


# Published numbers


def test_mel_matrix_is_the_reference_matrix() -> None:
    matrix = mel_matrix()
    rows = np.flatnonzero(matrix.any(axis=1))
    assert matrix.shape == (257, 64)
    assert matrix.sum() == pytest.approx(230.9135991608, abs=1e-9)
    assert matrix.max() == pytest.approx(0.99619101750, abs=1e-10)
    assert (np.count_nonzero(matrix), rows[0], rows[-1]) == (461, 5, 239)


def test_mel_matrix_is_read_only() -> None:
    with pytest.raises(ValueError, match="read-only"):
        mel_matrix()[5, 0] = 1.0


def test_mel_scale_is_htk() -> None:
    np.testing.assert_allclose(hertz_to_mel([0, 700]), [0, 1127 * np.log(2)])


def test_sine_gives_the_reference_patches() -> None:
    patches = log_mel_patches(FULL_SCALE_SINE)
    assert patches.shape == (3, 96, 64)
    measured = [patches.mean(), patches.std(), patches.min(), patches.max()]
    expected = [-3.42961870, 2.12657734, -4.60116305, 4.81111773]
    np.testing.assert_allclose(measured, expected, rtol=0, atol=1e-8)
    assert patches.mean(axis=(0, 1)).argmax() == 19


def test_silence_gives_the_logarithm_of_the_offset() -> None:
    np.testing.assert_allclose(log_mel_patches(np.zeros(48_000)), -4.60517019, atol=1e-8)


# The definition


@pytest.mark.parametrize("log_offset", [0.01, 0.001])
def test_spectrogram_equals_the_definition(rng: np.random.Generator, log_offset: float) -> None:
    for waveform in (make_sound(0.5), rng.uniform(-1, 1, 8_000), FULL_SCALE_SINE[:8_000]):
        waveform = waveform.astype(np.float64)
        expected = slow_log_mel(waveform, log_offset)
        np.testing.assert_allclose(
            log_mel_spectrogram(waveform, log_offset), expected, rtol=0, atol=1e-10
        )


def loud_tones() -> Any:
    """Full-scale tones, exact and rounded to one decimal: the worst known cases for float32."""
    times = np.arange(16_000) / 16_000
    hertz = [3.87, 20, 87.4, 440, 703.5, 1000, 6000]
    tones = [np.sin(2 * np.pi * f * times) for f in hertz]
    squares = [np.sign(tone) for tone in tones]
    return [*tones, *squares, *[tone.round(1) for tone in tones], np.ones(16_000)]


@pytest.mark.parametrize(
    ("kind", "bound"), [("noise", 1e-5), ("quiet", 1e-6), ("loud tones", 3e-4)]
)
def test_float32_is_close_to_float64(rng: np.random.Generator, kind: str, bound: float) -> None:
    waveforms = {
        "noise": [rng.uniform(-1, 1, 160_000), rng.normal(size=160_000).clip(-1, 1)],
        "quiet": [make_sound(5) * 10.0**-power for power in range(2, 9)],
        "loud tones": loud_tones(),
    }[kind]
    for waveform in waveforms:
        single = waveform.astype(np.float32)
        error = np.abs(log_mel_spectrogram(single) - log_mel_spectrogram(single.astype(float)))
        assert error.max() < bound


def test_float32_is_close_to_float64_on_recordings(shared_data: Path) -> None:
    worst = []
    for path in sorted((shared_data / "formats").iterdir()):
        waveform = load_audio(path)[: 16_000 * 10]
        error = log_mel_spectrogram(waveform) - log_mel_spectrogram(waveform.astype(np.float64))
        worst.append(np.abs(error).max())
    assert max(worst) < 3e-4
    assert np.median(worst) < 1.5e-5


@pytest.mark.parametrize("scale", [0.0, 1e-30, 1.0])
def test_log_mel_is_finite_at_any_loudness(rng: np.random.Generator, scale: float) -> None:
    waveform = (rng.uniform(-1, 1, 20_000) * scale).astype(np.float32)
    assert np.isfinite(log_mel_patches(waveform)).all()


# YAMNet, whose front end differs only in the log offset


@pytest.fixture(scope="module")
def yamnet(shared_data: Path) -> Any:
    litert = pytest.importorskip("ai_edge_litert.interpreter")
    interpreter = litert.Interpreter(str(shared_data / "yamnet" / "yamnet_int8_15600.tflite"))
    interpreter.allocate_tensors()
    return interpreter


def yamnet_constant(yamnet: Any, name: str) -> tuple[Any, float]:
    """Return a constant of the model and its quantisation step (0 for floats)."""
    details = yamnet.get_tensor_details()
    (found,) = [detail for detail in details if detail["name"].endswith(name)]
    step = found["quantization"][0]
    return yamnet.get_tensor(found["index"]) * (step or 1.0), step


def yamnet_log_mel(yamnet: Any, waveform: Any) -> Any:
    yamnet.set_tensor(0, waveform.astype(np.float32)[None])
    yamnet.invoke()
    return yamnet.get_tensor(yamnet.get_output_details()[1]["index"]).astype(np.float64)


def test_window_and_mel_matrix_equal_those_of_yamnet(yamnet: Any) -> None:
    window, _ = yamnet_constant(yamnet, "tf_op_layer_Mul/Mul/y")
    np.testing.assert_allclose(window[0], np.hanning(401)[:400], atol=1e-7)
    weights, step = yamnet_constant(yamnet, "MatMul_2/MatMul_2")
    np.testing.assert_allclose(weights.T, mel_matrix(), rtol=0, atol=step / 2)


def test_log_mel_of_noise_agrees_with_yamnet(yamnet: Any, rng: np.random.Generator) -> None:
    """The model's DFT matrix is rounded to int8, which hardly affects a flat spectrum."""
    waveform = rng.uniform(-1, 1, 15_600)
    error = np.abs(yamnet_log_mel(yamnet, waveform) - log_mel_spectrogram(waveform, 0.001))
    assert error.mean() < 0.005


def test_mel_of_recordings_agrees_with_yamnet(yamnet: Any, shared_data: Path) -> None:
    """Rounding the DFT matrix leaks a few percent of a frame's loudest bin into every band.

    So weak bands cannot be compared as logarithms; all bands are, relative to the loudest bin.
    """
    n_compared = 0
    for path in sorted((shared_data / "formats").iterdir()):
        waveform = load_audio(path)[16_000:31_600].astype(np.float64)
        if len(waveform) < 15_600:
            continue
        frames = np.lib.stride_tricks.sliding_window_view(waveform, 400)[::160]
        loudest = np.abs(np.fft.rfft(frames * np.hanning(401)[:400], 512)).max(axis=1)
        ours = np.exp(log_mel_spectrogram(waveform, 0.001))
        error = np.abs(np.exp(yamnet_log_mel(yamnet, waveform)) - ours) / loudest[:, None]
        assert error.max() < 0.06, path.name
        assert error.mean() < 0.003, path.name
        n_compared += 1
    assert n_compared >= 10


# Framing


@pytest.mark.parametrize(
    ("n_samples", "dropped", "padded"),
    [
        (0, 0, 0),
        (1, 0, 1),
        (239, 0, 1),
        (240, 0, 1),
        (15_599, 0, 1),
        (15_600, 1, 1),
        (15_360 + 7_679, 1, 1),
        (15_360 + 7_680, 1, 2),
        (30_959, 1, 2),
        (30_960, 2, 2),
        (160_000, 10, 10),
    ],
)
def test_patch_counts_match_the_reference(n_samples: int, dropped: int, padded: int) -> None:
    waveform = np.zeros(n_samples, np.float32)
    assert n_patches(n_samples, tail="drop") == len(log_mel_patches(waveform, tail="drop"))
    assert n_patches(n_samples, tail="drop") == dropped
    assert n_patches(n_samples) == len(log_mel_patches(waveform)) == padded


@settings(max_examples=60)
@given(n_samples=st.integers(0, 90_000), hop=HOPS, tail=TAILS)
def test_n_patches_equals_the_number_of_patches(n_samples: int, hop: float, tail: Any) -> None:
    patches = log_mel_patches(np.zeros(n_samples, np.float32), hop, tail)
    assert patches.shape == (n_patches(n_samples, hop, tail), 96, 64)


@settings(max_examples=300)
@given(n_samples=st.integers(0, 10**7), hop=HOPS)
def test_patch_counts_match_the_framing(n_samples: int, hop: float) -> None:
    hop_samples = round(hop * 100) * 160
    starts = range(0, n_samples, hop_samples)
    whole = sum(start + 15_600 <= n_samples for start in starts)
    half_filled = sum(start + 7_680 <= n_samples for start in starts)
    assert n_patches(n_samples, hop, "drop") == whole
    assert n_patches(n_samples, hop, "pad") == max(half_filled, min(1, n_samples))


@settings(max_examples=200)
@given(st.integers(-10, 10**6))
def test_stft_frames_are_whole(n_samples: int) -> None:
    n_frames = n_stft_frames(n_samples)
    assert n_frames == sum(1 for _ in range(0, n_samples - 399, 160))


@settings(max_examples=25)
@given(n_samples=st.integers(1, 50_000), hop=HOPS)
def test_padding_is_silence_and_keeps_the_other_frames(n_samples: int, hop: float) -> None:
    waveform = make_sound(n_samples / 16_000, seed=n_samples)
    dropped, padded = (log_mel_patches(waveform, hop, tail) for tail in ("drop", "pad"))
    long = np.concatenate([waveform, np.zeros(60_000, np.float32)])
    np.testing.assert_array_equal(dropped, padded[: len(dropped)])
    np.testing.assert_array_equal(padded, log_mel_patches(long, hop, "drop")[: len(padded)])


@settings(max_examples=25)
@given(hop=HOPS)
def test_patches_are_slices_of_the_spectrogram(hop: float) -> None:
    waveform = make_sound(6)
    spectrogram = log_mel_spectrogram(waveform)
    patches = log_mel_patches(waveform, hop, "drop")
    step = hop_to_frames(hop)
    expected = [spectrogram[i * step : i * step + 96] for i in range(len(patches))]
    np.testing.assert_array_equal(patches, expected)


@settings(max_examples=30)
@given(
    hop=HOPS,
    tail=TAILS,
    cuts=st.lists(st.integers(0, 70_000), max_size=12),
    n_samples=st.integers(0, 70_000),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_streaming_equals_the_whole_to_the_last_bit(
    hop: float, tail: Any, cuts: list[int], n_samples: int, dtype: Any
) -> None:
    waveform = make_sound(n_samples / 16_000).astype(dtype)
    stream = PatchStream(hop, tail, dtype)
    parts = [stream.feed(block) for block in np.split(waveform, sorted(cuts))]
    streamed = np.concatenate([*parts, stream.flush()])
    assert streamed.dtype == dtype
    np.testing.assert_array_equal(streamed, log_mel_patches(waveform, hop, tail))


def test_streaming_memory_is_bounded() -> None:
    stream = PatchStream(hop_seconds=0.5)
    for _ in range(200):
        stream.feed(np.zeros(4_000, np.float32))
        assert len(stream._samples) + 160 * len(stream._frames) < 4 * 16_000


# Invalid input


@pytest.mark.parametrize("hop", [0, -0.96, 0.005, 0.963, float("nan"), float("inf")])
def test_hop_must_be_a_multiple_of_the_stft_hop(hop: float) -> None:
    with pytest.raises(OptionError, match=r"hop must be .*Received: "):
        log_mel_patches(np.zeros(16_000, np.float32), hop)


def test_error_for_an_invalid_hop_has_the_nearest_valid_one() -> None:
    with pytest.raises(OptionError, match=r"Received: 0\.963; the nearest is 0\.96$"):
        hop_to_frames(0.963)


@pytest.mark.parametrize("take", [log_mel_spectrogram, log_mel_patches, PatchStream().feed])
@pytest.mark.parametrize(
    ("waveform", "hint"),
    [
        (np.zeros((16_000, 2), np.float32), "average the channels"),
        (np.zeros(16_000, np.int16), "divide 16-bit integers by 32768"),
        (np.zeros(16_000, complex), "floating point"),
    ],
)
def test_invalid_waveform_is_refused_with_a_hint(take: Any, waveform: Any, hint: str) -> None:
    with pytest.raises(OptionError, match=hint):
        take(waveform)


def test_unknown_tail_is_refused() -> None:
    with pytest.raises(OptionError, match=r"'pad' or 'drop'\. Received: 'keep'"):
        PatchStream(tail="keep")  # type: ignore[arg-type]
