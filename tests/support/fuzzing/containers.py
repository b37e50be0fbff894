"""Write audio files chunk by chunk, with known content, and with whatever sizes a fault needs."""

from __future__ import annotations

import functools
import io
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import soundfile

W64_ENDING = bytes.fromhex("f3acd3118cd100c04f8edb8a")
W64_RIFF = b"riff" + bytes.fromhex("2e91cf11a5d628db04c10000")
# Subtype: bytes per sample, format tag of WAV, AIFF-C compression type, encoding of AU.
PCM = {
    "PCM_16": (2, 1, b"NONE", 3),
    "PCM_24": (3, 1, b"in24", 4),
    "PCM_32": (4, 1, b"in32", 5),
    "FLOAT": (4, 3, b"fl32", 6),
    "DOUBLE": (8, 3, b"fl64", 7),
    "ULAW": (1, 7, b"ulaw", 1),
    "ALAW": (1, 6, b"alaw", 27),
}
RATES_HZ = (8_000, 11_025, 16_000, 22_050, 44_100, 48_000)
CHUNKED = ("wav", "extensible", "rifx", "rf64", "bw64", "w64", "aiff", "aifc", "caf")
HEADED = ("au", "au little-endian")
ENCODED = ("flac", "vorbis", "opus", "mp3")
CONTAINERS = (*CHUNKED, *HEADED, *ENCODED)


@dataclass
class AudioFile:
    """A file, and what a careful decoder finds in it.

    Attributes:
        container: one of `CONTAINERS`.
        data: the bytes.
        sound: float32 [n], the mean over the channels.
        rate_hz: sample rate.
        audio_start, audio_bytes: where the samples are; of the containers with chunks and headers.
        frame_bytes: of a sample of all channels.
        tolerance: largest difference between the sound and what a decoder gives, or None for
            codecs that lose some of it.
    """

    container: str
    data: bytes
    sound: Any
    rate_hz: int
    audio_start: int = 0
    audio_bytes: int = 0
    frame_bytes: int = 1
    tolerance: float | None = None


@dataclass
class Spec:
    """How a file with chunks deviates from a plain one."""

    stated_bytes: int | None = None  # of audio; None for the true number
    outer_bytes: int | None = None  # of the whole file, in its first header
    before: Sequence[tuple[bytes, bytes]] = ()  # chunks before the audio: name and contents
    after: Sequence[tuple[bytes, bytes]] = ()
    omit_padding: bool = False
    rest: bytes = b""  # at the end
    extra: dict[str, Any] = field(default_factory=dict)


def make_sound(rng: np.random.Generator, n: int) -> Any:
    """Noise that no other part of a file resembles: float32 [n], in [-0.5, 0.5]."""
    return rng.uniform(-0.5, 0.5, n).astype(np.float32)


def pcm_file(
    container: str, sound: Any, rate_hz: int, n_channels: int, subtype: str, spec: Spec
) -> AudioFile:
    """A file of one of the containers with chunks or a header."""
    width, tag, compression, au_encoding = PCM[subtype]
    order = "<" if container in ("wav", "extensible", "rf64", "bw64", "w64") else ">"
    order = "<" if container == "au little-endian" else order
    samples = _encoded(np.repeat(sound[:, None], n_channels, 1), subtype, order)
    size = len(samples) if spec.stated_bytes is None else spec.stated_bytes
    frame_bytes = width * n_channels
    if container in HEADED:
        head = b".snd" if order == ">" else b"dns."
        note = spec.extra.get("note", b"")
        head += struct.pack(
            order + "5I", 24 + len(note), size & 0xFFFFFFFF, au_encoding, rate_hz, n_channels
        )
        head += note
        parts, audio_start = [head, samples], len(head)
    else:
        build = {"w64": _w64, "aiff": _aiff, "aifc": _aiff, "caf": _caf}.get(container, _riff)
        header = (rate_hz, n_channels, width, tag, compression, len(samples) // frame_bytes)
        parts, audio_start = build(container, order, header, samples, size, spec)
    data = b"".join(parts) + spec.rest
    tolerance = {"PCM_16": 2**-14, "ULAW": 0.03, "ALAW": 0.03}.get(subtype, 2**-20)
    return AudioFile(
        container, data, sound, rate_hz, audio_start, len(samples), frame_bytes, tolerance
    )


def _encoded(samples: Any, subtype: str, order: str) -> bytes:
    """Samples [n, channels] as libsndfile encodes them."""
    buffer = io.BytesIO()
    endian = {"<": "LITTLE", ">": "BIG"}[order]
    with soundfile.SoundFile(buffer, "w", 8_000, samples.shape[1], subtype, endian, "RAW") as file:
        file.write(samples)
    return buffer.getvalue()


def _riff(
    container: str, order: str, header: Any, samples: bytes, size: int, spec: Spec
) -> tuple[list[bytes], int]:
    rate_hz, n_channels, width, tag, _, _ = header
    block = width * n_channels
    bits = 8 * width
    fields = (n_channels, rate_hz, rate_hz * block, block, bits)
    if container == "extensible":
        guid = struct.pack("<H", tag) + bytes.fromhex("000000001000800000aa00389b71")
        description = struct.pack(order + "HHIIHHHHI", 0xFFFE, *fields, 22, bits, 0) + guid
    else:
        description = struct.pack(order + "HHIIHH", tag, *fields)
    is_wide = container in ("rf64", "bw64")
    magic = {"rifx": b"RIFX", "rf64": b"RF64", "bw64": b"BW64"}.get(container, b"RIFF")
    chunks = [(b"fmt ", description), *spec.before]
    if is_wide:
        sizes = struct.pack("<QQQI", 0, size & (1 << 64) - 1, 0, 0)
        chunks.insert(0, (b"ds64", sizes))
    body = b"WAVE" + b"".join(_chunk(order, *chunk) for chunk in chunks)
    stated = 0xFFFFFFFF if is_wide else size & 0xFFFFFFFF
    body += b"data" + struct.pack(order + "I", stated)
    tail = samples + b"\0" * (len(samples) % 2 and not spec.omit_padding)
    tail += b"".join(_chunk(order, *chunk) for chunk in spec.after)
    outer = 0xFFFFFFFF if is_wide else len(body) + len(tail)
    outer = outer if spec.outer_bytes is None else spec.outer_bytes & 0xFFFFFFFF
    return [magic + struct.pack(order + "I", outer) + body, tail], 8 + len(body)


def _chunk(order: str, name: bytes, content: bytes) -> bytes:
    return name + struct.pack(order + "I", len(content)) + content + bytes(len(content) % 2)


def _w64(
    container: str, order: str, header: Any, samples: bytes, size: int, spec: Spec
) -> tuple[list[bytes], int]:
    rate_hz, n_channels, width, tag, _, _ = header
    block = width * n_channels

    def chunk(name: bytes, content: bytes) -> bytes:
        head = name.lower()[:4] + W64_ENDING + struct.pack("<q", len(content) + 24)
        return head + content + bytes(-len(content) % 8)

    description = struct.pack(
        "<HHIIHH", tag, n_channels, rate_hz, rate_hz * block, block, 8 * width
    )
    body = b"wave" + W64_ENDING + chunk(b"fmt ", description)
    body += b"".join(chunk(*piece) for piece in spec.before)
    body += (
        b"data"
        + W64_ENDING
        + struct.pack("<q", min(size + 24, (1 << 63) - 1) if size > 0 else size)
    )
    tail = samples + bytes(-len(samples) % 8 if spec.after else 0)
    tail += b"".join(chunk(*piece) for piece in spec.after)
    outer = 24 + len(body) + len(tail) if spec.outer_bytes is None else spec.outer_bytes
    return [W64_RIFF + struct.pack("<q", outer) + body, tail], 24 + len(body)


def _aiff(
    container: str, order: str, header: Any, samples: bytes, size: int, spec: Spec
) -> tuple[list[bytes], int]:
    rate_hz, n_channels, width, _, compression, n_frames = header
    exponent = rate_hz.bit_length() - 1
    extended = struct.pack(">HQ", 16383 + exponent, rate_hz << (63 - exponent))
    common = struct.pack(">HIH", n_channels, n_frames, 8 * width) + extended
    if container == "aifc":
        common += compression + b"\0\0"
    body = b"AIFC" if container == "aifc" else b"AIFF"
    body += b"".join(_chunk(">", *chunk) for chunk in ((b"COMM", common), *spec.before))
    body += b"SSND" + struct.pack(">III", size + 8 & 0xFFFFFFFF if size > 0 else 0, 0, 0)
    tail = samples + b"\0" * (len(samples) % 2 and not spec.omit_padding)
    tail += b"".join(_chunk(">", *chunk) for chunk in spec.after)
    outer = len(body) + len(tail) if spec.outer_bytes is None else spec.outer_bytes & 0xFFFFFFFF
    return [b"FORM" + struct.pack(">I", outer) + body, tail], 8 + len(body)


def _caf(
    container: str, order: str, header: Any, samples: bytes, size: int, spec: Spec
) -> tuple[list[bytes], int]:
    rate_hz, n_channels, width, tag, _, _ = header

    def chunk(name: bytes, content: bytes) -> bytes:
        return name + struct.pack(">q", len(content)) + content

    codec = {7: b"ulaw", 6: b"alaw"}.get(tag, b"lpcm")
    flags = 1 if tag == 3 else 0
    description = struct.pack(
        ">d4s5I", rate_hz, codec, flags, width * n_channels, 1, n_channels, 8 * width
    )
    body = b"caff\0\1\0\0" + chunk(b"desc", description)
    body += b"".join(chunk(*piece) for piece in spec.before)
    body += b"data" + struct.pack(">qI", min(size + 4, (1 << 63) - 1) if size > 0 else size, 0)
    return [body, samples + b"".join(chunk(*piece) for piece in spec.after)], len(body)


@functools.cache
def encoded_file(container: str, seed: int) -> AudioFile:
    """A file of a codec; of a few seeds, as encoding takes time."""
    rng = np.random.default_rng(seed)
    rate_hz = 48_000 if container == "opus" else int(rng.choice(RATES_HZ[2:]))
    n = int(rng.integers(rate_hz // 5, rate_hz // 2))
    n_channels = int(rng.integers(1, 3))
    times = np.arange(n) / rate_hz
    sound = 0.3 * np.sin(2 * np.pi * (300 * times + 2_000 * times**2))
    sound = (sound + make_sound(rng, n) * 0.1).astype(np.float32)
    names = {"flac": ("FLAC", "PCM_16"), "vorbis": ("OGG", "VORBIS"), "opus": ("OGG", "OPUS")}
    format_name, subtype = names.get(container, ("MP3", "MPEG_LAYER_III"))
    buffer = io.BytesIO()
    soundfile.write(
        buffer, np.repeat(sound[:, None], n_channels, 1), rate_hz, subtype, format=format_name
    )
    tolerance = 2**-14 if container == "flac" else None
    return AudioFile(container, buffer.getvalue(), sound, rate_hz, tolerance=tolerance)


Build = Callable[[Spec], AudioFile]


def plain_file(rng: np.random.Generator, container: str) -> Build:
    """A file of random content and properties, to be built with any deviation."""
    if container in ENCODED:
        file = encoded_file(container, int(rng.integers(12)))
        return lambda spec: file
    subtypes = [name for name in PCM if container != "aiff" or name.startswith("PCM")]
    subtype = str(rng.choice(subtypes))
    rate_hz, n_channels = int(rng.choice(RATES_HZ)), int(rng.integers(1, 4))
    sound = make_sound(rng, int(rng.integers(200, 3_000)))
    return lambda spec: pcm_file(container, sound, rate_hz, n_channels, subtype, spec)
