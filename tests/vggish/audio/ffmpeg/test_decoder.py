"""Audio of videos: the times of the container, and the choice among several streams."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vggish.audio.ffmpeg import find_ffmpeg
from vggish.audio.stream import open_audio
from vggish.errors import AudioError, AudioLimitError

RATE_HZ = 48_000
PICTURE = ("-f", "lavfi", "-i", "testsrc=size=64x48:rate=5:duration=9")
TONE = ("-f", "lavfi", "-i", f"sine=440:sample_rate={RATE_HZ}:duration=3")
SILENCE = ("-f", "lavfi", "-t", "3", "-i", f"anullsrc=sample_rate={RATE_HZ}:channel_layout=mono")
# A tone from 0 to 3 s and from 13 to 16 s.
GAP = f"sine=440:sample_rate={RATE_HZ}:duration=16,aselect='lt(t,3)+gt(t,13)'"
TONE_WITH_GAP = ("-f", "lavfi", "-i", GAP)
CODECS = {
    "mp4": ("-c:v", "mpeg4", "-c:a", "aac"),
    "mov": ("-c:v", "mpeg4", "-c:a", "alac"),
    "mkv": ("-c:v", "mpeg4", "-c:a", "flac"),
    "webm": ("-c:v", "libvpx", "-b:v", "50k", "-c:a", "libopus"),
    "ts": ("-c:v", "mpeg2video", "-r", "25", "-c:a", "aac"),
    "flv": ("-c:v", "flv", "-c:a", "aac", "-ar", "44100"),
}
WITHOUT_EDIT_LIST = ("-use_editlist", "0")
FRAGMENTED = ("-movflags", "frag_keyframe+empty_moov")

Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Make a file with ffmpeg: `make("a.mp4", *arguments)`."""
    executable = find_ffmpeg()
    if executable is None:
        pytest.skip("needs ffmpeg")

    def run(name: str, *arguments: str) -> Path:
        path = tmp_path / name
        command = [executable, "-v", "error", "-y", *arguments, str(path)]
        subprocess.run(command, check=True, timeout=60)
        return path

    return run


def read(path: Path, stream: int | None = None) -> tuple[float, Sequence[float], list[str]]:
    """Duration, times at which sound begins or ends, and warnings."""
    with open_audio(path, stream=stream) as audio:
        waveform = np.concatenate(list(audio.blocks()))
    size = audio.sample_rate_hz // 50
    loud = np.abs(waveform[: len(waveform) // size * size]).reshape(-1, size).max(axis=1) > 0.02
    edges = np.flatnonzero(np.diff(np.concatenate([[0], loud.astype(int), [0]])))
    return len(waveform) / audio.sample_rate_hz, (edges / 50).tolist(), audio.warnings


@pytest.mark.parametrize("suffix", CODECS)
def test_audio_that_starts_late_begins_after_silence(make: Make, suffix: str) -> None:
    path = make(f"a.{suffix}", *PICTURE, "-itsoffset", "5", *TONE, *CODECS[suffix])
    seconds, edges, warnings = read(path)
    assert seconds == pytest.approx(9, abs=0.1)
    assert edges == pytest.approx([5, 8], abs=0.1)
    assert warnings == []


@pytest.mark.parametrize("options", [WITHOUT_EDIT_LIST, FRAGMENTED])
def test_late_audio_is_late_however_mp4_says_so(make: Make, options: tuple[str, ...]) -> None:
    path = make("a.mp4", *PICTURE, "-itsoffset", "5", *TONE, *CODECS["mp4"], *options)
    seconds, edges, warnings = read(path)
    assert seconds == pytest.approx(9, abs=0.1)
    assert edges == pytest.approx([5, 8], abs=0.1)
    assert warnings == []


@pytest.mark.parametrize("suffix", CODECS)
@pytest.mark.parametrize("has_picture", [True, False])
def test_gap_in_the_audio_is_silence(make: Make, suffix: str, has_picture: bool) -> None:
    picture = ("-f", "lavfi", "-i", "testsrc=size=64x48:rate=5:duration=16") if has_picture else ()
    codecs = CODECS[suffix] if has_picture else CODECS[suffix][-2:]
    if suffix == "flv" and not has_picture:
        codecs = CODECS[suffix][2:]
    path = make(f"a.{suffix}", *picture, *TONE_WITH_GAP, *codecs)
    seconds, edges, warnings = read(path)
    assert seconds == pytest.approx(16, abs=0.1)
    assert edges == pytest.approx([0, 3, 13, 16], abs=0.1)
    assert warnings == []


@pytest.mark.parametrize("suffix", CODECS)
def test_audio_that_ends_before_the_pictures_ends_in_silence(make: Make, suffix: str) -> None:
    seconds, edges, warnings = read(make(f"a.{suffix}", *PICTURE, *TONE, *CODECS[suffix]))
    assert seconds == pytest.approx(9, abs=0.1)
    assert edges == pytest.approx([0, 3], abs=0.1)
    assert warnings == []


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.m4a", "aac"), ("a.m4a", "alac"), ("a.mka", "libopus"), ("a.webm", "libopus")],
)
@pytest.mark.parametrize("options", [(), WITHOUT_EDIT_LIST])
def test_plain_audio_is_decoded_exactly_as_by_ffmpeg_alone(
    make: Make, name: str, codec: str, options: tuple[str, ...]
) -> None:
    path = make(name, *TONE, "-c:a", codec, *(options if name == "a.m4a" else ()))
    executable = find_ffmpeg()
    assert executable is not None
    command = [executable, "-v", "error", "-i", str(path), "-c:a", "pcm_f32le", "-f", "f32le", "-"]
    raw = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
    with open_audio(path) as audio:
        waveform = np.concatenate(list(audio.blocks()))
    np.testing.assert_array_equal(waveform, np.frombuffer(raw, "<f4"))


def test_gap_of_hours_needs_little_memory(make: Make) -> None:
    gap = "sine=440:sample_rate=8000:duration=7206,aselect='lt(t,3)+gt(t,7203)'"
    path = make("a.mkv", "-f", "lavfi", "-i", gap, "-c:a", "flac")
    n_samples, peak, largest = 0, 0.0, 0
    with open_audio(path) as audio:
        for block in audio.blocks(8_000):
            n_samples += len(block)
            largest = max(largest, len(block))
            peak = max(peak, float(np.abs(block).max()))
        assert audio.warnings == []
    assert n_samples / 8_000 == pytest.approx(7_206, abs=0.1)
    assert peak > 0.1
    assert largest <= 8_000
    from vggish.audio.limits import AudioLimits

    with pytest.raises(AudioLimitError, match="too long"):
        open_audio(path, limits=AudioLimits(max_seconds=600))


@pytest.mark.parametrize("suffix", ["mkv", "webm", "flv"])
def test_truncated_video_has_a_warning(make: Make, suffix: str) -> None:
    path = make(f"a.{suffix}", *PICTURE, "-itsoffset", "5", *TONE, *CODECS[suffix])
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 7 // 10])
    seconds, _, warnings = read(path)
    assert seconds < 8.5
    assert len(warnings) == 1
    assert warnings[0].startswith("ffmpeg reports damage")


# Several audio streams


def two_streams(make: Make, name: str, *options: str) -> Path:
    """A silent stream, and a tone."""
    return make(name, *SILENCE, *TONE, "-map", "0:a", "-map", "1:a", "-c:a", "aac", *options)


def test_stream_marked_as_default_is_used(make: Make) -> None:
    first = two_streams(make, "a.mp4")
    _, edges, warnings = read(first)
    assert edges == []
    assert "2 audio streams; used stream 1, which is marked as default" in warnings[0]
    assert "silence" in warnings[1]
    second = two_streams(make, "a.mkv", "-disposition:a:0", "0", "-disposition:a:1", "default")
    _, edges, warnings = read(second)
    assert edges == pytest.approx([0, 3], abs=0.1)
    assert len(warnings) == 1
    assert "used stream 2, which is marked as default" in warnings[0]


@pytest.mark.parametrize("disposition", ["0", "default"])
def test_first_stream_with_sound_is_used_where_none_is_marked(make: Make, disposition: str) -> None:
    options = ("-disposition:a:0", disposition, "-disposition:a:1", disposition)
    _, edges, warnings = read(two_streams(make, "a.mkv", *options))
    assert edges == pytest.approx([0, 3], abs=0.1)
    assert "used stream 2, the first with sound" in warnings[0]


def test_stream_can_be_chosen(make: Make) -> None:
    path = two_streams(make, "a.mkv")
    _, edges, warnings = read(path, stream=2)
    assert edges == pytest.approx([0, 3], abs=0.1)
    assert warnings == []
    assert read(path, stream=1)[1] == []
    with pytest.raises(AudioError, match="it has 2 audio streams, but stream 3 was chosen"):
        read(path, stream=3)


def test_file_of_one_stream_has_only_stream_1(make: Make, write_sound: Any) -> None:
    for path in (make("a.m4a", *TONE), write_sound("a.wav"), write_sound("a.ogg")):
        seconds, _, warnings = read(path, stream=1)
        assert seconds >= 2.0
        assert warnings == []
        with pytest.raises(AudioError, match=r"it has 1 audio stream, but stream 2 was chosen"):
            open_audio(path, stream=2)
    with pytest.raises(ValueError, match="stream must be at least 1"):
        open_audio(path, stream=0)
