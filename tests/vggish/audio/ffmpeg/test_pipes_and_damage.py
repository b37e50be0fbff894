"""No false alarm about whole files in any container, and a warning about each that was cut."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.support.sounds import make_sound
from vggish.audio.ffmpeg import find_ffmpeg
from vggish.audio.stream import open_audio
from vggish.errors import AudioError

SECONDS = 3.0
FRAGMENTED = ("-movflags", "frag_keyframe+empty_moov")
# Format, options, and how many seconds a codec may add in whole packets.
FORMATS = {
    "wav": ((), 0.0),
    "wav, RF64": (("-f", "wav", "-rf64", "always"), 0.0),
    "wav, MPEG": (("-f", "wav", "-c:a", "libmp3lame"), 0.11),
    "wav, ADPCM": (("-f", "wav", "-c:a", "adpcm_ms"), 0.07),
    "w64": ((), 0.0),
    "aiff": ((), 0.0),
    "au": ((), 0.0),
    "caf": ((), 0.0),
    "flac": ((), 0.0),
    "ogg": (("-c:a", "libvorbis"), 0.0),
    "opus": ((), 0.0),
    "mp3": ((), 0.1),
    "mp3, no tag": (("-f", "mp3", "-write_xing", "0"), 0.1),
    "mp2": ((), 0.1),
    "adts": ((), 0.1),
    "matroska": ((), 0.1),
    "webm": ((), 0.1),
    "mp4": (FRAGMENTED, 0.1),
    "mov": (FRAGMENTED, 0.1),
    "mpegts": ((), 0.1),
    "flv": (("-ar", "44100"), 0.1),
    "avi": ((), 0.1),
    "asf": ((), 0.1),
    "tta": ((), 0.0),
    "ac3": ((), 0.1),
}


@pytest.fixture(scope="module")
def executable() -> str:
    found = find_ffmpeg()
    if found is None:
        pytest.skip("needs ffmpeg")
    return found


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("source") / "a.wav"
    soundfile.write(path, np.tile(make_sound(SECONDS, 48_000)[:, None], (1, 2)), 48_000)
    return path


def decoded(data: bytes) -> tuple[float, list[str]]:
    with open_audio(data) as stream:
        n_samples = sum(map(len, stream.blocks()))
    return n_samples / stream.sample_rate_hz, stream.warnings


@pytest.mark.parametrize("name", FORMATS)
def test_whole_file_from_a_pipe_has_no_warning(executable: str, source: Path, name: str) -> None:
    options, extra_seconds = FORMATS[name]
    kind = () if "-f" in options else ("-f", name)
    command = [executable, "-v", "error", "-i", str(source), *kind, *options, "pipe:1"]
    data = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=60).stdout
    seconds, warnings = decoded(data)
    assert warnings == []
    assert SECONDS - 0.03 <= seconds <= SECONDS + extra_seconds + 1e-4


@pytest.mark.parametrize(
    ("suffix", "options"),
    [
        ("mp4", ("-movflags", "+faststart")),
        ("mov", ("-movflags", "+faststart")),
        ("m4a", ("-movflags", "+faststart")),
        ("mkv", ()),
        ("webm", ()),
        ("flv", ("-ar", "44100")),
    ],
)
def test_file_that_was_cut_has_a_warning(
    executable: str, source: Path, tmp_path: Path, suffix: str, options: tuple[str, ...]
) -> None:
    path = tmp_path / f"a.{suffix}"
    command = [executable, "-v", "error", "-i", str(source), *options, str(path)]
    subprocess.run(command, check=True, timeout=60)
    data = path.read_bytes()
    rng = np.random.default_rng(len(suffix))
    for size in rng.integers(len(data) // 5, len(data) * 9 // 10, 6):
        try:
            seconds, warnings = decoded(data[:size])
        except AudioError:
            continue
        assert seconds < SECONDS, size
        assert any("could be decoded" in warning for warning in warnings), (size, warnings)
