"""WAV, RF64, W64, AIFF, CAF and AU files whose headers state a wrong number of bytes."""

from __future__ import annotations

import io
import os
import struct
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import soundfile

from tests.support.sounds import make_sound
from vggish.audio.stream import open_audio

RATE_HZ = 16_000
N_SAMPLES = 32_000
SOUND = make_sound(N_SAMPLES / RATE_HZ)


class Case(NamedTuple):
    """A container, and where it states the number of bytes of audio."""

    format: str
    subtype: str
    endian: str
    field: str  # of the size
    marker: bytes  # before the field
    offset: int  # of the field, from the end of the marker
    extra_bytes: int  # that the size counts beyond the audio


CASES = {
    "wav": Case("WAV", "PCM_16", "FILE", "<I", b"data", 0, 0),
    "wav of 24 bits": Case("WAV", "PCM_24", "FILE", "<I", b"data", 0, 0),
    "wav of floats": Case("WAV", "FLOAT", "FILE", "<I", b"data", 0, 0),
    "extensible wav": Case("WAVEX", "PCM_16", "FILE", "<I", b"data", 0, 0),
    "rifx": Case("WAV", "PCM_16", "BIG", ">I", b"data", 0, 0),
    "rf64": Case("RF64", "PCM_16", "FILE", "<Q", b"ds64", 12, 0),
    "w64": Case("W64", "PCM_16", "FILE", "<q", b"data\xf3\xac\xd3\x11", 8, 24),
    "aiff": Case("AIFF", "PCM_16", "FILE", ">I", b"SSND", 0, 8),
    "aifc, little-endian": Case("AIFF", "PCM_16", "LITTLE", ">I", b"SSND", 0, 8),
    "aifc of floats": Case("AIFF", "FLOAT", "FILE", ">I", b"SSND", 0, 8),
    "caf": Case("CAF", "PCM_16", "FILE", ">q", b"data", 0, 4),
    "au": Case("AU", "PCM_16", "FILE", ">I", b".snd", 4, 0),
    "au, little-endian": Case("AU", "PCM_16", "LITTLE", "<I", b"dns.", 4, 0),
}
CHUNKED = [name for name in CASES if not name.startswith("au")]


def encoded(case: Case, samples: Any = SOUND) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(
        buffer, samples, RATE_HZ, format=case.format, subtype=case.subtype, endian=case.endian
    )
    return buffer.getvalue()


def with_size(data: bytes, case: Case, size: int) -> bytes:
    """The file with another number of bytes of audio in its header."""
    field = struct.Struct(case.field)
    place = data.index(case.marker) + len(case.marker) + case.offset
    return data[:place] + field.pack(size) + data[place + field.size :]


def stated_size(data: bytes, case: Case) -> int:
    place = data.index(case.marker) + len(case.marker) + case.offset
    (size,) = struct.unpack_from(case.field, data, place)
    return int(size)


def read(data: bytes | Path) -> tuple[Any, list[str]]:
    with open_audio(data) as stream:
        waveform = np.concatenate(list(stream.blocks()))
    return waveform, stream.warnings


def chunk(case: Case, name: bytes, content: bytes) -> bytes:
    """A chunk as the container writes it."""
    if case.format == "W64":
        guid = name + bytes.fromhex("f3acd3118cd100c04f8edb8a")
        return guid + struct.pack("<q", len(content) + 24) + content + bytes(-len(content) % 8)
    if case.format == "CAF":
        return name + struct.pack(">q", len(content)) + content
    order = ">I" if case.format == "AIFF" or case.endian == "BIG" else "<I"
    return name + struct.pack(order, len(content)) + content + bytes(len(content) % 2)


@pytest.mark.parametrize("name", CASES)
def test_sizes_that_were_never_written_are_read_to_the_end(name: str) -> None:
    case = CASES[name]
    data = encoded(case)
    whole, _ = read(data)
    assert len(whole) == N_SAMPLES
    sizes = {0, 0x7FFF_F000, 0x7F00_0008, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF}
    sizes = {-1, 0, 0x7FFF_FFFF_FFFF_FFFF} if "q" in case.field else sizes
    sizes = {0, (1 << 64) - 1} if "Q" in case.field else sizes
    for size in sizes:
        waveform, warnings = read(with_size(data, case, size))
        np.testing.assert_array_equal(waveform, whole)
        assert warnings == []


@pytest.mark.parametrize("name", CASES)
def test_size_that_is_too_small_keeps_all_audio_and_has_a_warning(name: str) -> None:
    case = CASES[name]
    data = encoded(case)
    half = (stated_size(data, case) - case.extra_bytes) // 4 * 2
    waveform, warnings = read(with_size(data, case, half + case.extra_bytes))
    assert len(waveform) == N_SAMPLES
    assert len(warnings) == 1
    assert f"the header states {half:,} bytes of audio" in warnings[0]


@pytest.mark.parametrize("name", CASES)
def test_truncated_file_keeps_the_rest_and_has_a_warning(name: str) -> None:
    case = CASES[name]
    data = encoded(case)
    waveform, warnings = read(data[: -len(data) // 4])
    assert 0.7 * N_SAMPLES < len(waveform) < 0.8 * N_SAMPLES
    assert len(warnings) == 1
    assert warnings[0].startswith("truncated: the header states")


@pytest.mark.parametrize("name", CHUNKED)
@pytest.mark.parametrize("chunk_bytes", [64, 65])
def test_chunks_and_padding_after_the_audio_are_not_audio(name: str, chunk_bytes: int) -> None:
    case = CASES[name]
    data = encoded(case)
    following = chunk(case, b"zzzz", b"abcd") + chunk(case, b"LIST", bytes(range(chunk_bytes)))
    for rest in (following, following[:-30], following + bytes(1000), bytes(1000)):
        waveform, warnings = read(data + rest)
        assert (len(waveform), warnings) == (N_SAMPLES, [])


@pytest.mark.parametrize("name", CASES)
def test_tags_after_the_audio_are_not_audio(name: str) -> None:
    data = encoded(CASES[name])
    for tag in (b"TAG" + b"x" * 125, b"ID3\x04\0\0\0\0\0\x10" + b"x" * 16):
        waveform, warnings = read(data + tag)
        assert (len(waveform), warnings) == (N_SAMPLES, [])


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("other", ["wav", "aiff", "FLAC", "OGG", "MP3", "tagged MP3"])
def test_second_file_after_the_first_is_decoded_too(name: str, other: str) -> None:
    data = encoded(CASES[name])
    if other in CASES:
        second = encoded(CASES[other])
    else:
        buffer = io.BytesIO()
        soundfile.write(buffer, SOUND, RATE_HZ, format=other.split()[-1])
        tag = b"ID3\x04\0\0\0\0\0\x10" + b"x" * 16
        second = (tag if other.startswith("tagged") else b"") + buffer.getvalue()
    waveform, warnings = read(data + second)
    assert warnings == []
    assert len(waveform) == pytest.approx(2 * N_SAMPLES, abs=1)
    for start in (0, N_SAMPLES):
        part = waveform[start : start + N_SAMPLES - 1]
        assert np.corrcoef(part, SOUND[: len(part)])[0, 1] > 0.9


def test_audio_in_several_chunks_is_one_piece_of_audio() -> None:
    case = CASES["wav"]
    data = encoded(case)
    samples = data[44:]
    parts = chunk(case, b"data", samples[:10_000]) + chunk(case, b"LIST", b"12345")
    parts += chunk(case, b"data", samples[10_000:])
    waveform, warnings = read(data[:36] + parts)
    np.testing.assert_array_equal(waveform, read(data)[0])
    assert warnings == []


def test_empty_audio_before_metadata_is_empty() -> None:
    case = CASES["wav"]
    data = encoded(case, SOUND[:0]) + chunk(case, b"LIST", b"abcd")
    with pytest.raises(Exception, match="holds no audio: 0 samples"):
        read(data)


def test_bw64_is_read() -> None:
    data = encoded(CASES["rf64"])
    waveform, warnings = read(b"BW64" + data[4:])
    assert (len(waveform), warnings) == (N_SAMPLES, [])


@pytest.mark.parametrize(
    ("true_bytes", "stated"),
    [
        ((1 << 32) + 64_000, 64_000),  # modulo 2^32
        ((1 << 32) + 64_000, 0),
        (3 << 30, 0x7FFF_FFFF),
        (5 << 30, 0x7FFF_F000),
        (5 << 30, 0xFFFF_FFFF),
    ],
)
def test_length_beyond_32_bits_is_found(tmp_path: Path, true_bytes: int, stated: int) -> None:
    header = with_size(encoded(CASES["wav"], SOUND[:0]), CASES["wav"], stated)
    path = tmp_path / "long.wav"
    with open(path, "wb") as file:
        file.write(header)
        file.truncate(len(header) + true_bytes)  # a hole; it takes no space on the disk
    with open_audio(path) as stream:
        assert stream.seconds_in_header == true_bytes / 2 / RATE_HZ
        assert stream.warnings == []


def test_size_modulo_2_to_the_32_before_metadata_is_found(tmp_path: Path) -> None:
    case = CASES["wav"]
    header = with_size(encoded(case, SOUND[:0]), case, 64_000)
    path = tmp_path / "long.wav"
    with open(path, "wb") as file:
        file.write(header)
        file.seek((1 << 32) + 64_000, os.SEEK_CUR)
        file.write(chunk(case, b"LIST", b"abcd"))
    with open_audio(path) as stream:
        assert stream.seconds_in_header == ((1 << 32) + 64_000) / 2 / RATE_HZ
        assert stream.warnings == []


def test_many_zeros_after_the_audio_are_left_out_with_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "preallocated.wav"
    path.write_bytes(encoded(CASES["wav"]) + bytes(1 << 20))
    waveform, warnings = read(path)
    assert len(waveform) == N_SAMPLES
    assert warnings == [
        "1,048,576 zero bytes follow after the audio that the header states; they were left out"
    ]


def test_mpeg_audio_in_a_wav_file_is_read_to_its_end() -> None:
    buffer = io.BytesIO()
    soundfile.write(buffer, SOUND, RATE_HZ, format="MP3")
    mpeg_layer_3 = struct.pack("<HHIIHHHHIHHH", 0x55, 1, RATE_HZ, 4000, 1, 0, 12, 1, 2, 144, 1, 0)
    chunks = b"WAVEfmt " + struct.pack("<I", len(mpeg_layer_3)) + mpeg_layer_3
    chunks += b"fact" + struct.pack("<II", 4, 1000)  # a lie
    chunks += b"data" + struct.pack("<I", len(buffer.getvalue())) + buffer.getvalue()
    waveform, warnings = read(b"RIFF" + struct.pack("<I", len(chunks)) + chunks)
    assert len(waveform) == pytest.approx(N_SAMPLES, abs=1)
    assert warnings == []
