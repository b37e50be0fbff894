"""Decoding: formats and sources, warnings for defects, and refused files."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings, strategies as st

from tests.support.sounds import make_sound
from vggish.audio.decoders import AUDIO_SUFFIXES
from vggish.audio.ffmpeg import find_ffmpeg
from vggish.audio.stream import AudioStream, load_audio, open_audio, waveform_blocks
from vggish.errors import AudioError, EmptyAudioError, OptionError

# suffix, format, subtype, and the largest allowed encoding error for the synthetic audio.
LOSSLESS = [
    (".wav", "WAV", "PCM_U8", 2**-7),
    (".wav", "WAV", "PCM_16", 2**-15),
    (".wav", "WAV", "PCM_24", 2**-23),
    (".wav", "WAV", "PCM_32", 2**-23),
    (".wav", "WAV", "FLOAT", 0),
    (".wav", "WAV", "DOUBLE", 0),
    (".wav", "WAV", "ALAW", 0.02),
    (".wav", "WAV", "ULAW", 0.02),
    (".wav", "WAVEX", "PCM_16", 2**-15),
    (".flac", "FLAC", "PCM_16", 2**-15),
    (".flac", "FLAC", "PCM_24", 2**-23),
    (".aiff", "AIFF", "PCM_16", 2**-15),
    (".w64", "W64", "PCM_16", 2**-15),
    (".rf64", "RF64", "PCM_16", 2**-15),
    (".au", "AU", "PCM_16", 2**-15),
    (".caf", "CAF", "PCM_16", 2**-15),
]
LOSSY = [
    (".ogg", "OGG", "VORBIS"),
    (".opus", "OGG", "OPUS"),
    (".mp3", "MP3", "MPEG_LAYER_III"),
]


@pytest.fixture(autouse=True)
def _temporary_files_are_removed(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Check after every test that no temporary file is left."""
    directory = tmp_path_factory.mktemp("temporary")
    monkeypatch.setattr(tempfile, "tempdir", str(directory))
    yield
    assert list(directory.iterdir()) == []


@pytest.fixture
def no_ffmpeg(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AUDIOTAG_FFMPEG", raising=False)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)


@pytest.fixture(scope="session")
def ffmpeg() -> str:
    found = find_ffmpeg()
    if found is None:
        pytest.skip("needs ffmpeg")
    return found


def encode(ffmpeg: str, source: Path, *arguments: str) -> bytes:
    """Encode a file with ffmpeg into a pipe, so that the header cannot be completed."""
    command = [ffmpeg, "-v", "error", "-i", str(source), *arguments, "pipe:1"]
    return subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout


def read(source: Any, name: str | None = None) -> tuple[Any, AudioStream]:
    """Read all audio at its own rate; return the waveform and the closed stream."""
    with open_audio(source, name) as stream:
        waveform = np.concatenate(list(stream.blocks()))
    assert stream.seconds_read == len(waveform) / stream.sample_rate_hz
    return waveform, stream


def wav_bytes(samples: Any, rate_hz: int = 16_000, subtype: str = "PCM_16") -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate_hz, format="WAV", subtype=subtype)
    return buffer.getvalue()


def correlation(one: Any, other: Any) -> float:
    n = min(len(one), len(other))
    return float(np.corrcoef(one[:n], other[:n])[0, 1])


# Formats


@pytest.mark.parametrize(("suffix", "container", "subtype", "error"), LOSSLESS)
@pytest.mark.parametrize("n_channels", [1, 2])
def test_lossless_formats_restore_the_waveform(
    write_sound: Any, suffix: str, container: str, subtype: str, error: float, n_channels: int
) -> None:
    path = write_sound(f"a{suffix}", 3, n_channels=n_channels, format=container, subtype=subtype)
    waveform, stream = read(path)
    assert waveform.dtype == np.float32
    np.testing.assert_allclose(waveform, make_sound(3), rtol=0, atol=error)
    assert stream.warnings == []
    assert (stream.format, stream.n_channels) == (f"{container}/{subtype}", n_channels)
    assert stream.seconds_in_header == 3


@pytest.mark.parametrize(("suffix", "container", "subtype"), LOSSY)
def test_lossy_formats_approximate_the_waveform(
    write_sound: Any, suffix: str, container: str, subtype: str
) -> None:
    waveform, stream = read(write_sound(f"a{suffix}", 3, format=container, subtype=subtype))
    assert waveform.shape == (48_000,)
    assert correlation(waveform, make_sound(3)) > 0.95
    assert stream.warnings == []


def test_real_files_decode_to_their_length_without_warnings(shared_data: Path) -> None:
    paths = sorted((shared_data / "formats").iterdir())
    assert paths
    for path in paths:
        waveform, stream = read(path)
        # A loud MP3 overshoots full scale; no other warning is expected.
        assert [w for w in stream.warnings if not w.startswith("clipped: 0.6 %")] == [], path.name
        expected = soundfile.read(path, always_2d=True)[0].mean(axis=1).clip(-1, 1)
        if "mp3_in_wav" in path.name:
            # Its header states too little, which libsndfile believes.
            assert len(waveform) == 113_519 > len(expected)
        else:
            assert len(waveform) == len(expected)
            np.testing.assert_allclose(waveform, expected, rtol=0, atol=0.01)


@pytest.mark.parametrize("subtype", ["PCM_16", "FLOAT"])
def test_mono_is_the_mean_over_channels(rng: np.random.Generator, subtype: str) -> None:
    channels = rng.uniform(-0.9, 0.9, (1_000, 8)).astype(np.float32)
    waveform, _ = read(wav_bytes(channels, subtype=subtype))
    np.testing.assert_allclose(waveform, channels.mean(axis=1), rtol=0, atol=2**-15)


def test_blocks_of_any_size_give_the_same_waveform(write_sound: Any) -> None:
    for suffix in (".wav", ".flac", ".mp3", ".ogg"):
        path = write_sound(f"a{suffix}", 2)
        for size in (100, 12_345):
            with open_audio(path) as stream:
                parts = list(stream.blocks(size))
            assert max(map(len, parts)) <= size
            np.testing.assert_array_equal(np.concatenate(parts), read(path)[0])


def test_loaded_audio_is_at_16_khz(write_sound: Any) -> None:
    waveform = load_audio(write_sound("a.flac", 2, rate_hz=44_100))
    assert (waveform.dtype, waveform.shape) == (np.float32, (32_000,))
    assert len(load_audio(wav_bytes(np.full(2, 0.5), 384_000))) == 1


@pytest.mark.parametrize("rate_hz", [1_000_001, 10_000_000])
def test_sample_rates_beyond_the_limits_are_refused(rate_hz: int) -> None:
    data = wav_bytes(np.zeros(100), rate_hz)
    with pytest.raises(AudioError, match=rf"1 to 1000000 Hz. Received: {rate_hz}"):
        open_audio(data)


@pytest.mark.parametrize("rate_hz", [4_000, 384_002, 500_000, 1_000_000])
def test_files_of_any_higher_sample_rate_have_no_warning(rate_hz: int) -> None:
    data = wav_bytes(make_sound(0.5, rate_hz), rate_hz)
    assert read(data)[1].warnings == []
    assert len(load_audio(data)) == 8_000


@pytest.mark.parametrize(
    ("rate_hz", "said"),
    [
        (3_999, "sampled at 3,999 Hz: nothing above 1,999.5 Hz is recorded"),
        (2_000, "sampled at 2,000 Hz: nothing above 1,000 Hz is recorded"),
        (44, "is that kHz"),
        (1, "nothing above 0.5 Hz"),
    ],
)
def test_low_sample_rates_have_a_warning(rate_hz: int, said: str) -> None:
    data = wav_bytes(np.full(200, 0.25), rate_hz)
    (warning,) = read(data)[1].warnings
    assert said in warning
    with open_audio(data) as stream:
        blocks = list(waveform_blocks(stream))
    assert sum(map(len, blocks)) == (200 * 16_000 + rate_hz // 2) // rate_hz
    assert max(map(len, blocks)) <= 200 * 16_000


# Sources


def test_path_bytes_and_file_object_are_the_same(write_sound: Any) -> None:
    path = write_sound("a.wav")
    expected, _ = read(path)
    with open(path, "rb") as file:
        for source in (str(path), path.read_bytes(), memoryview(path.read_bytes()), file):
            np.testing.assert_array_equal(read(source)[0], expected)
        assert not file.closed


def test_file_object_is_read_from_its_position() -> None:
    file = io.BytesIO(b"to be skipped" + wav_bytes(make_sound(0.5)))
    file.seek(len(b"to be skipped"))
    assert len(read(file)[0]) == 8_000
    assert not file.closed


def test_standard_input_is_read() -> None:
    code = "from vggish.audio.stream import load_audio; print(len(load_audio('-')))"
    result = subprocess.run(
        [sys.executable, "-c", code], input=wav_bytes(make_sound(1)), stdout=-1, check=True
    )
    assert int(result.stdout) == 16_000


def test_closed_standard_input_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(AudioError, match="standard input: it is closed"):
        open_audio("-")


def test_named_pipe_is_read(tmp_path: Path) -> None:
    path = tmp_path / "pipe.wav"
    os.mkfifo(path)
    data = wav_bytes(make_sound(1))
    writer = threading.Thread(target=path.write_bytes, args=(data,), daemon=True)
    writer.start()
    waveform, _ = read(path)
    writer.join()
    assert len(waveform) == 16_000


@pytest.mark.parametrize("suffix", [".wav", ".m4a"])
@pytest.mark.parametrize(
    "stem",
    ["-i", "a:b", "http:", "concat:a|b", "new\nline", "ünï'\"\\ $(x)", "%03d", "*", "b\udcffd"],
)
def test_any_file_name_works(in_directory: Path, ffmpeg: str, stem: str, suffix: str) -> None:
    Path("plain.wav").write_bytes(wav_bytes(make_sound(0.5)))
    codec = ["-f", "wav"] if suffix == ".wav" else ["-c:a", "aac", "-f", "adts"]
    data = encode(ffmpeg, Path("plain.wav"), *codec)
    Path(stem + suffix).write_bytes(data)
    waveform, stream = read(stem + suffix)
    assert 8_000 <= len(waveform) < 12_000
    assert stream.warnings == []


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: None, "No such file"),
        (lambda path: path.mkdir(), "is a directory"),
        (lambda path: path.write_bytes(b""), "is empty: 0 bytes"),
        (lambda path: path.symlink_to("/dev/zero"), "not a regular file"),
        (lambda path: path.symlink_to(path), "cannot open"),
        (lambda path: path.write_bytes(wav_bytes(np.zeros(0))), "holds no audio: 0 samples"),
        (lambda path: path.write_text("This is no sound at all. " * 99), "neither libsndfile"),
    ],
)
def test_invalid_files_are_refused(tmp_path: Path, ffmpeg: str, make: Any, reason: str) -> None:
    path = tmp_path / "a.wav"
    make(path)
    with pytest.raises(AudioError, match=reason) as caught:
        read(path)
    assert str(path) in str(caught.value)


def test_invalid_sources_are_audio_errors(tmp_path: Path) -> None:
    with pytest.raises(EmptyAudioError, match="sound from the web is empty"):
        open_audio(b"", name="sound from the web")
    with pytest.raises(AudioError, match="cannot open"):
        open_audio("nul\0byte.wav")
    (tmp_path / "a.raw").write_bytes(bytes(1_000))
    with pytest.raises(AudioError, match="raw samples without a header"):
        open_audio(tmp_path / "a.raw")

    class Broken(io.BytesIO):
        def read(self, *_: Any) -> bytes:
            raise OSError("the disk is on fire")

    with pytest.raises(AudioError, match="the disk is on fire"):
        open_audio(Broken())


# ffmpeg


@pytest.mark.parametrize(
    "arguments",
    [
        ("-c:a", "aac", "-f", "mp4", "-movflags", "frag_keyframe+empty_moov"),
        ("-c:a", "libopus", "-f", "webm"),
        ("-c:a", "flac", "-f", "matroska"),
        ("-f", "lavfi", "-i", "color=s=16x16:d=2", "-c:a", "mp2", "-f", "mpegts"),
    ],
    ids=["m4a", "webm", "mkv", "video"],
)
def test_other_formats_are_read_through_ffmpeg(
    write_sound: Any, ffmpeg: str, arguments: tuple[str, ...]
) -> None:
    data = encode(ffmpeg, write_sound("a.wav", 2, n_channels=2), *arguments)
    waveform, stream = read(data)
    assert stream.format == "ffmpeg"
    assert (stream.n_channels, stream.warnings) == (2, [])
    assert len(load_audio(data)) == pytest.approx(32_000, abs=2_500)
    assert 0.1 < waveform.std() < 0.5


def test_truncated_file_read_through_ffmpeg_has_a_warning(write_sound: Any, ffmpeg: str) -> None:
    data = encode(ffmpeg, write_sound("a.wav", 3), "-c:a", "flac", "-f", "matroska")
    waveform, stream = read(data[: len(data) // 2])
    assert 8_000 < len(waveform) < 40_000
    assert stream.warnings[0].startswith("ffmpeg reports damage: ")


def test_video_without_audio_is_refused(ffmpeg: str, tmp_path: Path) -> None:
    path = tmp_path / "silent.mkv"
    make = [ffmpeg, "-v", "error", "-f", "lavfi", "-i", "color=s=16x16:d=1", str(path)]
    subprocess.run(make, check=True)
    with pytest.raises(AudioError, match="there is no audio stream in it"):
        open_audio(path)


def test_without_ffmpeg_its_formats_are_refused_with_a_hint(no_ffmpeg: None) -> None:
    assert find_ffmpeg() is None
    with pytest.raises(AudioError, match=r"need ffmpeg.*pip install imageio-ffmpeg"):
        open_audio(b"\0\0\0\x18ftypM4A " + bytes(1_000), name="a.m4a")


def test_ffmpeg_is_configured_found_or_from_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    package = pytest.importorskip("imageio_ffmpeg")
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("AUDIOTAG_FFMPEG", raising=False)
    monkeypatch.delenv("IMAGEIO_FFMPEG_EXE", raising=False)
    assert find_ffmpeg() == package.get_ffmpeg_exe()
    monkeypatch.setenv("AUDIOTAG_FFMPEG", "/nowhere/ffmpeg")
    assert find_ffmpeg() == "/nowhere/ffmpeg"
    with pytest.raises(AudioError, match=r"ffmpeg does not run: .*\n.*at /nowhere/ffmpeg"):
        open_audio(b"no sound", name="a.m4a")


@pytest.mark.parametrize("suffix", ["its own", ".wav", ".mp4"])
@pytest.mark.parametrize(
    ("own_suffix", "playlist"),
    [
        (".m3u8", "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nsecret.ts\n#EXT-X-ENDLIST\n"),
        (".ffconcat", "ffconcat version 1.0\nfile secret.ts\n"),
    ],
)
def test_playlist_never_makes_ffmpeg_open_another_file(
    write_sound: Any, ffmpeg: str, tmp_path: Path, own_suffix: str, playlist: str, suffix: str
) -> None:
    secret = encode(ffmpeg, write_sound("a.wav"), "-c:a", "mp2", "-f", "mpegts")
    (tmp_path / "secret.ts").write_bytes(secret)
    path = tmp_path / f"list{own_suffix if suffix == 'its own' else suffix}"
    path.write_text(playlist)
    if suffix == "its own":
        assert encode(ffmpeg, path, "-f", "wav"), "ffmpeg by itself would have followed it"
    with pytest.raises(AudioError, match="cannot read"):
        open_audio(path)


# Warnings for samples


def test_clipping_has_a_warning_and_a_few_full_scale_samples_have_none() -> None:
    sine = np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)
    for subtype in ("PCM_16", "PCM_24", "FLOAT"):
        clipped = (3 * sine).clip(-1, 1)
        waveform, stream = read(wav_bytes(clipped, subtype=subtype))
        assert np.abs(waveform).max() == pytest.approx(1, abs=1e-4)
        assert stream.warnings[0].startswith("clipped: 78")
        assert read(wav_bytes(sine, subtype=subtype))[1].warnings == []
        touch = np.append(0.9 * sine, [1.0, -1.0])
        assert read(wav_bytes(touch, subtype=subtype))[1].warnings == []


@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
def test_nan_and_infinite_samples_become_0_with_a_warning(subtype: str) -> None:
    samples = make_sound(1)
    samples[[5, 50, 500]] = np.nan, np.inf, -np.inf
    waveform, stream = read(wav_bytes(samples, subtype=subtype))
    np.testing.assert_array_equal(waveform, np.where(np.isfinite(samples), samples, 0))
    assert stream.warnings == ["3 samples are NaN or infinite; taken as 0"]
    silence, _ = read(wav_bytes(np.full(100, np.nan), subtype=subtype))
    assert not silence.any()


# Warnings for files


@pytest.mark.parametrize("suffix", [".wav", ".w64", ".flac", ".ogg", ".opus", ".mp3", ".aiff"])
@pytest.mark.parametrize("share", [0.6, 0.9])
def test_truncated_file_is_read_with_a_warning(
    write_sound: Any, no_ffmpeg: None, suffix: str, share: float
) -> None:
    rate_hz = 48_000 if suffix == ".opus" else 44_100
    codec = {"format": "OGG", "subtype": "OPUS"} if suffix == ".opus" else {}
    path = write_sound(f"a{suffix}", 8, rate_hz, **codec)
    whole, _ = read(path)
    path.write_bytes(path.read_bytes()[: round(share * path.stat().st_size)])
    waveform, stream = read(path)
    assert len(stream.warnings) == 1
    assert stream.warnings[0].startswith("truncated")
    assert 0.4 * len(whole) < len(waveform) < 0.95 * len(whole)
    assert correlation(waveform, whole) > 0.999


def test_damage_beyond_the_first_block_keeps_the_blocks_before_it(write_sound: Any) -> None:
    path = write_sound("a.flac", 8)
    whole, _ = read(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    for size in (1_000, 10_000, 1 << 20):
        with open_audio(path) as stream:
            waveform = np.concatenate(list(stream.blocks(size)))
        assert len(waveform) > 40_000
        np.testing.assert_array_equal(waveform, whole[: len(waveform)])


def test_truncated_last_ogg_page_has_a_warning(write_sound: Any) -> None:
    data = write_sound("a.ogg", 8).read_bytes()
    assert "last page of the Ogg stream is incomplete" in read(data[:-10])[1].warnings[0]
    assert read(data + b"TAG" + bytes(125))[1].warnings == []
    assert "100 bytes are not Ogg pages" in read(data + b"?" * 100)[1].warnings[0]


def test_error_for_a_file_cut_before_its_first_sample_says_truncated(write_sound: Any) -> None:
    data = write_sound("a.ogg", 3).read_bytes()
    with pytest.raises(EmptyAudioError, match="0 samples; truncated: "):
        read(data[: len(data) // 2])
    data = write_sound("a.mp3").read_bytes()
    with pytest.raises(AudioError, match="unknown format"):
        read(data[:100])


@pytest.mark.parametrize("size", [0, 0x7FFFF000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])
@pytest.mark.parametrize("first_sample", [0.0, 0.1])
def test_streamed_wav_is_read_completely(no_ffmpeg: None, size: int, first_sample: float) -> None:
    samples = make_sound(1)
    samples[:100] = first_sample
    data = bytearray(wav_bytes(samples))
    data[4:8] = struct.pack("<I", size)
    data[40:44] = struct.pack("<I", size)
    waveform, stream = read(bytes(data))
    assert (len(waveform), stream.warnings) == (16_000, [])


def test_streamed_flac_is_read_completely(write_sound: Any, no_ffmpeg: None) -> None:
    data = bytearray(write_sound("a.flac", 2).read_bytes())
    data[21] &= 0xF0  # number of samples in STREAMINFO, 36 bits
    data[22:26] = bytes(4)
    waveform, stream = read(bytes(data))
    assert (len(waveform), stream.warnings, stream.seconds_in_header) == (32_000, [], None)


def test_tags_after_the_audio_are_not_reported_as_damage(write_sound: Any) -> None:
    for suffix in (".flac", ".mp3", ".wav"):
        data = write_sound(f"a{suffix}", 2).read_bytes() + b"TAG" + bytes(125)
        waveform, stream = read(data)
        assert (len(waveform), stream.warnings) == (32_000, [])


@pytest.fixture
def vbr_mp3_without_length(tmp_path: Path, ffmpeg: str) -> bytes:
    """An MP3 whose length libsndfile estimates from its first frames, which are loud and large."""
    sound = make_sound(10, 44_100)
    sound[44_100:] *= 1e-3
    path = tmp_path / "vbr.wav"
    soundfile.write(path, sound, 44_100)
    return encode(ffmpeg, path, "-c:a", "libmp3lame", "-q:a", "5", "-f", "mp3")


def test_mp3_of_unknown_length_is_read_completely(
    vbr_mp3_without_length: bytes, no_ffmpeg: None
) -> None:
    waveform, stream = read(vbr_mp3_without_length)
    assert len(waveform) == pytest.approx(441_000, abs=3_000)
    assert stream.warnings == []


def test_wrong_suffix_has_a_warning(write_sound: Any) -> None:
    path = write_sound("a.wav", format="MP3", subtype="MPEG_LAYER_III")
    assert read(path)[1].warnings == ["named .wav, but it is MP3"]
    assert read(path.read_bytes(), name="x.mp3")[1].warnings == []


# Arbitrary data


@pytest.fixture(scope="module")
def small_files() -> dict[str, bytes]:
    kinds = [(container, subtype) for _, container, subtype, _ in LOSSLESS]
    files = {}
    for container, subtype in [*kinds, *[(c, s) for _, c, s in LOSSY], ("CAF", "ALAC_16")]:
        buffer = io.BytesIO()
        soundfile.write(buffer, make_sound(0.2), 16_000, format=container, subtype=subtype)
        files[f"{container} {subtype}"] = buffer.getvalue()
    return files


BYTES = st.one_of(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF]), st.integers(0, 255))
DAMAGE = st.lists(st.tuples(st.integers(0, 150) | st.integers(0, 5_000), BYTES), max_size=12)


def assert_read_or_refused(source: Any) -> None:
    try:
        waveform, stream = read(source)
    except AudioError as error:
        told = [str(error)]
    else:
        assert np.abs(waveform).max(initial=0) <= 1.001
        told = stream.warnings
    assert all(told)
    assert "\n" not in "".join(told)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.integers(0, 99), damage=DAMAGE, cut=st.integers(1, 20_000), suffix=st.integers(0, 99)
)
def test_damaged_files_are_read_or_refused(
    small_files: dict[str, bytes],
    tmp_path: Path,
    no_ffmpeg: None,
    kind: int,
    damage: list[tuple[int, int]],
    cut: int,
    suffix: int,
) -> None:
    data = bytearray(list(small_files.values())[kind % len(small_files)])
    for position, value in damage:
        data[position % len(data)] = value
    path = tmp_path / f"damaged{sorted(AUDIO_SUFFIXES)[suffix % len(AUDIO_SUFFIXES)]}"
    path.write_bytes(data[:cut])
    assert_read_or_refused(path)


@pytest.mark.parametrize("suffix", ["", ".raw", *sorted(AUDIO_SUFFIXES)])
def test_random_bytes_are_refused_under_any_suffix(
    tmp_path: Path, rng: np.random.Generator, suffix: str
) -> None:
    path = tmp_path / f"noise{suffix}"
    for length in (1, 50, 5_000):
        path.write_bytes(rng.bytes(length))
        assert_read_or_refused(path)


@pytest.mark.parametrize("source", [np.zeros(16_000, np.float32), None, 3, ["a.wav"]])
def test_sources_of_other_types_are_refused(source: Any) -> None:
    with pytest.raises(OptionError, match=f"Received: {type(source).__name__}"):
        open_audio(source)


def test_error_for_unreadable_file_object_says_why(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_text("text")
    with open(path, encoding="utf-8") as text, pytest.raises(AudioError, match="binary mode"):
        open_audio(text)  # type: ignore[arg-type]
    with pytest.raises(AudioError, match="is it closed"):
        open_audio(text)  # type: ignore[arg-type]
