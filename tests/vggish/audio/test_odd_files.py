"""Untrusted audio: limits, files that refer to other files, and decoders that hang."""

from __future__ import annotations

import io
import os
import socket
import stat
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from tests.support.sounds import make_sound
from vggish.audio.ffmpeg import find_ffmpeg
from vggish.audio.limits import AudioLimits
from vggish.audio.stream import AudioStream, open_audio
from vggish.errors import AudioError, AudioLimitError, AudioTimeoutError, OptionError

RATE_HZ = 16_000


@pytest.fixture(scope="module")
def ffmpeg() -> str:
    found = find_ffmpeg()
    if found is None:
        pytest.skip("needs ffmpeg")
    return found


def run_ffmpeg(ffmpeg: str, *arguments: Any) -> None:
    subprocess.run([ffmpeg, "-v", "error", "-y", *map(str, arguments)], check=True)


def encoded(container: str, subtype: str, samples: Any, rate_hz: int = RATE_HZ) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate_hz, format=container, subtype=subtype)
    return buffer.getvalue()


# Limits


def without_length(flac: bytes) -> bytes:
    """Set the total samples to 0, as an encoder does that writes to a pipe."""
    return flac[:21] + bytes([flac[21] & 0xF0]) + bytes(4) + flac[26:]


FILES = {
    "wav": lambda samples: encoded("WAV", "PCM_16", samples),
    "flac": lambda samples: encoded("FLAC", "PCM_16", samples),
    "flac without length": lambda samples: without_length(encoded("FLAC", "PCM_16", samples)),
    "ogg": lambda samples: encoded("OGG", "VORBIS", samples),
    "mp3": lambda samples: encoded("MP3", "MPEG_LAYER_III", samples),
}


def seconds_decoded(stream: AudioStream) -> float:
    return sum(map(len, stream.blocks(RATE_HZ))) / stream.sample_rate_hz


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("limit", [{"max_seconds": 4.5}, {"max_decoded_bytes": 288_000}])
def test_only_audio_longer_than_the_limit_is_refused(kind: str, limit: Any) -> None:
    limits = AudioLimits(**limit)
    with open_audio(FILES[kind](make_sound(4.4)), limits=limits) as stream:
        assert seconds_decoded(stream) == pytest.approx(4.4, abs=0.05)
    refused = pytest.raises(
        AudioLimitError, match=r"^long.wav is too l.* at most (4.5|288,000) .*cut .*first$"
    )
    long = FILES[kind](make_sound(30.0))
    if kind != "flac without length":
        with refused:
            open_audio(long, "long.wav", limits)
        return
    with open_audio(long, "long.wav", limits) as stream:
        with refused:
            seconds_decoded(stream)
        assert stream.seconds_read <= 4.5


@pytest.mark.parametrize(
    "arguments", [("-f", "mp4", "-c:a", "aac"), ("-f", "webm", "-c:a", "libopus")]
)
def test_audio_decoded_by_ffmpeg_is_limited_too(
    ffmpeg: str, write_sound: Any, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    path = tmp_path / "clip"
    run_ffmpeg(ffmpeg, "-i", write_sound("a.wav", 5.0), *arguments, path)
    with open_audio(path, limits=AudioLimits(max_seconds=5.5, max_channels=1)) as stream:
        assert seconds_decoded(stream) == pytest.approx(5, abs=0.2)
    with (
        pytest.raises(AudioLimitError, match=r"too long, in seconds: at most 2 are allowed"),
        open_audio(path, limits=AudioLimits(max_seconds=2.0)) as stream,
    ):
        seconds_decoded(stream)
    with pytest.raises(AudioLimitError, match="sample rate, in Hz: at most 8,000 are allowed"):
        open_audio(path, limits=AudioLimits(max_sample_rate_hz=8_000))


def test_a_decompression_bomb_is_not_decoded_to_its_end() -> None:
    """The file holds ten minutes of silence in eight channels in less than 300 kB."""
    bomb = without_length(encoded("FLAC", "PCM_16", np.zeros((9_600_000, 8), np.int16)))
    assert len(bomb) < 300_000
    n_decoded = 0
    with open_audio(bomb, limits=AudioLimits(max_decoded_bytes=10_000_000)) as stream:
        read = stream._decoder.read

        def count(n_frames: int) -> Any:
            nonlocal n_decoded
            block = read(n_frames)
            n_decoded += 4 * block.size
            return block

        stream._decoder.read = count  # type: ignore[method-assign]
        with pytest.raises(AudioLimitError, match="too large after decoding, in bytes"):
            list(stream.blocks())
    assert n_decoded < 12_000_000


def test_a_header_beyond_the_limits_is_refused_before_decoding() -> None:
    flac = encoded("FLAC", "PCM_16", make_sound(1.0))
    lying = flac[:22] + struct.pack(">I", RATE_HZ * 3600 * 3) + flac[26:]
    with pytest.raises(AudioLimitError, match="Received: 10,800 or more; cut it first"):
        open_audio(lying, limits=AudioLimits(max_seconds=3600))


def test_channels_and_rate_are_checked_first() -> None:
    many = encoded("WAV", "PCM_16", np.zeros((100, 9), np.int16))
    with pytest.raises(AudioLimitError, match=r"too many channels: at most 8 .* Received: 9 "):
        open_audio(many, limits=AudioLimits(max_channels=8))
    fast = encoded("WAV", "PCM_16", np.zeros(100, np.int16), 96_000)
    with pytest.raises(AudioLimitError, match=r"in Hz: at most 48,000 .* Received: 96,000 "):
        open_audio(fast, limits=AudioLimits(max_sample_rate_hz=48_000))
    for data in (many, fast):
        open_audio(data, limits=AudioLimits(max_channels=9, max_sample_rate_hz=96_000)).close()


@pytest.mark.parametrize("value", [0, -1, float("nan")])
def test_limits_must_be_positive(value: float) -> None:
    with pytest.raises(OptionError, match=r"max_seconds must be more than 0, or None. Received:"):
        AudioLimits(max_seconds=value)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="measures memory as Linux does")
def test_pictures_are_not_decoded(ffmpeg: str, tmp_path: Path) -> None:
    """The file holds an empty picture of half a megabyte; decoding it takes 300 MB."""
    path = tmp_path / "clip.mkv"
    picture = ("-f", "lavfi", "-i", "color=s=10000x10000:d=0.04:r=25", "-c:v", "png")
    sound = ("-f", "lavfi", "-i", "sine=duration=2", "-c:a", "flac")
    run_ffmpeg(ffmpeg, *picture[:4], *sound[:4], *picture[4:], *sound[4:], path)
    assert path.stat().st_size < 1_000_000
    program = (
        "import resource, sys\n"
        "from vggish.audio.stream import open_audio\n"
        "with open_audio(sys.argv[1]) as stream:\n"
        "    print(sum(map(len, stream.blocks())), stream.warnings)\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, path], capture_output=True, text=True, check=True
    )
    read, kib = done.stdout.splitlines()
    assert read == "88200 []"
    assert int(kib) < 150_000


# Files that refer to other files


class Canary:
    """A server that must not be contacted, and an audio file that must not be read."""

    def __init__(self, directory: Path, ffmpeg: str) -> None:
        self.secret = directory / "secret.mov"
        self.n_calls = 0
        sound = directory / "secret.wav"
        soundfile.write(sound, make_sound(1.0), RATE_HZ)
        run_ffmpeg(ffmpeg, "-i", sound, "-c:a", "pcm_s16le", self.secret)
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/secret.mov"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                caller, _ = self._socket.accept()
            except OSError:
                return
            self.n_calls += 1
            caller.close()

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)  # otherwise `accept` would keep waiting
        self._socket.close()


@pytest.fixture
def canary(tmp_path: Path, ffmpeg: str) -> Iterator[Canary]:
    canary = Canary(tmp_path, ffmpeg)
    yield canary
    canary.close()


def hls(target: str, canary: Canary) -> bytes:
    return f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{target}\n#EXT-X-ENDLIST\n".encode()


def ffconcat(target: str, canary: Canary) -> bytes:
    return f"ffconcat version 1.0\nfile {target}\n".encode()


def sdp(target: str, canary: Canary) -> bytes:
    port = canary.url.split(":")[2].split("/")[0]
    return (
        "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
        f"m=audio {port} RTP/AVP 0\r\na=control:{target}\r\n"
    ).encode()


def dash(target: str, canary: Canary) -> bytes:
    return (
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
        'mediaPresentationDuration="PT1S" profiles="urn:mpeg:dash:profile:isoff-on-demand:2011">'
        '<Period><AdaptationSet mimeType="audio/mp4"><Representation id="1" bandwidth="9">'
        f"<BaseURL>{target}</BaseURL></Representation></AdaptationSet></Period></MPD>"
    ).encode()


def avi_with_a_playlist_for_subtitles(target: str, canary: Canary) -> bytes:
    playlist = hls(target, canary)
    gab = b"GAB2\0" + struct.pack("<HIHHI", 2, 2, 0, 4, len(playlist)) + playlist
    stream = struct.pack("<4s4s12I4H", b"txts", b"", *(0, 0, 0, 1, 25, 0, 125, 0), *(0,) * 8)
    stream = riff(b"strh", stream) + riff(b"strf", bytes(40))
    header = struct.pack("<14I", 40_000, 0, 0, 16, 125, 0, 1, 0, 224, 160, 0, 0, 0, 0)
    header = riff(b"avih", header) + riff(b"LIST", b"strl" + stream)
    movie = riff(b"LIST", b"movi" + riff(b"00tx", gab))
    return riff(b"RIFF", b"AVI " + riff(b"LIST", b"hdrl" + header) + movie)


def mov_of_another_files_samples(target: str, canary: Canary) -> bytes:
    """The secret file with its samples replaced by a reference to `target`."""
    data = canary.secret.read_bytes()
    boxes = list(path_of_boxes(data, [b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref"]))
    path = f"/{Path(target).name}".encode()
    path += b"\0" * (len(path) % 2)
    alias = bytes(130) + struct.pack(">HH16x", 1, 1)
    alias += struct.pack(">HH", 2, len(path)) + path + b"\xff\xff\0\0"
    reference = box(b"dref", struct.pack(">II", 0, 1) + box(b"alis", bytes(4) + alias))
    start, size = boxes[-1]
    hostile = bytearray(data[:start] + reference + data[start + size :])
    for outer, outer_size in boxes[:-1]:
        hostile[outer : outer + 4] = struct.pack(">I", outer_size + len(reference) - size)
    samples = data.index(b"mdat") + 4
    n_bytes = int.from_bytes(data[samples - 8 : samples - 4], "big") - 8
    hostile[samples : samples + n_bytes] = bytes(n_bytes)
    return bytes(hostile)


def box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(body), kind) + body


def riff(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)


def path_of_boxes(data: bytes, names: list[bytes]) -> Iterator[tuple[int, int]]:
    position = 0
    for name in names:
        while data[position + 4 : position + 8] != name:
            position += int.from_bytes(data[position : position + 4], "big")
        yield position, int.from_bytes(data[position : position + 4], "big")
        position += 8


HOSTILE = [hls, ffconcat, sdp, dash, avi_with_a_playlist_for_subtitles]
HOSTILE += [mov_of_another_files_samples]


@pytest.mark.parametrize("suffix", [".wav", ".mp4", ".m3u8", ""])
@pytest.mark.parametrize("target", ["the file", "its url", "the web"])
@pytest.mark.parametrize("make", HOSTILE, ids=lambda make: make.__name__)
def test_no_file_makes_ffmpeg_open_other_files_or_connections(
    canary: Canary, tmp_path: Path, make: Any, target: str, suffix: str
) -> None:
    targets = {
        "the file": "secret.mov",
        "its url": f"file://{canary.secret}",
        "the web": canary.url,
    }
    path = tmp_path / f"upload{suffix}"
    path.write_bytes(make(targets[target], canary))
    with pytest.raises(AudioError), open_audio(path) as stream:
        list(stream.blocks())
    assert canary.n_calls == 0


def test_plain_ffmpeg_follows_the_hostile_files(
    canary: Canary, tmp_path: Path, ffmpeg: str
) -> None:
    followed = {hls: (), ffconcat: (), mov_of_another_files_samples: ("-enable_drefs", "1")}
    for make, options in followed.items():
        path = tmp_path / "upload.m3u8"
        path.write_bytes(make("secret.mov", canary))
        out = tmp_path / "out.wav"
        run_ffmpeg(ffmpeg, *options, "-i", path, out)
        np.testing.assert_allclose(soundfile.read(out)[0], make_sound(1.0), atol=1e-3)
    path.write_bytes(hls(canary.url, canary))
    with pytest.raises(subprocess.CalledProcessError):
        run_ffmpeg(ffmpeg, "-protocol_whitelist", "file,http,tcp", "-i", path, out)
    assert canary.n_calls > 0


# Decoders that hang


@pytest.fixture
def fake_ffmpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Replace ffmpeg by a shell script; return a function that tells whether it is running."""

    def install(script: str) -> Any:
        path, pid = tmp_path / "ffmpeg", tmp_path / "pid"
        lines = [
            *("#!/bin/sh", "case $* in *-decoders) echo ' A....D aac  AAC'; exit;; esac"),
            *(f"echo $$ > {pid}.part; mv {pid}.part {pid}", script, ""),
        ]
        path.write_text("\n".join(lines))
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("AUDIOTAG_FFMPEG", str(path))

        def is_running() -> bool:
            until = time.monotonic() + 20
            while not pid.exists() and time.monotonic() < until:
                time.sleep(0.01)
            try:
                os.kill(int(pid.read_text()), 0)
            except ProcessLookupError:
                return False
            return True

        return is_running

    return install


HANGS = "exec sleep 100"


def element(name: str, content: bytes) -> bytes:
    """An element of a Matroska stream, as ffmpeg writes audio."""
    return bytes.fromhex(name) + (len(content) | 1 << 28).to_bytes(4, "big") + content


TRACK = element("e1", element("b5", struct.pack(">d", 16_000)) + element("9f", b"\1"))
BLOCK = element("a3", b"\x81\0\0\x80" + bytes(64_000))
MATROSKA = element("1654ae6b", element("ae", TRACK)) + element("1f43b675", BLOCK)
# A second of audio, then nothing.
HANGS_LATER = "printf '{}'; {}".format("".join(f"\\{byte:03o}" for byte in MATROSKA), HANGS)
NOT_FOR_LIBSNDFILE = b"\0\0\0\x18ftypM4A " + bytes(1_000)


@pytest.mark.skipif(os.name == "nt", reason="needs a shell")
@pytest.mark.parametrize("script", [HANGS, HANGS_LATER], ids=["at once", "later"])
def test_a_hanging_decoder_is_killed_at_the_deadline(fake_ffmpeg: Any, script: str) -> None:
    is_running = fake_ffmpeg(script)
    begin = time.monotonic()
    limits = AudioLimits(deadline=begin + 2)
    with (
        pytest.raises(AudioTimeoutError, match=r"decoding clip.m4a took too long"),
        open_audio(NOT_FOR_LIBSNDFILE, "clip.m4a", limits) as stream,
    ):
        list(stream.blocks(8_000))
    assert 2 <= time.monotonic() - begin < 20
    assert not is_running()


def test_endless_ogg_pages_do_not_keep_ffmpeg_busy(ffmpeg: str) -> None:
    """In some versions the time grows with the square of the size: here to half a minute."""
    begin = time.monotonic()
    with pytest.raises(AudioError):
        open_audio(b"OggS" * 1_000_000, limits=AudioLimits(deadline=begin + 0.5))
    assert time.monotonic() - begin < 10


@pytest.mark.skipif(os.name == "nt", reason="needs a shell")
def test_another_thread_may_close_a_waiting_stream(fake_ffmpeg: Any) -> None:
    is_running = fake_ffmpeg(HANGS_LATER)
    stream = open_audio(NOT_FOR_LIBSNDFILE, "clip.m4a")
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(lambda: list(stream.blocks()))
        time.sleep(0.1)
        begin = time.monotonic()
        stream.close()
        with pytest.raises(AudioError, match=r"clip.m4a was closed before it was read to its end"):
            reading.result()
    assert time.monotonic() - begin < 10
    assert not is_running()


def test_a_stream_may_be_closed_at_any_time(write_sound: Any) -> None:
    """libsndfile would crash if its file were closed while it is read."""
    path = write_sound("a.flac", 60.0, format="FLAC")
    for delay in np.linspace(0, 0.05, 20):
        stream = open_audio(path)
        with ThreadPoolExecutor(1) as pool:
            reading = pool.submit(lambda: list(stream.blocks(1 << 10)))  # noqa: B023
            time.sleep(delay)
            stream.close()
            stream.close()
        try:
            assert sum(map(len, reading.result())) == 60 * RATE_HZ
        except AudioError as error:
            assert "was closed" in str(error)  # noqa: PT017
        with pytest.raises(AudioError, match="was closed"):
            list(stream.blocks())


@pytest.mark.skipif(os.name == "nt", reason="needs a shell")
def test_progress_that_raises_ends_ffmpeg(
    fake_ffmpeg: Any, ffmpeg: str, write_sound: Any, tmp_path: Path, tiny_extractor: Any
) -> None:
    path = tmp_path / "clip.m4a"
    run_ffmpeg(ffmpeg, "-i", write_sound("a.wav", 100.0), path)
    is_running = fake_ffmpeg(f'exec {ffmpeg} "$@"')

    def give_up(seconds: float, in_all: float | None) -> None:
        assert is_running()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tiny_extractor(path, on_progress=give_up)
    assert not is_running()


def test_deadline_applies_to_every_decoder(write_sound: Any) -> None:
    path = write_sound("a.wav", 5.0)
    with open_audio(path, limits=AudioLimits(deadline=time.monotonic() + 60)) as stream:
        assert seconds_decoded(stream) == 5
    with (
        open_audio(path, limits=AudioLimits(deadline=time.monotonic())) as stream,
        pytest.raises(AudioTimeoutError, match="took too long"),
    ):
        seconds_decoded(stream)


@pytest.fixture
def tiny_extractor() -> Any:
    from vggish import Extractor

    class Zeros:
        provenance = {"name": "zeros"}  # noqa: RUF012

        def __call__(self, patches: Any) -> Any:
            return np.zeros((len(patches), 128), np.float32)

    return Extractor(Zeros(), None)
